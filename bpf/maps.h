// SPDX-License-Identifier: Apache-2.0
/* Which files a process has mapped, and how to open just these. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One line of /proc/PID/maps that has a file. Valid during the call. */
struct map_line {
	uint64_t start, end, offset;
	bool executable;
	uint64_t dev, ino; /* as the line has them */
	const char *path;  /* in the mount namespace of the process; may end in " (deleted)" */
	const char *name;  /* its last part */
};

/*
 * Calls each until it returns non-zero, and returns that; 0 at the end, or negative errno when the
 * file can't be read. At most MAPS_LINES_MAX lines are looked at.
 */
#define MAPS_LINES_MAX 16384
int maps_each(uint32_t pid, int (*each)(const struct map_line *m, void *arg), void *arg);

/*
 * Two paths by which we reach the file, whatever namespaces it is in: the mapping itself, which
 * also leads to a file that was removed, and the path in the root of the process.
 */
struct map_paths {
	char mapping[64];
	char root[4096 + 32];
};

void maps_paths(uint32_t pid, const struct map_line *m, struct map_paths *ret);
