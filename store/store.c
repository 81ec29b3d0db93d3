// SPDX-License-Identifier: Apache-2.0
/* The store: queues in front of one writer thread, and what others may ask of it. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/thread.h"
#include "store/ring.h"

/* Making */

static int check_limits(enum ring_id ring, const struct ring_limits *limits, struct err *err)
{
	uint64_t least = (uint64_t)schema_ring_files(ring) * RETENTION_SEGMENT_MIN;

	if (limits->max_bytes < least)
		return err_set(err, -EINVAL,
			       "max_bytes %llu of the %s ring is too small: at least %llu",
			       (unsigned long long)limits->max_bytes, ring_name(ring),
			       (unsigned long long)least);
	return 0;
}

/* The group that may read the state directory may read the ring in it. */
static int make_dir(const char *dir, struct err *err)
{
	char parent[PATH_MAX];
	struct stat st;
	char *slash;

	if (mkdir(dir, 0750) < 0) {
		if (errno == EEXIST)
			return 0;
		return err_set(err, -errno, "cannot make the ring's directory '%s': %m", dir);
	}
	snprintf(parent, sizeof(parent), "%s/..", dir);
	slash = realpath(parent, NULL);
	if (slash && stat(slash, &st) == 0 && lchown(dir, (uid_t)-1, st.st_gid) < 0 &&
	    errno != EPERM) {
		free(slash);
		return err_set(err, -errno, "cannot give '%s' to its parent's group: %m", dir);
	}
	free(slash);
	return 0;
}

static int open_dir(struct store *s, const char *dir, struct err *err)
{
	char path[PATH_MAX], lock[256];
	struct stat st;
	int r = make_dir(dir, err);

	if (r < 0)
		return r;
	/* SQLite refuses symbolic links in the names it opens: they are resolved once, here. */
	if (!realpath(dir, path) || stat(path, &st) < 0)
		return err_set(err, -errno, "cannot use the ring's directory '%s': %m", dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, -ENOTDIR, "'%s' is not a directory", dir);
	if (strlen(path) >= sizeof(s->dir))
		return err_set(err, -ENAMETOOLONG,
			       "the ring's directory '%s' is too long: at most %zu bytes", path,
			       sizeof(s->dir) - 1);
	memcpy(s->dir, path, strlen(path) + 1);
	s->gid = st.st_gid;
	snprintf(lock, sizeof(lock), "%s/lock", s->dir);
	s->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return err_set(err, -errno, "cannot open '%s': %m", lock);
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY, "the ring in '%s' is in use by another ringsided",
			       s->dir);
	return 0;
}

static int init_rings(struct store *s, const struct store_options *options, struct err *err)
{
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		struct ring *r = &s->rings[i];
		int rc = check_limits((enum ring_id)i, &options->limits[i], err);

		if (rc < 0)
			return rc;
		r->limits = options->limits[i];
		r->next_number = 1;
		r->tables.tables = r->table_list;
		rc = queue_new(&r->queue, options->queue_batches);
		if (rc < 0)
			return err_set(err, rc, "cannot make a queue of %u batches",
				       options->queue_batches);
	}
	return 0;
}

