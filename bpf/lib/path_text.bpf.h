/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Paths as text, made in the kernel: of open files, and of names that a system call was given. */
/*
 * The text of a directory is made from its end, each name before the last one, and what the process
 * wrote stands behind: both meet at PATH_TEXT_MIDDLE, and nothing is moved. Names are read without
 * locks: a rename in the same microsecond may give a path that never was. Paths begin at the root
 * of the mount namespace, also in a chroot.
 */
#pragma once

#include "bpf/lib/kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/cast.bpf.h"
#include "bpf/lib/path_filter.h"

#define PATH_TEXT_MIDDLE 4096
#define PATH_TEXT_GIVEN	 4096 /* PATH_MAX: the kernel takes no longer one */
/* "./" and "../" at the beginning of what was given, and slashes behind them. */
#define PATH_TEXT_STEPS 16
/* Names and mount points that are followed. */
#define PATH_TEXT_NAMES 128
/* A name without its NUL; what stands before the middle may be skipped steps. */
#define PATH_TEXT_NAME 255

struct path_text {
	__u32 at, end;	   /* in data */
	__u32 cut;	   /* it goes on above, or behind */
	__u32 up;	   /* directories that "../" leaves */
	__u64 dentry, mnt; /* where path_text_walk() begins */
	__u64 pad;	   /* whole words may begin before data */
	char data[PATH_TEXT_MIDDLE + PATH_TEXT_GIVEN + 64];
};

/*
 * One at a time: programs of one CPU don't interrupt themselves. What is read from a map means
 * nothing to the verifier, which otherwise follows every sum of lengths apart; functions that take
 * numbers only are verified once, not for each call.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct path_text);
} path_text SEC(".maps");

#define PATH_TEXT_BASE_MAX (PATH_TEXT_MIDDLE + PATH_TEXT_STEPS * 3)

static __always_inline struct path_text *path_text_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&path_text, &zero);
}

/* Neighbours in struct dentry and struct mount, read at once: half of the cost are calls. */
struct path_dentry {
	struct dentry *parent;
	__u32 hash, len;
	const char *name;
};

struct path_mount {
	struct mount *parent;
	struct dentry *mountpoint, *root;
};

static __always_inline void path_dentry_read(struct path_dentry *d, struct dentry *dentry)
{
	const __u32 parent = bpf_core_field_offset(struct dentry, d_parent);

	if (can_cast()) {
		struct dentry *t = cast_to(struct dentry, dentry);

		d->parent = t->d_parent;
		d->len = t->d_name.len;
		d->name = (const char *)t->d_name.name;
		return;
	}
	if (bpf_core_field_offset(struct dentry, d_name) == parent + 8 &&
	    bpf_core_field_offset(struct qstr, len) == 4 &&
	    bpf_core_field_offset(struct qstr, name) == 8) {
		bpf_probe_read_kernel(d, sizeof(*d), (void *)dentry + parent);
		return;
	}
	d->parent = BPF_CORE_READ(dentry, d_parent);
	d->len = BPF_CORE_READ(dentry, d_name.len);
	d->name = (const char *)BPF_CORE_READ(dentry, d_name.name);
}

static __always_inline void path_mount_read(struct path_mount *m, struct mount *mnt)
{
	const __u32 parent = bpf_core_field_offset(struct mount, mnt_parent);

	if (can_cast()) {
		struct mount *t = cast_to(struct mount, mnt);

		m->parent = t->mnt_parent;
		m->mountpoint = t->mnt_mountpoint;
		m->root = t->mnt.mnt_root;
		return;
	}
	if (bpf_core_field_offset(struct mount, mnt_mountpoint) == parent + 8 &&
	    bpf_core_field_offset(struct mount, mnt) == parent + 16 &&
	    bpf_core_field_offset(struct vfsmount, mnt_root) == 0) {
		bpf_probe_read_kernel(m, sizeof(*m), (void *)mnt + parent);
		return;
	}
	m->parent = BPF_CORE_READ(mnt, mnt_parent);
	m->mountpoint = BPF_CORE_READ(mnt, mnt_mountpoint);
	m->root = BPF_CORE_READ(mnt, mnt.mnt_root);
}

/* Puts "/NAME" before what is there; false: no room. */
static __always_inline bool path_text_prepend(struct path_text *t, const struct path_dentry *d)
{
	__u32 at = *(volatile __u32 *)&t->at, len = d->len;

	if (len > PATH_TEXT_NAME)
		return false;
	at -= len + 1;
	barrier_var(at);
	/* Also of what would begin before the first byte. */
	if (at > PATH_TEXT_BASE_MAX)
		return false;
	barrier_var(len);
	len &= PATH_TEXT_NAME;
	if (can_cast() && len <= KERNEL_WORDS_MAX)
		kernel_words_copy(&t->data[at + 1 + len], d->name, len);
	else if (bpf_probe_read_kernel(&t->data[at + 1], len, d->name))
		return false;
	t->data[at] = '/';
	*(volatile __u32 *)&t->at = at;
	return true;
}

/* Puts where dentry is in mnt before what is there. They come by the map: a function takes numbers
 * only, and pointers that have a type are none. */
