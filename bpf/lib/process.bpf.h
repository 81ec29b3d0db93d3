/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who did it, and whether that one is wanted: the kernel half of what event plugins share. */
#pragma once

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
	__u32 tgid = BPF_CORE_READ(t, tgid);

	return self_tgid && (tgid == self_tgid || BPF_CORE_READ(t, real_parent, tgid) == self_tgid);
}

static __always_inline __u32 task_pidns(struct task_struct *t)
{
	struct pid *pid = BPF_CORE_READ(t, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	struct pid_namespace *ns = NULL;

	bpf_core_read(&ns, sizeof(ns),
		      (void *)&pid->numbers[0] + level * bpf_core_type_size(struct upid) +
			      bpf_core_field_offset(struct upid, ns));
	return BPF_CORE_READ(ns, ns.inum);
}

static __always_inline struct cgroup *cgroup_of_controller(struct css_set *set, __u64 controller)
{
	struct cgroup_subsys_state *css = NULL;

	bpf_core_read(&css, sizeof(css),
		      (void *)set + bpf_core_field_offset(struct css_set, subsys) +
			      controller * sizeof(css));
	return BPF_CORE_READ(css, cgroup);
}

/* The task's cgroup of the first controller that is in a hierarchy of version 1, or NULL. */
static __always_inline struct cgroup *task_cgroup1(struct task_struct *t, __u32 *controller)
{
	struct css_set *set = BPF_CORE_READ(t, cgroups);
	struct cgroup_root *unified = BPF_CORE_READ(set, dfl_cgrp, root);
	struct cgroup *cg = NULL;

	*controller = PROCESS_CGROUP2;
#define TRY(id, name)                                                                           \
	if (!*controller && bpf_core_enum_value_exists(enum cgroup_subsys_id, id)) {            \
		cg = cgroup_of_controller(set, bpf_core_enum_value(enum cgroup_subsys_id, id)); \
		if (BPF_CORE_READ(cg, root) != unified)                                         \
			*controller = name;                                                     \
	}
	TRY(memory_cgrp_id, PROCESS_MEMORY)
	TRY(pids_cgrp_id, PROCESS_PIDS)
	TRY(cpu_cgrp_id, PROCESS_CPU)
#undef TRY
	return *controller ? cg : NULL;
}

static __always_inline void process_read(struct process_context *c, struct task_struct *t)
{
	struct cgroup *cgroup1;

	c->boot_ns = bpf_ktime_get_boot_ns();
	c->cgroup_id = task_cgroup_id(t);
	cgroup1 = task_cgroup1(t, &c->cgroup1_controller);
	c->cgroup1_id = cgroup1 ? BPF_CORE_READ(cgroup1, kn, id) : 0;
	c->pid = BPF_CORE_READ(t, tgid);
	c->tid = BPF_CORE_READ(t, pid);
	c->ppid = BPF_CORE_READ(t, real_parent, tgid);
	c->uid = BPF_CORE_READ(t, cred, uid.val);
	c->gid = BPF_CORE_READ(t, cred, gid.val);
	c->loginuid = c->session_id = (__u32)-1;
	/* Only with CONFIG_AUDIT. */
	if (bpf_core_field_exists(t->loginuid))
		c->loginuid = BPF_CORE_READ(t, loginuid.val);
	if (bpf_core_field_exists(t->sessionid))
		c->session_id = BPF_CORE_READ(t, sessionid);
	c->mntns_id = BPF_CORE_READ(t, nsproxy, mnt_ns, ns.inum);
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

static __always_inline __u8 filter_find_comm(struct process_filter_key *key, struct task_struct *t)
{
	struct task_struct *leader = BPF_CORE_READ(t, group_leader);

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

		key->number = BPF_CORE_READ(cg, kn, id);
		found |= filter_find(key);
		css = BPF_CORE_READ(cg, self.parent);
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
	__u8 found = filter_find_cgroup(key, BPF_CORE_READ(t, cgroups, dfl_cgrp));

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
		verdict = filter_find_cgroup(&key, BPF_CORE_READ(t, cgroups, dfl_cgrp));
	} else if (kind == PROCESS_FILTER_CONTAINER) {
		verdict = filter_find_container(&key, t);
	} else if (kind == PROCESS_FILTER_COMM) {
		verdict = filter_find_comm(&key, t);
	} else {
		key.number = kind == PROCESS_FILTER_PID ? (__u32)BPF_CORE_READ(t, tgid)
							: BPF_CORE_READ(t, cred, uid.val);
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
