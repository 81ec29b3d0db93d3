// SPDX-License-Identifier: Apache-2.0
/* One ring on the store thread: transactions, and what is done when the disk says no. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "store/ring.h"

/* Between attempts while nothing can be stored; the queue takes what comes meanwhile. */
#define RETRY_NS NSEC_PER_SEC
/* A transaction takes milliseconds; one that takes longer than the queue lasts is worth a word,
 * once a minute. */
#define SLOW_NS	      NSEC_PER_SEC
#define SLOW_EVERY_NS (60 * NSEC_PER_SEC)

void ring_add_pending(struct ring *r, struct batch *b)
{
	if (!r->npending)
		r->pending_since_ns = clock_mono_ns();
	r->pending[r->npending++] = b;
	r->pending_rows += b->nrows;
}

void ring_count_lost(struct ring *r, const struct batch *b)
{
	for (unsigned int t = 0; t < r->tables.n; t++) {
		struct store_table *st = r->table_list[t];

		if (st->table != b->table)
			continue;
		atomic_fetch_add(&st->lost, b->nrows);
		atomic_fetch_add(&st->all_given_up, b->nrows);
	}
}

static void ring_drop_pending(struct ring *r)
{
	for (unsigned int i = 0; i < r->npending; i++)
		batch_unref(r->pending[i]);
	r->npending = 0;
	r->pending_rows = 0;
}

/* What was tried already for a transaction. */
struct mended {
	bool held, rotated;
};

/* Something that may let the same transaction succeed now; false: nothing left to do. */
static bool ring_mend(struct ring *r, int rc, struct mended *m, char *why, size_t cap)
{
	char cause[256];

	snprintf(cause, sizeof(cause), "%s", why);
	if (ring_is_full(r, rc))
		return ring_free_space(r, &m->held);
	if (m->rotated)
		return false;
	m->rotated = true;
	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		if (r->live)
			ring_quarantine_live(r, cause);
		return true;
	default:
		if (r->live && !r->failed_since_ns) /* told already, until it's over */
			store_event(r->store, (rc & 0xff) == SQLITE_BUSY ? "busy" : "write_failed",
				    "cannot write '%s': %s; going on in a new file", r->live->path,
				    cause);
		return ring_rotate(r, why, cap) == SQLITE_OK;
	}
}

/* Tells the waiters; lock held. */
static void ring_account(struct ring *r, bool stored, uint64_t ns)
{
	struct store_stats *st = &r->stats;

	r->done += r->npending;
	if (stored) {
		st->rows += r->pending_rows;
		st->batches += r->npending;
		st->transactions++;
		st->commit_ns_total += ns;
		if (ns > st->commit_ns_max)
			st->commit_ns_max = ns;
		st->rows_bumped = 0;
		for (unsigned int i = 0; i < r->tables.n; i++)
			st->rows_bumped += r->table_list[i]->src.bumped;
		st->dict_full = r->dict.full;
	} else {
		st->rows_lost += r->pending_rows;
		r->lost_upto = r->done;
	}
	pthread_cond_broadcast(&r->store->flushed);
}

/* Whoever misses rows that were refused meanwhile finds out why. */
static void tell_slow(struct ring *r, uint64_t ns)
{
	uint64_t now = clock_mono_ns();

	if (ns < SLOW_NS || (r->slow_told_ns && now - r->slow_told_ns < SLOW_EVERY_NS))
		return;
	r->slow_told_ns = now;
	store_event(r->store, "slow_disk",
		    "ring %s: a transaction of %" PRIu64 " rows took %" PRIu64
		    " ms; rows wait, and are refused and counted when the queue is full",
		    ring_name(r->id), r->pending_rows, (uint64_t)(ns / NSEC_PER_MSEC));
}

static void ring_recovered(struct ring *r)
{
	uint64_t seconds = (clock_real_ns() - r->failed_since_ns) / NSEC_PER_SEC;

	store_event(r->store, "recovered",
		    "ring %s stores again after %" PRIu64 " s, %" PRIu64 " rows were lost",
		    ring_name(r->id), seconds, r->failed_rows);
	pthread_mutex_lock(&r->store->lock);
	snprintf(r->stats.state, sizeof(r->stats.state), "ok");
	pthread_mutex_unlock(&r->store->lock);
	r->failed_since_ns = r->failed_rows = r->retry_ns = 0;
}

