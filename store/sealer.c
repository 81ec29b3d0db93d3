// SPDX-License-Identifier: Apache-2.0
/* What may take its time: sealing, checking, making the next file ahead, attach.sql. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "store/ring.h"

/* A reader that is in the way, or a full disk: how long until the next attempt. */
#define RETRY_NS NSEC_PER_SEC
/* quick_check takes 2.5 ms a MiB: a thousandth of a core, and little of a disk's time. */
#define SCRUB_BYTES_PER_SEC (400u << 10)
/* Segments that may wait for their indexes; the others' connections and WALs would add up. */
#define BEHIND 2

void sealer_poke(struct store *s)
{
	pthread_cond_signal(&s->sealer_wake);
}

/* Each job is called with the lock held, gives it back while it works, and says if there was
 * something to do. */

static bool job_grave(struct store *s)
{
	sqlite3 *db;

	if (!s->ngrave)
		return false;
	db = s->grave[--s->ngrave];
	pthread_mutex_unlock(&s->lock);
	segment_discard(db);
	pthread_mutex_lock(&s->lock);
	return true;
}

static void remove_entry(struct ring *r, uint64_t number)
{
	for (unsigned int i = 0; i < r->nentries; i++) {
		if (r->entries[i].number == number) {
			ring_remove_entry(r, i);
			return;
		}
	}
}

/* Under the lock. More than two wait: rows come faster than indexes can be made. */
static bool is_behind(const struct ring *r)
{
	unsigned int waiting = 0;

	for (unsigned int i = 0; i < r->nentries; i++)
		waiting += r->entries[i].state == ENTRY_SEALING;
	return waiting > BEHIND;
}

/*
 * Without the lock. Indexes are a help, never a reason to seal later or to lose something: where
 * they can't be made it's counted, and the segment does without. False: the store stops in the
 * middle of it; the next start begins again.
 */
static bool index_segment(struct ring *r, sqlite3 **db, const char *path, bool behind,
			  bool *ret_made, int *ret_rc, char *why, size_t cap)
{
	struct store *s = r->store;
	uint64_t wal;
	int rc = SQLITE_FULL;

	*ret_made = false;
	*ret_rc = SQLITE_OK;
	if (behind)
		snprintf(why, cap, "rows come faster than indexes can be made");
	else if (ring_fs_avail(s) < s->options.reserve_bytes + segment_size(path, &wal))
		/* In the WAL, in the file, in the sort: together about as much as the segment. */
		snprintf(why, cap, "not enough free space above reserve_bytes");
	else
		rc = segment_index(db, path, &r->tables, &s->sealer_stop, ret_made, why, cap);
	if (rc == SQLITE_INTERRUPT)
		return false;
	if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
		*ret_rc = rc;
	else if (rc != SQLITE_OK)
		store_event(s, "unindexed", "segment '%s' is sealed without indexes: %s", path,
			    why);
	if (rc == SQLITE_OK)
		return true;
	*ret_made = false;
	pthread_mutex_lock(&s->lock);
	r->stats.unindexed++;
	pthread_mutex_unlock(&s->lock);
	return true;
}

static void sealed(struct ring *r, struct ring_entry *e, bool made)
{
	uint64_t wal, live = e->bytes;

	e->state = ENTRY_SEALED;
	e->bytes = segment_size(e->path, &wal);
	r->store->attach_stale = true;
	if (!made)
		return;
	r->stats.indexed++;
	/* Of a small one most is what each file has: it tells nothing of others. */
	if (live >= RETENTION_SEGMENT_MIN)
		r->sealed_permille = (uint32_t)(e->bytes * 1000 / live);
}

