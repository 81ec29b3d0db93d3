// SPDX-License-Identifier: Apache-2.0
/* Indexes of a segment that is about to be sealed: "who talked to this address" without a scan. */
#include "store/segment.h"

#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/macro.h"
#include "store/schema.h"

/* Fewer rows are scanned within a millisecond; an index would take a page at least. */
#define INDEX_MIN_ROWS 1000
/* Opcodes between two looks at the clocks: some hundred microseconds. */
#define PACE_OPS 2000
/* Of the time that passes: one core's fourth, so that a segment of millions of rows is no spike of
 * seconds for the governor and for whoever shares the core. Keeps up with 100,000 rows/s. */
#define PACE_SHARE    4
#define PACE_SLEEP_NS (20 * NSEC_PER_MSEC)

struct pace {
	const atomic_bool *stop;
	uint64_t cpu_ns, mono_ns; /* at the begin */
};

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static int keep_pace(void *arg)
{
	struct pace *p = arg;

	while (!atomic_load(p->stop) &&
	       (thread_cpu_ns() - p->cpu_ns) * PACE_SHARE > clock_mono_ns() - p->mono_ns)
		nanosleep(&(struct timespec){.tv_nsec = PACE_SLEEP_NS}, NULL);
	return atomic_load(p->stop);
}

static int make(sqlite3 *db, const struct table *t, const struct segment_table *info, bool *made)
{
	struct column_set have;
	int rc = SQLITE_OK;

	if (schema_read_indexed(db, "main", t, &have, NULL) < 0)
		return sqlite3_errcode(db);
	for (unsigned int i = 1; rc == SQLITE_OK && i < t->nfields; i++) {
		const char *name = t->fields[i].name;
		char sql[512];

		/* A segment that an older version began may lack the column. */
		if (!t->fields[i].indexed || !column_set_has(&info->columns, i))
			continue;
		snprintf(sql, sizeof(sql), SCHEMA_INDEX_SQL, t->name, name, t->name, name);
		if (!column_set_has(&have, i))
			rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
		*made |= rc == SQLITE_OK;
	}
	return rc;
}

static int make_all(sqlite3 *db, const struct segment_tables *tables, bool *made)
{
	int rc = SQLITE_OK;

	for (unsigned int i = 0; rc == SQLITE_OK && i < tables->n; i++) {
		const struct table *t = tables->tables[i]->table;
		struct segment_table info = {};

		if (schema_read_table(db, "main", t, &info, NULL) < 0)
			return sqlite3_errcode(db);
		if (info.rows >= INDEX_MIN_ROWS)
			rc = make(db, t, &info, made);
	}
	if (rc == SQLITE_OK && *made)
		rc = sqlite3_exec(db, SCHEMA_STRINGS_INDEX_SQL, NULL, NULL, NULL);
	return rc;
}

static int open_segment(sqlite3 **db, const char *path)
{
	int rc = sqlite3_open_v2(
		path, db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);

	if (rc != SQLITE_OK) { /* of no use to anybody */
		sqlite3_close(*db);
		*db = NULL;
	}
	return rc;
}

int segment_index(sqlite3 **db, const char *path, const struct segment_tables *tables,
		  const atomic_bool *stop, bool *made, char *why, size_t cap)
{
	struct pace pace = {.stop = stop, .cpu_ns = thread_cpu_ns(), .mono_ns = clock_mono_ns()};
	int rc = *db ? SQLITE_OK : open_segment(db, path);

	*made = false;
	if (rc != SQLITE_OK) {
		snprintf(why, cap, "%s", sqlite3_errstr(rc));
		return rc;
	}
	sqlite3_busy_timeout(*db, 0);
	sqlite3_progress_handler(*db, PACE_OPS, keep_pace, &pace);
	/*
	 * In WAL still: readers go on meanwhile, and half an index is nothing after a crash. The
	 * sort is the one thing that would be as large as the rows are many, so it goes to a file
	 * (sealer_start() says where); a run of it is as large as the cache.
	 */
	rc = sqlite3_exec(*db,
			  "PRAGMA temp_store=FILE; PRAGMA cache_size=-4000; PRAGMA "
			  "synchronous=NORMAL; PRAGMA trusted_schema=0",
			  NULL, NULL, NULL);
	/* All rows into the file: a disk that gets full of an index must not keep them out of it. */
	if (rc == SQLITE_OK)
		rc = sqlite3_wal_checkpoint_v2(*db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = make_all(*db, tables, made);
	if (rc != SQLITE_OK)
		snprintf(why, cap, "%s", sqlite3_errmsg(*db));
	sqlite3_progress_handler(*db, 0, NULL, NULL);
	return rc;
}
