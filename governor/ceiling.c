// SPDX-License-Identifier: Apache-2.0
/* Walks up from our group to the top of what is mounted here. */
#include "governor/ceiling.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macro.h"
#include "governor/cgroup_leaf.h"
#include "governor/parse.h"

/* v1 writes "no limit" as the largest multiple of a page below 2^63. */
#define V1_UNLIMITED (1ull << 62)
/* A path has no more parts. */
#define DEPTH_MAX 64

static int read_file(const char *dir, const char *file, char *text, size_t cap)
{
	_cleanup_close_ int fd = leaf_open(dir, file);
	ssize_t n = fd < 0 ? -1 : read(fd, text, cap - 1);

	if (n < 0)
		return -ENOENT;
	text[n] = '\0';
	return 0;
}

static int read_number(const char *dir, const char *file, uint64_t *ret)
{
	char text[64];
	int r = read_file(dir, file, text, sizeof(text));

	return r < 0 ? r : parse_u64(text, ret); /* "max" and "-1" are no numbers */
}

static void take(uint64_t value, const char *dir, uint64_t *least, char *at, size_t cap)
{
	if (*least && *least <= value)
		return;
	*least = value ? value : 1;
	snprintf(at, cap, "%s", dir);
}

static void take_cpu(struct ceiling *c, const char *dir, uint64_t quota_us, uint64_t period_us)
{
	if (period_us && quota_us <= UINT64_MAX / 1000)
		take(quota_us * 1000 / period_us, dir, &c->cpu_millicores, c->cpu_at,
		     sizeof(c->cpu_at));
}

static void v2_group(const char *dir, struct ceiling *c)
{
	char text[64], *space;
	uint64_t value, period;

	if (read_number(dir, "memory.max", &value) == 0)
		take(value, dir, &c->mem_bytes, c->mem_at, sizeof(c->mem_at));
	if (read_file(dir, "cpu.max", text, sizeof(text)) < 0 || !(space = strchr(text, ' ')))
		return;
	*space = '\0';
	if (parse_u64(text, &value) == 0 && parse_u64(space + 1, &period) == 0)
		take_cpu(c, dir, value, period);
}

static void v1_cpu_group(const char *dir, struct ceiling *c)
{
	uint64_t quota, period;

	if (read_number(dir, "cpu.cfs_quota_us", &quota) == 0 &&
	    read_number(dir, "cpu.cfs_period_us", &period) == 0)
		take_cpu(c, dir, quota, period);
}

static void v1_memory_group(const char *dir, struct ceiling *c)
{
	uint64_t value;

	if (read_number(dir, "memory.limit_in_bytes", &value) == 0 && value < V1_UNLIMITED)
		take(value, dir, &c->mem_bytes, c->mem_at, sizeof(c->mem_at));
}

/* Ends where there are no groups any more: above the mount, or above what a container sees. */
static void walk(const char *dir, struct ceiling *c,
		 void (*group)(const char *dir, struct ceiling *c))
{
	char path[PATH_MAX], *slash;

	if (snprintf(path, sizeof(path), "%s", dir) >= (int)sizeof(path))
		return;
	for (int i = 0; i < DEPTH_MAX && leaf_has(path, "cgroup.procs"); i++) {
		group(path, c);
		slash = strrchr(path, '/');
		if (!slash || slash == path)
			return;
		*slash = '\0';
	}
}

void ceiling_read_v2(const char *dir, struct ceiling *ret)
{
	walk(dir, ret, v2_group);
}

void ceiling_read_v1_cpu(const char *dir, struct ceiling *ret)
{
	walk(dir, ret, v1_cpu_group);
}

void ceiling_read_v1_memory(const char *dir, struct ceiling *ret)
{
	walk(dir, ret, v1_memory_group);
}
