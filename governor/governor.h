// SPDX-License-Identifier: Apache-2.0
/* The governor's thread: measures what the observer costs, asks policy.c, acts. */
#pragma once

#include "base/err.h"
#include "governor/policy.h"

struct governor;
struct cgroup_place; /* governor/cgroup.h */

struct governor_usage {
	struct policy_sample sample;
	uint64_t cpu_user_millicores, cpu_bpf_millicores; /* parts of value[RESOURCE_CPU] */
	uint64_t net_rx, net_tx;			  /* bytes per second */
	uint64_t rss_bytes, bpf_map_bytes;
	char net_interface[16]; /* NET_SCOPE_NIC: the busiest */
};

struct governor_event {
	uint64_t ts; /* epoch */
	struct policy_decision decision;
	enum governor_level from;
	struct governor_usage usage;
	char text[200];	 /* "mem 131.2MiB exceeds mem_limit 128MiB: exit 82" */
	char amount[96]; /* "cpu 0.310 of 0.250 cores" */
};

struct governor_options {
	struct policy_limits limits;
	const char *state_dir;	    /* last_exit.json is written there */
	struct cgroup_place *place; /* made by cgroup_enter(), not owned */
	uint64_t interval_ns;	    /* 1 s; 250 ms while any metric is above 80 % */
	/* Total BPF run time in ns (UINT64_MAX: not measured here) and map bytes of all our
	 * programs so far; called on the governor thread, must not block. */
	void (*bpf_cost)(void *ctx, uint64_t *ret_run_ns, uint64_t *ret_map_bytes);
	/* Fills in what the ladder can do. NULL: nothing. Governor thread; must not block. */
	void (*can_shed)(void *ctx, struct policy_sample *sample);
	/* A decision or breach: log, audit row, watchers. Governor thread; must not block. */
	void (*on_event)(void *ctx, const struct governor_event *event);
	/* The process must end with that exit code; the daemon flushes and leaves. If it hasn't
	 * after 5 s the governor calls _exit. */
	void (*on_exit)(void *ctx, int code, const struct governor_event *event);
	/* Where to start: one step down after a limit ended the run before, with the reason. */
	enum governor_level start_level;
	const char *start_reason;
	void *ctx;
};

/*
 * Also ends the process by itself, with exit code 1, when the thread with the heartbeat "loop"
 * stands still for ten seconds beyond what it allows itself.
 */
int governor_new(struct governor **ret, const struct governor_options *options, struct err *err);
int governor_start(struct governor *g, struct err *err);
/* Any thread; in force within a second. */
void governor_set_limits(struct governor *g, const struct policy_limits *limits);
void governor_get(struct governor *g, struct policy_limits *limits, struct governor_usage *usage,
		  enum governor_level *level);
/* What can't be measured here, in sentences; "" when everything can. */
const char *governor_lost(const struct governor *g);
/* Also ends the watch over the way out after on_exit: stop the governor last, and leave the cgroup
 * after it. */
void governor_stop(struct governor *g);
void governor_free(struct governor *g);
DEFINE_CLEANUP(struct governor *, governor_free)
