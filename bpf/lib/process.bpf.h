/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who did it, and whether that one is wanted: the kernel half of what event plugins share. */
#pragma once

#include "bpf/lib/cast.bpf.h"
#include "bpf/lib/process.h"
#include "bpf/lib/task.h"

/* Twice the items: while lists change, both are here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * PROCESS_FILTER_ITEMS);
	__type(key, struct process_filter_key);
	__type(value, __u8);
} process_filter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64); /* struct process_filter_config, read in one piece */
} filter_config SEC(".maps");

/* See filter_find_pid(). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} filter_pid SEC(".maps");

union process_filter_word {
	__u64 word;
	struct process_filter_config config;
};

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

/* The daemon and its query worker: never observed. */
static __always_inline bool task_is_self(struct task_struct *t)
{
	__u32 tgid = KERNEL_READ(t, tgid);

	return self_tgid && (tgid == self_tgid || KERNEL_READ(t, real_parent, tgid) == self_tgid);
}

static __always_inline __u32 task_pidns(struct task_struct *t)
{
	const __u32 first =
		bpf_core_field_offset(struct pid, numbers) + bpf_core_field_offset(struct upid, ns);
	struct pid *pid = KERNEL_READ(t, thread_pid);
	unsigned int level = KERNEL_READ(pid, level);
	struct pid_namespace *ns = NULL;

	/* Only a helper takes an address that isn't known beforehand. */
	if (level) {
		pid = BPF_CORE_READ(t, thread_pid);
		bpf_core_read(&ns, sizeof(ns),
			      (void *)pid + first + level * bpf_core_type_size(struct upid));
	} else {
		ns = kernel_pointer((void *)pid + first);
	}
	return KERNEL_READ(ns, ns.inum);
}

static __always_inline struct cgroup *cgroup_of_controller(struct css_set *set, __u64 controller)
{
	struct cgroup_subsys_state *css =
		kernel_pointer((void *)set + bpf_core_field_offset(struct css_set, subsys) +
			       controller * sizeof(css));

	return KERNEL_READ(css, cgroup);
}

/* The task's cgroup of the first controller that is in a hierarchy of version 1, or NULL. */
static __always_inline struct cgroup *task_cgroup1(struct task_struct *t, __u32 *controller)
{
	struct css_set *set = KERNEL_READ(t, cgroups);
	struct cgroup_root *unified = KERNEL_READ(set, dfl_cgrp, root);
	struct cgroup *cg = NULL;

	*controller = PROCESS_CGROUP2;
#define TRY(id, name)                                                                           \
	if (!*controller && bpf_core_enum_value_exists(enum cgroup_subsys_id, id)) {            \
		cg = cgroup_of_controller(set, bpf_core_enum_value(enum cgroup_subsys_id, id)); \
		if (KERNEL_READ(cg, root) != unified)                                           \
			*controller = name;                                                     \
	}
	TRY(memory_cgrp_id, PROCESS_MEMORY)
	TRY(pids_cgrp_id, PROCESS_PIDS)
	TRY(cpu_cgrp_id, PROCESS_CPU)
#undef TRY
	return *controller ? cg : NULL;
}

/* 0: it has none. */
static __always_inline __u64 task_cgroup1_id(struct task_struct *t, __u32 *controller)
{
	struct cgroup *cg = task_cgroup1(t, controller);

	return cg ? KERNEL_READ(cg, kn, id) : 0;
}

static __always_inline void process_read(struct process_context *c, struct task_struct *t)
{
	c->boot_ns = bpf_ktime_get_boot_ns();
	c->cgroup_id = task_cgroup_id(t);
	c->cgroup1_id = task_cgroup1_id(t, &c->cgroup1_controller);
	c->pid = KERNEL_READ(t, tgid);
	c->tid = KERNEL_READ(t, pid);
	c->ppid = KERNEL_READ(t, real_parent, tgid);
	c->uid = KERNEL_READ(t, cred, uid.val);
	c->gid = KERNEL_READ(t, cred, gid.val);
	c->loginuid = c->session_id = (__u32)-1;
	/* Only with CONFIG_AUDIT. */
	if (bpf_core_field_exists(t->loginuid))
		c->loginuid = KERNEL_READ(t, loginuid.val);
	if (bpf_core_field_exists(t->sessionid))
		c->session_id = KERNEL_READ(t, sessionid);
	c->mntns_id = KERNEL_READ(t, nsproxy, mnt_ns, ns.inum);
	c->pidns_id = task_pidns(t);
	c->sample_rate = sample_rate(c->cgroup_id);
	c->pad = 0;
	task_leader_comm(t, c->comm);
}

/* As sampled_out(), where the event isn't the current task's. */
static __always_inline bool task_sampled_out(struct task_struct *t)
{
	return sampling_is_on() && sampled_out_in(task_cgroup_id(t));
}

