/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the tracepoints of system calls hand to programs: SEC("tp/syscalls/sys_enter_bind"). */
#pragma once

#include <linux/types.h>

struct syscall_enter {
	__u64 common;
	__u64 nr;
	unsigned long args[6];
};

struct syscall_exit {
	__u64 common;
	__u64 nr;
	long ret; /* negative errno on failure */
};
