/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a file is: the names that lead to it from the root of its mount namespace. */
/*
 * bpf_d_path() may be called in a handful of functions only, none of which a tracepoint is. Names
 * are read without locks: a rename in the same microsecond may give a path that never was.
 */
#pragma once

#include "bpf/lib/kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define PATH_NAME_SIZE 256 /* a component with its NUL: NAME_MAX is 255 */

/*
 * Writes the components to data + *off, the last one first, each with its NUL, as long as *off stays
 * below max; data has PATH_NAME_SIZE bytes more than that. Returns false if the path goes on above.
 * off is in a map: what is read from there means nothing to the verifier, which otherwise follows
 * every sum of lengths apart.
 */
static __always_inline bool path_write(const struct path *path, char *data, volatile __u32 *off,
				       __u32 max, int components)
{
	struct dentry *dentry = BPF_CORE_READ(path, dentry);
	struct mount *mnt =
		(void *)BPF_CORE_READ(path, mnt) - bpf_core_field_offset(struct mount, mnt);

	for (int i = 0; i < components; i++) {
		struct dentry *parent;
		__u32 at = *off;
		long n;

		if (dentry == BPF_CORE_READ(mnt, mnt.mnt_root)) {
			struct mount *above = BPF_CORE_READ(mnt, mnt_parent);

			if (above == mnt)
				return true;
			dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
			mnt = above;
			continue;
		}
		if (at >= max)
			return false;
		n = bpf_probe_read_kernel_str(data + at, PATH_NAME_SIZE,
					      BPF_CORE_READ(dentry, d_name.name));
		if (n <= 0)
			return false;
		*off = at + n;
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry)
			return true; /* in no tree: a memfd */
		dentry = parent;
	}
	return false;
}
