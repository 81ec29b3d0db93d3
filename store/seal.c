// SPDX-License-Identifier: Apache-2.0
/* Sealing one segment on the sealer's thread: indexes where they can be had, then for good. */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "store/ring.h"

/* Until the next attempt: a reader is in the way, or the disk is full. */
#define RETRY_NS NSEC_PER_SEC
/* Segments that may wait for their indexes; the others' connections and WALs would add up. */
#define BEHIND 2
/* Rows that come too fast for indexes do so segment after segment: the counter says the rest. */
#define UNINDEXED_EVERY_NS (60 * NSEC_PER_SEC)

/* Under the lock. More than two that were written since the start wait, and not for a reader or for
 * room: rows come faster than indexes can be made. */
static bool is_behind(const struct ring *r)
{
	unsigned int waiting = 0;

	for (unsigned int i = 0; i < r->nentries; i++) {
		const struct ring_entry *e = &r->entries[i];

		waiting += e->state == ENTRY_SEALING && e->ours && !e->settled;
	}
	return waiting > BEHIND;
}

/* Evicted, or removed by somebody. */
static bool is_gone(struct ring *r, uint64_t number)
{
	bool gone;

	pthread_mutex_lock(&r->store->lock);
	gone = !ring_find_entry(r, number);
	pthread_mutex_unlock(&r->store->lock);
	return gone;
}

static void tell_unindexed(struct ring *r, const char *path, const char *why)
{
	uint64_t now = clock_mono_ns(), before;
	char more[64] = "";
	bool tell;

	pthread_mutex_lock(&r->store->lock);
	r->stats.unindexed++;
	before = r->unindexed_untold++;
	tell = !r->unindexed_told_ns || now - r->unindexed_told_ns >= UNINDEXED_EVERY_NS;
	if (tell) {
		r->unindexed_told_ns = now;
		r->unindexed_untold = 0;
	}
	pthread_mutex_unlock(&r->store->lock);
	if (!tell)
		return;
	if (before)
		snprintf(more, sizeof(more), "; so were %" PRIu64 " others before it", before);
	store_event(r->store, "unindexed", "segment '%s' is sealed without indexes: %s%s", path,
		    why, more);
}

/* Why a segment does without indexes from the beginning; NULL: it gets them. Without the lock. */
static const char *no_indexes(struct ring *r, const char *path, bool behind)
{
	struct store *s = r->store;
	uint64_t wal;
	bool full;

	if (behind)
		return "rows come faster than indexes can be made";
	pthread_mutex_lock(&s->lock);
	full = sealer_was_full(s);
	pthread_mutex_unlock(&s->lock);
	if (full)
		return "free space ran short a moment ago";
	/* In the WAL, in the file, in the sort: together about as much as the segment. */
	if (ring_fs_avail(s) < s->options.reserve_bytes + segment_size(path, &wal))
		return "not enough free space above reserve_bytes";
	return NULL;
}

/*
 * Without the lock. Indexes are a help, never a reason to seal later or to lose something: where
 * they can't be made it's counted, and the segment does without. SQLITE_INTERRUPT: the store stops
 * in the middle of it, and the next start begins again; or the file is gone. Else an error is one
 * of the file.
 */
static int index_segment(struct ring *r, uint64_t number, sqlite3 **db, const char *path,
			 bool behind, bool *made, char *why, size_t cap)
{
	struct store *s = r->store;
	const char *without = no_indexes(r, path, behind);
	int rc = SQLITE_FULL;

	*made = false;
	if (without)
		snprintf(why, cap, "%s", without);
	else
		rc = segment_index(db, path, &r->tables, &s->sealer_break, made, why, cap);
	if (rc == SQLITE_OK || rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
		return rc;
	*made = false;
	if (rc == SQLITE_INTERRUPT && (atomic_load(&s->sealer_stop) || is_gone(r, number)))
		return rc;
	tell_unindexed(r, path, rc == SQLITE_INTERRUPT ? "free space ran short meanwhile" : why);
	return SQLITE_OK;
}

static void sealed(struct ring *r, struct ring_entry *e)
{
	uint64_t wal, live = e->bytes;

	e->state = ENTRY_SEALED;
	e->bytes = segment_size(e->path, &wal);
	r->store->attach_stale = true;
	if (!e->indexed)
		return;
	r->stats.indexed++;
	/* Of a small one most is what each file has: it tells nothing of others. */
	if (live >= RETENTION_SEGMENT_MIN)
		r->sealed_permille = (uint32_t)(e->bytes * 1000 / live);
}

/* Without the lock; the connection is closed in any case. SQLITE_INTERRUPT as above. */
static int index_and_seal(struct ring *r, const struct ring_entry *e, sqlite3 *db, bool behind,
			  bool *made, char *why, size_t cap)
{
	int rc = SQLITE_OK;

	if (!e->settled)
		rc = index_segment(r, e->number, &db, e->path, behind, made, why, cap);
	if (rc == SQLITE_OK)
		return segment_seal(db, e->path, r->store->gid, why, cap);
	/* At the store's end with a checkpoint: the next start needn't check the file. */
	if (rc == SQLITE_INTERRUPT && !is_gone(r, e->number))
		sqlite3_close(db);
	else
		segment_discard(db);
	return rc;
}

void seal_entry(struct ring *r, struct ring_entry *e)
{
	struct store *s = r->store;
	struct ring_entry was = *e;
	char why[200];
	sqlite3 *db = TAKE_PTR(e->db);
	bool made = was.indexed, behind = is_behind(r);
	int rc;

	sealer_takes(r, was.number, !was.settled);
	rc = index_and_seal(r, &was, db, behind, &made, why, sizeof(why));
	sealer_leaves(s);
	e = ring_find_entry(r, was.number);
	if (!e) {
		/* Evicted meanwhile: nothing of what was made just now may stay. */
		pthread_mutex_unlock(&s->lock);
		segment_unlink(was.path);
		pthread_mutex_lock(&s->lock);
		return;
	}
	e->settled = rc != SQLITE_INTERRUPT; /* made, or said and counted */
	e->indexed = made;
	switch (rc & 0xff) {
	case SQLITE_OK:
		sealed(r, e);
		break;
	case SQLITE_INTERRUPT:
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		ring_remove_number(r, was.number);
		pthread_mutex_unlock(&s->lock);
		store_quarantine(r, was.path, why);
		pthread_mutex_lock(&s->lock);
		break;
	default:
		e->retry_ns = clock_mono_ns() + RETRY_NS;
		r->stats.errors += (rc & 0xff) != SQLITE_BUSY;
		break;
	}
}