__noinline int path_text_walk(void)
{
	struct path_text *t = path_text_get();
	struct path_dentry d;
	struct dentry *dentry;
	struct path_mount m;
	struct mount *mnt;

	if (!t)
		return 0;
	dentry = (void *)*(volatile __u64 *)&t->dentry;
	mnt = (void *)*(volatile __u64 *)&t->mnt;
	path_mount_read(&m, mnt);
	for (int i = 0; i < PATH_TEXT_NAMES; i++) {
		if (dentry == m.root) {
			if (m.parent == mnt)
				return 0;
			dentry = m.mountpoint;
			mnt = m.parent;
			path_mount_read(&m, mnt);
			continue;
		}
		path_dentry_read(&d, dentry);
		if (*(volatile __u32 *)&t->up)
			t->up--;
		else if (!path_text_prepend(t, &d))
			break;
		if (d.parent == dentry)
			return 0; /* in no tree: a memfd, a pipe */
		dentry = d.parent;
	}
	t->cut = 1;
	return 0;
}

static __always_inline void path_text_dir(struct path_text *t, const struct path *path)
{
	*(volatile __u64 *)&t->dentry = (__u64)path->dentry;
	*(volatile __u64 *)&t->mnt = (__u64)path->mnt;
	*(volatile __u64 *)&t->mnt -= bpf_core_field_offset(struct mount, mnt);
	path_text_walk();
}

static __always_inline void path_text_begin(struct path_text *t, __u32 at)
{
	*(volatile __u32 *)&t->at = at;
	*(volatile __u32 *)&t->end = at;
	t->cut = 0;
	t->up = 0;
}

/* A root has no name. */
static __always_inline void path_text_finish(struct path_text *t)
{
	__u32 end = *(volatile __u32 *)&t->end;

	if (*(volatile __u32 *)&t->at != end || end > 2 * PATH_TEXT_MIDDLE)
		return;
	t->data[end] = '/';
	*(volatile __u32 *)&t->end = end + 1;
}

/* The path of what path points to. */
static __always_inline void path_text_of(struct path_text *t, const struct path *path)
{
	path_text_begin(t, PATH_TEXT_MIDDLE);
	path_text_dir(t, path);
	path_text_finish(t);
}

static __always_inline char path_text_byte(const struct path_text *t, __u32 i)
{
	return i < sizeof(t->data) ? t->data[i] : 0;
}

/* Leads from where the directory ends: at is where what was given goes on. */
static __always_inline void path_text_steps(struct path_text *t)
{
	for (int i = 0; i < PATH_TEXT_STEPS; i++) {
		__u32 at = *(volatile __u32 *)&t->at;
		char a = path_text_byte(t, at), b = path_text_byte(t, at + 1);

		if (a == '/') {
			at++;
		} else if (a == '.' && (b == '/' || !b)) {
			at += b ? 2 : 1;
		} else if (a == '.' && b == '.') {
			b = path_text_byte(t, at + 2);
			if (b && b != '/')
				return;
			at += b ? 3 : 2;
			t->up++;
		} else {
			return;
		}
		*(volatile __u32 *)&t->at = at;
	}
}

/* n: bytes that were read into the second half. */
static __always_inline long path_text_took(struct path_text *t, long n)
{
	path_text_begin(t, PATH_TEXT_MIDDLE);
	if (n <= PATH_TEXT_GIVEN)
		return n > 0 ? n - 1 : -1;
	t->cut = 1;
	return PATH_TEXT_GIVEN - 1;
}

/*
 * Reads what the process gave, into the second half. Returns its length, negative: unreadable. Then
 * path_text_is_absolute() says where it begins, and path_text_join() puts that before it.
 */
static __always_inline long path_text_read(struct path_text *t, const void *user)
{
	/* One more than there may be: then it is known whether something is missing. */
	return path_text_took(
		t, bpf_probe_read_user_str(&t->data[PATH_TEXT_MIDDLE], PATH_TEXT_GIVEN + 1, user));
}

/* The same of a name that the kernel has taken over already. */
static __always_inline long path_text_read_kernel(struct path_text *t, const void *name)
{
	return path_text_took(t, bpf_probe_read_kernel_str(&t->data[PATH_TEXT_MIDDLE],
							   PATH_TEXT_GIVEN + 1, name));
}

static __always_inline bool path_text_is_absolute(const struct path_text *t)
{
	return t->data[PATH_TEXT_MIDDLE] == '/';
}

/* from: the directory that it is relative to, or the process's root. len: as path_text_read() said.
 */
static __always_inline void path_text_join(struct path_text *t, const struct path *from, __u32 len)
{
	__u32 end = PATH_TEXT_MIDDLE + (len & (PATH_TEXT_GIVEN - 1)), at;

	path_text_steps(t);
	at = *(volatile __u32 *)&t->at;
	if (at < end && at > 0 && at <= PATH_TEXT_BASE_MAX) {
		at--;
		t->data[at] = '/';
	} else {
		end = at;
	}
	*(volatile __u32 *)&t->at = at;
	*(volatile __u32 *)&t->end = end;
	path_text_dir(t, from);
	path_text_finish(t);
}

static __always_inline __u32 path_text_len(const struct path_text *t)
{
	return *(volatile __u32 *)&t->end - *(volatile __u32 *)&t->at;
}
