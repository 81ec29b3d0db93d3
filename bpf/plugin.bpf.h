/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel half of the plugin contract. Include it first in every <plugin>.bpf.c, once per object. */
#pragma once

#include "bpf/lib/kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "bpf/plugin_stats.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set by the host before load. The daemon never observes itself. */
const volatile __u32 self_tgid;

/*
 * Set by the host while the plugin runs, for the governor or because the ring buffer is too small
 * for what comes: one event in 2^sample_shift is kept. Only plugins whose rows stand for themselves
 * ask sampled_out(); sums and pairs must not lose parts.
 */
volatile __u32 sample_shift SEC(".data.shed");

/* The host sizes it from the option ring_size and reads it on a timer: never wake it per event. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PLUGIN_STAT_X_MAX);
	__type(key, __u32);
	__type(value, __u64);
} plugin_stats SEC(".maps");

static __always_inline void plugin_count(enum plugin_stat stat)
{
	__u32 key = stat;
	__u64 *n = bpf_map_lookup_elem(&plugin_stats, &key);

	if (n)
		*n += 1; /* per CPU; a lost race with an interrupt costs one count at most */
}

/* True: leave this event out (counted). Ask before anything that costs. */
static __always_inline bool sampled_out(void)
{
	__u32 shift = sample_shift & 31;

	if (!shift || !(bpf_get_prandom_u32() & ((1u << shift) - 1)))
		return false;
	plugin_count(PLUGIN_STAT_SAMPLED);
	return true;
}

/* The same by what events have in common (a process, a connection): all of them or none. */
static __always_inline bool sampled_out_of(__u64 key)
{
	__u32 shift = sample_shift & 31;

	/* The upper half of the product with 2^64 / golden ratio: neighbours are far apart. */
	if (!shift || !((key * 0x9e3779b97f4a7c15ull) >> 32 & ((1u << shift) - 1)))
		return false;
	plugin_count(PLUGIN_STAT_SAMPLED);
	return true;
}

/* How many events one that is kept stands for. */
static __always_inline __u32 sample_rate(void)
{
	return 1u << (sample_shift & 31);
}

/* A sample to fill, or NULL (counted). */
static __always_inline void *event_reserve(__u64 size)
{
	void *e = bpf_ringbuf_reserve(&events, size, 0);

	if (!e)
		plugin_count(PLUGIN_STAT_RING_FULL);
	return e;
}

/* A wake-up per event costs 1,650 ns against 300 (measured): the host polls. */
static __always_inline void event_submit(void *e)
{
	plugin_count(PLUGIN_STAT_SUBMITTED);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

static __always_inline bool is_self(void)
{
	return bpf_get_current_pid_tgid() >> 32 == self_tgid;
}
