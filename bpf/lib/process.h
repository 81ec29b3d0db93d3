/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who did it, and which of them are wanted: shared by both halves of all event plugins. */
#pragma once

#include <linux/types.h>

#define PROCESS_COMM_SIZE 16

/* Controllers whose version 1 hierarchy tells containers apart where the unified one doesn't. */
enum process_controller {
	PROCESS_CGROUP2,
	PROCESS_MEMORY,
	PROCESS_PIDS,
	PROCESS_CPU,
	PROCESS_CONTROLLER_X_MAX,
};

struct process_context {
	__u64 boot_ns;
	__u64 cgroup_id;
	__u64 cgroup1_id; /* in the hierarchy of cgroup1_controller; 0: that has none of version 1 */
	__u32 pid, tid, ppid;
	__u32 uid, gid;
	__u32 loginuid, session_id; /* (__u32)-1: none */
	__u32 mntns_id, pidns_id;   /* 0: gone already */
	char comm[PROCESS_COMM_SIZE]; /* of the thread-group leader */
	__u32 sample_rate; /* events that this one stands for: see sampled_out() */
	__u32 cgroup1_controller; /* enum process_controller: the first in a hierarchy of version 1 */
	__u32 pad;
};

enum process_filter_kind {
	PROCESS_FILTER_PID,
	PROCESS_FILTER_COMM,
	PROCESS_FILTER_UID,
	PROCESS_FILTER_CGROUP,
	PROCESS_FILTER_CONTAINER,
	PROCESS_FILTER_X_MAX,
};

enum process_filter_verdict {
	PROCESS_FILTER_INCLUDE = 1,
	PROCESS_FILTER_EXCLUDE = 2,
};

/* Of all lists together. */
#define PROCESS_FILTER_ITEMS 1024
/* Cgroups deeper than that are looked at from below up to here. */
#define PROCESS_FILTER_DEPTH 16

struct process_filter_key {
	__u32 kind;
	__u32 generation; /* of the lists: the new ones are complete before they count */
	union {
		struct {
			__u64 number;
			__u64 controller; /* whose hierarchy the cgroup of a container is in */
		};
		char comm[PROCESS_COMM_SIZE];
	};
};

/* Eight bytes, so that it changes at once. */
struct process_filter_config {
	__u32 generation;
	__u16 include, exclude; /* bits: kinds that have such items */
};