static void seal_entry(struct ring *r, struct ring_entry *e)
{
	struct store *s = r->store;
	uint64_t number = e->number;
	char path[256], why[200];
	sqlite3 *db = TAKE_PTR(e->db);
	bool made = false, behind = is_behind(r), skip = e->unindexed;
	int rc = SQLITE_OK;

	snprintf(path, sizeof(path), "%s", e->path);
	pthread_mutex_unlock(&s->lock);
	if (!skip && !index_segment(r, &db, path, behind, &made, &rc, why, sizeof(why))) {
		sqlite3_close(db);
		pthread_mutex_lock(&s->lock);
		return;
	}
	if (rc == SQLITE_OK)
		rc = segment_seal(db, path, s->gid, why, sizeof(why));
	else
		segment_discard(db);
	pthread_mutex_lock(&s->lock);
	e = ring_find_entry(r, number);
	if (!e) {
		/* Evicted meanwhile: nothing of what was made just now may stay. */
		pthread_mutex_unlock(&s->lock);
		segment_unlink(path);
		pthread_mutex_lock(&s->lock);
		return;
	}
	switch (rc & 0xff) {
	case SQLITE_OK:
		sealed(r, e, made);
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		remove_entry(r, number);
		pthread_mutex_unlock(&s->lock);
		store_quarantine(r, path, why);
		pthread_mutex_lock(&s->lock);
		break;
	default:
		e->retry_ns = clock_mono_ns() + RETRY_NS;
		e->unindexed = !made; /* said and counted already */
		r->stats.errors += (rc & 0xff) != SQLITE_BUSY;
		break;
	}
}

/* When the store ends, what is still open is sealed once more without waiting for its turn. */
static bool job_seal(struct store *s, bool last)
{
	uint64_t now = clock_mono_ns();

	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		struct ring *r = &s->rings[i];

		for (unsigned int k = 0; k < r->nentries; k++) {
			struct ring_entry *e = &r->entries[k];

			if (e->state != ENTRY_SEALING || (last ? !e->db : now < e->retry_ns))
				continue;
			seal_entry(r, e);
			return true;
		}
	}
	return false;
}

/* After a power cut the directory must know a file by the name under which rows went into it. */
static void sync_directory(const struct store *s)
{
	_cleanup_close_ int fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		fsync(fd); /* best effort: the rows themselves are synced by SQLite */
}

/* Files have come or gone. */
static bool job_attach(struct store *s)
{
	const struct table *tables[STORE_TABLES_MAX];
	struct err err = {};
	int r;

	if (!s->attach_stale)
		return false;
	s->attach_stale = false;
	pthread_mutex_unlock(&s->lock);
	sync_directory(s);
	for (unsigned int i = 0; i < s->ntables; i++)
		tables[i] = s->tables[i]->table;
	r = attach_write(s->dir, s->gid, tables, s->ntables, &err);
	if (r < 0)
		store_event(s, "attach_failed", "%s", err.msg);
	pthread_mutex_lock(&s->lock);
	return true;
}

static bool job_ahead(struct store *s)
{
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		struct ring *r = &s->rings[i];
		char path[256], why[200];
		uint64_t bytes = 0, wal;
		int rc;

		if (r->ahead || r->ahead_taken || clock_mono_ns() < r->ahead_retry_ns)
			continue;
		pthread_mutex_unlock(&s->lock);
		ring_ahead_path(r, path, sizeof(path));
		rc = segment_create(path, &r->tables, why, sizeof(why));
		if (rc == SQLITE_OK)
			bytes = segment_size(path, &wal);
		pthread_mutex_lock(&s->lock);
		r->ahead = rc == SQLITE_OK;
		r->ahead_bytes = bytes;
		/* The writer makes one itself when it must; it also says what is wrong. */
		if (rc != SQLITE_OK)
			r->ahead_retry_ns = clock_mono_ns() + RETRY_NS;
		return true;
	}
	return false;
}

