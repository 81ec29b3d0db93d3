// SPDX-License-Identifier: Apache-2.0
/* What the API asks of the daemon: plain structs, no gRPC and no protobuf types. The daemon fills in the functions. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "bpf/batch.h"
#include "bpf/table.h"

enum plugin_state {
	PLUGIN_STATE_DISABLED = 1,
	PLUGIN_STATE_STARTING,
	PLUGIN_STATE_RUNNING,
	PLUGIN_STATE_DEGRADED,    /* runs with less; reason says what is lost */
	PLUGIN_STATE_FAILED,      /* was asked for, could not start; reason says why */
	PLUGIN_STATE_UNSUPPORTED, /* this kernel lacks what it needs; reason says what */
	PLUGIN_STATE_X_MAX,
};

struct plugin_program_info {
	char name[64], section[96], attach[24]; /* attach: "tp_btf", "cgroup_skb", ... */
	bool attached;
	uint32_t id;
	uint64_t run_count, run_time_ns;
	uint64_t missed_runs; /* not run because the same program ran on that CPU already */
};

struct plugin_option_info {
	char key[48], type[16], value[128], def[64], origin[16], help[160];
	bool restart;
};

struct plugin_info {
	char name[32], help[160], needs[256];
	enum plugin_state state;
	char reason[256], hook[160]; /* hook in use, e.g. "tp_btf/inet_sock_set_state, cgroup_skb" */
	bool persisted;
	uint64_t enabled_at_ns, disable_at_ns; /* epoch; 0: none */
	uint64_t events, rows, kernel_drops, rows_dropped, decode_errors, map_bytes, ring_bytes;
	uint64_t filtered; /* left out as its options say, in the kernel or later */
	uint64_t run_count, run_time_ns, missed_runs;
	uint64_t user_time_ns; /* in the daemon, for it */
	uint64_t rows_stored, bytes_stored;
	uint64_t sampled; /* events left out on purpose, to stay within a limit */
	char etag[24];
	unsigned int ntables, nprograms, noptions;
	char tables[8][48];
	struct plugin_program_info programs[24];
	struct plugin_option_info options[32];
};

struct requirement_info {
	char name[64], detail[256]; /* detail: one sentence */
	bool met, required;
};

struct keyval {
	const char *key, *value;
};

struct governor_info {
	char state[16], limit_action[16], net_limit_scope[16], net_interface[16], cgroup[256], last_event[1280];
	/* limit 0: none. cpu in millicores, mem in bytes, net in bytes per second. *_known: could be measured. */
	uint64_t cpu_limit, mem_limit, net_limit, kernel_cpu_limit;
	uint64_t cpu_usage, mem_usage, net_usage;
	uint64_t cpu_bpf, rss_bytes, bpf_map_bytes;
	bool cpu_known, mem_known, net_known, kernel_cpu_known; /* usage of kernel_cpu: cpu_bpf */
};

struct config_value_info {
	char key[64], value[256], origin[16], detail[128], def[128], help[200], type[16];
	bool restart;
};

struct capability_info {
	char name[64], detail[256];
	bool available;
};

struct daemon_info {
	char version[64], kernel[96], hostname[128], state_dir[256];
	uint64_t started_at_ns, pid;
	unsigned int ncapabilities;
	struct capability_info capabilities[40];
	/* Of the previous run, if a limit ended it: text of last_exit.json's summary. */
	char last_exit[256];
};

/* How a query gives its rows; see store/query.h for the meaning. Called on the thread that runs ops->query. */
struct api_query_column {
	const char *name, *unit;
	enum column_type type; /* COLUMN_X_MAX: computed */
};
struct api_query_loss {
	const char *table;
	uint64_t rows, since_ns;
	uint64_t from_ns, until_ns; /* 0: no bound */
	uint64_t held;		    /* UINT64_MAX: not counted */
	const char *why;	    /* may be NULL */
};
struct api_query_sink {
	int (*columns)(void *arg, const struct api_query_column *cols, size_t ncols);
	int (*rows)(void *arg, const struct value *values, size_t nrows, size_t ncols);
	int (*done)(void *arg, uint64_t rows, bool truncated, uint64_t elapsed_ns, const struct api_query_loss *loss,
		    size_t nloss);
	void *arg;
};

/* A window of all tables, or of those named. */
struct api_window {
	const char *const *tables;
	size_t ntables;
	int64_t since, until; /* as SnapshotRequest says */
	uint64_t deadline_mono_ns;
	const atomic_bool *cancelled;
};

