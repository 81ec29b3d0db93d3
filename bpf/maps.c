// SPDX-License-Identifier: Apache-2.0
/* Which files a process has mapped, and how to open just these. */
#include "bpf/maps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

static void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* "7f..-7f.. r-xp 00026000 fe:01 1234   /usr/lib/..." */
static bool parse_line(char *line, struct map_line *m)
{
	unsigned int major, minor;
	char perms[8], *path;
	int n = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %" SCNu64 " %n", &m->start,
		   &m->end, perms, &m->offset, &major, &minor, &m->ino, &n) < 7 ||
	    !n || !m->ino)
		return false;
	path = line + n;
	path[strcspn(path, "\n")] = '\0';
	if (*path != '/')
		return false;
	m->dev = (uint64_t)major << 32 | minor;
	m->executable = perms[0] && perms[1] && perms[2] == 'x';
	m->path = path;
	m->name = strrchr(path, '/') + 1;
	return true;
}

int maps_each(uint32_t pid, int (*each)(const struct map_line *m, void *arg), void *arg)
{
	_cleanup_(fclosep) FILE *f = NULL;
	_cleanup_free_ char *line = NULL;
	struct map_line m;
	char path[32];
	size_t cap = 0;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%u/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	for (int i = 0; i < MAPS_LINES_MAX && !r && getline(&line, &cap, f) > 0; i++)
		if (parse_line(line, &m))
			r = each(&m, arg);
	return r;
}

void maps_paths(uint32_t pid, const struct map_line *m, struct map_paths *ret)
{
	snprintf(ret->mapping, sizeof(ret->mapping), "/proc/%u/map_files/%" PRIx64 "-%" PRIx64, pid,
		 m->start, m->end);
	snprintf(ret->root, sizeof(ret->root), "/proc/%u/root%.4095s", pid, m->path);
}
