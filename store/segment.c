// SPDX-License-Identifier: Apache-2.0
/* The live segment: opening, writing, letting go. */
#include "store/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/macro.h"
#include "store/schema.h"

/* A lock held longer is a reader that wants to stop the writer: the ring goes on in a new file. */
#define BUSY_TIMEOUT_MS 2000
/* Between checkpoints, in pages: the WAL stays near 4 MiB; more only makes the stalls longer. */
#define CHECKPOINT_PAGES_MAX 1000u
#define CHECKPOINT_PAGES_MIN 16u
#define PAGE_SIZE	     4096u

#define OPEN_FLAGS	     (SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW)

static int fail(sqlite3 *db, int rc, char *why, size_t cap)
{
	snprintf(why, cap, "%s", db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
	return rc;
}

uint64_t segment_size(const char *path, uint64_t *wal_bytes)
{
	char wal[264];
	struct stat st;
	uint64_t bytes = 0;

	if (stat(path, &st) == 0)
		bytes = (uint64_t)st.st_size;
	snprintf(wal, sizeof(wal), "%s-wal", path);
	*wal_bytes = stat(wal, &st) == 0 ? (uint64_t)st.st_size : 0;
	return bytes + *wal_bytes;
}

void segment_unlink(const char *path)
{
	static const char *const tails[] = {"", "-wal", "-shm", "-journal"};

	for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
		char name[272];

		snprintf(name, sizeof(name), "%s%s", path, tails[i]);
		unlink(name); /* most of them don't exist */
	}
}

/* SQLite would make the file 0644; its -wal and -shm follow the file's mode. */
static int make_private(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return errno == ENOSPC || errno == EDQUOT ? SQLITE_FULL : SQLITE_CANTOPEN;
	close(fd);
	return SQLITE_OK;
}

static int create_schema(sqlite3 *db, const struct segment_tables *tables)
{
	_cleanup_buf_ struct buf sql = {};

	buf_printf(&sql,
		   "PRAGMA page_size=%u; PRAGMA auto_vacuum=0; PRAGMA journal_mode=WAL; PRAGMA "
		   "synchronous=NORMAL; "
		   "BEGIN; PRAGMA application_id=%d; PRAGMA user_version=%d;\n",
		   PAGE_SIZE, SCHEMA_APPLICATION_ID, SCHEMA_VERSION);
	schema_segment_sql(&sql);
	for (unsigned int i = 0; i < tables->n; i++)
		schema_table_sql(&sql, tables->tables[i]->table);
	buf_puts(&sql, "COMMIT;");
	if (buf_status(&sql) < 0)
		return SQLITE_NOMEM;
	return sqlite3_exec(db, sql.data, NULL, NULL, NULL);
}

int segment_create(const char *path, const struct segment_tables *tables, char *why, size_t cap)
{
	sqlite3 *db = NULL;
	int rc;

	segment_unlink(path);
	rc = make_private(path);
	if (rc != SQLITE_OK) {
		snprintf(why, cap, "cannot create '%s': %m", path);
		return rc;
	}
	rc = sqlite3_open_v2(path, &db, OPEN_FLAGS, NULL);
	if (rc == SQLITE_OK)
		rc = create_schema(db, tables);
	if (rc == SQLITE_OK) /* into the file itself: closing alone would not say that it failed */
		rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	if (rc != SQLITE_OK)
		fail(db, rc, why, cap);
	sqlite3_close(db);
	if (rc != SQLITE_OK)
		segment_unlink(path);
	return rc;
}

static int prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret)
{
	return sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
}

