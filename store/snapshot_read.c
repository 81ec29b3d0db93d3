// SPDX-License-Identifier: Apache-2.0
/* What a snapshot or a segment says of itself: tables, columns, how far it reaches. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/buf.h"
#include "store/query_wire.h"
#include "store/schema.h"
#include "store/snapshot.h"

/* A file that somebody made to keep us busy is given up after that many steps; an honest one takes
 * a tenth. */
#define MAX_STEPS  2000000
#define STEP_CHUNK 10000
#define MAX_TEXT   (256 << 10)

struct reader {
	sqlite3 *db;
	struct snapshot *out;
	unsigned int chunks;
	uint32_t ntables;
	bool segment;
};

static int give_up(void *arg)
{
	struct reader *r = arg;

	return ++r->chunks > MAX_STEPS / STEP_CHUNK;
}

static int damaged(struct reader *r, struct err *err)
{
	int rc = sqlite3_errcode(r->db) & 0xff;

	if (rc == SQLITE_NOMEM)
		return err_set(err, -ENOMEM, "out of memory");
	if (rc == SQLITE_CANTOPEN || rc == SQLITE_PERM || rc == SQLITE_READONLY)
		return err_set(err, -EACCES, "cannot open '%s': %s", r->out->path,
			       sqlite3_errmsg(r->db));
	return err_set(err, -EBADMSG, "'%s' is not a snapshot and not a segment of a ring (%s)",
		       r->out->path, sqlite3_errmsg(r->db));
}

