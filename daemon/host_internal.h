// SPDX-License-Identifier: Apache-2.0
/* Shared by the host_*.c files alone. */
#pragma once

#include "daemon/hooks.h"
#include "daemon/host.h"
#include "daemon/meter.h"
#include "daemon/ring_watch.h"

/* Where a plugin can lose events or rows. */
enum host_loss {
	HOST_LOSS_RING_FULL,
	HOST_LOSS_MAP_FULL,
	HOST_LOSS_KERNEL_ERROR,
	HOST_LOSS_DECODE,
	HOST_LOSS_NO_MEMORY,
	HOST_LOSS_SAMPLED,
	HOST_LOSS_MAX,
	/* Not lost: the rest of the ledger. */
	HOST_SUBMITTED = HOST_LOSS_MAX,
	HOST_FILTERED,
	HOST_RECEIVED,
	HOST_LEFT_OUT,
	HOST_ROWS,
	HOST_COUNTS,
};

/* What a plugin's present run has cost so far. */
struct slot_totals {
	uint64_t at_ns; /* CLOCK_MONOTONIC; 0: none yet */
	uint64_t run_ns, runs, user_ns, events, rows, sampled, stored, stored_bytes;
};

/* One per plugin of this build, running or not. */
struct slot {
	struct host *host;
	const struct plugin *plugin;
	enum plugin_state state;
	char reason[256];
	bool persisted; /* enabled by what the state directory holds */
	bool loaded;
	struct opt_set *opts;		 /* in force; of the next start while it doesn't run */
	uint64_t enabled_at, disable_at; /* epoch */
	uint64_t generation;		 /* changes with every change: the etag */

	struct instance in;
	struct bpf_object_skeleton *skel;
	struct ring_buffer *ring;
	uint64_t ring_bytes;
	unsigned int pass; /* samples of the present pass */
	uint64_t pass_bytes; /* that they took in the ring */
	struct ring_watch ring_watch;
	uint64_t drained_ns, looked_ns; /* by the drain timer; CLOCK_MONOTONIC */
	uint64_t pass_end;
	sd_event_source *tick, *expire;
	sd_event_source *half_full; /* of the ring: it wakes us */
	sd_event_source *watch; /* of a file that the plugin reads */
	int (*watch_ready)(struct instance *in);

	/* Since the daemon started, over all runs of the plugin. */
	uint64_t retired_run_ns, retired_runs;
	uint64_t counted[HOST_COUNTS];	 /* of the present run, up to here in untold and ledger */
	uint64_t untold[HOST_LOSS_MAX];	 /* not yet in the table "loss" */
	uint64_t ledger[HOST_COUNTS];	 /* of all runs */
	struct meter_prog *progs; /* as many as the object has, in its order */
	size_t nprogs;
	uint64_t run_ns, runs, map_bytes; /* of the present run, as of the last second */
	uint64_t user_ns; /* of the loop's thread in this run: reading, decoding, ticks */

	/* The governor's ladder. */
	bool shed_off;		 /* it disabled the plugin, and brings it back */
	struct host_sampling sampled; /* as it was told last; text NULL: nothing to tell */
	char sampled_text[HOST_SAMPLING_TEXT], sampled_path[256];
	unsigned int shed_steps; /* that the plugin has */
	struct slot_totals rated, logged; /* at the last second; at the last row of its cost */
	struct plugin_cost now; /* rates of the last seconds */
	uint64_t stored_before, stored_bytes_before; /* this run */
};

struct host {
	struct host_options o;
	sd_event_source *drain;
	uint64_t drain_ns; /* from one turn of reading to the next */
	struct meter *meter;
	unsigned int nslots;
	unsigned int account_calls;
	uint64_t cost_run_ns, cost_map_bytes;
	unsigned int shed_step; /* in force for all plugins that have it */
	struct slot slots[];
};

/* host.c */
int slot_start(struct slot *s, const char *actor, struct err *err);
void slot_set_state(struct slot *s, enum plugin_state state, const char *reason);
void slot_changed(struct slot *s, const char *event, const char *detail, const char *actor);

/* host_shed.c */
/* Puts interval and step in force; after start and after every change of either. */
void slot_shed_apply(struct slot *s);
/* The step in force: the governor's, or what a full ring asks for if that is more. */
unsigned int slot_shed_step(const struct slot *s);
/* Each second: what a loaded plugin costs. */
void slot_rate(struct slot *s, uint64_t now_ns);
/* What the store has of this run's rows, and what they take. */
void slot_stored(const struct slot *s, uint64_t *ret_rows, uint64_t *ret_bytes);

/* host_sampling.c */
bool slot_samples(const struct slot *s);
/* Takes what is left out now into slot.sampled. */
void slot_sampling_take(struct slot *s);
/* After slot_read_counters(): an overloaded ring samples instead of going blind. */
void slot_ring_look(struct slot *s);
/* Each second: a cgroup may stand out that does in place of all. */
void slot_sampling_look(struct slot *s, uint64_t now_ns);

/* host_load.c: opens, loads and attaches; on failure everything is undone and err says why. */
int slot_load(struct slot *s, struct err *err);
void slot_unload(struct slot *s);

/* host_run.c */
int slot_ring_open(struct slot *s, struct err *err);
/* Until empty or, if bounded, the limits of one pass. Returns whether more is waiting. */
bool slot_drain(struct slot *s, bool bounded);
int slot_tick_start(struct slot *s, struct err *err);
/* instance.watch_fd */
int slot_watch_fd(struct instance *in, int fd, int (*ready)(struct instance *in));
void slot_tick_run(struct slot *s);
int host_drain_start(struct host *h);
void host_drain_update(struct host *h);

/* host_info.c */
/* Reads the kernel's counters and adds what was lost since the last time to untold. */
void slot_read_counters(struct slot *s);
/* Takes the kernel's counts of its programs; maps: and the size of its maps. */
void slot_read_cost(struct slot *s, bool maps);
void host_meter_read(void *host);
bool slot_is_running(const struct slot *s);

/* host_options.c */
/* As the options say. */
uint64_t slot_interval(const struct slot *s);
/* The options as they would be with these changes; nothing is in force yet. */
int slot_merge_options(const struct slot *s, const struct keyval *options, size_t n,
		       struct opt_set **ret, struct err *err);
/* Options that were given at run time for this run alone go with it. */
void slot_reset_options(struct slot *s);
/* Keeps state and options for the next start of the daemon. */
int slot_persist(struct slot *s, bool enabled, struct err *err);
