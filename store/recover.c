// SPDX-License-Identifier: Apache-2.0
/* What a start finds in the directory: segments to go on with, damaged ones to put aside,
 * leftovers. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "store/ring.h"

/* A daemon that was off for longer looks like a clock that jumped. */
#define OFF_MAX_NS (24 * 3600 * NSEC_PER_SEC)
/* Files that one start looks at; more than that many have never been made by any configuration. */
#define RECOVER_FILES_MAX 1024

/* "<seconds>-<name>": the newest sort last, and the same name may come twice. */
static void quarantine_move(const struct ring *r, const char *path)
{
	static const char *const tails[] = {"", "-wal"};
	const char *base = strrchr(path, '/') + 1;
	uint64_t seconds = clock_real_ns() / NSEC_PER_SEC;
	char from[272], to[512];

	for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
		snprintf(from, sizeof(from), "%s%s", path, tails[i]);
		snprintf(to, sizeof(to), "%s/quarantine/%" PRIu64 "-%s%s", r->store->dir, seconds,
			 base, tails[i]);
		if (rename(from, to) < 0 && errno != ENOENT)
			unlink(from); /* it must not be taken for a segment again */
	}
	segment_unlink(path);
}

static int is_database(const struct dirent *de)
{
	size_t len = strlen(de->d_name);

	return len > 3 && !strcmp(de->d_name + len - 3, ".db");
}

/* The newest two stay for whoever wants to look; returns their bytes. */
static uint64_t quarantine_prune(const char *dir)
{
	struct dirent **names = NULL;
	uint64_t bytes = 0, wal;
	char path[600];
	int n = scandir(dir, &names, is_database, alphasort);

	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		if (i < n - QUARANTINE_KEEP)
			segment_unlink(path);
		else
			bytes += segment_size(path, &wal);
		free(names[i]);
	}
	free(names);
	return bytes;
}

void store_quarantine(struct ring *r, const char *path, const char *why)
{
	struct store *s = r->store;
	char dir[256];
	uint64_t bytes;

	snprintf(dir, sizeof(dir), "%s/quarantine", s->dir);
	mkdir(dir, 0700); /* there already, or the renames below fail and the file goes */
	quarantine_move(r, path);
	bytes = quarantine_prune(dir);
	pthread_mutex_lock(&s->lock);
	s->quarantine_bytes = bytes;
	r->stats.quarantined++;
	pthread_mutex_unlock(&s->lock);
	store_event(s, "quarantined", "segment '%s' is damaged (%s): moved to %s", path, why, dir);
}

static void found_table(void *arg, const char *name, uint64_t ts_max)
{
	struct store *s = arg;

	for (unsigned int i = 0; i < s->nfound; i++) {
		if (strcmp(s->found[i].name, name))
			continue;
		if (ts_max > s->found[i].ts_max)
			s->found[i].ts_max = ts_max;
		return;
	}
	if (s->nfound == ARRAY_SIZE(s->found) || strlen(name) >= sizeof(s->found[0].name))
		return; /* no table of ours has such a name */
	snprintf(s->found[s->nfound].name, sizeof(s->found[0].name), "%s", name);
	s->found[s->nfound++].ts_max = ts_max;
}

static uint64_t last_write_ns(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return 0; /* gone: then nothing depends on it */
	return (uint64_t)st.st_mtim.tv_sec * NSEC_PER_SEC + (uint64_t)st.st_mtim.tv_nsec;
}

/* Newer than this daemon, or not to be read now: kept, and evicted in its turn. */
static void recover_skip(struct store *s, struct ring_entry *e, const char *path, int version,
			 const char *why)
{
	if (version > SCHEMA_VERSION) {
		e->state = ENTRY_FOREIGN;
		store_event(s, "newer_segment",
			    "segment '%s' was written by a newer version (%d, this one knows %d), "
			    "skipping",
			    path, version, SCHEMA_VERSION);
	} else {
		store_event(s, "unreadable", "cannot read segment '%s': %s, skipping", path, why);
	}
	/* No row of it is younger than its last write: its age counts from there, and new rows come
	 * after it. */
	e->ts_max = last_write_ns(path);
	if (e->ts_max > s->found_floor)
		s->found_floor = e->ts_max;
}

/* Not the file's fault: whoever starts the daemon can mend it, and nothing has been decided yet. */
static bool out_of_resources(int rc, int error)
{
	return rc == SQLITE_NOMEM ||
	       (rc == SQLITE_CANTOPEN && (error == EMFILE || error == ENFILE || error == ENOMEM));
}