static int prepare_all(struct segment *seg)
{
	sqlite3 *db = seg->db;
	int rc = rows_register_strings(db, seg->dict);
	char sql[256];

	if (rc == SQLITE_OK)
		rc = prepare(db, "BEGIN IMMEDIATE", &seg->begin);
	if (rc == SQLITE_OK)
		rc = prepare(db, "COMMIT", &seg->commit);
	if (rc == SQLITE_OK)
		rc = prepare(db, "ROLLBACK", &seg->rollback);
	if (rc == SQLITE_OK)
		rc = prepare(db, "PRAGMA page_count", &seg->pages);
	if (rc == SQLITE_OK)
		rc = prepare(db, "INSERT OR FAIL INTO strings SELECT id, s FROM " ROWS_STRINGS,
			     &seg->strings);
	if (rc == SQLITE_OK)
		rc = prepare(db,
			     "UPDATE segment_tables SET rows = ?2, ts_min = ?3, ts_max = ?4, lost "
			     "= ?5 WHERE name = ?1",
			     &seg->update);
	for (unsigned int i = 0; rc == SQLITE_OK && i < seg->nslots; i++) {
		struct segment_slot *slot = &seg->slots[i];
		const char *name = slot->table->table->name;

		rc = rows_register(db, &slot->table->src);
		/* OR FAIL: no statement journal; on any error the whole transaction is rolled back
		 * here. */
		snprintf(sql, sizeof(sql),
			 "INSERT OR FAIL INTO \"%s_data\" SELECT * FROM " ROWS_PREFIX "%s", name,
			 name);
		if (rc == SQLITE_OK)
			rc = prepare(db, sql, &slot->insert);
	}
	return rc;
}

static struct segment_slot *find_slot(struct segment *seg, const char *name)
{
	for (unsigned int i = 0; i < seg->nslots; i++)
		if (!strcmp(seg->slots[i].table->table->name, name))
			return &seg->slots[i];
	return NULL;
}

/* Counters of every table; SQLITE_SCHEMA if one of ours isn't there as it is now. */
static int load_tables(struct segment *seg)
{
	sqlite3_stmt *st = NULL;
	unsigned int found = 0;
	int rc = sqlite3_prepare_v2(
		seg->db, "SELECT name, hash, rows, ts_min, ts_max, lost FROM segment_tables", -1,
		&st, NULL);

	while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(st, 0);
		struct segment_slot *slot = name ? find_slot(seg, name) : NULL;
		uint64_t rows = (uint64_t)sqlite3_column_int64(st, 2);
		uint64_t ts_min = (uint64_t)sqlite3_column_int64(st, 3);
		uint64_t ts_max = (uint64_t)sqlite3_column_int64(st, 4);

		rc = SQLITE_OK;
		seg->rows += rows;
		if (rows && (!seg->ts_min || ts_min < seg->ts_min))
			seg->ts_min = ts_min;
		if (ts_max > seg->ts_max)
			seg->ts_max = ts_max;
		if (!slot ||
		    (uint64_t)sqlite3_column_int64(st, 1) != schema_table_hash(slot->table->table))
			continue;
		slot->rows = rows;
		slot->ts_min = ts_min;
		slot->ts_max = ts_max;
		slot->lost = (uint64_t)sqlite3_column_int64(st, 5);
		found++;
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_DONE)
		return rc;
	return found == seg->nslots ? SQLITE_OK : SQLITE_SCHEMA;
}

