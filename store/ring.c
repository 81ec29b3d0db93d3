// SPDX-License-Identifier: Apache-2.0
/* One ring on the store thread: commits, rotation, eviction and what is done when the disk says no. */
#include "store/ring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"

/* A reader that holds a snapshot keeps the WAL from being reused: beyond that it stays with its file. */
#define WAL_MAX (64u << 20)
/* Between attempts while nothing can be stored; the queue takes what comes meanwhile. */
#define RETRY_NS NSEC_PER_SEC
/* Freed space shows late (a reader or the sealer may hold the file): one file a second for the reserve. */
#define RESERVE_EVERY_NS NSEC_PER_SEC

void ring_path(const struct ring *r, char *dst, size_t cap, uint64_t number)
{
	snprintf(dst, cap, "%s/%s-%08" PRIu64 ".db", r->store->dir, ring_name(r->id), number);
}

void ring_ahead_path(const struct ring *r, char *dst, size_t cap)
{
	snprintf(dst, cap, "%s/%s.next", r->store->dir, ring_name(r->id));
}

uint64_t ring_bytes(const struct ring *r)
{
	uint64_t bytes = r->ahead_bytes;

	for (unsigned int i = 0; i < r->nentries; i++)
		bytes += r->entries[i].bytes;
	if (r->id == RING_FLOW)
		bytes += r->store->quarantine_bytes;
	return bytes;
}

void ring_remove_entry(struct ring *r, unsigned int idx)
{
	memmove(&r->entries[idx], &r->entries[idx + 1], (r->nentries - idx - 1) * sizeof(r->entries[0]));
	r->nentries--;
	r->store->attach_stale = true;
}

struct ring_entry *ring_find_entry(struct ring *r, uint64_t number)
{
	for (unsigned int i = 0; i < r->nentries; i++)
		if (r->entries[i].number == number)
			return &r->entries[i];
	return NULL;
}

/* Eviction --------------------------------------------------------------------------------------------------- */

/* The oldest file that isn't live goes; false: there is none. */
static bool ring_evict(struct ring *r, char *path, size_t cap)
{
	struct store *s = r->store;
	sqlite3 *db = NULL;

	pthread_mutex_lock(&s->lock);
	if (!r->nentries || r->entries[0].state == ENTRY_LIVE) {
		pthread_mutex_unlock(&s->lock);
		return false;
	}
	snprintf(path, cap, "%s", r->entries[0].path);
	if (r->entries[0].db && s->ngrave < ARRAY_SIZE(s->grave))
		s->grave[s->ngrave++] = r->entries[0].db;
	else
		db = r->entries[0].db;
	ring_remove_entry(r, 0);
	r->stats.evicted++;
	sealer_poke(s);
	pthread_mutex_unlock(&s->lock);
	segment_unlink(path);
	segment_discard(db);
	return true;
}

static uint64_t fs_avail(const struct store *s)
{
	struct statvfs v;

	if (statvfs(s->dir, &v) < 0)
		return UINT64_MAX / 2; /* unknown: the reserve can't be kept, the ring's own limit holds */
	return (uint64_t)v.f_bavail * v.f_frsize;
}

static void ring_state(struct ring *r, struct retention_state *st, struct ring_limits *limits)
{
	struct store *s = r->store;
	uint64_t avail = fs_avail(s);

	*st = (struct retention_state){.now_ns = clock_real_ns(), .files = schema_ring_files(r->id)};
	pthread_mutex_lock(&s->lock);
	*limits = r->limits;
	if (r->live) {
		struct ring_entry *e = ring_find_entry(r, r->live->number);

		if (e) {
			e->rows = st->live_rows = r->live->rows;
			e->ts_min = st->live_ts_min = r->live->ts_min;
			e->ts_max = r->live->ts_max;
			e->bytes = st->live_bytes = r->live->bytes;
		}
	}
	st->segments = r->nentries;
	for (unsigned int i = 0; i < r->nentries; i++)
		st->rows += r->entries[i].rows;
	st->bytes = ring_bytes(r);
	if (r->nentries)
		st->oldest_ts_max = r->entries[0].ts_max;
	st->max_bytes = retention_max_bytes(limits->max_bytes, st->bytes, avail, s->options.reserve_bytes);
	pthread_mutex_unlock(&s->lock);
}

static void ring_evict_by_limits(struct ring *r)
{
	for (;;) {
		struct retention_state st;
		struct ring_limits limits;
		const char *why;
		uint64_t now = clock_mono_ns(), room;
		char path[256];

		ring_state(r, &st, &limits);
		room = st.max_bytes;
		st.max_bytes = limits.max_bytes;
		why = retention_evict(&limits, &st);
		/* Flows make room for the rest of the host; the audit history is never given up for that. */
		if (!why && r->id == RING_FLOW && st.bytes > room && now - r->reserve_ns >= RESERVE_EVERY_NS)
			why = "reserve";
		if (!why || !ring_evict(r, path, sizeof(path)))
			return;
		if (strcmp(why, "reserve"))
			continue;
		r->reserve_ns = now;
		store_event(r->store, "reserve",
			    "free space is below reserve_bytes (%" PRIu64 "): evicted '%s'",
			    r->store->options.reserve_bytes, path);
	}
}

