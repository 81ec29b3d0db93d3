// SPDX-License-Identifier: Apache-2.0
/* Plugin instances: loaded, read, ticked, changed and unloaded. Everything on the loop thread
 * unless said otherwise. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "api/ops.h"
#include "base/err.h"
#include "bpf/plugin.h"
#include "governor/policy.h"

struct config;
struct host;

struct host_options {
	sd_event *loop;
	struct config
		*config; /* exchanged by host_set_config(); what is persisted is put into it, too */
	const char *state_dir;
	const struct enrich_ops *enrich;
	void *enrich_ctx;
	struct nat_table *nat;
	uint64_t self_cgroup_id; /* 0: none of our own */
	uint32_t self_tgid;	 /* in the initial pid namespace */
	/* Takes the reference. */
	void (*publish)(void *ctx, struct batch *batch);
	/* Where the rows of a table left off: what the store holds. */
	uint64_t (*last_ts)(void *ctx, const struct table *table);
	/* What the store has of all its tables, since the daemon started. May be NULL. */
	void (*stored)(void *ctx, const struct plugin *plugin, uint64_t *ret_rows,
		       uint64_t *ret_bytes);
	/* A plugin came, went or failed: audit row, watchers. actor: "rpc", "config", "timer",
	 * "stop". */
	void (*on_change)(void *ctx, const char *plugin, const char *event, const char *detail,
			  const char *actor, bool serving);
	/* The kernel is about to verify a plugin's programs, which may take minutes on a slow
	 * machine; or it has. May be NULL. */
	void (*on_load)(void *ctx, bool begins);
	void *ctx;
};

int host_new(struct host **ret, const struct host_options *options, struct err *err);
/* Unloads what still runs. */
void host_free(struct host *h);

/* Enables what the config says. A plugin that can't start is logged and reported, never fatal. */
void host_enable_configured(struct host *h);
/*
 * duration_ns 0: for ever. A plugin that runs already takes over the options that differ. value
 * NULL: back to the default. -ENOENT no such plugin; -EINVAL bad option; -EOPNOTSUPP this kernel
 * can't; both with the sentence in err.
 */
int host_enable(struct host *h, const char *name, const struct keyval *options, size_t n,
		bool persist, uint64_t duration_ns, bool validate_only, const char *actor,
		struct err *err);
int host_disable(struct host *h, const char *name, bool persist, const char *actor,
		 struct err *err);
int host_update(struct host *h, const char *name, const struct keyval *options, size_t n,
		bool persist, bool validate_only, const char *actor, bool *ret_restarted,
		struct err *err);
/* Detaches and unloads all: last rows are published. */
void host_stop_all(struct host *h);
/* A configuration that was read again: options of plugins that don't run follow at once. */
void host_set_config(struct host *h, struct config *config);

/* -ENOENT with the nearest name. */
const struct plugin *host_find(const char *name, struct err *err);
void host_info(struct host *h, const struct plugin *p, struct plugin_info *ret);
/* Rows of a plugin's live table; none while it doesn't run. -ENOBUFS: larger batch, please. */
int host_snapshot(struct host *h, const struct table *table, struct batch *batch);

/* What the last second lost, by plugin: for the table "loss". */
typedef void (*host_loss_fn)(void *arg, const char *table, const char *plugin, const char *stage,
			     uint64_t lost);
/* Each second: reads kernel counters and costs, reports what was lost since the last call. */
void host_account(struct host *h, host_loss_fn fn, void *arg);

/* What a plugin saw and what became of it, since the daemon started, as of the last host_account(). */
struct plugin_ledger {
	/* In the kernel; their sum is what it saw. */
	uint64_t submitted, ring_full, map_full, kernel_error, filtered, sampled;
	/* Here: received = rows + the others, for a plugin whose rows are events. */
	uint64_t received, decode_errors, left_out, no_memory, rows;
};
typedef void (*host_ledger_fn)(void *arg, unsigned int i, const struct plugin *plugin,
			       const struct plugin_ledger *ledger);
/* All plugins, i from 0. */
void host_ledgers(struct host *h, host_ledger_fn fn, void *arg);

/* What a running plugin cost, a second of it. */
struct plugin_cost {
	const char *plugin;
	double events, runs, rows; /* a second */
	double rows_stored, bytes_stored;
	double run_time_avg;	   /* ns; 0: no runs */
	double kernel_mcores, user_mcores;
	uint64_t map_bytes, ring_bytes, sampled;
	unsigned int shed_step;
};
typedef void (*host_cost_fn)(void *arg, const struct plugin_cost *cost);
/* Since the last call. */
void host_costs(struct host *h, host_cost_fn fn, void *arg);
/* In the last three seconds or so, the newest counting most; sampled since the plugin's start. */
void host_costs_now(struct host *h, host_cost_fn fn, void *arg);

/*
 * The governor's ladder. A step leaves out half of the events that can be sampled and doubles
 * intervals that can be longer; said gets what that means, by plugin. shed_plugin disables the one
 * with the lowest priority, among several the dearest; one that costs a tenth of the dearest or
 * less is no help. Negative: nothing was there to be done.
 */
struct host_can {
	bool step, plugin;     /* to shed */
	bool unstep, unplugin; /* to give back */
};
void host_can_shed(const struct host *h, struct host_can *ret);
int host_shed_step(struct host *h, int by, char *said, size_t cap);
/* "1 in 64 events of cgroup 4711 (/...), which makes ..." */
#define HOST_SAMPLING_TEXT 256
struct host_sampling {
	const char *plugin, *text; /* text: one sentence */
	uint64_t cgroup;	   /* 0: none any more */
	const char *path;
	uint32_t rate, cgroup_rate;    /* one event in so many is kept: of others, of its */
	double events, cgroup_events;  /* a second: of all, of its */
};
typedef void (*host_sampling_fn)(void *arg, const struct host_sampling *sampling);
/* Of the last host_shed_step(): each plugin that leaves out more of one cgroup than of others, or did. */
void host_cgroups_sampled(struct host *h, host_sampling_fn fn, void *arg);
int host_shed_plugin(struct host *h, enum resource r, const char *reason, const char **ret_name);
int host_unshed_plugin(struct host *h, const char **ret_name);
/* All steps, all plugins. */
void host_unshed_all(struct host *h);

/* Measures run time all the time, or in windows (daemon/meter.h). */
void host_measure_always(struct host *h, bool always);
/* What all plugins' programs cost now, in thousandths of a core. */
double host_kernel_mcores(const struct host *h);
/* As of the last host_account(): BPF run time so far, unloaded programs included (UINT64_MAX: it
 * can't be measured), and map bytes. */
void host_cost(struct host *h, uint64_t *ret_run_ns, uint64_t *ret_map_bytes);
