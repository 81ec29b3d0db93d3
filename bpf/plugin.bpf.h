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
 * for what comes: what is left out. Only plugins whose rows stand for themselves ask sampled_out();
 * sums and pairs must not lose parts.
 */
volatile __u64 sampling[PLUGIN_SAMPLING_X_MAX] SEC(".data.shed");

/* Where the reader has got to before another full half of the ring wakes it. */
volatile __u64 wake_from SEC(".data.wake");

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

/*
 * True: nobody reads the ring any more. Programs on tracepoints by perf (SEC("tp/...")) and on
 * uprobes ask before they send: nobody waits until they are gone (bpf/links.h).
 */
static __always_inline bool plugin_is_off(void)
{
	return sampling[PLUGIN_SAMPLING_OFF];
}

/* All that it costs while every event is kept. */
static __always_inline bool sampling_is_on(void)
{
	return sampling[PLUGIN_SAMPLING_SHIFTS];
}

/* Of what happens in that cgroup (of the unified hierarchy). */
static __always_inline __u32 sample_shift(__u64 cgroup_id)
{
	__u64 shifts = sampling[PLUGIN_SAMPLING_SHIFTS];

	return (cgroup_id == sampling[PLUGIN_SAMPLING_CGROUP] ? shifts >> 32 : shifts) & 31;
}

/* cgroup_id: the one that the row will name, so that its sample_rate is true. */
static __always_inline bool sampled_out_in(__u64 cgroup_id)
{
	if (!(bpf_get_prandom_u32() & ((1u << sample_shift(cgroup_id)) - 1)))
		return false;
	plugin_count(PLUGIN_STAT_SAMPLED);
	return true;
}

/* True: leave this event of the current task out (counted). Ask before anything that costs. */
static __always_inline bool sampled_out(void)
{
	return sampling_is_on() && sampled_out_in(bpf_get_current_cgroup_id());
}

/* The same by what events have in common (a process, a connection): all of them or none. */
static __always_inline bool sampled_out_of(__u64 key)
{
	__u32 shift;

	if (!sampling_is_on())
		return false;
	shift = sample_shift(bpf_get_current_cgroup_id());
	/* The upper half of the product with 2^64 / golden ratio: neighbours are far apart. */
	if (!((key * 0x9e3779b97f4a7c15ull) >> 32 & ((1u << shift) - 1)))
		return false;
	plugin_count(PLUGIN_STAT_SAMPLED);
	return true;
}

/* How many events one of that cgroup that is kept stands for. */
static __always_inline __u32 sample_rate(__u64 cgroup_id)
{
	return 1u << sample_shift(cgroup_id);
}

/* A sample to fill, or NULL (counted). */
static __always_inline void *event_reserve(__u64 size)
{
	void *e = bpf_ringbuf_reserve(&events, size, 0);

	if (!e)
		plugin_count(PLUGIN_STAT_RING_FULL);
	return e;
}

/*
 * A wake-up per event costs 1,650 ns against 300 (measured): the host polls. A burst may fill the
 * ring before it looks again, so a ring that is half full wakes it, and once more for each half
 * that it has read since.
 */
static __always_inline __u64 event_flags_at(__u64 waiting)
{
	__u64 half = ((struct bpf_map *)&events)->max_entries / 2, at;

	if (waiting < half)
		return BPF_RB_NO_WAKEUP;
	at = bpf_ringbuf_query(&events, BPF_RB_CONS_POS);
	if (at < wake_from)
		return BPF_RB_NO_WAKEUP;
	wake_from = at + half; /* two CPUs that get here at once wake it twice */
	return BPF_RB_FORCE_WAKEUP;
}

/*
 * Octets in the ring that nobody has read. Asked long before it is needed it costs least: another
 * CPU had where the ring ends in its cache, and what comes next doesn't wait for it.
 */
static __always_inline __u64 event_waiting(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
}

static __always_inline __u64 event_flags(void)
{
	return event_flags_at(event_waiting());
}

static __always_inline void event_submit(void *e)
{
	plugin_count(PLUGIN_STAT_SUBMITTED);
	bpf_ringbuf_submit(e, event_flags());
}

/* An event that was put together elsewhere; counted either way. */
static __always_inline void event_output_at(void *e, __u64 size, __u64 waiting)
{
	if (bpf_ringbuf_output(&events, e, size, event_flags_at(waiting)))
		plugin_count(PLUGIN_STAT_RING_FULL);
	else
		plugin_count(PLUGIN_STAT_SUBMITTED);
}

static __always_inline void event_output(void *e, __u64 size)
{
	event_output_at(e, size, event_waiting());
}

static __always_inline bool is_self(void)
{
	return bpf_get_current_pid_tgid() >> 32 == self_tgid;
}