static int load_strings(struct segment *seg)
{
	sqlite3_stmt *st = NULL;
	int rc =
		sqlite3_prepare_v2(seg->db, "SELECT id, s FROM strings ORDER BY id", -1, &st, NULL);

	while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		sqlite3_int64 id = sqlite3_column_int64(st, 0);
		const char *s = (const char *)sqlite3_column_text(st, 1);
		int len = sqlite3_column_bytes(st, 1);

		rc = SQLITE_OK;
		if (id < 1 || id > UINT32_MAX || !s)
			rc = SQLITE_CORRUPT;
		else if (dict_load(seg->dict, (uint32_t)id, s, (uint32_t)len) < 0)
			rc = SQLITE_SCHEMA; /* made with other bounds: for reading only */
	}
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int set_pragmas(sqlite3 *db, uint64_t budget)
{
	uint64_t pages = budget / 8 / PAGE_SIZE;
	char sql[512];

	if (pages > CHECKPOINT_PAGES_MAX)
		pages = CHECKPOINT_PAGES_MAX;
	if (pages < CHECKPOINT_PAGES_MIN)
		pages = CHECKPOINT_PAGES_MIN;
	sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
	snprintf(sql, sizeof(sql),
		 "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA "
		 "wal_autocheckpoint=%" PRIu64 "; "
		 "PRAGMA journal_size_limit=%" PRIu64
		 "; PRAGMA cache_size=-4000; PRAGMA mmap_size=0; "
		 "PRAGMA temp_store=MEMORY; PRAGMA secure_delete=0; PRAGMA foreign_keys=0; PRAGMA "
		 "trusted_schema=0;",
		 pages, pages * PAGE_SIZE * 4);
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

int segment_open(struct segment **ret, const char *path, uint64_t number,
		 const struct segment_tables *tables, struct dict *dict, uint64_t budget, char *why,
		 size_t cap)
{
	struct segment *seg = calloc(1, sizeof(*seg) + tables->n * sizeof(seg->slots[0]));
	int rc;

	if (!seg)
		return fail(NULL, SQLITE_NOMEM, why, cap);
	snprintf(seg->path, sizeof(seg->path), "%s", path);
	seg->number = number;
	seg->dict = dict;
	seg->nslots = tables->n;
	for (unsigned int i = 0; i < tables->n; i++)
		seg->slots[i].table = tables->tables[i];
	dict_reset(dict);
	rc = sqlite3_open_v2(path, &seg->db, OPEN_FLAGS, NULL);
	if (rc == SQLITE_OK)
		rc = set_pragmas(seg->db, budget);
	if (rc == SQLITE_OK)
		rc = load_tables(seg);
	if (rc == SQLITE_OK)
		rc = load_strings(seg);
	if (rc == SQLITE_OK)
		rc = prepare_all(seg);
	if (rc != SQLITE_OK) {
		fail(rc == SQLITE_SCHEMA ? NULL : seg->db, rc, why, cap);
		segment_close(seg);
		return rc;
	}
	seg->bytes = segment_size(path, &seg->wal_bytes);
	*ret = seg;
	return SQLITE_OK;
}

static int run(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st), r2 = sqlite3_reset(st);

	if (rc == SQLITE_DONE || rc == SQLITE_ROW)
		return r2;
	return r2 != SQLITE_OK ? r2 : rc;
}

/* Of the file as the transaction leaves it; 0: not known, and nothing grows by it. */
static uint64_t file_pages(struct segment *seg)
{
	uint64_t n = 0;

	if (sqlite3_step(seg->pages) == SQLITE_ROW)
		n = (uint64_t)sqlite3_column_int64(seg->pages, 0);
	sqlite3_reset(seg->pages);
	return n;
}

/* A text of the dictionary takes its bytes and some for its id and its place in the page. */
#define DICT_ENTRY 8

static uint64_t dict_size(const struct dict *d)
{
	return d->nbytes + (uint64_t)d->nkeys * DICT_ENTRY;
}

/* *pages: of the file before; moved on. */
static int write_batch(struct segment *seg, struct batch *b, uint64_t *pages)
{
	uint64_t known = dict_size(seg->dict), now;

	for (unsigned int i = 0; i < seg->nslots; i++) {
		struct segment_slot *slot = &seg->slots[i];
		int rc;

		if (slot->table->table != b->table)
			continue;
		slot->table->src.batch = b;
		rc = run(slot->insert);
		slot->table->src.batch = NULL;
		slot->new_rows += b->nrows;
		now = file_pages(seg);
		slot->new_bytes += dict_size(seg->dict) - known;
		if (*pages && now > *pages)
			slot->new_bytes += (now - *pages) * PAGE_SIZE;
		if (now)
			*pages = now;
		return rc;
	}
	return SQLITE_MISUSE; /* store_push() takes registered tables only */
}

static int write_counters(struct segment *seg)
{
	int rc = SQLITE_OK;

	for (unsigned int i = 0; rc == SQLITE_OK && i < seg->nslots; i++) {
		struct segment_slot *slot = &seg->slots[i];
		const struct rows_source *src = &slot->table->src;

		if (!slot->new_rows && !slot->new_lost)
			continue;
		sqlite3_bind_text(seg->update, 1, slot->table->table->name, -1, SQLITE_STATIC);
		sqlite3_bind_int64(seg->update, 2, (int64_t)(slot->rows + slot->new_rows));
		sqlite3_bind_int64(seg->update, 3,
				   (int64_t)(slot->rows ? slot->ts_min : src->first_ts));
		sqlite3_bind_int64(seg->update, 4,
				   (int64_t)(slot->new_rows ? src->last_ts : slot->ts_max));
		sqlite3_bind_int64(seg->update, 5, (int64_t)(slot->lost + slot->new_lost));
		rc = run(seg->update);
	}
	return rc;
}

