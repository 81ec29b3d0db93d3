/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the kernel half of the exec plugin hands to the user half. */
#pragma once

#include "bpf/lib/exe.h"
#include "bpf/lib/process.h"

enum exec_kind {
	EXEC_EXEC = 1, /* struct exec_event */
	EXEC_EXIT,     /* struct exec_exit */
	EXEC_FAILED,   /* struct exec_event: a call that didn't lead to a program */
};

/* Components of a path that are followed; a path is at most PATH_MAX bytes, which few of them fill. */
#define EXEC_COMPONENTS 64
#define EXEC_NAME_SIZE	256  /* of one component, with its NUL */
#define EXEC_PATHS_MAX	8192 /* file name, executable and directory together */
#define EXEC_BLOCK_MAX	8192 /* of arguments, and of the environment */
#define EXEC_DATA_MAX	(EXEC_PATHS_MAX + 2 * EXEC_BLOCK_MAX)

enum exec_flag {
	EXEC_EXE_CUT = 1,	 /* the path goes on above what is here */
	EXEC_CWD_CUT = 2,
	EXEC_DELETED = 4,	 /* no name leads to the executable: unlinked, or never had one */
	EXEC_ARGS_UNREADABLE = 8, /* the process's memory couldn't be read */
	EXEC_ENV_UNREADABLE = 16,
	EXEC_ARGS_CUT = 32, /* of a call that failed: there are more */
	EXEC_ROOT_TOP = 64, /* its root is that of its mount namespace */
};

/* Parents that are told of; shells, su, sudo and sessions of systemd are seven deep. */
#define EXEC_ANCESTORS 10
/* AT_FDCWD: execve() has no directory of its own. */
#define EXEC_FDCWD (-100)
/* Of a call that failed, whose arguments lie anywhere: so many, and so long each. */
#define EXEC_FAILED_ARGS     32
#define EXEC_FAILED_ARG_SIZE 512

struct exec_ancestor {
	__u32 pid;
	char comm[PROCESS_COMM_SIZE];
};

/* data: file name as it was given; components of executable and of the directory, the last one first,
 * each with its NUL; arguments; environment. One behind the other, as long as the lengths say. */
struct exec_event {
	__u32 kind;
	__u32 flags;
	struct process_context p;
	__u32 euid;
	__u32 size; /* of data */
	__u32 argc;
	__u32 args_size; /* all of them; more than args_len: cut off */
	__u16 filename_len, exe_len, cwd_len, args_len, env_len;
	__u16 ancestors; /* how many there are in chain, from the parent on */
	__u16 pad[2];
	__s32 error; /* of a call that failed: errno */
	__s32 dirfd; /* and what its file name is relative to */
	__u64 capabilities; /* effective: bits by CAP_ numbers */
	struct exe_id exe;
	struct exec_ancestor chain[EXEC_ANCESTORS];
	char data[EXEC_DATA_MAX];
};

struct exec_exit {
	__u32 kind;
	__u32 code; /* as wait() gives it */
	struct process_context p;
	__u64 start_ns; /* boot time */
	__u64 utime, stime, runtime;
	__u64 maxrss; /* pages */
};

/* Eight bytes: it changes at once. */
struct exec_config {
	__u16 args_max, env_max; /* <= EXEC_BLOCK_MAX */
	__u16 exits, failed;
};

/* One of the iterator. */
struct exec_process {
	struct process_context p; /* boot_ns: its start */
	__u64 runtime;
	__u32 state, exit_state;
	__u32 threads;
	__u32 kthread;
};
