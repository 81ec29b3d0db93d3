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
/* What it can't leave out, such as a checkpoint, takes as long as the disk does; a writer that
 * waits longer is no better off than with a file less. */
#define HOLD_WAIT_NS NSEC_PER_SEC
/* After rows had no room: what can be left out would only take it away again. */
#define FULL_NS (10 * NSEC_PER_SEC)

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

/* What the writer asks for */

void sealer_hold(struct store *s)
{
	uint64_t end = clock_mono_ns() + HOLD_WAIT_NS;
	struct timespec until = {.tv_sec = (time_t)(end / NSEC_PER_SEC),
				 .tv_nsec = (long)(end % NSEC_PER_SEC)};

	pthread_mutex_lock(&s->lock);
	s->sealer_held = true;
	s->full_ns = clock_mono_ns();
	atomic_store(&s->sealer_break, true);
	while (s->sealer_busy)
		if (pthread_cond_timedwait(&s->sealer_idle, &s->lock, &until) == ETIMEDOUT)
			break;
	while (job_grave(s))
		;
	pthread_mutex_unlock(&s->lock);
}

void sealer_release(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->sealer_held = false;
	sealer_poke(s);
	pthread_mutex_unlock(&s->lock);
}

bool sealer_gives_way(struct store *s)
{
	bool had;

	pthread_mutex_lock(&s->lock);
	/* Once, or sealing one after the other would keep the reserve from being kept. */
	had = s->sealer_indexes && !sealer_was_full(s);
	if (had) {
		s->full_ns = clock_mono_ns();
		atomic_store(&s->sealer_break, true);
	}
	pthread_mutex_unlock(&s->lock);
	return had;
}

void sealer_forget(struct ring *r, uint64_t number)
{
	struct store *s = r->store;

	if (s->sealer_ring == r && s->sealer_number == number)
		atomic_store(&s->sealer_break, true);
}

void sealer_takes(struct ring *r, uint64_t number, bool indexes)
{
	struct store *s = r->store;

	s->sealer_ring = r;
	s->sealer_number = number;
	s->sealer_indexes = indexes;
	pthread_mutex_unlock(&s->lock);
}

void sealer_leaves(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->sealer_ring = NULL;
	s->sealer_indexes = false;
}

bool sealer_was_full(const struct store *s)
{
	return s->full_ns && clock_mono_ns() - s->full_ns < FULL_NS;
}

/* Jobs */

static struct ring_entry *next_to_seal(struct ring *r, bool ours, bool last)
{
	uint64_t now = clock_mono_ns();

	for (unsigned int k = 0; k < r->nentries; k++) {
		struct ring_entry *e = &r->entries[k];

		if (e->state == ENTRY_SEALING && e->ours == ours &&
		    (last ? e->db != NULL : now >= e->retry_ns))
			return e;
	}
	return NULL;
}

/*
 * When the store ends, what is still open is sealed once more without waiting for its turn. What
 * the start found comes behind what is written since: however much it is, it's no reason to be
 * behind.
 */
static bool job_seal(struct store *s, bool last)
{
	for (int ours = 1; ours >= 0; ours--) {
		for (unsigned int i = 0; i < RING_X_MAX; i++) {
			struct ring_entry *e = next_to_seal(&s->rings[i], ours, last);

			if (!e)
				continue;
			seal_entry(&s->rings[i], e);
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

	if (!s->attach_stale || clock_mono_ns() < s->attach_retry_ns)
		return false;
	s->attach_stale = false;
	pthread_mutex_unlock(&s->lock);
	sync_directory(s);
	for (unsigned int i = 0; i < s->ntables; i++)
		tables[i] = s->tables[i]->table;
	r = attach_write(s->dir, s->gid, tables, s->ntables, &err);
	if (r < 0 && !s->attach_failed) /* told already, until it's over */
		store_event(s, "attach_failed", "%s", err.msg);
	pthread_mutex_lock(&s->lock);
	s->attach_failed = r < 0;
	if (r < 0) {
		s->attach_stale = true;
		s->attach_retry_ns = clock_mono_ns() + RETRY_NS;
	}
	return true;
}

static bool job_ahead(struct store *s)
{
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		struct ring *r = &s->rings[i];
		char path[256], why[200];
		uint64_t bytes = 0, wal;
		int rc;

		if (r->ahead || r->ahead_taken || clock_mono_ns() < r->ahead_retry_ns ||
		    sealer_was_full(s))
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
	bool must = e->check;
	int rc;

	e->check = false;
	snprintf(path, sizeof(path), "%s", e->path);
	sealer_takes(r, number, false);
	rc = segment_check(path, &s->sealer_break, why, sizeof(why));
	if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
		store_event(s, "damaged", "quick_check of '%s': %s", path, why);
	sealer_leaves(s);
	e = ring_find_entry(r, number);
	if (e && rc == SQLITE_INTERRUPT) { /* from the beginning, another time */
		e->check = must;
		e->checked = false;
	}
	if (!e || (rc != SQLITE_CORRUPT && rc != SQLITE_NOTADB))
		return;
	if (e->state == ENTRY_LIVE) {
		r->damaged = number; /* the writer lets go of it */
		s->work = true;
		pthread_cond_signal(&s->wake);
		return;
	}
	db = TAKE_PTR(e->db);
	ring_remove_number(r, number);
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

		if (!r->ahead || s->attach_stale)
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
		bool done;

		if (s->sealer_held) {
			pthread_cond_wait(&s->sealer_wake, &s->lock);
			continue;
		}
		atomic_store(&s->sealer_break, false);
		s->sealer_busy = true; /* to be seen where a job gives the lock back */
		done = job_grave(s) || job_check(s) || job_seal(s, false) || job_attach(s) ||
		       job_ahead(s) || job_scrub(s);
		s->sealer_busy = false;
		pthread_cond_signal(&s->sealer_idle);
		if (!done)
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
		atomic_store(&s->sealer_break, true);
		sealer_poke(s);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->sealer, NULL);
		s->sealer_started = false;
	}
	if (sqlite3_temp_directory == s->dir)
		sqlite3_temp_directory = NULL;
}
