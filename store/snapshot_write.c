// SPDX-License-Identifier: Apache-2.0
/* Writing a snapshot: one transaction, without a journal, of bounded memory. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/buf.h"
#include "store/snapshot.h"

struct snapshot_writer {
	sqlite3 *db;
	char *path;
	sqlite3_stmt *insert, *info, *end, *column;
	char *table, *summary; /* of the one begun last */
	enum table_class class;
	uint32_t nfields;
	bool history, has_loss;
	uint64_t rows, total, ts_min, ts_max;
};

/*
 * No journal: the file is nobody's before it is whole, and is thrown away if it doesn't get there.
 * 4 MiB of pages, the rest goes to the file as it comes.
 */
static const char setup_sql[] =
	"PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA "
	"locking_mode=EXCLUSIVE;"
	"PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4000; PRAGMA trusted_schema=0;";

static const char form_sql[] =
	"CREATE TABLE " SNAPSHOT_INFO "(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
	"CREATE TABLE " SNAPSHOT_TABLES
	"(name TEXT PRIMARY KEY, class TEXT, summary TEXT, rows INTEGER, ts_min INTEGER,"
	" ts_max INTEGER, since INTEGER, ring_since INTEGER, rows_lost INTEGER, ring_rows_lost "
	"INTEGER, missing TEXT)"
	" WITHOUT ROWID;"
	"CREATE TABLE " SNAPSHOT_COLUMNS
	"(table_name TEXT, position INTEGER, name TEXT, type TEXT, unit TEXT, kind TEXT,"
	" sensitivity TEXT, help TEXT, PRIMARY KEY(table_name, position)) WITHOUT ROWID;";

static int fail(struct snapshot_writer *w, struct err *err)
{
	int rc = sqlite3_errcode(w->db), e = sqlite3_system_errno(w->db);

	if ((rc & 0xff) == SQLITE_FULL ||
	    ((rc & 0xff) == SQLITE_IOERR && (e == ENOSPC || e == EDQUOT)))
		return err_set(err, -ENOSPC, "cannot write '%s': no space left on its file system",
			       w->path);
	if ((rc & 0xff) == SQLITE_NOMEM)
		return err_set(err, -ENOMEM, "out of memory");
	if ((rc & 0xff) == SQLITE_IOERR && e)
		return err_set(err, -e, "cannot write '%s': %s", w->path, strerror(e));
	return err_set(err, -EIO, "cannot write '%s': %s", w->path, sqlite3_errmsg(w->db));
}

