// SPDX-License-Identifier: Apache-2.0
/* One ring on the store thread: its files, when the live one is closed and when the oldest goes. */
#include "store/ring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"

/* A reader that holds a snapshot keeps the WAL from being reused: beyond that it stays with its
 * file. */
#define WAL_MAX (64u << 20)
/* Between attempts to go on in a new file; rows go into the old one meanwhile. */
#define RETRY_NS NSEC_PER_SEC
/* Freed space shows late (a reader or the sealer may hold the file): one file a second for the
 * reserve. */
#define RESERVE_EVERY_NS NSEC_PER_SEC
/* A file system that became read-only says no each second: it's told once a minute. */
#define FAILED_EVERY_NS (60 * NSEC_PER_SEC)

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
	memmove(&r->entries[idx], &r->entries[idx + 1],
		(r->nentries - idx - 1) * sizeof(r->entries[0]));
	r->nentries--;
	r->store->attach_stale = true;
}

void ring_remove_number(struct ring *r, uint64_t number)
{
	struct ring_entry *e = ring_find_entry(r, number);

	if (e)
		ring_remove_entry(r, (unsigned int)(e - r->entries));
}

struct ring_entry *ring_find_entry(struct ring *r, uint64_t number)
{
	for (unsigned int i = 0; i < r->nentries; i++)
		if (r->entries[i].number == number)
			return &r->entries[i];
	return NULL;
}

/* Eviction */

/* It stays in the list, so that it is counted and tried again. */
static bool ring_evict_failed(struct ring *r, const char *path)
{
	int error = errno;
	uint64_t now = clock_mono_ns();

	if (!r->evict_failed_ns || now - r->evict_failed_ns >= FAILED_EVERY_NS) {
		r->evict_failed_ns = now;
		store_event(r->store, "evict_failed", "cannot remove segment '%s': %s", path,
			    strerror(error));
	}
	return false;
}

/* The oldest file that isn't live goes; false: there is none, or it can't be removed. now: its room
 * is waited for, not left to the sealer. */
static bool ring_evict(struct ring *r, bool now, char *path, size_t cap)
{
	struct store *s = r->store;
	struct ring_entry *e;
	bool found = false;
	uint64_t number = 0;
	sqlite3 *db = NULL;

	pthread_mutex_lock(&s->lock);
	if (r->nentries && r->entries[0].state != ENTRY_LIVE) {
		found = true;
		number = r->entries[0].number;
		snprintf(path, cap, "%s", r->entries[0].path);
	}
	pthread_mutex_unlock(&s->lock);
	if (!found)
		return false;
	if (unlink(path) < 0 && errno != ENOENT)
		return ring_evict_failed(r, path);
	pthread_mutex_lock(&s->lock);
	e = ring_find_entry(r, number);
	if (e) { /* else the sealer put it aside meanwhile */
		if (e->db && !now && s->ngrave < ARRAY_SIZE(s->grave))
			s->grave[s->ngrave++] = e->db;
		else
			db = e->db;
		ring_remove_entry(r, (unsigned int)(e - r->entries));
		r->stats.evicted++;
		sealer_forget(r, number);
		sealer_poke(s);
	}
	pthread_mutex_unlock(&s->lock);
	segment_unlink(path);
	segment_discard(db);
	return true;
}

uint64_t ring_fs_avail(const struct store *s)
{
	struct statvfs v;

	if (statvfs(s->dir, &v) < 0)
		return UINT64_MAX /
		       2; /* unknown: the reserve can't be kept, the ring's own limit holds */
	return (uint64_t)v.f_bavail * v.f_frsize;
}

/* The clock says something else than the time that passed. */
static void tell_jump(struct ring *r, int64_t jump)
{
	struct store *s = r->store;
	uint64_t seconds = (uint64_t)(jump < 0 ? -jump : jump) / NSEC_PER_SEC;

	if (jump > 0)
		store_event(s, "clock_jump",
			    "the clock is %" PRIu64
			    " s ahead of the time that passed: for an hour no "
			    "segment is too old because of that",
			    seconds);
	else
		store_event(s, "clock_jump",
			    "the clock is %" PRIu64
			    " s behind the time that passed: until it catches "
			    "up, rows get a ts right after the last one's (rows_bumped)",
			    seconds);
}

