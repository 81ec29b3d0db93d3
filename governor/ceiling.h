// SPDX-License-Identifier: Apache-2.0
/* What the groups above ours allow: limits that others have set, and that hold for us too. */
#pragma once

#include <stdint.h>

struct cgroup_place;

struct ceiling {
	uint64_t cpu_millicores, mem_bytes; /* 0: none is visible */
	char cpu_at[160], mem_at[160];	    /* the group that has it */
};

/* The least of dir and all groups above it: cgroup2, and v1 by its controller. Adds to *ret. */
void ceiling_read_v2(const char *dir, struct ceiling *ret);
void ceiling_read_v1_cpu(const char *dir, struct ceiling *ret);
void ceiling_read_v1_memory(const char *dir, struct ceiling *ret);
