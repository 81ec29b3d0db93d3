// SPDX-License-Identifier: Apache-2.0
/* What the query worker gives up before it reads the first byte of untrusted SQL. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct query_sandbox {
	uint32_t uid, gid;     /* UINT32_MAX: stay */
	uint64_t memory_bytes; /* address space on top of what is mapped already */
	uint64_t deadline_ns;  /* CLOCK_MONOTONIC; the kernel ends the process a little later */
	unsigned int max_fds;
	int spill_fd; /* the only file that can be written; -1: none */
	uint64_t spill_bytes;
};

/*
 * Single-threaded process only. After it: nothing can be opened, made or executed, and nothing
 * written but that one file, up to its size; what is open can be read, memory mapped (never
 * executable, never shared and writable), messages exchanged on open sockets. Anything else kills
 * the process with SIGSYS, except fcntl, which fails with EACCES. note: "" or one sentence about a
 * right that the process lacked to go further, for the log.
 */
int query_sandbox_enter(const struct query_sandbox *s, char *note, size_t cap, struct err *err);
