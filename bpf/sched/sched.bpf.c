/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How long threads wait for a CPU: sums of all waits, events of long ones. */
#include "bpf/plugin.bpf.h"

#include "bpf/lib/process.bpf.h"
#include "bpf/sched/sched.h"

/* The user half writes them while we run. */
volatile __u64 threshold_ns;
volatile __u32 epoch;

/*
 * Since when a thread waits, by the low bits of its number: no hash, no lock, nothing to allocate
 * with the run queue's lock held. Two threads of one slot that wait at once cost a wait that isn't
 * known (counted). A word is (ns << 8 | woken << 7 | the other bits of the number), 0: nobody
 * waits.
 */
#define SLOTS	  32768
#define SLOT_BITS 15 /* numbers have 22 at most: PID_MAX_LIMIT */
#define TAG_MASK  0x7f
#define WOKEN	  0x80
#define TIME_MASK ((1ull << 56) - 1)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} waiting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sched_cpu);
} cpus SEC(".maps");

static __always_inline volatile __u64 *slot_of(__u32 tid)
{
	__u32 key = tid & (SLOTS - 1);

	return bpf_map_lookup_elem(&waiting, &key);
}

static __always_inline __u64 word_of(__u32 tid, __u64 now, __u32 woken)
{
	return now << 8 | woken | (tid >> SLOT_BITS & TAG_MASK);
}

static __always_inline bool word_is(__u64 word, __u32 tid)
{
	return word && (word & TAG_MASK) == (tid >> SLOT_BITS & TAG_MASK);
}

static __always_inline int woken(struct task_struct *p)
{
	__u32 tid = p->pid;
	volatile __u64 *slot = slot_of(tid);

	/* One that was preempted on its way to sleep waits already. */
	if (slot && !word_is(*slot, tid))
		*slot = word_of(tid, bpf_ktime_get_ns(), WOKEN);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(sched_woken, struct task_struct *p)
{
	return woken(p);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(sched_born, struct task_struct *p)
{
	return woken(p);
}

/* t is a BTF pointer that the verifier trusts: plain loads. */
static __always_inline __s64 state_of(struct task_struct *t)
{
	if (bpf_core_field_exists(t->__state))
		return t->__state;
	return ((struct task_struct___state *)t)->state;
}

/* Whoever leaves the CPU waits from now on, or sleeps. */
static __always_inline void leaves(struct task_struct *t, bool runnable, __u64 now)
{
	__u32 tid = t->pid;
	volatile __u64 *slot;

	if (!tid) /* idle */
		return;
	slot = slot_of(tid);
	if (!slot)
		return;
	if (runnable)
		*slot = word_of(tid, now, 0);
	else if (word_is(*slot, tid))
		*slot = 0;
}

static __always_inline void add_wait(struct sched_cpu *c, __u64 wait, bool after_wakeup)
{
	__u32 bucket = sched_bucket(wait), now = epoch, i = now & 1;

	if (after_wakeup)
		c->woken++;
	else
		c->preempted++;
	c->wait_ns += wait;
	if (c->epoch[i] != now) {
		c->epoch[i] = now;
		c->wait_max_ns[i] = 0;
	}
	if (wait > c->wait_max_ns[i])
		c->wait_max_ns[i] = wait;
	if (bucket < SCHED_BUCKETS)
		c->buckets[bucket]++;
}

static __always_inline void report(struct task_struct *next, struct task_struct *prev, __s64 state,
				   __u64 wait, bool after_wakeup)
{
	struct sched_event *e;

	if (task_is_self(next) || !process_wanted(next) || task_sampled_out(next))
		return;
	e = event_reserve(sizeof(*e));
	if (!e)
		return;
	process_read(&e->p, next);
	e->wait_ns = wait;
	e->prev_state = state;
	e->cpu = bpf_get_smp_processor_id();
	e->woken = after_wakeup;
	e->prio = BPF_CORE_READ(next, prio);
	e->prev_prio = BPF_CORE_READ(prev, prio);
	e->prev_pid = BPF_CORE_READ(prev, tgid);
	e->prev_tid = BPF_CORE_READ(prev, pid);
	task_leader_comm(prev, e->prev_comm);
	event_submit(e);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switched, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 now = bpf_ktime_get_ns(), word, wait;
	__s64 state = state_of(prev);
	__u32 zero = 0, tid = next->pid;
	struct sched_cpu *c = bpf_map_lookup_elem(&cpus, &zero);
	volatile __u64 *slot;

	if (!c)
		return 0;
	c->switches++;
	leaves(prev, preempt || !state, now);
	slot = slot_of(tid);
	if (!tid || !slot)
		return 0;
	word = *slot;
	if (!word_is(word, tid)) {
		c->untracked++;
		return 0;
	}
	*slot = 0;
	wait = (now - (word >> 8)) & TIME_MASK;
	if (wait >> 55) /* another CPU's clock was ahead by a little */
		wait = 0;
	add_wait(c, wait, word & WOKEN);
	if (wait >= threshold_ns)
		report(next, prev, state, wait, word & WOKEN);
	return 0;
}
