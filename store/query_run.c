// SPDX-License-Identifier: Apache-2.0
/* Untrusted SQL, inside the sandbox: prepared, bound, stepped, its rows framed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "store/query_spill.h"
#include "store/query_worker.h"

/* Below RLIMIT_AS, so that SQLite can say that memory is short before malloc's callers have to. */
#define HEAP_MAX (384ull << 20)

struct origin {
	uint32_t table, column; /* UINT32_MAX: computed */
};

static _Noreturn void fail(struct query_session *s, const struct err *err)
{
	query_io_fail(s, err->code, err->msg);
}

/* One statement, and a read; *tail: what stands behind it, nothing but in a script. */
static sqlite3_stmt *prepare(struct query_session *s, sqlite3 *db, const char *sql,
			     const char **ret_tail)
{
	const char *tail = sql;
	sqlite3_stmt *st = NULL;
	struct err err = {0};
	int rc;

	rc = sqlite3_prepare_v2(db, sql, -1, &st, &tail);
	if (rc != SQLITE_OK) {
		query_guard_error(s, db, rc, sql, &err);
		fail(s, &err);
	}
	*ret_tail = tail;
	if (!s->req.script && !query_guard_blank(tail)) {
		err_set(&err, -EINVAL,
			"one statement at a time: a second one begins at character %zu",
			(size_t)(tail - sql) + 1);
		fail(s, &err);
	}
	if (!st) {
		err_set(&err, -EINVAL, "the query is empty");
		fail(s, &err);
	}
	if (!sqlite3_stmt_readonly(st)) {
		err_set(&err, -EPERM, "a query only reads: this statement would write");
		fail(s, &err);
	}
	return st;
}

static struct origin column_origin(const struct query_session *s, sqlite3_stmt *st, int col)
{
	const char *table = sqlite3_column_table_name(st, col),
		   *column = sqlite3_column_origin_name(st, col);
	struct origin none = {UINT32_MAX, UINT32_MAX};
	int t, c;

	if (!table || !column)
		return none;
	t = query_table_index(s, table);
	c = t < 0 ? -1 : table_find(s->req.tables[t], column);
	return c < 0 ? none : (struct origin){t, c};
}

/* Which bytes of a name fit, without a character cut in two. */
static size_t name_len(const char *name)
{
	size_t len = strlen(name);

	if (len <= QUERY_MAX_NAME)
		return len;
	len = QUERY_MAX_NAME;
	while (len && ((unsigned char)name[len] & 0xc0) == 0x80)
		len--;
	return len;
}

/* The columns frame. The shape's statement knows where a column comes from; views over segments
 * hide it. */
static int put_columns(struct query_session *s, sqlite3_stmt *st)
{
	int n = sqlite3_column_count(st);
	size_t at = wire_open(&s->out, QUERY_FRAME_COLUMNS);

	wire_put_u32(&s->out, n);
	for (int i = 0; i < n; i++) {
		struct origin o = column_origin(s, st, i);
		const char *name = sqlite3_column_name(st, i);

		if (!name)
			query_io_fail(s, -E2BIG,
				      "the query needs more memory than a query may have");
		wire_put_text(&s->out, name, name_len(name));
		wire_put_u32(&s->out, o.table);
		wire_put_u32(&s->out, o.column);
	}
	wire_close(&s->out, at);
	return n;
}

static void check_params(struct query_session *s, sqlite3_stmt *st)
{
	uint32_t wanted = sqlite3_bind_parameter_count(st);
	struct err err = {0};

	if (wanted == s->req.nparams)
		return;
	err_set(&err, -EINVAL, "the statement has %u parameter%s, but %u value%s given", wanted,
		wanted == 1 ? "" : "s", s->req.nparams, s->req.nparams == 1 ? " is" : "s are");
	fail(s, &err);
}

static void bind(struct query_session *s, sqlite3_stmt *st)
{
	for (uint32_t i = 0; i < s->req.nparams; i++) {
		const struct value *v = &s->req.params[i];
		struct err err = {0};
		int rc = SQLITE_OK;

		switch (v->kind) {
		case VALUE_NULL:
			rc = sqlite3_bind_null(st, i + 1);
			break;
		case VALUE_INT:
			rc = sqlite3_bind_int64(st, i + 1, v->i);
			break;
		case VALUE_REAL:
			rc = sqlite3_bind_double(st, i + 1, v->d);
			break;
		case VALUE_TEXT:
			rc = sqlite3_bind_text(st, i + 1, v->text, v->len, SQLITE_STATIC);
			break;
		case VALUE_BYTES:
			rc = sqlite3_bind_blob(st, i + 1, v->len ? v->text : "", v->len,
					       SQLITE_STATIC);
			break;
		}
		if (rc == SQLITE_OK)
			continue;
		query_guard_error(s, s->db, rc, s->req.sql, &err);
		err_prefix(&err, "parameter %u", i + 1);
		fail(s, &err);
	}
}

static void put_cell(struct query_session *s, sqlite3_stmt *st, int col)
{
	struct value v;

	switch (sqlite3_column_type(st, col)) {
	case SQLITE_INTEGER:
		v.kind = VALUE_INT;
		v.i = sqlite3_column_int64(st, col);
		break;
	case SQLITE_FLOAT:
		v.kind = VALUE_REAL;
		v.d = sqlite3_column_double(st, col);
		break;
	case SQLITE_TEXT:
		v.kind = VALUE_TEXT;
		v.text = (const char *)sqlite3_column_text(st, col);
		v.len = sqlite3_column_bytes(st, col);
		break;
	case SQLITE_BLOB:
		v.kind = VALUE_BYTES;
		v.text = sqlite3_column_blob(st, col);
		v.len = sqlite3_column_bytes(st, col);
		break;
	default:
		v.kind = VALUE_NULL;
	}
	if ((v.kind == VALUE_TEXT || v.kind == VALUE_BYTES) && !v.text) {
		if (v.kind == VALUE_TEXT ||
		    v.len) /* a blob of 0 bytes is NULL here, a text never */
			query_io_fail(s, -E2BIG,
				      "the query needs more memory than a query may have");
		v.text = "";
	}
	wire_put_value(&s->out, &v);
}

