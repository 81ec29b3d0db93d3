/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What both halves of the sched plugin share. */
#pragma once

#include "bpf/lib/process.h"

/*
 * Buckets of waits: eight for each power of two of nanoseconds, so that a wait is known to 1/16.
 * Waits below 8 ns have one each, those from 2^42 ns (73 minutes) on share the last.
 */
#define SCHED_BUCKET_BITS 3
#define SCHED_BUCKETS	  (40 << SCHED_BUCKET_BITS)

static inline __attribute__((always_inline)) __u32 sched_bucket(__u64 ns)
{
	__u32 log = 0, i;
	__u64 v = ns;

	if (ns < 1 << SCHED_BUCKET_BITS)
		return ns;
	for (__u32 step = 32; step; step >>= 1)
		if (v >> step) {
			v >>= step;
			log += step;
		}
	i = ((log - SCHED_BUCKET_BITS + 1) << SCHED_BUCKET_BITS) |
	    (ns >> (log - SCHED_BUCKET_BITS) & ((1 << SCHED_BUCKET_BITS) - 1));
	return i < SCHED_BUCKETS ? i : SCHED_BUCKETS - 1;
}

/* Of one CPU since the plugin began; the longest wait of the last two epochs, each in its slot. */
struct sched_cpu {
	__u64 switches;
	__u64 woken;	 /* waits since a wake-up */
	__u64 preempted; /* waits since the thread had to leave */
	__u64 untracked; /* threads that got the CPU and whose wait isn't known */
	__u64 wait_ns;
	__u64 wait_max_ns[2];
	__u32 epoch[2];
	__u64 buckets[SCHED_BUCKETS];
};

struct sched_event {
	struct process_context p; /* the one that waited */
	__u64 wait_ns;
	__s64 prev_state;
	__u32 cpu;
	__u32 woken;
	__s32 prio, prev_prio;
	__u32 prev_pid, prev_tid;
	char prev_comm[PROCESS_COMM_SIZE]; /* of its process */
};
