/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every program on a uprobe begins with. */
#pragma once

#include "bpf/plugin.bpf.h"

/* Stays empty. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} uprobe_nowhere SEC(".maps");

/*
 * Since Linux 6.13 a larger stack of a program belongs to the CPU and not to the task, where the
 * kernel thinks that the program can't meet itself on one CPU. On uprobes it can: nothing keeps the
 * task in it from being preempted, and the next one that comes by writes into its stack (seen
 * on 7.x: a client's handshake with the role of a server). A program with a tail call keeps the
 * task's.
 */
static __always_inline void uprobe_keep_stack(struct pt_regs *ctx)
{
	if (plugin_is_off())
		bpf_tail_call(ctx, &uprobe_nowhere, 0); /* nobody is there: it comes back */
}
