// SPDX-License-Identifier: Apache-2.0
/* The store thread: from the queues into transactions, and the telling of events. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "store/ring.h"

/* Limits, age and free space are looked at that often while nothing is written. */
#define MAINTAIN_NS NSEC_PER_SEC
/* The store thread waits for the disk; only a dead one takes longer than that. */
#define HEARTBEAT_GAP_NS (60 * NSEC_PER_SEC)

void store_event(struct store *s, const char *event, const char *fmt, ...)
{
	struct store_event *e;
	va_list ap;

	pthread_mutex_lock(&s->lock);
	if (s->nevents == ARRAY_SIZE(s->events)) {
		s->events_lost++;
	} else {
		e = &s->events[s->nevents++];
		snprintf(e->event, sizeof(e->event), "%s", event);
		va_start(ap, fmt);
		vsnprintf(e->detail, sizeof(e->detail), fmt, ap);
		va_end(ap);
	}
	s->work = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

static void store_tell(struct store *s)
{
	for (;;) {
		struct store_event e;
		uint64_t lost = 0;

		pthread_mutex_lock(&s->lock);
		if (s->nevents) {
			e = s->events[0];
			memmove(&s->events[0], &s->events[1], --s->nevents * sizeof(e));
		} else if ((lost = s->events_lost)) {
			s->events_lost = 0;
			snprintf(e.event, sizeof(e.event), "events_lost");
			snprintf(e.detail, sizeof(e.detail),
				 "%llu more events of the store were not told",
				 (unsigned long long)lost);
		} else {
			pthread_mutex_unlock(&s->lock);
			return;
		}
		pthread_mutex_unlock(&s->lock);
		if (s->options.on_event)
			s->options.on_event(s->options.arg, e.event, e.detail);
	}
}

/* Takes what the queue holds now, in transactions of a thousand rows. */
static void pump(struct ring *r, uint64_t now, bool flush)
{
	struct batch *b;

	if (now < r->retry_ns && !r->store->stopping)
		return;
	for (size_t n = queue_len(r->queue); n && (b = queue_pop(r->queue, 0)); n--) {
		ring_add_pending(r, b);
		if (r->pending_rows < RING_COMMIT_ROWS && r->npending < RING_PENDING_MAX)
			continue;
		ring_commit(r);
		if (clock_mono_ns() < r->retry_ns)
			return;
	}
	if (r->npending && (flush || now - r->pending_since_ns >= r->store->options.flush_ns))
		ring_commit(r);
}

/* Until there is work, a transaction is due or the next look at the limits; says if somebody waits
 * for a flush. */
static bool store_wait(struct store *s)
{
	uint64_t now = clock_mono_ns(), end = now + MAINTAIN_NS;
	struct timespec until;
	bool flush;

	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		struct ring *r = &s->rings[i];

		if (r->npending && r->pending_since_ns + s->options.flush_ns < end)
			end = r->pending_since_ns + s->options.flush_ns;
	}
	until = (struct timespec){.tv_sec = (time_t)(end / NSEC_PER_SEC),
				  .tv_nsec = (long)(end % NSEC_PER_SEC)};
	pthread_mutex_lock(&s->lock);
	s->waiting = true;
	while (!s->work && !s->stopping)
		if (pthread_cond_timedwait(&s->wake, &s->lock, &until) == ETIMEDOUT)
			break;
	s->waiting = false;
	s->work = false;
	flush = s->flushers || s->stopping;
	pthread_mutex_unlock(&s->lock);
	return flush;
}

/* Out of time: what is still queued is counted, so that nothing is lost in silence. */
static void drop_rest(struct ring *r)
{
	struct batch *b;

	while ((b = queue_pop(r->queue, 0))) {
		pthread_mutex_lock(&r->store->lock);
		r->stats.rows_lost += b->nrows;
		r->done++;
		r->lost_upto = r->done;
		pthread_mutex_unlock(&r->store->lock);
		ring_count_lost(r, b);
		batch_unref(b);
	}
}

static void drain(struct store *s)
{
	for (int i = RING_X_MAX - 1; i >= 0; i--) {
		struct ring *r = &s->rings[i];
		struct batch *b;

		r->retry_ns = 0;
		while (!r->retry_ns && clock_mono_ns() < s->stop_deadline_ns &&
		       (b = queue_pop(r->queue, 0))) {
			ring_add_pending(r, b);
			if (r->pending_rows >= RING_COMMIT_ROWS || r->npending == RING_PENDING_MAX)
				ring_commit(r);
		}
		drop_rest(r);
		ring_stop(r);
	}
	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->flushed);
	pthread_mutex_unlock(&s->lock);
}

void *store_run(void *arg)
{
	struct store *s = arg;
	struct heartbeat heart = {.name = "store", .max_gap_ns = HEARTBEAT_GAP_NS};
	uint64_t maintained = 0;

	(void)thread_bulk(); /* the daemon has said so if it can't be had */
	heartbeat_register(&heart);
	while (!atomic_load(&s->stopping)) {
		bool flush = store_wait(s);
		uint64_t now = clock_mono_ns();

		heartbeat_beat(&heart);
		/* Audit rows are few and matter most: they go first. */
		for (int i = RING_X_MAX - 1; i >= 0; i--)
			pump(&s->rings[i], now, flush);
		if (now - maintained >= MAINTAIN_NS) {
			for (unsigned int i = 0; i < RING_X_MAX; i++)
				ring_maintain(&s->rings[i]);
			maintained = now;
		}
		store_tell(s);
	}
	drain(s);
	store_tell(s);
	heartbeat_unregister(&heart);
	return NULL;
}