static int recover_file(struct store *s, const struct segment_file *f, struct err *err)
{
	struct ring *r = &s->rings[f->ring];
	struct segment_facts facts = {};
	struct ring_entry *e;
	uint64_t wal = 0;
	bool sealed = f->sealed;
	char why[200] = "";
	int rc = SQLITE_OK;

	if (f->number >= r->next_number)
		r->next_number = f->number + 1;
	segment_size(f->path, &wal);
	for (int tries = 0; tries < 2;
	     tries++) { /* what passes by itself is no reason to skip it */
		errno = 0;
		rc = segment_inspect(f->path, sealed, &facts, found_table, s, why, sizeof(why));
		/* Power was lost behind chmod and before the end of the WAL was on disk. */
		if ((rc & 0xff) == SQLITE_READONLY && sealed && chmod(f->path, 0600) == 0)
			sealed = false;
		if (out_of_resources(rc, errno))
			return err_set(err, rc == SQLITE_NOMEM ? -ENOMEM : -errno,
				       "cannot read segment '%s': %s", f->path, why);
		if (rc == SQLITE_OK || rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT)
			break;
	}
	if (rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT) {
		store_quarantine(r, f->path, why);
		return 0;
	}
	if (r->nentries == RING_ENTRIES_MAX) {
		segment_unlink(r->entries[0].path);
		ring_remove_entry(r, 0);
		r->stats.evicted++;
	}
	e = &r->entries[r->nentries++];
	*e = (struct ring_entry){
		.number = f->number,
		.state = sealed ? ENTRY_SEALED : ENTRY_SEALING,
		.rows = facts.rows,
		.ts_min = facts.ts_min,
		.ts_max = facts.ts_max,
		.bytes = f->bytes,
		.file_id = ring_file_id(f->path),
		.check = !sealed && wal, /* it wasn't closed */
	};
	snprintf(e->path, sizeof(e->path), "%s", f->path);
	if (rc != SQLITE_OK || facts.version > SCHEMA_VERSION)
		recover_skip(s, e, f->path, facts.version, why);
	return 0;
}

static void recover_leftovers(struct store *s)
{
	char path[256];

	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		ring_ahead_path(&s->rings[i], path, sizeof(path));
		segment_unlink(path);
		snprintf(path, sizeof(path), "%s/%s.now", s->dir, ring_name((enum ring_id)i));
		segment_unlink(path);
	}
	snprintf(path, sizeof(path), "%s/quarantine", s->dir);
	s->quarantine_bytes = quarantine_prune(path);
}

/*
 * The clock may have jumped while nobody looked. Newest rows of tomorrow: it went back. Of days
 * ago: it went ahead, or the daemon was off for so long; then nothing is lost by waiting for an
 * hour with the judgement that they are old.
 */
static void recover_clock(struct store *s)
{
	uint64_t newest = 0, now = clock_real_ns();
	bool by_age = false;

	for (unsigned int i = 0; i < RING_X_MAX; i++)
		for (unsigned int k = 0; k < s->rings[i].nentries; k++)
			if (s->rings[i].entries[k].ts_max > newest)
				newest = s->rings[i].entries[k].ts_max;
	for (unsigned int i = 0; i < RING_X_MAX; i++)
		by_age |= s->rings[i].limits.max_age_ns != 0;
	if (newest && (newest > now || (by_age && now - newest > OFF_MAX_NS)))
		s->clock = (struct retention_clock){.real_ns = newest, .boot_ns = clock_boot_ns()};
}

int store_recover(struct store *s, struct err *err)
{
	_cleanup_free_ struct segment_file *files = calloc(RECOVER_FILES_MAX, sizeof(*files));
	int n;

	if (!files)
		return err_set(err, -ENOMEM, "out of memory");
	recover_leftovers(s);
	n = schema_list(s->dir, files, RECOVER_FILES_MAX, err);
	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		int r = recover_file(s, &files[i], err);

		if (r < 0)
			return r;
	}
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		struct ring *r = &s->rings[i];
		struct ring_entry *e = r->nentries ? &r->entries[r->nentries - 1] : NULL;

		/* The newest one, if it was never sealed: ring_start() goes on in it. */
		if (e && e->state == ENTRY_SEALING && e->number + 1 == r->next_number)
			e->state = ENTRY_LIVE;
	}
	s->attach_stale = true;
	recover_clock(s);
	return 0;
}