static uint64_t age_now(struct ring *r)
{
	int64_t jump;
	uint64_t now =
		retention_clock_now(&r->store->clock, clock_real_ns(), clock_boot_ns(), &jump);

	if (jump)
		tell_jump(r, jump);
	return now;
}

void ring_state(struct ring *r, struct retention_state *st, struct ring_limits *limits)
{
	struct store *s = r->store;
	uint64_t avail = ring_fs_avail(s);

	*st = (struct retention_state){.now_ns = age_now(r), .files = schema_ring_files(r->id)};
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
	st->sealed_permille = r->sealed_permille;
	for (unsigned int i = 0; i < r->nentries; i++)
		st->rows += r->entries[i].rows;
	st->bytes = ring_bytes(r);
	if (r->nentries)
		st->oldest_ts_max = r->entries[0].ts_max;
	st->max_bytes =
		retention_max_bytes(limits->max_bytes, st->bytes, avail, s->options.reserve_bytes);
	pthread_mutex_unlock(&s->lock);
}

void ring_evict_by_limits(struct ring *r)
{
	for (;;) {
		struct retention_state st;
		struct ring_limits limits;
		const char *why;
		uint64_t now = clock_mono_ns(), room;
		char path[256];
		bool reserve;

		ring_state(r, &st, &limits);
		room = st.max_bytes;
		st.max_bytes = limits.max_bytes;
		why = retention_evict(&limits, &st);
		/* Flows make room for the rest of the host; the audit history is never given up for
		 * that. */
		if (!why && r->id == RING_FLOW && st.bytes > room &&
		    now - r->reserve_ns >= RESERVE_EVERY_NS)
			why = "reserve";
		if (!why)
			return;
		reserve = !strcmp(why, "reserve");
		if (reserve && sealer_gives_way(r->store)) {
			r->reserve_ns = now; /* what it gives back shows until then */
			return;
		}
		if (!ring_evict(r, false, path, sizeof(path)))
			return;
		if (!reserve)
			continue;
		r->reserve_ns = now;
		store_event(r->store, "reserve",
			    "free space is below reserve_bytes (%" PRIu64 "): evicted '%s'",
			    r->store->options.reserve_bytes, path);
	}
}

bool ring_is_full(const struct ring *r, int rc)
{
	rc &= 0xff;
	/* Without room for a page of shared memory or a journal SQLite speaks of I/O errors. */
	return rc == SQLITE_FULL || ((rc == SQLITE_IOERR || rc == SQLITE_CANTOPEN) &&
				     ring_fs_avail(r->store) < (1u << 20));
}

bool ring_free_space(struct ring *r, bool *held)
{
	struct ring *flow = &r->store->rings[RING_FLOW];
	bool first = !*held;
	char path[256];

	*held = true;
	sealer_hold(r->store);
	if (first)
		return true;
	if (!ring_evict(flow, true, path, sizeof(path)) &&
	    (r == flow || !ring_evict(r, true, path, sizeof(path))))
		return false;
	store_event(r->store, "disk_full", "the file system is full: evicted '%s' to go on", path);
	return true;
}

/* Rotation */

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
		e->ours = true;
	}
	sealer_poke(s);
	pthread_mutex_unlock(&s->lock);
	segment_discard(db);
}

/* Takes the file made ahead, if there's one. The sealer makes no other until it has its new name.
 */
