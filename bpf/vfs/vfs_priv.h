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
	struct vfs_config config;
	struct vfs_held *held; /* requests whose result isn't known yet; NULL: nobody sees any */
	int timer;	       /* when the oldest may have waited long enough */
	bool armed;
};

/* vfs_calls.c. How many there are. */
size_t vfs_syscalls_count(void);
/* Can the call do something of ops? */
bool vfs_call_is_wanted(const struct vfs_call *call, uint32_t ops);
/* vfs_uring.c, what of the plugin is about io_uring: in its setup (the kernel may have less than it
 * needs; then in->degraded says so), its start, whenever options change, for each event with
 * VFS_URING, and in its stop. */
int vfs_uring_setup(struct instance *in, struct err *err);
int vfs_uring_start(struct instance *in, struct err *err);
void vfs_uring_apply(struct instance *in, uint32_t ops);
int vfs_uring_event(struct instance *in, const struct vfs_event *e, size_t len);
void vfs_uring_stop(struct instance *in);
/* vfs_table.c. 0, or -EBADMSG for a sample that contradicts itself. */
int vfs_row_add(struct instance *in, const struct vfs_event *e, size_t len);