static __always_inline __u8 filter_find(struct process_filter_key *key)
{
	__u8 *verdict = bpf_map_lookup_elem(&process_filter, key);

	return verdict ? *verdict : 0;
}

/*
 * As filter_find() of a process. Most events are of the same one as the event before on that CPU,
 * and what a generation of the lists says of a process never changes: the answer is kept, in one
 * word with its question, so that a program that interrupts another one can't mix them up.
 */
static __always_inline __u8 filter_find_pid(struct process_filter_key *key, __u32 pid)
{
	/* The kernel's PID_MAX_LIMIT is 2^22, verdicts have two bits, the first generation is 1. */
	__u64 question = (__u64)key->generation << 32 | pid << 2, *kept;
	__u32 zero = 0;
	__u8 verdict;

	kept = bpf_map_lookup_elem(&filter_pid, &zero);
	if (kept) {
		__u64 answer = *(volatile __u64 *)kept;

		if ((answer & ~3ull) == question)
			return answer & 3;
	}
	key->number = pid;
	verdict = filter_find(key);
	if (kept)
		*(volatile __u64 *)kept = question | (verdict & 3);
	return verdict;
}

static __always_inline __u8 filter_find_comm(struct process_filter_key *key, struct task_struct *t)
{
	struct task_struct *leader = KERNEL_READ(t, group_leader);

	/* Up to the NUL: the kernel doesn't clear what a longer name left behind. */
	bpf_probe_read_kernel_str(key->comm, sizeof(key->comm),
				  (void *)leader + bpf_core_field_offset(struct task_struct, comm));
	return filter_find(key);
}

/* The verdicts on the cgroup and all above it. */
static __always_inline __u8 filter_find_cgroup(struct process_filter_key *key, struct cgroup *cg)
{
	__u8 found = 0;

	for (int i = 0; i < PROCESS_FILTER_DEPTH; i++) {
		struct cgroup_subsys_state *css;

		key->number = KERNEL_READ(cg, kn, id);
		found |= filter_find(key);
		css = KERNEL_READ(cg, self.parent);
		if (!css)
			break;
		cg = (void *)css - bpf_core_field_offset(struct cgroup, self);
	}
	return found;
}

/* A container may have its cgroup in the unified hierarchy, in one of version 1, or in both. */
static __always_inline __u8 filter_find_container(struct process_filter_key *key,
						  struct task_struct *t)
{
	__u32 controller;
	struct cgroup *cg = task_cgroup1(t, &controller);
	__u8 found = filter_find_cgroup(key, KERNEL_READ(t, cgroups, dfl_cgrp));

	key->controller = controller;
	return cg ? found | filter_find_cgroup(key, cg) : found;
}

static __always_inline bool filter_passes(const struct process_filter_config *c, __u32 kind,
					  struct task_struct *t)
{
	struct process_filter_key key = {.kind = kind, .generation = c->generation};
	__u8 verdict;

	if (!((c->include | c->exclude) & 1 << kind))
		return true;
	if (kind == PROCESS_FILTER_CGROUP) {
		verdict = filter_find_cgroup(&key, KERNEL_READ(t, cgroups, dfl_cgrp));
	} else if (kind == PROCESS_FILTER_CONTAINER) {
		verdict = filter_find_container(&key, t);
	} else if (kind == PROCESS_FILTER_COMM) {
		verdict = filter_find_comm(&key, t);
	} else if (kind == PROCESS_FILTER_PID) {
		verdict = filter_find_pid(&key, KERNEL_READ(t, tgid));
	} else {
		key.number = KERNEL_READ(t, cred, uid.val);
		verdict = filter_find(&key);
	}
	if (verdict & PROCESS_FILTER_EXCLUDE)
		return false;
	return !(c->include & 1 << kind) || verdict & PROCESS_FILTER_INCLUDE;
}

/* Every list that isn't empty must agree. What is left out is counted. */
static __always_inline bool process_wanted(struct task_struct *t)
{
	union process_filter_word w = {};
	__u32 zero = 0;
	__u64 *config = bpf_map_lookup_elem(&filter_config, &zero);

	if (config)
		w.word = *(volatile __u64 *)config;
	if (!w.config.include && !w.config.exclude)
		return true;
	if (filter_passes(&w.config, PROCESS_FILTER_PID, t) &&
	    filter_passes(&w.config, PROCESS_FILTER_COMM, t) &&
	    filter_passes(&w.config, PROCESS_FILTER_UID, t) &&
	    filter_passes(&w.config, PROCESS_FILTER_CGROUP, t) &&
	    filter_passes(&w.config, PROCESS_FILTER_CONTAINER, t))
		return true;
	plugin_count(PLUGIN_STAT_FILTERED);
	return false;
}
