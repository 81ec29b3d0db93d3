// SPDX-License-Identifier: Apache-2.0
/* Configuration: defaults, file, state directory, environment, flags and RPC put on top of each
 * other. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/opt.h"

struct config;
struct config_value_info; /* api/ops.h */
struct plugin;

#define CONFIG_FILE_DEFAULT "/etc/ringside/ringside.toml"

/* Where values come from; strings belong to the caller and must outlive the config and its reloads.
 */
struct config_source {
	const char *file;	  /* CONFIG_FILE_DEFAULT if nobody named one */
	bool file_required;	  /* named on the command line: missing is an error */
	const char *const *flags; /* "key=value", in order */
	size_t nflags;
	char *const *environ;
};

/*
 * Reads everything afresh. -EINVAL names file and line, variable or flag, and the mend. What the
 * state directory holds and this build no longer knows is logged and ignored: a downgrade must
 * still start.
 */
int config_load(struct config **ret, const struct config_source *source, struct err *err);
void config_free(struct config *c);
DEFINE_CLEANUP(struct config *, config_free)

/* The daemon's own values; the config owns them. */
const struct opt_set *config_daemon(const struct config *c);
/* A plugin's section: its options, plugin_common_options and "enabled". */
const struct opt_set *config_plugin(const struct config *c, const struct plugin *p);
bool config_plugin_enabled(const struct config *c, const struct plugin *p);
const struct config_source *config_source(const struct config *c);

/* key is full: "cpu_limit" or "plugins.netflow.interval". detail may be NULL. */
int config_assign(struct config *c, const char *key, const char *text, enum opt_origin origin,
		  const char *detail, struct err *err);
/* Fills up to cap; returns how many values there are. */
unsigned int config_values(const struct config *c, struct config_value_info *ret, unsigned int cap);

/* Calls fn for every key whose text differs; old and new are "" when unset. */
typedef void (*config_diff_fn)(void *arg, const char *key, const struct opt *opt,
			       const char *old_text, const char *new_text);
void config_diff(const struct config *old_config, const struct config *new_config,
		 config_diff_fn fn, void *arg);

/* What was set at run time to be kept: state_dir/config.json. */
int config_persist(const struct config *c, const char *key, const char *text, struct err *err);
