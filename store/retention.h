// SPDX-License-Identifier: Apache-2.0
/* When a segment is full and when the oldest one goes: decisions over plain numbers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#include "store/store.h"

/* Below that a segment is mostly empty pages and WAL; a ring needs that much for each file. */
#define RETENTION_SEGMENT_MIN (512u << 10)

struct retention_state {
	uint64_t now_ns;
	unsigned int files;    /* that the ring may have, the live one included */
	uint64_t max_bytes;    /* retention_max_bytes() */
	unsigned int segments; /* that it has */
	uint64_t rows;	       /* of all segments */
	uint64_t bytes;	       /* of all segments and everything else that the ring keeps on disk */
	uint64_t live_bytes, live_rows, live_ts_min;
	uint32_t sealed_permille; /* what sealing makes of its bytes: indexes come on top */
	uint64_t oldest_ts_max; /* of the oldest sealed segment; 0: it has no rows */
};

/*
 * The time that ages are counted by. A wall clock that jumps (set by hand, a dead battery, NTP
 * after an hour of its own) must not make the whole history old from one moment to the next: it is
 * believed only when it has stood for a while, and until then the earlier time counts. Zeroed: not
 * begun.
 */
struct retention_clock {
	uint64_t real_ns, boot_ns; /* when they were last seen to agree */
	uint64_t jumped_ns;	   /* boot time of the jump that isn't believed yet; 0: none */
	int64_t jump_ns;
};
#define RETENTION_JUMP_NS   (60 * NSEC_PER_SEC)
#define RETENTION_SETTLE_NS (3600 * NSEC_PER_SEC)
/* The time to count by; jump: by how much the clock jumped since it was last asked, 0: it didn't.
 */
uint64_t retention_clock_now(struct retention_clock *c, uint64_t real_ns, uint64_t boot_ns,
			     int64_t *jump);

/* What the ring may use now: its limit, or less when the file system has less above the reserve. */
uint64_t retention_max_bytes(uint64_t max_bytes, uint64_t used, uint64_t avail, uint64_t reserve);
/* A segment's share of the limit. */
uint64_t retention_budget(uint64_t max_bytes, unsigned int files);
/* Why the live segment has to be closed ("bytes", "rows", "age"); NULL: go on. */
const char *retention_rotate(const struct ring_limits *limits, const struct retention_state *st);
/* Why the oldest sealed segment has to go ("files", "bytes", "rows", "age"); NULL: it may stay. */
const char *retention_evict(const struct ring_limits *limits, const struct retention_state *st);
