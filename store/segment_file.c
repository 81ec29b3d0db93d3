// SPDX-License-Identifier: Apache-2.0
/* A segment that isn't written to any more, or not yet again: sealing, checking, inspecting. */
#include "store/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macro.h"
#include "store/schema.h"

/* Opcodes between two looks at whether the store stops: some hundred microseconds. */
#define CHECK_OPS 10000

static int fail(sqlite3 *db, int rc, char *why, size_t cap)
{
	snprintf(why, cap, "%s", db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
	return rc;
}

void segment_discard(sqlite3 *db)
{
	if (!db)
		return;
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_close(db);
}

/* journal_mode answers with the mode that holds afterwards: a reader in the way makes it stay
 * "wal". */
static int leave_wal(sqlite3 *db)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, "PRAGMA journal_mode=DELETE", -1, &st, NULL);

	if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *mode = (const char *)sqlite3_column_text(st, 0);

		rc = mode && !strcmp(mode, "delete") ? SQLITE_OK : SQLITE_BUSY;
	}
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? SQLITE_BUSY : rc;
}

int segment_seal(sqlite3 *db, const char *path, gid_t gid, char *why, size_t cap)
{
	int rc = SQLITE_OK;

	if (!db)
		rc = sqlite3_open_v2(
			path, &db,
			SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(db, 0);
		rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	}
	if (rc == SQLITE_OK)
		rc = leave_wal(db);
	if (rc != SQLITE_OK)
		fail(db, rc, why, cap);
	sqlite3_close(db);
	if (rc != SQLITE_OK)
		return rc;
	/* The group of the directory reads it; without the right to give files away it stays with
	 * our own group. */
	if (lchown(path, (uid_t)-1, gid) < 0 && errno != EPERM)
		rc = SQLITE_IOERR;
	if (rc == SQLITE_OK && chmod(path, 0440) < 0)
		rc = SQLITE_IOERR;
	if (rc != SQLITE_OK)
		snprintf(why, cap, "cannot make '%s' readable for its group: %m", path);
	return rc;
}

static int check_progress(void *arg)
{
	return atomic_load((const atomic_bool *)arg);
}

int segment_check(const char *path, const atomic_bool *stop, char *why, size_t cap)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_open_v2(
		path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);

	if (rc == SQLITE_OK) {
		sqlite3_progress_handler(db, CHECK_OPS, check_progress, (void *)stop);
		rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &st, NULL);
	}
	if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(st, 0);

		rc = SQLITE_OK;
		if (!text || strcmp(text, "ok")) {
			snprintf(why, cap, "%s", text ? text : "no answer");
			rc = SQLITE_CORRUPT;
		}
	} else if (rc != SQLITE_OK) {
		fail(db, rc, why, cap);
	}
	sqlite3_finalize(st);
	sqlite3_close(db);
	return rc;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The header of the file itself (https://www.sqlite.org/fileformat.html), before SQLite may act on
 * it. */
static int read_header(const char *path, struct segment_facts *ret, char *why, size_t cap)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint8_t h[100];

	if (fd < 0) {
		snprintf(why, cap, "cannot open it: %m");
		return SQLITE_CANTOPEN;
	}
	if (pread(fd, h, sizeof(h), 0) != (ssize_t)sizeof(h) || memcmp(h, "SQLite format 3", 16)) {
		snprintf(why, cap, "its header is not that of an SQLite file");
		return SQLITE_NOTADB;
	}
	if (be32(h + 68) != SCHEMA_APPLICATION_ID) {
		snprintf(why, cap, "application_id 0x%08x is not that of a segment", be32(h + 68));
		return SQLITE_NOTADB;
	}
	ret->version = (int)be32(h + 60);
	return SQLITE_OK;
}

static int read_facts(sqlite3 *db, struct segment_facts *ret,
		      void (*table)(void *arg, const char *name, uint64_t ts_max), void *arg)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, "SELECT name, rows, ts_min, ts_max FROM segment_tables", -1,
				    &st, NULL);

	while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(st, 0);
		uint64_t rows = (uint64_t)sqlite3_column_int64(st, 1);
		uint64_t ts_min = (uint64_t)sqlite3_column_int64(st, 2);
		uint64_t ts_max = (uint64_t)sqlite3_column_int64(st, 3);

		rc = SQLITE_OK;
		if (!rows || !name)
			continue;
		ret->rows += rows;
		if (!ret->ts_min || ts_min < ret->ts_min)
			ret->ts_min = ts_min;
		if (ts_max > ret->ts_max)
			ret->ts_max = ts_max;
		table(arg, name, ts_max);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int segment_inspect(const char *path, bool sealed, struct segment_facts *ret,
		    void (*table)(void *arg, const char *name, uint64_t ts_max), void *arg,
		    char *why, size_t cap)
{
	struct segment_facts facts = {};
	sqlite3 *db = NULL;
	int rc = read_header(path, &facts, why, cap);

	if (rc != SQLITE_OK)
		return rc;
	if (facts.version > SCHEMA_VERSION) {
		*ret = facts;
		return SQLITE_OK;
	}
	rc = sqlite3_open_v2(path, &db,
			     (sealed ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) |
				     SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
			     NULL);
	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(db,
				     1000); /* a reader that recovers the WAL at the same moment */
		rc = read_facts(db, &facts, table, arg);
	}
	/* Not even its own tables: whatever it is, it's no segment that can be used. */
	if (rc == SQLITE_ERROR)
		rc = SQLITE_CORRUPT;
	if (rc == SQLITE_OK)
		*ret = facts;
	else
		fail(db, rc, why, cap);
	/* The checkpoint is left to whoever goes on with the file: a start isn't held up. */
	segment_discard(db);
	return rc;
}
