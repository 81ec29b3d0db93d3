// SPDX-License-Identifier: Apache-2.0
/* Names, DDL and reading of segment files. */
#include "store/schema.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macro.h"

static const char *const ring_names[] = {
	[RING_FLOW] = "flow",
	[RING_AUDIT] = "audit",
};
static_assert(ARRAY_SIZE(ring_names) == RING_X_MAX, "a name for each ring");

/* The flow ring turns over faster: more files make its retention finer. */
static const unsigned int ring_files[] = {
	[RING_FLOW] = 7,
	[RING_AUDIT] = 3,
};
static_assert(ARRAY_SIZE(ring_files) == RING_X_MAX, "a number of files for each ring");

const char *ring_name(enum ring_id ring)
{
	return ring < RING_X_MAX ? ring_names[ring] : "?";
}

enum ring_id schema_ring(const struct table *t)
{
	return t->class == TABLE_AUDIT ? RING_AUDIT : RING_FLOW;
}

unsigned int schema_ring_files(enum ring_id ring)
{
	return ring_files[ring];
}

/* "<ring>-<digits>.db" and nothing else. */
static bool segment_parse_name(const char *name, enum ring_id *ring, uint64_t *number)
{
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		size_t len = strlen(ring_names[i]);
		const char *p = name + len;
		uint64_t n = 0;

		if (strncmp(name, ring_names[i], len) || *p++ != '-')
			continue;
		const char *digits = p;

		for (; *p >= '0' && *p <= '9'; p++)
			n = n * 10 + (uint64_t)(*p - '0');
		/* 18 digits stay below 2^63. */
		if (p - digits < 8 || p - digits > 18 || strcmp(p, ".db"))
			return false;
		*ring = (enum ring_id)i;
		*number = n;
		return true;
	}
	return false;
}