static int prepare_all(struct snapshot_writer *w)
{
	static const char info[] = "INSERT INTO " SNAPSHOT_INFO " VALUES(?1, ?2)",
			  end[] = "INSERT INTO " SNAPSHOT_TABLES
				  "(name, class, summary, rows, ts_min, ts_max, since, "
				  "ring_since, rows_lost, ring_rows_lost, missing) VALUES(?1, ?9, "
				  "?10, ?2, ?3, ?4, ?5, "
				  "?6, 0, ?7, ?8)",
			  column[] = "INSERT INTO " SNAPSHOT_COLUMNS
				     " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
	int rc = sqlite3_prepare_v2(w->db, info, -1, &w->info, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(w->db, end, -1, &w->end, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(w->db, column, -1, &w->column, NULL);
	return rc;
}

int snapshot_create(struct snapshot_writer **ret, const char *path, struct err *err)
{
	_cleanup_(snapshot_freep) struct snapshot_writer *w = calloc(1, sizeof(*w));
	char mark[96];

	if (!w || !(w->path = strdup(path)))
		return err_set(err, -ENOMEM, "out of memory");
	if (sqlite3_open_v2(path, &w->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK)
		return fail(w, err);
	sqlite3_snprintf(sizeof(mark), mark, "PRAGMA application_id=%d; PRAGMA user_version=%d;",
			 SNAPSHOT_APPLICATION_ID, SNAPSHOT_VERSION);
	if (sqlite3_exec(w->db, setup_sql, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(w->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(w->db, mark, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(w->db, form_sql, NULL, NULL, NULL) != SQLITE_OK ||
	    prepare_all(w) != SQLITE_OK)
		return fail(w, err);
	*ret = TAKE_PTR(w);
	return 0;
}

void snapshot_free(struct snapshot_writer *w)
{
	if (!w)
		return;
	sqlite3_finalize(w->insert);
	sqlite3_finalize(w->info);
	sqlite3_finalize(w->end);
	sqlite3_finalize(w->column);
	sqlite3_close(w->db);
	free(w->table);
	free(w->summary);
	free(w->path);
	free(w);
}

static const char *declared(enum column_type type)
{
	switch (type) {
	case COLUMN_DOUBLE:
		return "REAL";
	case COLUMN_TEXT:
	case COLUMN_IP:
		return "TEXT";
	case COLUMN_BYTES:
		return "BLOB";
	default:
		return "INTEGER";
	}
}

/* A name as SQL writes it, whatever it holds: it comes from the other end of a connection. */
static void put_name(struct buf *sql, const char *name)
{
	buf_putc(sql, '"');
	for (; *name; name++) {
		if (*name == '"')
			buf_putc(sql, '"');
		buf_putc(sql, *name);
	}
	buf_putc(sql, '"');
}

static int make_table(struct snapshot_writer *w, const struct table *t, struct err *err)
{
	_cleanup_buf_ struct buf create = {0}, insert = {0};

	buf_puts(&create, "CREATE TABLE ");
	put_name(&create, t->name);
	buf_puts(&insert, "INSERT INTO ");
	put_name(&insert, t->name);
	for (uint32_t i = 0; i < t->nfields; i++) {
		buf_puts(&create, i ? ", " : "(");
		put_name(&create, t->fields[i].name);
		buf_printf(&create, " %s%s", declared(t->fields[i].type),
			   w->history && !i ? " PRIMARY KEY" : "");
		buf_puts(&insert, i ? ",?" : " VALUES(?");
	}
	buf_putc(&create, ')');
	buf_putc(&insert, ')');
	if (buf_status(&create) < 0 || buf_status(&insert) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	sqlite3_finalize(w->insert);
	w->insert = NULL;
	if (sqlite3_exec(w->db, create.data, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(w->db, insert.data, -1, &w->insert, NULL) != SQLITE_OK)
		return fail(w, err);
	return 0;
}

static int step(struct snapshot_writer *w, sqlite3_stmt *st, struct err *err)
{
	int rc = sqlite3_step(st);

	if (rc != SQLITE_DONE)
		fail(w, err); /* before the reset, which would forget why */
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : err ? err->code : -EIO;
}

static void bind_text(sqlite3_stmt *st, int at, const char *text)
{
	sqlite3_bind_text(st, at, text ? text : "", -1, SQLITE_STATIC);
}

static int put_columns(struct snapshot_writer *w, const struct table *t, struct err *err)
{
	static const char *const sensitivity[] = {"", "meta", "content", "secret"};

	for (uint32_t i = 0; i < t->nfields; i++) {
		const struct field *f = &t->fields[i];
		int r;

		bind_text(w->column, 1, t->name);
		sqlite3_bind_int(w->column, 2, (int)i + 1);
		bind_text(w->column, 3, f->name);
		bind_text(w->column, 4, column_type_name(f->type));
		bind_text(w->column, 5, f->unit);
		bind_text(w->column, 6, column_kind_name(f->kind));
		bind_text(w->column, 7,
			  (unsigned int)f->sensitivity < SENSITIVITY_X_MAX
				  ? sensitivity[f->sensitivity]
				  : "");
		bind_text(w->column, 8, f->help);
		r = step(w, w->column, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int snapshot_table(struct snapshot_writer *w, const struct table *t, struct err *err)
{
	int r;

	free(w->table);
	free(w->summary);
	w->table = strdup(t->name);
	w->summary = strdup(t->summary ? t->summary : "");
	if (!w->table || !w->summary)
		return err_set(err, -ENOMEM, "out of memory");
	w->class = t->class;
	w->nfields = t->nfields;
	w->history = table_is_history(t) && t->nfields && !strcmp(t->fields[0].name, "ts");
	w->rows = w->ts_min = w->ts_max = 0;
	r = make_table(w, t, err);
	if (r == 0)
		r = put_columns(w, t, err);
	if (r < 0)
		return r;
	if (!strcmp(t->name, "loss") && table_find(t, "table_name") >= 0 &&
	    table_find(t, "lost") >= 0)
		w->has_loss = true;
	return 0;
}

static void bind_value(sqlite3_stmt *st, int at, const struct value *v)
{
	switch (v->kind) {
	case VALUE_NULL:
		sqlite3_bind_null(st, at);
		break;
	case VALUE_INT:
		sqlite3_bind_int64(st, at, v->i);
		break;
	case VALUE_REAL:
		sqlite3_bind_double(st, at, v->d);
		break;
	case VALUE_TEXT:
		sqlite3_bind_text(st, at, v->text, (int)v->len, SQLITE_STATIC);
		break;
	case VALUE_BYTES:
		sqlite3_bind_blob(st, at, v->len ? v->text : "", (int)v->len, SQLITE_STATIC);
		break;
	}
}

int snapshot_row(struct snapshot_writer *w, const struct value *values, size_t n, struct err *err)
{
	int r;

	if (!w->insert || n != w->nfields)
		return err_set(err, -EPROTO, "a row of %zu values for a table of %u columns", n,
			       w->nfields);
	for (size_t i = 0; i < n; i++)
		bind_value(w->insert, (int)i + 1, &values[i]);
	r = step(w, w->insert, err);
	if (r < 0)
		return r;
	if (w->history && values[0].kind == VALUE_INT) {
		w->ts_max = (uint64_t)values[0].i;
		w->ts_min = w->ts_min ? w->ts_min : w->ts_max;
	}
	w->rows++;
	w->total++;
	return 0;
}

/* 0 is unknown. */
static void bind_ts(sqlite3_stmt *st, int at, uint64_t ts)
{
	if (ts)
		sqlite3_bind_int64(st, at, (int64_t)ts);
	else
		sqlite3_bind_null(st, at);
}

int snapshot_table_end(struct snapshot_writer *w, const struct snapshot_table_end *end,
		       struct err *err)
{
	bind_text(w->end, 1, w->table);
	bind_text(w->end, 9, table_class_name(w->class));
	bind_text(w->end, 10, w->summary);
	sqlite3_bind_int64(w->end, 2, (int64_t)w->rows);
	bind_ts(w->end, 3, w->ts_min);
	bind_ts(w->end, 4, w->ts_max);
	bind_ts(w->end, 5, end->since);
	bind_ts(w->end, 6, end->ring_since);
	sqlite3_bind_int64(w->end, 7, (int64_t)end->ring_rows_lost);
	if (end->missing && *end->missing)
		bind_text(w->end, 8, end->missing);
	else
		sqlite3_bind_null(w->end, 8);
	return step(w, w->end, err);
}

int snapshot_info_text(struct snapshot_writer *w, const char *key, const char *value,
		       struct err *err)
{
	bind_text(w->info, 1, key);
	bind_text(w->info, 2, value);
	return step(w, w->info, err);
}

int snapshot_info_int(struct snapshot_writer *w, const char *key, int64_t value, struct err *err)
{
	bind_text(w->info, 1, key);
	sqlite3_bind_int64(w->info, 2, value);
	return step(w, w->info, err);
}

uint64_t snapshot_rows(const struct snapshot_writer *w)
{
	return w->total;
}

static int sync_file(struct snapshot_writer *w, struct err *err)
{
	_cleanup_close_ int fd = open(w->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return err_set(err, -errno, "cannot bring '%s' to the disk: %s", w->path,
			       strerror(errno));
	return 0;
}

static int sum_lost(struct snapshot_writer *w, uint64_t *ret)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(
		w->db, "SELECT coalesce(sum(rows_lost), 0) FROM " SNAPSHOT_TABLES, -1, &st, NULL);

	if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
		*ret = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

int snapshot_finish(struct snapshot_writer *w, uint64_t *ret_lost, struct err *err)
{
	static const char lost[] =
		"UPDATE " SNAPSHOT_TABLES " SET rows_lost = coalesce((SELECT sum(lost) FROM loss "
		"WHERE table_name = name), 0) WHERE class <> 'live'";
	sqlite3_stmt **all[] = {&w->insert, &w->info, &w->end, &w->column};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		sqlite3_finalize(*all[i]);
		*all[i] = NULL;
	}
	if ((w->has_loss && sqlite3_exec(w->db, lost, NULL, NULL, NULL) != SQLITE_OK) ||
	    sum_lost(w, ret_lost) != SQLITE_OK ||
	    sqlite3_exec(w->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		return fail(w, err);
	sqlite3_close(w->db);
	w->db = NULL;
	return sync_file(w, err);
}