static void write_done(struct segment *seg)
{
	seg->dict->saved = seg->dict->nkeys;
	for (unsigned int i = 0; i < seg->nslots; i++) {
		struct segment_slot *slot = &seg->slots[i];
		const struct rows_source *src = &slot->table->src;

		slot->lost += slot->new_lost;
		if (!slot->new_rows)
			continue;
		if (!slot->rows)
			slot->ts_min = src->first_ts;
		slot->rows += slot->new_rows;
		slot->ts_max = src->last_ts;
		seg->rows += slot->new_rows;
		atomic_fetch_add(&slot->table->all_stored, slot->new_rows);
		atomic_fetch_add(&slot->table->all_bytes, slot->new_bytes);
		if (!seg->ts_min || slot->ts_min < seg->ts_min)
			seg->ts_min = slot->ts_min;
		if (slot->ts_max > seg->ts_max)
			seg->ts_max = slot->ts_max;
		atomic_store(&slot->table->last_ts, src->last_ts);
	}
	seg->bytes = segment_size(seg->path, &seg->wal_bytes);
}

int segment_write(struct segment *seg, struct batch *const *batches, size_t n, char *why,
		  size_t cap)
{
	uint64_t pages;
	int rc;

	for (unsigned int i = 0; i < seg->nslots; i++) {
		struct segment_slot *slot = &seg->slots[i];

		slot->bumped = slot->table->src.bumped;
		slot->new_rows = slot->new_bytes = 0;
		slot->new_lost = atomic_exchange(&slot->table->lost, 0);
		slot->table->src.first_ts = 0;
	}
	rc = run(seg->begin);
	pages = rc == SQLITE_OK ? file_pages(seg) : 0;
	for (size_t i = 0; rc == SQLITE_OK && i < n; i++)
		rc = write_batch(seg, batches[i], &pages);
	if (rc == SQLITE_OK && seg->dict->saved < seg->dict->nkeys)
		rc = run(seg->strings);
	if (rc == SQLITE_OK)
		rc = write_counters(seg);
	if (rc == SQLITE_OK)
		rc = run(seg->commit);
	if (rc == SQLITE_OK) {
		write_done(seg);
		return SQLITE_OK;
	}
	fail(seg->db, rc, why, cap);
	if (!sqlite3_get_autocommit(seg->db))
		run(seg->rollback); /* can't fail in a way that leaves the transaction open */
	for (unsigned int i = 0; i < seg->nslots; i++) {
		struct store_table *t = seg->slots[i].table;

		t->src.last_ts = atomic_load(&t->last_ts);
		t->src.bumped = seg->slots[i].bumped;
		atomic_fetch_add(&t->lost, seg->slots[i].new_lost);
	}
	return rc;
}

bool segment_has_loss(const struct segment *seg)
{
	for (unsigned int i = 0; i < seg->nslots; i++)
		if (atomic_load(&seg->slots[i].table->lost))
			return true;
	return false;
}

sqlite3 *segment_release(struct segment *seg)
{
	sqlite3 *db = seg->db;

	sqlite3_finalize(seg->begin);
	sqlite3_finalize(seg->commit);
	sqlite3_finalize(seg->rollback);
	sqlite3_finalize(seg->strings);
	sqlite3_finalize(seg->pages);
	sqlite3_finalize(seg->update);
	for (unsigned int i = 0; i < seg->nslots; i++)
		sqlite3_finalize(seg->slots[i].insert);
	if (db)
		sqlite3_drop_modules(
			db, NULL); /* they point into the ring, the connection may outlive them */
	free(seg);
	return db;
}

void segment_close(struct segment *seg)
{
	if (seg)
		sqlite3_close(segment_release(seg));
}