static int segment_file_fill(struct segment_file *f, const char *dir, const char *name)
{
	char wal[sizeof(f->path) + 8];
	struct stat st;

	if (snprintf(f->path, sizeof(f->path), "%s/%s", dir, name) >= (int)sizeof(f->path))
		return -ENAMETOOLONG;
	if (lstat(f->path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	f->sealed = !(st.st_mode & S_IWUSR);
	f->bytes = (uint64_t)st.st_size;
	snprintf(wal, sizeof(wal), "%s-wal", f->path);
	if (lstat(wal, &st) == 0)
		f->bytes += (uint64_t)st.st_size;
	snprintf(f->schema, sizeof(f->schema), "%s%" PRIu64, ring_name(f->ring), f->number);
	return 0;
}

static int segment_file_compare(const void *a, const void *b)
{
	const struct segment_file *x = a, *y = b;

	if (x->ring != y->ring)
		return x->ring < y->ring ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

/* Drops the oldest of the flow ring first, then of the audit ring, until cap are left; the list is
 * sorted. */
static size_t list_trim(struct segment_file *list, size_t n, unsigned int cap)
{
	size_t flow = 0, drop_flow, drop_audit;

	if (n <= cap)
		return n;
	while (flow < n && list[flow].ring == RING_FLOW)
		flow++;
	drop_flow = n - cap < flow ? n - cap : flow;
	drop_audit = n - cap - drop_flow;
	memmove(list, list + drop_flow, (n - drop_flow) * sizeof(*list));
	n -= drop_flow;
	flow -= drop_flow;
	memmove(list + flow, list + flow + drop_audit, (n - flow - drop_audit) * sizeof(*list));
	return n - drop_audit;
}

int schema_list(const char *dir, struct segment_file *ret, unsigned int cap, struct err *err)
{
	_cleanup_free_ struct segment_file *list = NULL;
	size_t n = 0, room = 0;
	struct dirent *de;
	int r = 0;
	DIR *d = opendir(dir);

	if (!d)
		return err_set(err, -errno, "cannot read the ring's directory '%s': %m", dir);
	while ((de = readdir(d))) {
		struct segment_file f = {};

		if (!segment_parse_name(de->d_name, &f.ring, &f.number))
			continue;
		if (segment_file_fill(&f, dir, de->d_name) < 0)
			continue; /* evicted meanwhile, or not ours */
		if (n == room) {
			struct segment_file *more = realloc(list, (room + 32) * sizeof(*list));

			if (!more) {
				r = err_set(err, -ENOMEM, "out of memory listing '%s'", dir);
				break;
			}
			list = more;
			room += 32;
		}
		list[n++] = f;
	}
	closedir(d);
	if (r < 0)
		return r;
	if (n)
		qsort(list, n, sizeof(*list), segment_file_compare);
	n = list_trim(list, n, cap);
	if (n)
		memcpy(ret, list, n * sizeof(*list));
	return (int)n;
}

/* Reading */

void schema_uri(struct buf *uri, const char *path)
{
	buf_puts(uri, "file:");
	for (const char *p = path; *p; p++) {
		if (*p == '?' || *p == '#' || *p == '%')
			buf_printf(uri, "%%%02x", *p);
		else
			buf_putc(uri, *p);
	}
	buf_puts(uri, "?mode=ro");
}

static int attach_errno(sqlite3 *db, int rc, const char *path)
{
	switch (rc & 0xff) {
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return -EBADMSG;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_READONLY: /* no -shm and none may be made */
		if (access(path, F_OK) < 0 && errno == ENOENT)
			return -ENOENT;
		if (sqlite3_system_errno(db) == EMFILE)
			return -EMFILE;
		return -EACCES;
	}
	return -EIO;
}

static int read_pragma(sqlite3 *db, const char *schema, const char *pragma, int64_t *ret)
{
	char sql[96];
	sqlite3_stmt *st = NULL;
	int rc;

	snprintf(sql, sizeof(sql), "PRAGMA \"%s\".%s", schema, pragma);
	rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
	if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
		*ret = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
}

static int attach_check(sqlite3 *db, const struct segment_file *file, struct err *err)
{
	int64_t id = 0, version = 0, tables = 0;
	int rc = read_pragma(db, file->schema, "schema_version", &tables);

	/* The header is read by the first statement: that's where damage and missing rights show.
	 */
	if (rc == SQLITE_OK)
		rc = read_pragma(db, file->schema, "application_id", &id);
	if (rc == SQLITE_OK)
		rc = read_pragma(db, file->schema, "user_version", &version);
	if (rc != SQLITE_OK)
		return err_set(err, attach_errno(db, rc, file->path),
			       "cannot read segment '%s': %s", file->path, sqlite3_errmsg(db));
	if (id != SCHEMA_APPLICATION_ID)
		return err_set(err, -EBADMSG,
			       "'%s' is not a segment of a ring (application_id %" PRId64 ")",
			       file->path, id);
	if (version > SCHEMA_VERSION)
		return err_set(err, -EPROTONOSUPPORT,
			       "segment '%s' was written by a newer version (%" PRId64
			       ", this one knows %d)",
			       file->path, version, SCHEMA_VERSION);
	return 0;
}

static int attach_uri(sqlite3 *db, const struct segment_file *file, const char *how,
		      struct err *err)
{
	_cleanup_buf_ struct buf uri = {};
	char sql[64];
	sqlite3_stmt *st = NULL;
	int rc, r;

	schema_uri(&uri, file->path);
	buf_puts(&uri, how);
	if (buf_status(&uri) < 0)
		return err_set(err, -ENOMEM, "out of memory attaching '%s'", file->path);
	snprintf(sql, sizeof(sql), "ATTACH ?1 AS \"%s\"", file->schema);
	rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_text(st, 1, uri.data, -1, SQLITE_STATIC);
		rc = sqlite3_step(st);
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_DONE)
		return err_set(err, attach_errno(db, rc, file->path),
			       "cannot attach segment '%s': %s", file->path, sqlite3_errmsg(db));
	r = attach_check(db, file, err);
	if (r < 0) {
		snprintf(sql, sizeof(sql), "DETACH \"%s\"", file->schema);
		sqlite3_exec(db, sql, NULL, NULL, NULL);
	}
	return r;
}

int schema_attach(sqlite3 *db, const struct segment_file *file, struct err *err)
{
	/*
	 * The -shm of a live segment read-only too, so that a reader that goes astray cannot spoil
	 * the writer's WAL index. That needs a writer, and a read mark that somebody has set:
	 * without them the reader has to set it up.
	 */
	if (!file->sealed && attach_uri(db, file, "&readonly_shm=1", NULL) == 0)
		return 0;
	return attach_uri(db, file, "", err);
}

/* Dictionary cells are those of columns without a declared type. */
static int read_columns(sqlite3 *db, const char *schema, const struct table *t,
			struct segment_table *ret)
{
	char data[128];
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, "SELECT name, type FROM pragma_table_info(?1, ?2)", -1, &st,
				    NULL);

	snprintf(data, sizeof(data), "%s_data", t->name);
	if (rc == SQLITE_OK) {
		sqlite3_bind_text(st, 1, data, -1, SQLITE_STATIC);
		sqlite3_bind_text(st, 2, schema, -1, SQLITE_STATIC);
		while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
			const char *name = (const char *)sqlite3_column_text(st, 0);
			int col = name ? table_find(t, name) : -1;

			if (col < 0 || col >= SCHEMA_MAX_COLUMNS)
				continue;
			column_set_add(&ret->columns, (unsigned int)col);
			if (!sqlite3_column_bytes(st, 1))
				column_set_add(&ret->dict, (unsigned int)col);
		}
	}
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int schema_read_table(sqlite3 *db, const char *schema, const struct table *t,
		      struct segment_table *ret, struct err *err)
{
	struct segment_table info = {};
	char sql[160];
	sqlite3_stmt *st = NULL;
	int rc;

	rc = read_columns(db, schema, t, &info);
	if (rc != SQLITE_OK)
		goto fail;
	snprintf(sql, sizeof(sql),
		 "SELECT rows, ts_min, ts_max, lost FROM \"%s\".segment_tables WHERE name = ?1",
		 schema);
	rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
	if (rc != SQLITE_OK)
		goto fail;
	sqlite3_bind_text(st, 1, t->name, -1, SQLITE_STATIC);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		info.rows = (uint64_t)sqlite3_column_int64(st, 0);
		info.ts_min = (uint64_t)sqlite3_column_int64(st, 1);
		info.ts_max = (uint64_t)sqlite3_column_int64(st, 2);
		info.lost = (uint64_t)sqlite3_column_int64(st, 3);
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		goto fail;
	*ret = info;
	return 0;
fail:
	return err_set(err, attach_errno(db, rc, ""), "cannot read table %s of segment %s: %s",
		       t->name, schema, sqlite3_errmsg(db));
}

int schema_read_indexed(sqlite3 *db, const char *schema, const struct table *t,
			struct column_set *ret, struct err *err)
{
	struct column_set set = {};
	sqlite3_stmt *st = NULL;
	char sql[160], data[128];
	int rc;

	snprintf(sql, sizeof(sql),
		 "SELECT name FROM \"%s\".sqlite_schema WHERE type = 'index' AND tbl_name = ?1",
		 schema);
	snprintf(data, sizeof(data), "%s_data", t->name);
	rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
	if (rc == SQLITE_OK)
		sqlite3_bind_text(st, 1, data, -1, SQLITE_STATIC);
	while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(st, 0);
		size_t len = strlen(t->name) + strlen("_by_");
		int col = name && strlen(name) > len ? table_find(t, name + len) : -1;

		rc = SQLITE_OK;
		if (col >= 0 && col < SCHEMA_MAX_COLUMNS)
			column_set_add(&set, (unsigned int)col);
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_DONE)
		return err_set(err, attach_errno(db, rc, ""),
			       "cannot read the indexes of segment %s: %s", schema,
			       sqlite3_errmsg(db));
	*ret = set;
	return 0;
}

