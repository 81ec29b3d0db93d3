// SPDX-License-Identifier: Apache-2.0
/* Why the daemon ended itself: last_exit.json in the state directory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "governor/governor.h"

#define LAST_EXIT_FILE "last_exit.json"
/* Levels gone through before, newest last. */
#define LAST_EXIT_HISTORY 16

struct last_exit_level {
	uint64_t ts; /* epoch */
	enum governor_level level;
	char text[200];
};

struct last_exit {
	uint64_t ts; /* epoch */
	int exit_code;
	/* "cpu", "mem", "net", "kernel_cpu", or "loop" for a thread that stood still. */
	const char *metric;
	uint64_t value, limit;
	const char *unit; /* "millicores", "bytes", "bytes/s", "ns" */
	const char *text; /* the log line */
	const struct governor_usage *usage;
	const struct last_exit_level *history;
	size_t n_history;
};

/*
 * Writes the file beside and renames it over: a reader sees the old one or the new one, whole and
 * synced. dir_fd is the state directory. No allocation. 0 or negative errno.
 */
int last_exit_write(int dir_fd, const struct last_exit *e);
/*
 * One line about the last limit exit in `dir`, for status and GetDaemon:
 * "2026-11-21T20:51:03.123+01:00 exit 82: mem 131.2MiB exceeds mem_limit 128MiB". 0; -ENOENT: there
 * was none; -EINVAL: the file isn't ours, summary says so.
 */
int last_exit_read(const char *dir, char *summary, size_t cap);
/* Whether a limit (exit code 81 to 83) ended a run less than within_ns before now_ns, both since
 * the epoch. */
bool last_exit_recent(const char *dir, uint64_t now_ns, uint64_t within_ns);
