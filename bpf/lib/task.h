/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who runs: facts of tasks that mean the same in every program. */
#pragma once

#include "bpf/lib/cast.bpf.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

static __always_inline __u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

/* Kernel threads work on sockets and files of others: never an owner. */
static __always_inline bool current_is_kthread(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return KERNEL_READ(task, flags) & K_PF_KTHREAD;
}

/* comm of the thread-group leader: a thread's own name ("isc-net-0000") doesn't name the program.
 */
static __always_inline void task_leader_comm(struct task_struct *task, char comm[16])
{
	struct task_struct *leader = KERNEL_READ(task, group_leader);
	const void *from = __builtin_preserve_access_index(&leader->comm);

	if (can_cast()) {
		__u64 half[2] = {kernel_word(from), kernel_word(from + 8)};

		__builtin_memcpy(comm, half, sizeof(half));
	} else {
		bpf_probe_read_kernel(comm, 16, from);
	}
}

static __always_inline void current_leader_comm(char comm[16])
{
	task_leader_comm((void *)bpf_get_current_task(), comm);
}

/* Id of the task's cgroup in the v2 hierarchy, as bpf_get_current_cgroup_id() gives for the current
 * task. */
static __always_inline __u64 task_cgroup_id(struct task_struct *task)
{
	return KERNEL_READ(task, cgroups, dfl_cgrp, kn, id);
}