static bool set_empty(const struct column_set *set)
{
	for (size_t i = 0; i < ARRAY_SIZE(set->bits); i++)
		if (set->bits[i])
			return false;
	return true;
}

static void view_arm(struct buf *sql, const struct table *t, const struct schema_arm *arm,
		     const struct column_set *wanted)
{
	bool direct = arm && !set_empty(&arm->dict);

	buf_puts(sql, "SELECT ");
	for (unsigned int i = 0; i < t->nfields; i++) {
		const char *name = t->fields[i].name, *comma = i ? ", " : "";
		bool want = i == 0 || !wanted || column_set_has(wanted, i);

		if (!arm || !want || !column_set_has(&arm->columns, i))
			buf_printf(sql, "%sNULL AS \"%s\"", comma, name);
		else if (column_set_has(&arm->dict, i))
			buf_printf(sql, "%s\"%s_text\"(d.\"%s\") AS \"%s\"", comma, arm->schema,
				   name, name);
		else /* an expression has no index */
			buf_printf(sql, "%s%sd.\"%s\" AS \"%s\"", comma,
				   column_set_has(&arm->unindexed, i) ? "+" : "", name, name);
	}
	if (arm)
		buf_printf(sql, " FROM \"%s\".\"%s%s\" AS d%s%s", arm->schema, t->name,
			   direct ? "_data" : "", arm->where ? " WHERE " : "",
			   arm->where ? arm->where : "");
	else
		buf_puts(sql, " WHERE 0");
}