static int open_db(struct reader *r, struct err *err)
{
	_cleanup_buf_ struct buf uri = {0};
	sqlite3 **db = &r->db;

	schema_uri(&uri, r->out->path);
	if (buf_status(&uri) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (sqlite3_open_v2(uri.data, db,
			    SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX,
			    NULL) != SQLITE_OK)
		return damaged(r, err);
	sqlite3_db_config(*db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(*db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_db_config(*db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	sqlite3_limit(*db, SQLITE_LIMIT_LENGTH, MAX_TEXT);
	sqlite3_limit(*db, SQLITE_LIMIT_ATTACHED, 0);
	sqlite3_progress_handler(*db, STEP_CHUNK, give_up, r);
	sqlite3_exec(*db, "PRAGMA cell_size_check=1", NULL, NULL, NULL);
	return 0;
}

/* The first cell of the first row; 0 when there is none. */
static int read_int(struct reader *r, const char *sql, int64_t *ret)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(r->db, sql, -1, &st, NULL);

	*ret = 0;
	if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
		*ret = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : -EBADMSG;
}

static int identify(struct reader *r, struct err *err)
{
	int64_t id, version;

	if (read_int(r, "PRAGMA application_id", &id) < 0 ||
	    read_int(r, "PRAGMA user_version", &version) < 0)
		return damaged(r, err);
	if (id != SNAPSHOT_APPLICATION_ID && id != SCHEMA_APPLICATION_ID)
		return err_set(
			err, -EBADMSG,
			"'%s' is not a snapshot and not a segment of a ring (application_id %lld)",
			r->out->path, (long long)id);
	r->segment = r->out->is_segment = id == SCHEMA_APPLICATION_ID;
	if (version > (r->segment ? SCHEMA_VERSION : SNAPSHOT_VERSION))
		return err_set(err, -EPROTONOSUPPORT,
			       "'%s' was written by a newer version (%lld): read it with that "
			       "one's ringside",
			       r->out->path, (long long)version);
	return 0;
}

static char *copy_text(sqlite3_stmt *st, int col)
{
	const char *text = (const char *)sqlite3_column_text(st, col);

	return strdup(text ? text : "");
}

static enum column_type parse_type(const char *text)
{
	for (int i = COLUMN_INT64; i < COLUMN_X_MAX; i++)
		if (!strcmp(column_type_name(i), text))
			return i;
	return COLUMN_TEXT;
}

/* Of a segment: what the declaration tells. A dictionary cell has none and is a text. */
static enum column_type declared_type(const char *decl, const char *column)
{
	if (!strcmp(column, "ts"))
		return COLUMN_TIME;
	if (!strcmp(decl, "INTEGER"))
		return COLUMN_INT64;
	if (!strcmp(decl, "REAL"))
		return COLUMN_DOUBLE;
	return !strcmp(decl, "BLOB") ? COLUMN_BYTES : COLUMN_TEXT;
}

/* Rows of name, type, unit. The representation is never used: these rows are read by SQL alone. */
static int take_columns(struct reader *r, struct table *t, sqlite3_stmt *st)
{
	struct field *fields = NULL;
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW && t->nfields < SCHEMA_MAX_COLUMNS) {
		struct field *more = reallocarray(fields, t->nfields + 1, sizeof(*fields)), *f;
		const char *type;

		if (!more)
			return -ENOMEM;
		t->fields = fields = more;
		f = &fields[t->nfields];
		*f = (struct field){.repr = REPR_I64,
				    .kind = KIND_TAG,
				    .sensitivity = SENSITIVITY_META,
				    .help = ""};
		f->name = copy_text(st, 0);
		type = (const char *)sqlite3_column_text(st, 1);
		f->type = r->segment ? declared_type(type ? type : "", f->name ? f->name : "")
				     : parse_type(type ? type : "");
		f->unit = copy_text(st, 2);
		t->nfields++;
		if (!f->name || !f->unit)
			return -ENOMEM;
	}
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : -EBADMSG;
}

static int add_table(struct reader *r, const char *name, const char *sql, const char *arg,
		     struct err *err)
{
	const struct table **list = reallocarray(r->out->tables, r->ntables + 2, sizeof(*list));
	sqlite3_stmt *st = NULL;
	struct table *t;
	int x;

	if (!list)
		return err_set(err, -ENOMEM, "out of memory");
	r->out->tables = list;
	t = calloc(1, sizeof(*t));
	list[r->ntables] = t;
	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	list[++r->ntables] = NULL;
	/* A live table is as stored as the others here. */
	*t = (struct table){.name = strdup(name), .summary = "", .class = TABLE_FLOW};
	if (!t->name)
		return err_set(err, -ENOMEM, "out of memory");
	if (sqlite3_prepare_v2(r->db, sql, -1, &st, NULL) != SQLITE_OK)
		return damaged(r, err);
	sqlite3_bind_text(st, 1, arg, -1, SQLITE_STATIC);
	x = take_columns(r, t, st);
	if (x < 0)
		x = x == -ENOMEM ? err_set(err, x, "out of memory") : damaged(r, err);
	sqlite3_finalize(st);
	return x;
}

static int add_listed(struct reader *r, const char *name, struct err *err)
{
	char data[80];

	if (!r->segment)
		return add_table(r, name,
				 "SELECT name, type, unit FROM " SNAPSHOT_COLUMNS
				 " WHERE table_name = ?1 ORDER BY position",
				 name, err);
	snprintf(data, sizeof(data), "%s_data", name);
	return add_table(r, name,
			 "SELECT name, type, iif(name = 'ts', 'ns', '') FROM pragma_table_info(?1) "
			 "ORDER BY cid",
			 data, err);
}

static int list_tables(struct reader *r, struct err *err)
{
	const char *sql = r->segment ? "SELECT name FROM segment_tables"
				     : "SELECT name FROM " SNAPSHOT_TABLES;
	sqlite3_stmt *st = NULL;
	int rc, x = 0;

	if (sqlite3_prepare_v2(r->db, sql, -1, &st, NULL) != SQLITE_OK)
		return damaged(r, err);
	while (x == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(st, 0);

		if (!name || strlen(name) > 63 || r->ntables + 3 >= QUERY_MAX_TABLES)
			x = err_set(err, -EBADMSG, "'%s' lists tables that no ring has",
				    r->out->path);
		else
			x = add_listed(r, name, err);
	}
	if (x == 0 && rc != SQLITE_DONE)
		x = damaged(r, err);
	sqlite3_finalize(st);
	return x;
}

/* Its own tables can be asked like the others. */
static int add_own(struct reader *r, struct err *err)
{
	static const char sql[] =
		"SELECT name, CASE type WHEN 'TEXT' THEN 'TEXT' ELSE 'INT64' END, '' "
		"FROM pragma_table_info(?1) ORDER BY cid";
	static const char *const own[] = {SNAPSHOT_INFO, SNAPSHOT_TABLES, SNAPSHOT_COLUMNS};
	int x = 0;

	for (size_t i = 0; !r->segment && x == 0 && i < ARRAY_SIZE(own); i++)
		x = add_table(r, own[i], sql, own[i], err);
	return x;
}

static int read_end(struct reader *r, struct err *err)
{
	int64_t end;

	if (read_int(r,
		     r->segment ? "SELECT max(ts_max) FROM segment_tables"
				: "SELECT value FROM " SNAPSHOT_INFO " WHERE key = 'until'",
		     &end) < 0)
		return damaged(r, err);
	r->out->end_ns = end > 0 ? (uint64_t)end : 0;
	return 0;
}

int snapshot_open(struct snapshot **ret, const char *path, struct err *err)
{
	_cleanup_(snapshot_closep) struct snapshot *s = calloc(1, sizeof(*s));
	struct reader r = {.out = s};
	int x;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->path = realpath(path, NULL);
	if (!s->path)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	s->tables = calloc(1, sizeof(*s->tables));
	if (!s->tables)
		return err_set(err, -ENOMEM, "out of memory");
	x = open_db(&r, err);
	if (x == 0)
		x = identify(&r, err);
	if (x == 0)
		x = list_tables(&r, err);
	if (x == 0)
		x = add_own(&r, err);
	if (x == 0)
		x = read_end(&r, err);
	sqlite3_close(r.db);
	if (x == 0)
		*ret = TAKE_PTR(s);
	return x;
}

void snapshot_close(struct snapshot *s)
{
	if (!s)
		return;
	for (size_t i = 0; s->tables && s->tables[i]; i++) {
		const struct table *t = s->tables[i];

		for (uint32_t k = 0; k < t->nfields; k++) {
			free((char *)t->fields[k].name);
			free((char *)t->fields[k].unit);
		}
		free((struct field *)t->fields);
		free((char *)t->name);
		free((struct table *)t);
	}
	free(s->tables);
	free(s->path);
	free(s);
}
