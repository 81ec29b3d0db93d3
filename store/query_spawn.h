// SPDX-License-Identifier: Apache-2.0
/* The engine's hold on one worker process: started, killed, reaped. */
#pragma once

#include <sys/types.h>

#include "base/err.h"

struct query_child {
	int sock; /* non-blocking; -1: none */
	int pidfd;
	pid_t pid; /* 0: none */
};

/* Safe in a process with threads. */
/* exe_fd: O_PATH of the worker's binary; -1: our own. */
int query_child_start(struct query_child *ret, int exe_fd, struct err *err);
/*
 * The worker hung up without a last word: why, as -errno and text. It gets a moment to die by
 * itself and is killed then. Reaped in any case.
 */
int query_child_fate(struct query_child *c, struct err *err);
/* Kills and reaps; nothing to do when there is none. */
void query_child_end(struct query_child *c);