void schema_view_sql(struct buf *sql, const struct table *t, const struct schema_arm *arms,
		     size_t narms, const struct column_set *wanted)
{
	unsigned int n = 0;

	buf_printf(sql, "CREATE TEMP VIEW \"%s\" AS ", t->name);
	for (size_t i = 0; i < narms; i++) {
		if (!column_set_has(&arms[i].columns, 0)) /* every history table has ts */
			continue;
		if (n++)
			buf_puts(sql, " UNION ALL ");
		view_arm(sql, t, &arms[i], wanted);
	}
	if (!n)
		view_arm(sql, t, NULL, NULL);
}

/* Writing */

bool schema_is_dict(const struct field *f)
{
	return f->type == COLUMN_IP || f->repr == REPR_ENUM || (f->dict && f->type == COLUMN_TEXT);
}

/* A dictionary cell has no affinity: an id must stay an integer and an inline "123" a text. */
static const char *column_decl(const struct field *f)
{
	if (schema_is_dict(f))
		return "";
	switch (f->type) {
	case COLUMN_DOUBLE:
		return " REAL";
	case COLUMN_TEXT:
		return " TEXT";
	case COLUMN_BYTES:
		return " BLOB";
	default:
		return " INTEGER";
	}
}

static uint64_t hash_text(uint64_t h, const char *s)
{
	/* FNV-1a with the NUL: "ab","c" differs from "a","bc". */
	do {
		h = (h ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
	} while (*s++);
	return h;
}

uint64_t schema_table_hash(const struct table *t)
{
	uint64_t h = hash_text(UINT64_C(0xcbf29ce484222325), t->name);

	for (unsigned int i = 0; i < t->nfields; i++) {
		h = hash_text(h, t->fields[i].name);
		h = hash_text(h, column_decl(&t->fields[i]));
	}
	return h;
}

void schema_segment_sql(struct buf *sql)
{
	buf_puts(sql, "CREATE TABLE segment_tables(name TEXT PRIMARY KEY, hash INTEGER NOT NULL, "
		      "rows INTEGER NOT NULL DEFAULT 0, ts_min INTEGER NOT NULL DEFAULT 0, "
		      "ts_max INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0) WITHOUT "
		      "ROWID;\n"
		      "CREATE TABLE strings(id INTEGER PRIMARY KEY, s TEXT);\n");
}

void schema_table_sql(struct buf *sql, const struct table *t)
{
	buf_printf(sql, "CREATE TABLE \"%s_data\"(\"%s\" INTEGER PRIMARY KEY", t->name,
		   t->fields[0].name);
	for (unsigned int i = 1; i < t->nfields; i++)
		buf_printf(sql, ", \"%s\"%s", t->fields[i].name, column_decl(&t->fields[i]));
	buf_printf(sql, ");\nCREATE VIEW \"%s\" AS SELECT d.\"%s\"", t->name, t->fields[0].name);
	for (unsigned int i = 1; i < t->nfields; i++) {
		const char *name = t->fields[i].name;

		if (schema_is_dict(&t->fields[i]))
			buf_printf(sql,
				   ", CASE typeof(d.\"%s\") WHEN 'integer' THEN "
				   "(SELECT k.s FROM strings AS k WHERE k.id = d.\"%s\") ELSE "
				   "d.\"%s\" END AS \"%s\"",
				   name, name, name, name);
		else
			buf_printf(sql, ", d.\"%s\"", name);
	}
	buf_printf(sql, " FROM \"%s_data\" AS d;\n", t->name);
	buf_printf(sql, "INSERT INTO segment_tables(name, hash) VALUES('%s', %" PRId64 ");\n",
		   t->name, (int64_t)schema_table_hash(t));
}