static int ring_take_ahead(struct ring *r, const char *path)
{
	struct store *s = r->store;
	char from[256];
	bool ahead;
	int rc = -ENOENT;

	pthread_mutex_lock(&s->lock);
	ahead = r->ahead_taken = r->ahead;
	r->ahead = false;
	r->ahead_bytes = 0;
	pthread_mutex_unlock(&s->lock);
	if (!ahead)
		return -ENOENT;
	ring_ahead_path(r, from, sizeof(from));
	rc = rename(from, path) < 0 ? -errno : 0;
	pthread_mutex_lock(&s->lock);
	r->ahead_taken = false;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* A file that can be opened under its final name: the one made ahead, or made now. */
static int ring_make_file(struct ring *r, const char *path, char *why, size_t cap)
{
	char from[256];
	int rc;

	/* A number may come again when the last file was put aside: what a reader left of that one,
	 * such as its WAL, is not this one's. */
	segment_unlink(path);
	if (ring_take_ahead(r, path) == 0)
		return SQLITE_OK;
	/* Not ".next": the sealer may be writing that one. */
	snprintf(from, sizeof(from), "%s/%s.now", r->store->dir, ring_name(r->id));
	rc = segment_create(from, &r->tables, why, cap);
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
	uint64_t id = ring_file_id(r->live->path);
	struct ring_entry *e;

	pthread_mutex_lock(&s->lock);
	e = &r->entries[r->nentries++];
	*e = (struct ring_entry){
		.number = r->live->number,
		.state = ENTRY_LIVE,
		.bytes = r->live->bytes,
		.file_id = id,
	};
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

int ring_rotate(struct ring *r, char *why, size_t cap)
{
	struct store *s = r->store;
	struct retention_state st;
	struct ring_limits limits;
	char path[256], evicted[256];
	uint64_t number;
	int rc;

	while (ring_count(r) >=
	       schema_ring_files(r->id)) /* readers can attach that many and no more */
		if (!ring_evict(r, false, evicted, sizeof(evicted)))
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
	rc = segment_open(&r->live, path, number, &r->tables, &r->dict,
			  retention_budget(st.max_bytes, st.files), why, cap);
	if (rc != SQLITE_OK) {
		segment_unlink(path);
		return rc;
	}
	ring_add_live(r);
	return SQLITE_OK;
}

void ring_quarantine_live(struct ring *r, const char *why)
{
	char path[256];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s", r->live->path);
	pthread_mutex_lock(&r->store->lock);
	ring_remove_number(r, r->live->number);
	pthread_mutex_unlock(&r->store->lock);
	db = segment_release(TAKE_PTR(r->live));
	segment_discard(db);
	store_quarantine(r, path, why);
}

/* It has a right to room as rows have: the old file would grow meanwhile, and push others out. */
static int ring_rotate_now(struct ring *r, char *why, size_t cap)
{
	bool held = false;
	int rc = ring_rotate(r, why, cap);

	while (rc != SQLITE_OK) {
		pthread_mutex_lock(&r->store->lock);
		r->stats.errors++;
		pthread_mutex_unlock(&r->store->lock);
		if (!ring_is_full(r, rc) || !ring_free_space(r, &held))
			break;
		rc = ring_rotate(r, why, cap);
	}
	if (held)
		sealer_release(r->store);
	return rc;
}

/* The next write goes into the old file, or tries again itself if that's closed. */
static void ring_rotate_failed(struct ring *r, const char *why)
{
	uint64_t now = clock_mono_ns();

	r->rotate_retry_ns = now + RETRY_NS;
	if (r->rotate_told_ns && now - r->rotate_told_ns < FAILED_EVERY_NS)
		return;
	r->rotate_told_ns = now;
	store_event(r->store, "rotate_failed", "ring %s cannot go on in a new file: %s",
		    ring_name(r->id), why);
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

	ring_check_files(r);
	ring_evict_by_limits(r);
	if (!r->live)
		return; /* the next commit makes one */
	ring_state(r, &st, &limits);
	why = retention_rotate(&limits, &st);
	if (!why && r->live->wal_bytes > WAL_MAX)
		why = "wal";
	if (!why || clock_mono_ns() < r->rotate_retry_ns)
		return;
	if (ring_rotate_now(r, text, sizeof(text)) == SQLITE_OK)
		ring_evict_by_limits(r);
	else
		ring_rotate_failed(r, text);
}
