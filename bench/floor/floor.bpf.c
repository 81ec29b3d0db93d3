/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The least that an observer of system calls can do at the hook where they end. */
#include "bpf/plugin.bpf.h"

#include "bench/floor/floor.h"
#include "bpf/vfs/vfs.h"
#include "bpf/vfs/vfs_regs.bpf.h"

const volatile __u32 watched_tgid;
const volatile __u32 watched_nr;

SEC("tp_btf/sys_exit")
int floor_hook(void *ctx)
{
	return 0;
}

/* A record of the watched process's calls of one kind: the time, the result, and room for a name.
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(floor_record, struct vfs_pt_regs *regs, long ret)
{
	struct floor_event *e;

	if (regs->VFS_ARGS_NR != watched_nr || bpf_get_current_pid_tgid() >> 32 != watched_tgid)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->boot_ns = bpf_ktime_get_boot_ns();
	e->ret = ret;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}
