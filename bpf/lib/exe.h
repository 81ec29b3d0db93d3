/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which file a process runs: its identity without asking the file system, in both halves. */
#pragma once

#include <linux/types.h>

struct exe_id {
	__u64 ino, size;
	__s64 ctime_sec; /* changes with each write to the file and can't be set */
	__u32 ctime_nsec;
	__u32 dev;	  /* as the kernel has it: major << 20 | minor */
	__u32 magic;	  /* of its file system */
	__u32 root_magic; /* of the file system that the process's root is in */
};