static void put_row(struct query_session *s, sqlite3_stmt *st, int ncols)
{
	if (!s->rows_n) {
		s->rows_at = wire_open(&s->out, QUERY_FRAME_ROWS);
		s->rows_since_ns = clock_mono_ns();
		wire_put_u32(&s->out, 0); /* the count, when it's closed */
	}
	for (int i = 0; i < ncols; i++)
		put_cell(s, st, i);
	s->rows_n++;
	if (s->out.len - s->rows_at > QUERY_MAX_FRAME)
		query_io_fail(s, -E2BIG,
			      "a row of the result is larger than 4 MiB: select less of it");
	if (s->rows_n == QUERY_BATCH_ROWS || s->out.len - s->rows_at >= QUERY_BATCH_BYTES)
		query_io_flush(s, false);
}

/* Returns the number of rows. */
static uint64_t step_all(struct query_session *s, sqlite3_stmt *st, bool *ret_truncated)
{
	int ncols = sqlite3_column_count(st), rc;
	struct err err = {0};
	uint64_t n = 0;

	*ret_truncated = false;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		if (n == s->req.max_rows) {
			*ret_truncated = true;
			return n;
		}
		put_row(s, st, ncols);
		n++;
	}
	if (rc != SQLITE_DONE) {
		query_guard_error(s, s->db, rc, s->req.sql, &err);
		fail(s, &err);
	}
	return n;
}

static void put_done(struct query_session *s, const char *sql, uint64_t rows, bool truncated,
		     bool more)
{
	uint32_t n = 0, max = ARRAY_SIZE(((struct query_stats *)0)->loss);
	size_t at, count_at;

	sqlite3_set_authorizer(s->db, NULL, NULL);
	query_io_rows_close(s);
	at = wire_open(&s->out, QUERY_FRAME_DONE);
	wire_put_u64(&s->out, rows);
	wire_put_u8(&s->out, truncated);
	count_at = s->out.len;
	wire_put_u32(&s->out, 0);
	for (uint32_t i = 0; i < s->req.ntables && n < max; i++) {
		struct query_loss loss = {0};

		if (!s->reads.table[i] || !table_is_history(s->req.tables[i]))
			continue;
		query_history_loss(s, i, sql, &loss);
		wire_put_u32(&s->out, i);
		wire_put_u64(&s->out, loss.rows);
		wire_put_u64(&s->out, loss.since_ns);
		wire_put_u64(&s->out, loss.from_ns);
		wire_put_u64(&s->out, loss.until_ns);
		wire_put_u64(&s->out, loss.held);
		wire_put_text(&s->out, loss.why, strlen(loss.why));
		n++;
	}
	if (!s->out.failed)
		memcpy(s->out.data + count_at, &n, sizeof(n));
	wire_put_u8(&s->out, more);
	wire_close(&s->out, at);
}

/* From its columns to its last row; returns what stands behind it. */
static const char *run_statement(struct query_session *s, const char *sql)
{
	sqlite3_stmt *st;
	const char *tail;
	bool truncated;
	uint64_t rows;
	int ncols;

	memset(&s->reads, 0, sizeof(s->reads));
	st = prepare(s, s->shape, sql, &tail);
	ncols = put_columns(s, st);
	sqlite3_finalize(st);
	query_guard_arm(s, s->db);
	st = prepare(s, s->db, sql, &tail);
	if (sqlite3_column_count(st) != ncols)
		query_io_fail(s, -EIO, "the tables are not as declared");
	bind(s, st);
	rows = step_all(s, st, &truncated);
	sqlite3_finalize(st);
	put_done(s, sql, rows, truncated, !query_guard_blank(tail));
	return tail;
}

/* What all statements read, so that the views have it. */
static void look(struct query_session *s)
{
	const char *sql = s->req.sql;
	unsigned int n = 0;

	do {
		struct err err = {0};
		sqlite3_stmt *st;

		if (query_guard_keyword(sql, &err) < 0)
			fail(s, &err);
		st = prepare(s, s->shape, sql, &sql);
		check_params(s, st);
		sqlite3_finalize(st);
		n++;
	} while (!query_guard_blank(sql));
	s->single = n == 1;
}

uint64_t query_heap_max(const struct query_session *s)
{
	return s->req.heap_bytes && s->req.heap_bytes < HEAP_MAX ? s->req.heap_bytes : HEAP_MAX;
}

void query_session_run(struct query_session *s)
{
	const char *sql = s->req.sql;
	struct err err = {0};

	sqlite3_hard_heap_limit64((sqlite3_int64)query_heap_max(s));
	query_spill_begin(query_heap_max(s));
	sqlite3_busy_timeout(s->db,
			     0); /* all locks are held; waiting would sleep, which isn't allowed */
	query_guard_limits(s->shape);
	query_guard_arm(s, s->shape);
	look(s);
	if (query_history_views(s, &err) < 0)
		fail(s, &err);
	query_guard_limits(s->db);
	do
		sql = run_statement(s, sql);
	while (!query_guard_blank(sql));
	/* Every segment goes: the read transaction's locks with it. The client may take its time
	 * now. */
	close_range(s->sock + 1, ~0u, 0);
	query_io_flush(s, true);
	_exit(0);
}
