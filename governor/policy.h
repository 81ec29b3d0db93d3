// SPDX-License-Identifier: Apache-2.0
/* What the governor decides, as a pure function of what was measured: no clocks, no files, no
 * allocation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum resource {
	RESOURCE_CPU, /* millicores: own cgroup or process plus BPF run time */
	RESOURCE_MEM, /* bytes: usage - inactive_file */
	RESOURCE_NET, /* bytes per second, by net_limit_scope */
	RESOURCE_KERNEL_CPU, /* millicores: BPF run time alone, which others pay */
	RESOURCE_X_MAX,
};

enum limit_action {
	LIMIT_ACTION_SHED,
	LIMIT_ACTION_EXIT,
	LIMIT_ACTION_REPORT,
	LIMIT_ACTION_X_MAX,
};

enum net_scope {
	NET_SCOPE_SELF, /* bytes of our own cgroup's sockets, both directions together */
	NET_SCOPE_NIC,	/* the busiest direction of any interface of this network namespace, as
			   DataKit means it */
	NET_SCOPE_X_MAX,
};

enum governor_level {
	GOVERNOR_OK,
	GOVERNOR_SAMPLE,
	GOVERNOR_DISABLE,
	GOVERNOR_EXIT,
	GOVERNOR_X_MAX,
};

struct policy_limits {
	uint64_t limit[RESOURCE_X_MAX]; /* 0: none */
	enum limit_action action;
	enum net_scope net_scope;
	uint64_t grace_ns; /* after start, no exit before that: 2 s */
	/* Load must be low for that long before a plugin comes back, a fifth of it between two of
	 * them, a tenth of it for a step of sampling. 0: 300 s. */
	uint64_t recovery_ns;
};

struct policy_sample {
	uint64_t now_ns; /* CLOCK_MONOTONIC */
	uint64_t value[RESOURCE_X_MAX];
	bool valid[RESOURCE_X_MAX]; /* false: could not be measured; never treated as exceeded */
	double throttled; /* share of the last periods in which a kernel quota held us; <0 unknown
			   */
	/* What the ladder can still do: sampling isn't at its floor, some plugin is left to
	 * disable. */
	bool can_sample, can_disable;
	/* What it has to give back: a step of sampling, a plugin. */
	bool can_unsample, can_enable;
};

/* What the ladder is to do now. */
enum policy_act {
	POLICY_ACT_NONE,
	POLICY_ACT_SAMPLE,   /* one step less of what can be sampled or coarsened; for memory: give
				back what is free */
	POLICY_ACT_DISABLE,  /* the dearest plugin */
	POLICY_ACT_ENABLE,   /* one plugin comes back */
	POLICY_ACT_UNSAMPLE, /* one step back */
	POLICY_ACT_RESTORE,  /* everything back */
	POLICY_ACT_X_MAX,
};

/* Zeroed at start, then policy_step()'s own. Times are CLOCK_MONOTONIC, 0: not. */
struct policy_state {
	enum governor_level level;
	uint64_t started_ns;
	uint32_t over[RESOURCE_X_MAX]; /* samples in a row over the limit, at most one a second */
	uint64_t over_counted_ns[RESOURCE_X_MAX];
	uint64_t warn_since[RESOURCE_X_MAX]; /* above 80 % without a break */
	uint64_t high_since[RESOURCE_X_MAX]; /* above 90 % without a break */
	uint64_t calm_since;		     /* every known metric below 70 % without a break */
	uint64_t throttled_since;
	uint64_t settle_until_ns; /* an act has until then to show its effect; nothing counts */
	uint64_t back_ns;	  /* the last plugin came back */
	bool reported[RESOURCE_X_MAX]; /* LIMIT_ACTION_REPORT: the breach has been told */
};

struct policy_decision {
	enum governor_level level; /* to be in from now on */
	enum policy_act act;
	bool changed;	/* the level did, there is an act, or (LIMIT_ACTION_REPORT) a breach began
			   or ended */
	bool breach;	/* some limit is exceeded right now */
	bool throttled; /* by the kernel's quota holding us, not by the value */
	enum resource resource; /* that led to it; the fullest one otherwise */
	uint64_t value, limit;
};

/* GOVERNOR_EXIT is final: later steps repeat it. */
struct policy_decision policy_step(struct policy_state *state, const struct policy_limits *limits,
				   const struct policy_sample *sample);

/* 81, 82, 83; both of cpu are 81. */
int policy_exit_code(enum resource resource);
const char *resource_name(enum resource resource); /* "cpu", "mem", "net", "kernel_cpu" */
const char *policy_act_name(enum policy_act act); /* "", "sample", "disable", ... */
const char *governor_level_name(enum governor_level level);
extern const char *const limit_action_names[]; /* NULL-terminated, for option tables */
extern const char *const net_scope_names[];
