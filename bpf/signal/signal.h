/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the kernel half of the signal plugin hands to the user half. */
#pragma once

#include "bpf/lib/process.h"

#define SIGNAL_MAX 64 /* _NSIG */

struct signal_event {
	struct process_context p; /* in whose context it was made: the sender, unless kernel */
	__u32 target_pid, target_tid, target_uid;
	char target_comm[PROCESS_COMM_SIZE];
	__u32 kernel; /* not by a system call that sends one */
	__s32 sig, code, error;
	__u32 group;  /* for the process, not for one thread */
	__u32 result; /* TRACE_SIGNAL_* of include/trace/events/signal.h */
};
