// SPDX-License-Identifier: Apache-2.0
/* Our own place in the cgroup trees: made before the first thread and socket, measured and limited
 * from then on. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct ceiling;
struct cgroup_place;

enum cgroup_mode {
	CGROUP_NONE, /* nothing readable: getrusage and /proc/self/statm */
	CGROUP_V1,
	CGROUP_HYBRID,
	CGROUP_V2,
	CGROUP_MODE_X_MAX,
};

/*
 * Detects the layout, makes a leaf of our own where this host allows it (see docs/operations.md for
 * the order) and moves the process into it by cgroup.procs. Call in main() before any thread or
 * socket exists. Never fails for want of rights: the place then says in one sentence what is lost.
 * Only -ENOMEM fails.
 */
int cgroup_enter(struct cgroup_place **ret, const char *name, bool manage);
/* Kernel limits as a backstop above ours (cpu quota = limit; memory = limit + max(64 MiB, 10 %));
 * 0: none. */
int cgroup_set_backstops(struct cgroup_place *p, uint64_t cpu_millicores, uint64_t mem_bytes,
			 struct err *err);
enum cgroup_mode cgroup_mode(const struct cgroup_place *p);
/* One sentence each for doctor and the table capabilities: where we are, what is limited by the
 * kernel, what is lost. */
const char *cgroup_describe(const struct cgroup_place *p);
const char *cgroup_lost(const struct cgroup_place *p); /* "" when nothing is */
/* Open directory of our cgroup2 leaf or -1: where the traffic counter is attached. Not the
 * caller's. */
int cgroup_v2_fd(const struct cgroup_place *p);
uint64_t cgroup_v2_id(const struct cgroup_place *p); /* 0: none of our own */

/* What the groups that aren't ours allow us. */
void cgroup_read_ceiling(const struct cgroup_place *p, struct ceiling *ret);

struct cgroup_usage {
	bool cpu_valid, mem_valid;
	uint64_t cpu_ns;    /* of our cgroup, or of the process */
	uint64_t mem_bytes; /* usage - inactive_file, or RSS */
	bool mem_is_rss;    /* no cgroup: BPF maps are not in it */
	uint64_t rss_bytes;
	uint64_t nr_periods, nr_throttled;
};
void cgroup_read_usage(struct cgroup_place *p, struct cgroup_usage *ret);
/* Leaves and removes what cgroup_enter made. */
void cgroup_leave(struct cgroup_place *p);
