/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which file a process runs, and whether it sees the whole of its mount namespace. */
#pragma once

#include "bpf/lib/exe.h"
#include "bpf/lib/kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block___exe {
	u32 s_dev;
	unsigned long s_magic;
};

struct inode___exe {
	struct super_block___exe *i_sb;
	long long i_size;
};

struct timespec64___exe {
	s64 tv_sec;
	long tv_nsec;
};

/* Until 13bc24457850 ("fs: rename i_ctime field to __i_ctime"), 6.6. */
struct inode___ctime {
	struct timespec64___exe i_ctime;
};

/* Until 3aa63a569c64 ("fs: switch timespec64 fields in inode to discrete integers"), 6.11. */
struct inode___uctime {
	struct timespec64___exe __i_ctime;
};

struct inode___ctimes {
	s64 i_ctime_sec;
	u32 i_ctime_nsec;
};

struct fs_struct___root {
	struct path root;
};

struct vfsmount___exe {
	struct super_block___exe *mnt_sb;
};

#pragma clang attribute pop

/* The uppermost bit says that somebody has asked for it (4e40eff0b573, 6.13). */
#define K_CTIME_NSEC 0x7fffffff

static __always_inline void exe_read_ctime(struct exe_id *id, struct inode *inode)
{
	struct inode___ctimes *now = (void *)inode;
	struct inode___uctime *between = (void *)inode;
	struct inode___ctime *once = (void *)inode;

	if (bpf_core_field_exists(now->i_ctime_sec)) {
		id->ctime_sec = BPF_CORE_READ(now, i_ctime_sec);
		id->ctime_nsec = BPF_CORE_READ(now, i_ctime_nsec) & K_CTIME_NSEC;
	} else if (bpf_core_field_exists(between->__i_ctime)) {
		id->ctime_sec = BPF_CORE_READ(between, __i_ctime.tv_sec);
		id->ctime_nsec = BPF_CORE_READ(between, __i_ctime.tv_nsec);
	} else {
		id->ctime_sec = BPF_CORE_READ(once, i_ctime.tv_sec);
		id->ctime_nsec = BPF_CORE_READ(once, i_ctime.tv_nsec);
	}
}

static __always_inline void exe_read(struct exe_id *id, struct task_struct *t)
{
	struct inode *inode = BPF_CORE_READ(t, mm, exe_file, f_inode);
	struct inode___exe *i = (void *)inode;
	struct fs_struct___root *fs = (void *)BPF_CORE_READ(t, fs);
	struct vfsmount___exe *root = (void *)BPF_CORE_READ(fs, root.mnt);

	id->ino = BPF_CORE_READ(inode, i_ino);
	id->size = BPF_CORE_READ(i, i_size);
	id->dev = BPF_CORE_READ(i, i_sb, s_dev);
	id->magic = BPF_CORE_READ(i, i_sb, s_magic);
	id->root_magic = BPF_CORE_READ(root, mnt_sb, s_magic);
	exe_read_ctime(id, inode);
}

/* Not in a chroot: its root is where its mount namespace begins. Mounts may lie upon each other
 * there. */
static __always_inline bool task_root_is_top(struct task_struct *t)
{
	struct fs_struct___root *fs = (void *)BPF_CORE_READ(t, fs);
	struct dentry *dentry = BPF_CORE_READ(fs, root.dentry);
	struct mount *mnt =
		(void *)BPF_CORE_READ(fs, root.mnt) - bpf_core_field_offset(struct mount, mnt);

	for (int i = 0; i < 4; i++) {
		struct mount *above;

		if (dentry != BPF_CORE_READ(mnt, mnt.mnt_root))
			return false;
		above = BPF_CORE_READ(mnt, mnt_parent);
		if (above == mnt)
			return true;
		dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
		mnt = above;
	}
	return false;
}
