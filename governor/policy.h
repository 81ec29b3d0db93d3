// SPDX-License-Identifier: Apache-2.0
/* What the governor decides, as a pure function of what was measured: no clocks, no files, no allocation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum resource {
	RESOURCE_CPU, /* millicores: own cgroup or process plus BPF run time */
	RESOURCE_MEM, /* bytes: usage - inactive_file */
	RESOURCE_NET, /* bytes per second, by net_limit_scope */
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
	NET_SCOPE_NIC,  /* the busiest direction of any interface of this network namespace, as DataKit means it */
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
	uint64_t grace_ns;              /* after start, no exit before that: 2 s */
};

struct policy_sample {
	uint64_t now_ns; /* CLOCK_MONOTONIC */
	uint64_t value[RESOURCE_X_MAX];
	bool valid[RESOURCE_X_MAX]; /* false: could not be measured; never treated as exceeded */
	double throttled;           /* share of the last periods in which a kernel quota held us; <0 unknown */
};

struct policy_state {
	enum governor_level level;
	uint64_t started_ns;
	uint32_t over[RESOURCE_X_MAX];      /* consecutive samples over the limit */
	uint64_t above_since[RESOURCE_X_MAX]; /* since when above the warning mark; 0: not */
	uint64_t below_since[RESOURCE_X_MAX];
	uint64_t throttled_since;
};

struct policy_decision {
	enum governor_level level; /* to be in from now on */
	bool changed;
	bool breach;               /* some limit is exceeded right now (report, exit) */
	enum resource resource;    /* that led to it */
	uint64_t value, limit;
};

struct policy_decision policy_step(struct policy_state *state, const struct policy_limits *limits,
				   const struct policy_sample *sample);

/* 81, 82, 83. */
int policy_exit_code(enum resource resource);
const char *resource_name(enum resource resource); /* "cpu", "mem", "net" */
const char *governor_level_name(enum governor_level level);
extern const char *const limit_action_names[]; /* NULL-terminated, for option tables */
extern const char *const net_scope_names[];
