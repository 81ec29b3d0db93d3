// SPDX-License-Identifier: Apache-2.0
/* Inside the user half of the vfs plugin. */
#pragma once

#include "base/buf.h"
#include "bpf/process.h"
#include "bpf/vfs/vfs.h"

extern const struct table vfs_table;
extern const char *const vfs_op_names[];

/* A system call that we look at, by its tracepoint. */
struct vfs_syscall {
	const char *name;
	int nr;
	uint64_t flags; /* that it stands for */
	struct vfs_call call;
};

#define VFS_SYSCALLS_MAX 40

extern const struct vfs_syscall vfs_syscalls[]; /* {}-terminated */

struct vfs_state {
	struct bpf_link *links[VFS_SYSCALLS_MAX]; /* as in vfs_syscalls */
	size_t nsyscalls;
	struct buf text; /* of the row that is being made */
};

/* vfs_table.c. 0, or -EBADMSG for a sample that contradicts itself. */
int vfs_row_add(struct instance *in, const struct vfs_event *e, size_t len);
