// SPDX-License-Identifier: Apache-2.0
/* Named threads and the heartbeats by which a stuck one is noticed. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* All signals are blocked in the new thread; name is at most 15 bytes. 0 or negative errno. */
int thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg);

/*
 * The calling thread, and those that it starts from now on, work in bulk: asks the scheduler for
 * long slices (6.12 and later). Its share of the CPU stays; but who is woken there while it runs,
 * with a slice of the usual length, goes first instead of waiting for it. 0 or negative errno.
 */
int thread_bulk(void);

/* One per thread that must keep moving. Registered for the life of the process; any thread may read. */
struct heartbeat {
	const char *name;
	_Atomic uint64_t last_ns; /* CLOCK_MONOTONIC of the last beat; 0 while parked */
	uint64_t max_gap_ns;      /* longer than that without a beat means stuck */
	struct heartbeat *next;
};

void heartbeat_register(struct heartbeat *hb);
void heartbeat_unregister(struct heartbeat *hb);
void heartbeat_beat(struct heartbeat *hb);
/* About to do something that may take that much longer than max_gap_ns. The next beat ends it. */
void heartbeat_beat_ahead(struct heartbeat *hb, uint64_t extra_ns);
void heartbeat_park(struct heartbeat *hb); /* about to wait without bound */
/* The first heart that is late at now_ns, or NULL. */
const struct heartbeat *heartbeat_late(uint64_t now_ns);