int store_new(struct store **ret, const struct store_options *options, struct err *err)
{
	_cleanup_(store_freep) struct store *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->options = *options;
	s->lock_fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_cond_init(&s->flushed, &attr);
	pthread_cond_init(&s->sealer_wake, &attr);
	pthread_cond_init(&s->sealer_idle, &attr);
	pthread_condattr_destroy(&attr);
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		s->rings[i].store = s;
		s->rings[i].id = (enum ring_id)i;
		pthread_mutex_init(&s->rings[i].push_lock, NULL);
	}
	r = init_rings(s, options, err);
	if (r == 0)
		r = open_dir(s, options->dir, err);
	if (r == 0)
		r = store_recover(s, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

static bool name_taken(const struct store *s, const char *name)
{
	size_t len = strlen(name);

	if (!strcmp(name, "strings") || !strcmp(name, "segment_tables") ||
	    !strncmp(name, "sqlite_", 7) || !strncmp(name, "ringside_", 9))
		return true;
	if (len > 5 && !strcmp(name + len - 5, "_data"))
		return true;
	for (unsigned int i = 0; i < s->ntables; i++)
		if (!strcmp(s->tables[i]->table->name, name))
			return true;
	return false;
}

int store_add_table(struct store *s, const struct table *table, struct err *err)
{
	struct store_table *t;
	struct ring *ring;
	int r;

	if (s->started)
		return err_set(err, -EBUSY, "table %s: the store runs already", table->name);
	if (!table_is_history(table))
		return err_set(err, -EINVAL, "table %s is live: it has no history to store",
			       table->name);
	if (s->ntables == STORE_TABLES_MAX)
		return err_set(err, -ENOBUFS, "table %s: the store takes %d tables", table->name,
			       STORE_TABLES_MAX);
	if (name_taken(s, table->name))
		return err_set(
			err, -EEXIST,
			"table %s: the name is taken, or is one that segments use themselves",
			table->name);
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	t->table = table;
	t->ring = schema_ring(table);
	r = rows_plan_new(&t->plan, table, err);
	if (r < 0) {
		free(t);
		return r;
	}
	for (unsigned int i = 0; i < s->nfound; i++)
		if (!strcmp(s->found[i].name, table->name))
			atomic_store(&t->last_ts, s->found[i].ts_max);
	if (atomic_load(&t->last_ts) < s->found_floor)
		atomic_store(&t->last_ts, s->found_floor);
	ring = &s->rings[t->ring];
	ring->table_list[ring->tables.n++] = t;
	s->tables[s->ntables++] = t;
	return 0;
}

/* Running */

int store_start(struct store *s, struct err *err)
{
	int r;

	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		r = ring_start(&s->rings[i], err);
		if (r < 0)
			return r;
	}
	r = sealer_start(s);
	if (r < 0)
		return err_set(err, r, "cannot start the sealer's thread: %s", strerror(-r));
	r = thread_start(&s->thread, "store", store_run, s);
	if (r < 0)
		return err_set(err, r, "cannot start the store's thread: %s", strerror(-r));
	s->started = true;
	return 0;
}

void store_stop(struct store *s, uint64_t drain_ns)
{
	for (unsigned int i = 0; i < RING_X_MAX; i++)
		if (s->rings[i].queue)
			queue_close(s->rings[i].queue);
	if (s->started) {
		pthread_mutex_lock(&s->lock);
		s->stop_deadline_ns = clock_mono_ns() + drain_ns;
		atomic_store(&s->stopping, true);
		pthread_cond_signal(&s->wake);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
		s->started = false;
	}
	sealer_finish(s);
}

void store_free(struct store *s)
{
	if (!s)
		return;
	store_stop(s, 0);
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		struct ring *r = &s->rings[i];

		segment_close(r->live); /* started, but never ran */
		for (unsigned int k = 0; k < r->nentries; k++)
			segment_discard(r->entries[k].db);
		dict_free(&r->dict);
		queue_free(r->queue);
		pthread_mutex_destroy(&r->push_lock);
	}
	for (unsigned int i = 0; i < s->ntables; i++) {
		rows_source_free(&s->tables[i]->src);
		rows_plan_free(s->tables[i]->plan);
		free(s->tables[i]);
	}
	closep(&s->lock_fd);
	pthread_cond_destroy(&s->wake);
	pthread_cond_destroy(&s->flushed);
	pthread_cond_destroy(&s->sealer_wake);
	pthread_cond_destroy(&s->sealer_idle);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Asked by others */

static struct store_table *find_table(struct store *s, const struct table *table)
{
	for (unsigned int i = 0; i < s->ntables; i++)
		if (s->tables[i]->table == table)
			return s->tables[i];
	return NULL;
}