struct api_window_start {
	const char *host, *version, *kernel;
	uint64_t since_ns, until_ns, taken_at_ns; /* epoch */
};

/* start, then for each table: table, rows, table_end. Called on the thread that runs ops->window; negative ends it. */
struct api_window_sink {
	int (*start)(void *arg, const struct api_window_start *start);
	int (*table)(void *arg, const struct table *table);
	int (*rows)(void *arg, const struct value *values, size_t nrows, size_t ncols);
	/* loss: NULL for a live table; missing: "" or why it could not be read. */
	int (*table_end)(void *arg, uint64_t rows, const struct api_query_loss *loss, const char *missing);
	void *arg;
};

/* A read of rows that has ended, or a watch that begins. Texts are the engine's. */
struct api_access {
	const char *method;    /* "Query", "WatchRows", "Snapshot" */
	const char *transport; /* "unix", "tls" */
	uint32_t uid;	       /* unix */
	int32_t pid;	       /* unix; 0: not in our namespace */
	const char *exe;       /* of pid; "": unknown */
	const char *subject, *address; /* tls */
	const char *sql;	       /* at most API_ACCESS_SQL bytes */
	bool truncated;		       /* sql was longer */
	uint64_t rows, bytes, duration_ns;
	const char *status; /* "OK", "CANCELLED", ...; "STARTED": another follows when it ends */
};
#define API_ACCESS_SQL 1024

/*
 * Who made the call that the present thread serves: "uid 0, pid 4711" or the subject of the certificate; "" outside of one.
 * Valid until the op returns.
 */
const char *api_caller(void);

/*
 * All functions may block and are called on the API's own worker threads, never on the completion-queue thread.
 * 0 or negative errno with *err filled.
 */
struct api_ops {
	/* Fills up to cap; returns how many there are. */
	int (*plugin_list)(void *ctx, struct plugin_info *ret, unsigned int cap, struct err *err);
	int (*plugin_get)(void *ctx, const char *name, struct plugin_info *ret, struct err *err);
	int (*plugin_enable)(void *ctx, const char *name, const struct keyval *options, size_t noptions, bool persist,
			     uint64_t duration_ns, bool validate_only, struct plugin_info *ret, struct err *err);
	int (*plugin_disable)(void *ctx, const char *name, bool persist, struct plugin_info *ret, struct err *err);
	int (*plugin_update)(void *ctx, const char *name, const struct keyval *options, size_t noptions, bool persist,
			     bool validate_only, bool *ret_restarted, struct plugin_info *ret, struct err *err);
	int (*plugin_check)(void *ctx, const char *name, struct requirement_info *ret, unsigned int cap, unsigned int *n,
			    struct err *err);
	/* History and live tables; NULL-terminated, for the life of the daemon. */
	const struct table *const *(*tables)(void *ctx);
	/* The rows of a live table now; a reference. */
	int (*snapshot)(void *ctx, const struct table *table, struct batch **ret, struct err *err);
	int (*query)(void *ctx, const char *sql, const struct value *params, size_t nparams, uint64_t max_rows,
		     uint64_t deadline_mono_ns, const atomic_bool *cancelled, const struct api_query_sink *sink,
		     struct err *err);
	/* May be NULL: snapshots are not offered. */
	int (*window)(void *ctx, const struct api_window *window, const struct api_window_sink *sink, struct err *err);
	/* May be NULL. On the engine's thread: must not block. */
	void (*access)(void *ctx, const struct api_access *access);
	int (*governor_get)(void *ctx, struct governor_info *ret, struct err *err);
	/* keys: cpu_limit, mem_limit, net_limit, kernel_cpu_limit, limit_action, net_limit_scope. */
	int (*limits_update)(void *ctx, const struct keyval *limits, size_t n, bool persist, bool validate_only,
			     struct governor_info *ret, struct err *err);
	int (*daemon_get)(void *ctx, struct daemon_info *ret, struct err *err);
	int (*config_get)(void *ctx, struct config_value_info *ret, unsigned int cap, struct err *err);
	/* Changed keys, comma-separated, into changed. */
	int (*config_reload)(void *ctx, bool validate_only, char *changed, size_t cap, struct err *err);
	int (*log_level_set)(void *ctx, const char *level, struct err *err);
	int (*shutdown)(void *ctx, struct err *err);
};