static void check_entry(struct ring *r, struct ring_entry *e)
{
	struct store *s = r->store;
	uint64_t number = e->number;
	char path[256], why[200] = "";
	sqlite3 *db;
	int rc;

	e->check = false;
	snprintf(path, sizeof(path), "%s", e->path);
	pthread_mutex_unlock(&s->lock);
	rc = segment_check(path, &s->sealer_stop, why, sizeof(why));
	if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
		store_event(s, "damaged", "quick_check of '%s': %s", path, why);
	pthread_mutex_lock(&s->lock);
	e = ring_find_entry(r, number);
	if (!e || (rc != SQLITE_CORRUPT && rc != SQLITE_NOTADB))
		return;
	if (e->state == ENTRY_LIVE) {
		r->damaged = number; /* the writer lets go of it */
		s->work = true;
		pthread_cond_signal(&s->wake);
		return;
	}
	db = TAKE_PTR(e->db);
	remove_entry(r, number);
	pthread_mutex_unlock(&s->lock);
	segment_discard(db);
	store_quarantine(r, path, why);
	pthread_mutex_lock(&s->lock);
}

static bool job_check(struct store *s)
{
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		struct ring *r = &s->rings[i];

		for (unsigned int k = 0; k < r->nentries; k++) {
			if (!r->entries[k].check)
				continue;
			check_entry(r, &r->entries[k]);
			return true;
		}
	}
	return false;
}

static struct ring_entry *next_unchecked(struct store *s, struct ring **ret)
{
	for (int i = RING_X_MAX - 1; i >= 0; i--) {
		struct ring *r = &s->rings[i];

		for (unsigned int k = 0; k < r->nentries; k++) {
			if (r->entries[k].state != ENTRY_SEALED || r->entries[k].checked)
				continue;
			*ret = r;
			return &r->entries[k];
		}
	}
	return NULL;
}

/* Damage in a sealed segment shows only when somebody reads that page, and fails his query: each is
 * read once, before. */
static bool job_scrub(struct store *s)
{
	struct ring *r;
	struct ring_entry *e;
	uint64_t now = clock_mono_ns();

	if (now < s->scrub_ns)
		return false;
	e = next_unchecked(s, &r);
	if (!e)
		return false;
	e->checked = true;
	s->scrub_ns = now + e->bytes * (NSEC_PER_SEC / SCRUB_BYTES_PER_SEC);
	check_entry(r, e);
	return true;
}

/* Something waits for a time, not for a signal. */
static bool sealer_waits(const struct store *s)
{
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		const struct ring *r = &s->rings[i];

		if (!r->ahead)
			return true;
		for (unsigned int k = 0; k < r->nentries; k++)
			if (r->entries[k].state == ENTRY_SEALING ||
			    (r->entries[k].state == ENTRY_SEALED && !r->entries[k].checked))
				return true;
	}
	return false;
}

static void sealer_sleep(struct store *s)
{
	struct timespec until;
	uint64_t end = clock_mono_ns() + RETRY_NS;

	if (!sealer_waits(s)) {
		pthread_cond_wait(&s->sealer_wake, &s->lock);
		return;
	}
	until = (struct timespec){.tv_sec = (time_t)(end / NSEC_PER_SEC),
				  .tv_nsec = (long)(end % NSEC_PER_SEC)};
	pthread_cond_timedwait(&s->sealer_wake, &s->lock, &until);
}

static void *sealer_run(void *arg)
{
	struct store *s = arg;

	(void)thread_bulk(); /* the daemon has said so if it can't be had */
	pthread_mutex_lock(&s->lock);
	while (!atomic_load(&s->sealer_stop)) {
		if (job_grave(s) || job_check(s) || job_seal(s, false) || job_attach(s) ||
		    job_ahead(s) || job_scrub(s))
			continue;
		sealer_sleep(s);
	}
	while (job_grave(s) || job_seal(s, true) || job_attach(s))
		;
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int sealer_start(struct store *s)
{
	int r;

	/* Sorts of indexes belong where the room for them is known to be, and are gone with it. */
	sqlite3_temp_directory = s->dir;
	r = thread_start(&s->sealer, "store-seal", sealer_run, s);
	s->sealer_started = r == 0;
	return r;
}

void sealer_finish(struct store *s)
{
	if (s->sealer_started) {
		pthread_mutex_lock(&s->lock);
		atomic_store(&s->sealer_stop, true);
		sealer_poke(s);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->sealer, NULL);
		s->sealer_started = false;
	}
	if (sqlite3_temp_directory == s->dir)
		sqlite3_temp_directory = NULL;
}