static void wake_writer(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->work = true;
	if (s->waiting)
		pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

int store_push(struct store *s, struct batch *batch)
{
	struct store_table *t = find_table(s, batch->table);
	struct ring *r;
	int rc;

	if (!t)
		return -ENOENT;
	if (!batch->nrows)
		return 0;
	r = &s->rings[t->ring];
	batch_ref(batch);
	pthread_mutex_lock(&r->push_lock);
	rc = queue_push(r->queue, batch);
	if (rc == 0)
		r->pushed++;
	pthread_mutex_unlock(&r->push_lock);
	if (rc == 0) {
		wake_writer(s);
		return 0;
	}
	batch_unref(batch);
	atomic_fetch_add(&t->lost, batch->nrows);
	atomic_fetch_add(&t->all_refused, batch->nrows);
	pthread_mutex_lock(&s->lock);
	r->stats.rows_refused += batch->nrows;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static bool all_done(const struct store *s, const uint64_t *target)
{
	for (unsigned int i = 0; i < RING_X_MAX; i++)
		if (s->rings[i].done < target[i])
			return false;
	return true;
}

int store_flush(struct store *s, uint64_t timeout_ns)
{
	uint64_t target[RING_X_MAX], told[RING_X_MAX], end = clock_mono_ns() + timeout_ns;
	struct timespec until = {.tv_sec = (time_t)(end / NSEC_PER_SEC),
				 .tv_nsec = (long)(end % NSEC_PER_SEC)};
	int r = 0;

	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		pthread_mutex_lock(&s->rings[i].push_lock);
		target[i] = s->rings[i].pushed;
		pthread_mutex_unlock(&s->rings[i].push_lock);
	}
	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < RING_X_MAX; i++)
		told[i] = s->rings[i].lost_told;
	s->flushers++;
	s->work = true;
	pthread_cond_signal(&s->wake);
	while (!all_done(s, target) && r == 0)
		r = -pthread_cond_timedwait(&s->flushed, &s->lock, &until);
	s->flushers--;
	if (all_done(s, target))
		r = 0;
	/* A batch may have been given up before this began: who asks next is told. */
	for (unsigned int i = 0; r == 0 && i < RING_X_MAX; i++)
		if (s->rings[i].lost_upto > told[i])
			r = -EIO;
	for (unsigned int i = 0; r != -ETIMEDOUT && i < RING_X_MAX; i++)
		s->rings[i].lost_told = s->rings[i].lost_upto;
	pthread_mutex_unlock(&s->lock);
	return r;
}

uint64_t store_last_ts(struct store *s, const struct table *table)
{
	struct store_table *t = find_table(s, table);

	return t ? atomic_load(&t->last_ts) : 0;
}

void store_table_stats(struct store *s, const struct table *table, struct store_table_stats *ret)
{
	struct store_table *t = find_table(s, table);

	*ret = (struct store_table_stats){0};
	if (!t)
		return;
	ret->stored = atomic_load(&t->all_stored);
	ret->refused = atomic_load(&t->all_refused);
	ret->given_up = atomic_load(&t->all_given_up);
	ret->bytes = atomic_load(&t->all_bytes);
}

int store_set_limits(struct store *s, enum ring_id ring, const struct ring_limits *limits)
{
	int r = check_limits(ring, limits, NULL);

	if (r < 0)
		return r;
	pthread_mutex_lock(&s->lock);
	s->rings[ring].limits = *limits;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

void store_get_stats(struct store *s, enum ring_id ring, struct store_stats *ret)
{
	struct ring *r = &s->rings[ring];

	pthread_mutex_lock(&s->lock);
	*ret = r->stats;
	ret->bytes = ring_bytes(r);
	ret->segments = r->nentries;
	pthread_mutex_unlock(&s->lock);
	ret->queue_len = (uint32_t)queue_len(r->queue);
	ret->queue_cap = (uint32_t)queue_cap(r->queue);
}

unsigned int store_segments(struct store *s, struct segment_info *ret, unsigned int cap)
{
	unsigned int n = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		const struct ring *r = &s->rings[i];

		for (unsigned int k = 0; k < r->nentries; k++, n++) {
			const struct ring_entry *e = &r->entries[k];

			if (n >= cap)
				continue;
			ret[n] = (struct segment_info){
				.ring = r->id,
				.number = e->number,
				.live = e->state == ENTRY_LIVE,
				.ts_min = e->ts_min,
				.ts_max = e->ts_max,
				.rows = e->rows,
				.bytes = e->bytes,
			};
			snprintf(ret[n].path, sizeof(ret[n].path), "%s", e->path);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

const char *store_dir(const struct store *s)
{
	return s->dir;
}