static void ring_give_up(struct ring *r, int rc, const char *why)
{
	bool full = ring_is_full(r, rc);
	char since[40];

	r->retry_ns = clock_mono_ns() + RETRY_NS;
	r->failed_rows += r->pending_rows;
	for (unsigned int i = 0; i < r->npending; i++)
		ring_count_lost(r, r->pending[i]);
	pthread_mutex_lock(&r->store->lock);
	ring_account(r, false, 0);
	if (!r->failed_since_ns) {
		r->failed_since_ns = clock_real_ns();
		clock_format_rfc3339(since, r->failed_since_ns);
		snprintf(r->stats.state, sizeof(r->stats.state), "%s since %s",
			 full ? "disk full" : "cannot write", since);
		pthread_mutex_unlock(&r->store->lock);
		store_event(
			r->store, full ? "disk_full" : "write_failed",
			"ring %s cannot be written (%s): rows are dropped and counted until it can",
			ring_name(r->id), why);
		return;
	}
	pthread_mutex_unlock(&r->store->lock);
}

void ring_commit(struct ring *r)
{
	uint64_t start = clock_mono_ns();
	/* Each turn but two needs a file less or happens once: it ends. */
	unsigned int turns = 2 * RING_ENTRIES_MAX;
	struct mended mended = {};
	char why[200] = "";
	int rc;

	for (;;) {
		rc = r->live ? SQLITE_OK : ring_rotate(r, why, sizeof(why));
		if (rc == SQLITE_OK)
			rc = segment_write(r->live, r->pending, r->npending, why, sizeof(why));
		if (rc == SQLITE_OK)
			break;
		pthread_mutex_lock(&r->store->lock);
		r->stats.errors++;
		pthread_mutex_unlock(&r->store->lock);
		if (!turns-- || !ring_mend(r, rc, &mended, why, sizeof(why)))
			break;
	}
	if (mended.held)
		sealer_release(r->store);
	if (rc == SQLITE_OK) {
		tell_slow(r, clock_mono_ns() - start);
		if (r->failed_since_ns)
			ring_recovered(r);
		pthread_mutex_lock(&r->store->lock);
		ring_account(r, true, clock_mono_ns() - start);
		pthread_mutex_unlock(&r->store->lock);
	} else {
		ring_give_up(r, rc, why);
	}
	ring_drop_pending(r);
	ring_maintain(r);
}

/* Start and stop
 * --------------------------------------------------------------------------------------------- */

/* Goes on in the newest file if it was made for these tables. */
static void ring_reopen(struct ring *r)
{
	struct store *s = r->store;
	struct ring_entry *e = r->nentries ? &r->entries[r->nentries - 1] : NULL;
	struct retention_state st;
	struct ring_limits limits;
	char why[200], path[256];
	int rc;

	if (!e || e->state != ENTRY_LIVE)
		return;
	snprintf(path, sizeof(path), "%s", e->path);
	ring_state(r, &st, &limits);
	rc = segment_open(&r->live, path, e->number, &r->tables, &r->dict,
			  retention_budget(st.max_bytes, st.files), why, sizeof(why));
	if (rc == SQLITE_OK)
		return;
	if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB) {
		pthread_mutex_lock(&s->lock);
		ring_remove_entry(r, r->nentries - 1);
		pthread_mutex_unlock(&s->lock);
		store_quarantine(r, path, why);
		return;
	}
	/* Other tables than ours, or not to be opened now: it's history. */
	e->state = ENTRY_SEALING;
}

int ring_start(struct ring *r, struct err *err)
{
	char why[200];
	int rc;

	for (unsigned int i = 0; i < r->tables.n; i++)
		if (rows_source_init(&r->table_list[i]->src, r->table_list[i]->plan, &r->dict) < 0)
			return err_set(err, -ENOMEM, "out of memory");
	for (unsigned int i = 0; i < r->tables.n; i++)
		r->table_list[i]->src.last_ts = atomic_load(&r->table_list[i]->last_ts);
	snprintf(r->stats.state, sizeof(r->stats.state), "ok");
	ring_evict_by_limits(r);
	ring_reopen(r);
	if (r->live)
		return 0;
	rc = ring_rotate(r, why, sizeof(why));
	if (rc == SQLITE_OK || ring_is_full(r, rc))
		return 0; /* a full disk is no reason not to start: the first commit tries again and
			     says so */
	return err_set(err, -EIO, "cannot write a segment in '%s': %s", r->store->dir, why);
}

void ring_stop(struct ring *r)
{
	if (r->npending || (r->live && segment_has_loss(r->live)))
		ring_commit(r);
	segment_close(TAKE_PTR(r->live));
}
