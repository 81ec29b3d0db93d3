// SPDX-License-Identifier: Apache-2.0
/* Inside the user half of the vfs plugin. */
#pragma once

#include "base/buf.h"
#include "bpf/process.h"
#include "bpf/vfs/vfs.h"

extern const struct table vfs_table;
extern const char *const vfs_op_names[];

#define VFS_NO_NUMBER (-1)

/* A system call that we look at. */
struct vfs_syscall {
	const char *name;
	int nr;		/* VFS_NO_NUMBER: only in 32-bit programs */
	int compat;	/* its number there, on a 64-bit kernel; 0: none */
	uint64_t flags; /* that it stands for */
	struct vfs_call call;
};

extern const struct vfs_syscall vfs_syscalls[]; /* {}-terminated */

struct vfs_state {
	struct buf text; /* of the row that is being made */
};

/* vfs_calls.c. How many there are. */
size_t vfs_syscalls_count(void);
/* vfs_table.c. 0, or -EBADMSG for a sample that contradicts itself. */
int vfs_row_add(struct instance *in, const struct vfs_event *e, size_t len);