/* For a write that found the disk full: a flow segment first, whoever needs the room. */
static bool ring_free_space(struct ring *r)
{
	struct ring *flow = &r->store->rings[RING_FLOW];
	char path[256];

	if (!ring_evict(flow, path, sizeof(path)) && (r == flow || !ring_evict(r, path, sizeof(path))))
		return false;
	store_event(r->store, "disk_full", "the file system is full: evicted '%s' to go on", path);
	return true;
}

/* Rotation --------------------------------------------------------------------------------------------------- */

/* The live segment becomes the sealer's. */
static void ring_let_go(struct ring *r)
{
	struct store *s = r->store;
	uint64_t number;
	struct ring_entry *e;
	sqlite3 *db;

	if (!r->live)
		return;
	number = r->live->number;
	db = segment_release(TAKE_PTR(r->live));
	pthread_mutex_lock(&s->lock);
	e = ring_find_entry(r, number);
	if (e) {
		e->state = ENTRY_SEALING;
		e->db = TAKE_PTR(db);
		e->retry_ns = 0;
	}
	sealer_poke(s);
	pthread_mutex_unlock(&s->lock);
	segment_discard(db);
}

/* A file that can be opened under its final name: the one made ahead, or made now. */
static int ring_make_file(struct ring *r, const char *path, char *why, size_t cap)
{
	struct store *s = r->store;
	char from[256];
	bool ahead;
	int rc = SQLITE_OK;

	pthread_mutex_lock(&s->lock);
	ahead = r->ahead;
	r->ahead = false;
	r->ahead_bytes = 0;
	pthread_mutex_unlock(&s->lock);
	if (ahead) {
		ring_ahead_path(r, from, sizeof(from));
	} else {
		/* Not ".next": the sealer may be writing that one. */
		snprintf(from, sizeof(from), "%s/%s.now", s->dir, ring_name(r->id));
		rc = segment_create(from, &r->tables, why, cap);
	}
	if (rc == SQLITE_OK && rename(from, path) < 0) {
		snprintf(why, cap, "cannot rename the new segment: %m");
		rc = errno == ENOSPC || errno == EDQUOT ? SQLITE_FULL : SQLITE_IOERR;
		segment_unlink(from);
	}
	return rc;
}

static void ring_add_live(struct ring *r)
{
	struct store *s = r->store;
	struct ring_entry *e;

	pthread_mutex_lock(&s->lock);
	e = &r->entries[r->nentries++];
	*e = (struct ring_entry){.number = r->live->number, .state = ENTRY_LIVE, .bytes = r->live->bytes};
	snprintf(e->path, sizeof(e->path), "%s", r->live->path);
	s->attach_stale = true;
	sealer_poke(s);
	pthread_mutex_unlock(&s->lock);
}

static unsigned int ring_count(struct ring *r)
{
	unsigned int n;

	pthread_mutex_lock(&r->store->lock);
	n = r->nentries;
	pthread_mutex_unlock(&r->store->lock);
	return n;
}

/* From now on in a new file. On failure the old one stays live, unless the new one couldn't even be opened. */
static int ring_rotate(struct ring *r, char *why, size_t cap)
{
	struct store *s = r->store;
	struct retention_state st;
	struct ring_limits limits;
	char path[256], evicted[256];
	uint64_t number;
	int rc;

	while (ring_count(r) >= schema_ring_files(r->id)) /* readers can attach that many and no more */
		if (!ring_evict(r, evicted, sizeof(evicted)))
			break;
	pthread_mutex_lock(&s->lock);
	number = r->next_number++;
	pthread_mutex_unlock(&s->lock);
	ring_path(r, path, sizeof(path), number);
	rc = ring_make_file(r, path, why, cap);
	if (rc != SQLITE_OK)
		return rc;
	ring_let_go(r);
	ring_state(r, &st, &limits);
	rc = segment_open(&r->live, path, number, &r->tables, &r->dict, retention_budget(st.max_bytes, st.files), why, cap);
	if (rc != SQLITE_OK) {
		segment_unlink(path);
		return rc;
	}
	ring_add_live(r);
	return SQLITE_OK;
}

static void ring_quarantine_live(struct ring *r, const char *why)
{
	char path[256];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s", r->live->path);
	pthread_mutex_lock(&r->store->lock);
	for (unsigned int i = 0; i < r->nentries; i++) {
		if (r->entries[i].number == r->live->number) {
			ring_remove_entry(r, i);
			break;
		}
	}
	pthread_mutex_unlock(&r->store->lock);
	db = segment_release(TAKE_PTR(r->live));
	segment_discard(db);
	store_quarantine(r, path, why);
}

