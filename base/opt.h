// SPDX-License-Identifier: Apache-2.0
/* Typed options as data: one table serves file, environment, flags, RPC, help texts and documentation. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum opt_type {
	OPT_BOOL,     /* true/false, yes/no, on/off, 1/0 */
	OPT_INT,
	OPT_DOUBLE,
	OPT_BYTES,    /* units_parse_bytes */
	OPT_RATE,     /* units_parse_rate, bytes per second */
	OPT_CPU,      /* units_parse_cpu, millicores */
	OPT_DURATION, /* units_parse_duration, nanoseconds */
	OPT_STRING,
	OPT_ENUM,     /* one of choices; value is its index */
	OPT_LIST,     /* strings, comma-separated */
	OPT_X_MAX,
};

/* Who set a value; a later one overrides an earlier one. */
enum opt_origin {
	OPT_ORIGIN_DEFAULT,
	OPT_ORIGIN_FILE,
	OPT_ORIGIN_STATE, /* set at run time with --persist, kept in the state directory */
	OPT_ORIGIN_ENV,
	OPT_ORIGIN_FLAG,
	OPT_ORIGIN_RPC,
	OPT_ORIGIN_X_MAX,
};

struct opt {
	const char *key;            /* "interval"; dotted in the daemon's own table: "store.max_bytes" */
	enum opt_type type;
	const char *def;            /* as a user would write it; NULL: unset */
	const char *min, *max;      /* inclusive, in the same notation; NULL: no bound */
	const char *const *choices; /* OPT_ENUM; NULL-terminated */
	bool restart;               /* a change takes effect only after a restart of what it belongs to */
	const char *env;            /* accepted alias (ENV_INPUT_EBPF_*); RINGSIDE_<KEY> always works */
	const char *help;           /* one line with the unit */
};

/* Values of one table ({} ends it). Owned by one thread; copy it to hand it over. */
struct opt_set;

int opt_set_new(struct opt_set **ret, const struct opt *table);
int opt_set_copy(struct opt_set **ret, const struct opt_set *from);
void opt_set_free(struct opt_set *set);
DEFINE_CLEANUP(struct opt_set *, opt_set_free)

/*
 * -EINVAL: names the key, the text and what would be accepted. -ENOENT: unknown key, with the nearest one.
 * A lower origin never overrides a higher one (0 is returned, nothing changes).
 */
int opt_set_assign(struct opt_set *set, const char *key, const char *text, enum opt_origin origin, struct err *err);
/* The same with the place the text came from, shown by opt_origin_detail(): "line 12 of /etc/ringside/ringside.toml". */
int opt_set_assign_detail(struct opt_set *set, const char *key, const char *text, enum opt_origin origin,
			  const char *detail, struct err *err);
/*
 * Takes what the environment sets: each option's alias, then RINGSIDE_<prefix><key> in capitals with '_' for '.' and '-'
 * (prefix "plugins.netflow." + "interval": RINGSIDE_PLUGINS_NETFLOW_INTERVAL). The first bad value ends it.
 */
int opt_set_assign_env(struct opt_set *set, const char *prefix, struct err *err);
/* "RINGSIDE_STORE_MAX_BYTES" for "store.max_bytes"; returns dst, cut off at cap. */
char *opt_env_name(char *dst, size_t cap, const char *prefix, const char *key);
const struct opt *opt_find(const struct opt *table, const char *key);
/* The nearest key by edit distance, or NULL when none is near: also used for names of plugins and tables. */
const char *opt_nearest(const char *key, const char *const *names, size_t n);

/* Getters: the key must be in the table with that type (asserted). */
bool opt_bool(const struct opt_set *set, const char *key);
int64_t opt_i64(const struct opt_set *set, const char *key); /* INT, BYTES, RATE, CPU, DURATION, ENUM */
double opt_f64(const struct opt_set *set, const char *key);
const char *opt_str(const struct opt_set *set, const char *key); /* STRING; never NULL, "" when unset */
/* LIST: the idx-th item or NULL behind the last. */
const char *opt_item(const struct opt_set *set, const char *key, size_t idx);
bool opt_is_set(const struct opt_set *set, const char *key);

/* For config show: text as it was given, its origin and its place ("line 12 of /etc/...", "RINGSIDE_X"; NULL: none). */
const char *opt_text(const struct opt_set *set, const char *key);
enum opt_origin opt_origin(const struct opt_set *set, const char *key);
const char *opt_origin_detail(const struct opt_set *set, const char *key);
const char *opt_origin_name(enum opt_origin origin);
const char *opt_type_name(enum opt_type type);
const struct opt *opt_set_table(const struct opt_set *set);
