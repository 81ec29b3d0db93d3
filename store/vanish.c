// SPDX-License-Identifier: Apache-2.0
/* Files of a ring that somebody else removed or replaced while the store runs. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "store/ring.h"

#define LOOK_EVERY_NS NSEC_PER_SEC

uint64_t ring_file_id(const char *path)
{
	struct stat st;

	return lstat(path, &st) < 0 ? 0 : (uint64_t)st.st_ino;
}

/* Out of the list, the connection closed without a write; rows: what it held. */
static bool drop_entry(struct ring *r, uint64_t number, uint64_t *rows)
{
	struct store *s = r->store;
	struct ring_entry *e;
	sqlite3 *db = NULL;
	bool live = false;

	pthread_mutex_lock(&s->lock);
	e = ring_find_entry(r, number);
	if (!e) {
		pthread_mutex_unlock(&s->lock);
		return false;
	}
	*rows = e->rows;
	live = e->state == ENTRY_LIVE;
	db = e->db;
	ring_remove_entry(r, (unsigned int)(e - r->entries));
	r->stats.errors++;
	sealer_forget(r, number);
	sealer_poke(s);
	pthread_mutex_unlock(&s->lock);
	if (live && r->live && r->live->number == number)
		db = segment_release(TAKE_PTR(r->live));
	segment_discard(db);
	return true;
}

static void look_at(struct ring *r, uint64_t number, uint64_t id, const char *path)
{
	struct stat st;
	uint64_t rows;

	if (lstat(path, &st) == 0 && (uint64_t)st.st_ino == id)
		return;
	if (lstat(path, &st) == 0) {
		if (drop_entry(r, number, &rows))
			store_quarantine(r, path, "somebody put another file in its place");
	} else if (errno == ENOENT && drop_entry(r, number, &rows)) {
		segment_unlink(path); /* its -wal and -shm are nobody's now */
		store_event(r->store, "gone",
			    "segment '%s' was removed by somebody, with %" PRIu64
			    " rows; going on without it",
			    path, rows);
	}
}

void ring_check_files(struct ring *r)
{
	struct {
		uint64_t number, id;
		char path[256];
	} look[RING_ENTRIES_MAX];
	uint64_t now = clock_mono_ns();
	unsigned int n = 0;

	if (now - r->looked_ns < LOOK_EVERY_NS)
		return;
	r->looked_ns = now;
	pthread_mutex_lock(&r->store->lock);
	for (; n < r->nentries; n++) {
		look[n].number = r->entries[n].number;
		look[n].id = r->entries[n].file_id;
		snprintf(look[n].path, sizeof(look[n].path), "%s", r->entries[n].path);
	}
	pthread_mutex_unlock(&r->store->lock);
	for (unsigned int i = 0; i < n; i++)
		look_at(r, look[i].number, look[i].id, look[i].path);
}