void ring_maintain(struct ring *r)
{
	struct retention_state st;
	struct ring_limits limits;
	uint64_t damaged;
	const char *why;
	char text[256];

	pthread_mutex_lock(&r->store->lock);
	damaged = r->damaged;
	r->damaged = 0;
	pthread_mutex_unlock(&r->store->lock);
	if (damaged && r->live && r->live->number == damaged)
		ring_quarantine_live(r, "quick_check found damage");

	ring_evict_by_limits(r);
	if (!r->live)
		return; /* the next commit makes one */
	ring_state(r, &st, &limits);
	why = retention_rotate(&limits, &st);
	if (!why && r->live->wal_bytes > WAL_MAX)
		why = "wal";
	if (!why || clock_mono_ns() < r->retry_ns)
		return;
	if (ring_rotate(r, text, sizeof(text)) != SQLITE_OK) {
		r->retry_ns = clock_mono_ns() + RETRY_NS;
		store_event(r->store, "rotate_failed", "ring %s cannot go on in a new file: %s",
			    ring_name(r->id), text);
		return;
	}
	ring_evict_by_limits(r);
}

/* Commits ---------------------------------------------------------------------------------------------------- */

void ring_add_pending(struct ring *r, struct batch *b)
{
	if (!r->npending)
		r->pending_since_ns = clock_mono_ns();
	r->pending[r->npending++] = b;
	r->pending_rows += b->nrows;
}

static void ring_drop_pending(struct ring *r)
{
	for (unsigned int i = 0; i < r->npending; i++)
		batch_unref(r->pending[i]);
	r->npending = 0;
	r->pending_rows = 0;
}

static bool means_full(const struct ring *r, int rc)
{
	rc &= 0xff;
	/* Without room for a page of shared memory or a journal SQLite speaks of I/O errors. */
	return rc == SQLITE_FULL || ((rc == SQLITE_IOERR || rc == SQLITE_CANTOPEN) && fs_avail(r->store) < (1u << 20));
}

/* Something that may let the same transaction succeed now; false: nothing left to do. */
static bool ring_mend(struct ring *r, int rc, bool *rotated, char *why, size_t cap)
{
	char cause[256];

	snprintf(cause, sizeof(cause), "%s", why);
	if (means_full(r, rc))
		return ring_free_space(r);
	if (*rotated)
		return false;
	*rotated = true;
	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		if (r->live)
			ring_quarantine_live(r, cause);
		return true;
	default:
		if (r->live)
			store_event(r->store, (rc & 0xff) == SQLITE_BUSY ? "busy" : "write_failed",
				    "cannot write '%s': %s; going on in a new file", r->live->path, cause);
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

static void ring_recovered(struct ring *r)
{
	uint64_t seconds = (clock_real_ns() - r->failed_since_ns) / NSEC_PER_SEC;

	store_event(r->store, "recovered", "ring %s stores again after %" PRIu64 " s, %" PRIu64 " rows were lost",
		    ring_name(r->id), seconds, r->failed_rows);
	pthread_mutex_lock(&r->store->lock);
	snprintf(r->stats.state, sizeof(r->stats.state), "ok");
	pthread_mutex_unlock(&r->store->lock);
	r->failed_since_ns = r->failed_rows = r->retry_ns = 0;
}

static void ring_give_up(struct ring *r, int rc, const char *why)
{
	bool full = means_full(r, rc);
	char since[40];

	r->retry_ns = clock_mono_ns() + RETRY_NS;
	r->failed_rows += r->pending_rows;
	for (unsigned int i = 0; i < r->npending; i++)
		for (unsigned int t = 0; t < r->tables.n; t++)
			if (r->table_list[t]->table == r->pending[i]->table)
				atomic_fetch_add(&r->table_list[t]->lost, r->pending[i]->nrows);
	pthread_mutex_lock(&r->store->lock);
	ring_account(r, false, 0);
	if (!r->failed_since_ns) {
		r->failed_since_ns = clock_real_ns();
		clock_format_rfc3339(since, r->failed_since_ns);
		snprintf(r->stats.state, sizeof(r->stats.state), "%s since %s",
			 full ? "disk full" : "cannot write", since);
		pthread_mutex_unlock(&r->store->lock);
		store_event(r->store, full ? "disk_full" : "write_failed",
			    "ring %s cannot be written (%s): rows are dropped and counted until it can", ring_name(r->id),
			    why);
		return;
	}
	pthread_mutex_unlock(&r->store->lock);
}

void ring_commit(struct ring *r)
{
	uint64_t start = clock_mono_ns();
	/* Each turn but one needs a file less or happens once: it ends. */
	unsigned int turns = 2 * RING_ENTRIES_MAX;
	bool rotated = false;
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
		if (!turns-- || !ring_mend(r, rc, &rotated, why, sizeof(why)))
			break;
	}
	if (rc == SQLITE_OK) {
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

/* Start and stop --------------------------------------------------------------------------------------------- */

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
	rc = segment_open(&r->live, path, e->number, &r->tables, &r->dict, retention_budget(st.max_bytes, st.files), why,
			  sizeof(why));
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
	if (rc == SQLITE_OK || means_full(r, rc))
		return 0; /* a full disk is no reason not to start: the first commit tries again and says so */
	return err_set(err, -EIO, "cannot write a segment in '%s': %s", r->store->dir, why);
}

void ring_stop(struct ring *r)
{
	if (r->npending || (r->live && segment_has_loss(r->live)))
		ring_commit(r);
	segment_close(TAKE_PTR(r->live));
}
