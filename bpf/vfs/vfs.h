/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the two halves of the vfs plugin tell each other. */
#pragma once

#include "bpf/lib/process.h"

/* What was done; the names are in vfs_table.c. */
enum vfs_op {
	VFS_NONE,
	VFS_OPEN, /* also of a file that it made: VFS_CREATE then */
	VFS_CREATE,
	VFS_UNLINK,
	VFS_RMDIR,
	VFS_RENAME,
	VFS_MKDIR,
	VFS_MKNOD,
	VFS_CHMOD,
	VFS_CHOWN,
	VFS_TRUNCATE,
	VFS_LINK,
	VFS_SYMLINK,
	VFS_MOUNT,
	VFS_UMOUNT,
	VFS_OP_X_MAX,
};

/* Where a system call has what we want: its arguments, counted from 1. */
enum vfs_arg {
	VFS_ARG_NONE,	 /* reads as 0 */
	VFS_ARG_CWD = 7, /* reads as AT_FDCWD: for a directory that the call doesn't name */
};

#define VFS_ARGS 8 /* a power of two */

enum vfs_call_bit {
	VFS_HOW = 1,   /* flags and mode are in the struct open_how that flags points to */
	VFS_BY_FD = 2, /* dir is the file itself */
	VFS_ID16 = 4,  /* new owner and group have 16 bits */
};

struct vfs_call {
	__u8 op, bits;
	__u8 dir, path;
	__u8 dir2, path2; /* the new name */
	__u8 text, text2; /* as given: what a link leads to; source and type of a mount */
	__u8 flags, mode;
	__u8 arg, arg2; /* new owner and group; length; device */
	__u8 pad[4];
};

/* In the user half's table of system calls. */
#define VFS_CALLS 64 /* a power of two */

/* System calls have numbers below that. */
#define VFS_NUMBERS 512

/* Which call that number is, counted from 1; 0: none that is wanted. */
struct vfs_number {
	__u8 native;
	__u8 compat; /* in 32-bit programs on a 64-bit kernel */
};

/* A call that isn't wanted, as nearly all, costs the one line of the cache that wanted is. */
struct vfs_numbers {
	__u64 wanted[VFS_NUMBERS / 64]; /* bits: numbers that are a call */
	struct vfs_number of[VFS_NUMBERS];
};

enum vfs_event_bit {
	VFS_CUT = 1,	    /* the path goes on above or behind what is here */
	VFS_CUT2 = 2,	    /* the new one */
	VFS_UNREADABLE = 4, /* the process's memory couldn't be read */
	VFS_URING = 8,	    /* by a request of io_uring */
	VFS_PENDING = 16,   /* of which the result isn't known yet */
	VFS_ENDED = 32,	    /* nothing but the result of such a request */
	VFS_LEFT_OUT = 64,  /* by its path so far */
};

/* include/uapi/linux/io_uring.h, enum io_uring_op: of those that do what a system call does. */
enum vfs_opcode {
	VFS_OPCODE_OPENAT = 18,
	VFS_OPCODE_OPENAT2 = 28,
	VFS_OPCODE_RENAMEAT = 35,
	VFS_OPCODE_UNLINKAT = 36,
	VFS_OPCODE_MKDIRAT = 37,
	VFS_OPCODE_SYMLINKAT = 38,
	VFS_OPCODE_LINKAT = 39,
	VFS_OPCODE_FTRUNCATE = 55,
};

/* As many as a request's byte for it can say. */
#define VFS_OPCODES 256

/* That have been accepted and have not ended yet: each side waits for so many results. */
#define VFS_REQUESTS 8192
#define VFS_NO_BIT   32

/* A path is a directory and what was given behind it. */
#define VFS_PATH_MAX   8192
#define VFS_DATA_MAX   (2 * VFS_PATH_MAX)
#define VFS_FSTYPE_MAX 64

/* data: path, then new path, or text, then text2, one behind the other, as long as len says. */
struct vfs_event {
	struct process_context p;
	__u64 flags;
	__u64 arg;     /* length; or new owner, and group from bit 32 on */
	__u64 request; /* joins VFS_PENDING and VFS_ENDED */
	__s64 ret;
	__s32 fd; /* opened or acted upon; -1: none */
	__u32 mode;
	__u16 file_mode; /* of the file; 0: not known */
	__u8 op, index;
	__u16 len[3];
	__u16 bits;
	char data[VFS_DATA_MAX];
};

/* Eight bytes: it changes at once. */
struct vfs_config {
	__u32 ops;	  /* bits: operations that are wanted */
	__u16 no_success; /* only failures */
	__u16 no_failure;
};
