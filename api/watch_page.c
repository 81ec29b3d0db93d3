// SPDX-License-Identifier: Apache-2.0
/* WatchRows: pages of history and polled expressions, read by bounded queries so that a slow reader holds no worker. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/watch.h"
#include "api/wire.h"
#include "base/clock.h"

#define PAGE_ROWS 2048
#define PAGE_BYTES ((size_t)1 << 20)
/* A live table comes whole or not at all. */
#define SNAPSHOT_BYTES ((size_t)8 << 20)
#define PAGE_DEADLINE_NS (10 * NSEC_PER_SEC)
/* Rows pushed before we listened that the store has not shown by then were refused by it (and counted there). */
#define CATCH_UP_NS (5 * NSEC_PER_SEC)
struct page_job {
	struct pool_job pool_job;
	struct rpc_task task;
	struct api_server *s;
	struct rpc_call *call; /* a reference */
	size_t index;          /* of the table in the watch */
	const struct table *table;
	enum watch_mode mode;
	bool checked;
	char *where, *sql;
	uint64_t from; /* rows after it */
	atomic_bool cancelled;

	/* The answer. */
	struct chunk_writer writer;
	struct chunk_queue rows;
	uint64_t nrows, upto; /* upto: all rows to that ts were looked at */
	bool full;
	int ts_column;
	size_t ncols;
	int64_t max_ts;
	char **names; /* sql: of the columns */
	enum column_type *types;
	char read_table[64];
	unsigned int nread;
	struct err err;
	int r;
};

static void job_free(struct page_job *j)
{
	rpc_call_unref(j->call);
	chunk_queue_clear(&j->rows);
	buf_free(&j->writer.values);
	for (size_t i = 0; j->names && i < j->ncols; i++)
		free(j->names[i]);
	free(j->names);
	free(j->types);
	free(j->where);
	free(j->sql);
	free(j);
}

/* The names, for a statement that we did not write. */
static int on_columns(void *arg, const struct api_query_column *cols, size_t ncols)
{
	struct page_job *j = arg;

	if (!j->sql) {
		j->ts_column = 0;
		return 0;
	}
	if (j->names)
		return 0;
	j->ts_column = -1;
	j->names = calloc(ncols + 1, sizeof(*j->names));
	j->types = calloc(ncols + 1, sizeof(*j->types));
	if (!j->names || !j->types)
		return -ENOMEM;
	for (size_t i = 0; i < ncols; i++) {
		j->names[i] = strdup(cols[i].name);
		j->types[i] = cols[i].type;
		j->ncols = i + 1;
		if (!j->names[i])
			return -ENOMEM;
		if (strcmp(cols[i].name, "ts") == 0)
			j->ts_column = (int)i;
	}
	if (j->ts_column < 0)
		return err_set(&j->err, -EINVAL, "sql must give the column ts: it tells what is new");
	return 0;
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	struct page_job *j = arg;
	bool live = j->mode == WATCH_SNAPSHOT;

	for (size_t row = 0; row < nrows; row++) {
		const struct value *v = &values[row * ncols];
		uint64_t ts = live ? 0 : (uint64_t)v[j->ts_column].i;
		int r;

		for (size_t col = 0; col < ncols; col++)
			wire_put_row_value(&j->writer.values, &v[col]);
		r = chunk_writer_row(&j->writer, ts, &j->rows);
		if (r < 0)
			return r;
		j->nrows++;
		if (!live)
			j->upto = ts;
		if (live && j->rows.bytes > SNAPSHOT_BYTES)
			return err_set(&j->err, -E2BIG, "%s has more than %zu MiB of rows that match; narrow where down",
				       j->table->name, SNAPSHOT_BYTES >> 20);
		if (!live && (j->nrows == PAGE_ROWS || j->rows.bytes >= PAGE_BYTES)) {
			j->full = true;
			return -E2BIG; /* ends the query; run_query knows */
		}
	}
	return 0;
}

static int on_max(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	struct page_job *j = arg;

	if (nrows && ncols && values[0].kind == VALUE_INT)
		j->max_ts = values[0].i;
	return 0;
}

static int on_max_columns(void *arg, const struct api_query_column *cols, size_t ncols)
{
	(void)arg;
	(void)cols;
	return ncols == 1 ? 0 : -EIO;
}

static int on_done(void *arg, uint64_t rows, bool truncated, uint64_t elapsed_ns, const struct api_query_loss *loss,
		   size_t nloss)
{
	struct page_job *j = arg;

	(void)rows;
	(void)elapsed_ns;
	if (truncated)
		j->full = true;
	j->nread = (unsigned int)nloss;
	if (nloss == 1)
		snprintf(j->read_table, sizeof(j->read_table), "%s", loss[0].table);
	return 0;
}

static int run_query(struct page_job *j, const char *sql, uint64_t upto, bool max)
{
	const struct api_query_sink sink = {
		.columns = max ? on_max_columns : on_columns,
		.rows = max ? on_max : on_rows,
		.done = on_done,
		.arg = j,
	};
	const struct value params[2] = {{.kind = VALUE_INT, .i = (int64_t)j->from},
					{.kind = VALUE_INT, .i = (int64_t)upto}};
	/* Parameters that the statement doesn't have would be refused. */
	size_t nparams = max || j->mode == WATCH_SNAPSHOT ? 0 : 2;
	int r = j->s->options.ops->query(j->s->options.ctx, sql, params, nparams, 0, clock_mono_ns() + PAGE_DEADLINE_NS,
					 &j->cancelled, &sink, &j->err);

	return r < 0 && j->full ? 0 : r;
}

static void put_columns(struct buf *b, const struct table *t)
{
	for (uint32_t i = 0; i < t->nfields; i++)
		buf_printf(b, "%s\"%s\"", i ? "," : "", t->fields[i].name);
}

/* Rows may be cut at the page's end only where ts changes: it is unique within a table. */
static int select_page(struct page_job *j, uint64_t upto)
{
	_cleanup_buf_ struct buf sql = {};
	int r;

	buf_puts(&sql, "SELECT ");
	if (j->sql) {
		/* The line break ends a comment at the end of the statement. */
		buf_printf(&sql, "* FROM (%s\n) WHERE ts > ?1 AND ts <= ?2 ORDER BY ts", j->sql);
	} else {
		put_columns(&sql, j->table);
		buf_printf(&sql, " FROM \"%s\"", j->table->name);
		if (j->mode == WATCH_SNAPSHOT)
			buf_printf(&sql, " WHERE (%s\n)", j->where);
		else
			buf_puts(&sql, " WHERE ts > ?1 AND ts <= ?2");
		if (j->where && j->mode != WATCH_SNAPSHOT)
			buf_printf(&sql, " AND (%s\n)", j->where);
		if (j->mode != WATCH_SNAPSHOT)
			buf_puts(&sql, " ORDER BY ts");
	}
	if (j->mode != WATCH_SNAPSHOT)
		buf_printf(&sql, " LIMIT %d", PAGE_ROWS);
	r = buf_status(&sql);
	if (r == 0)
		r = run_query(j, sql.data, upto, false);
	if (r == 0)
		r = chunk_writer_flush(&j->writer, &j->rows);
	return r;
}

/* Which table a SELECT reads: the answer's completeness tells. */
static int find_sql_table(struct page_job *j)
{
	struct hub_table *t;
	int r = select_page(j, j->from); /* an empty range: columns only */

	if (r < 0)
		return r;
	t = j->nread == 1 ? hub_find(j->s->hub, j->read_table) : NULL;
	if (!t || !table_is_history(t->table))
		return err_set(&j->err, -EINVAL, "sql must read exactly one history table; ListTables has them");
	j->table = t->table;
	return 0;
}

static int run_poll(struct page_job *j)
{
	char sql[128];
	int r = 0;

	if (j->sql && !j->table)
		r = find_sql_table(j);
	else if (!j->checked)
		r = select_page(j, j->from); /* an empty range: a wrong expression must not wait for the first row */
	if (r < 0)
		return r;
	/* First how far there is to look, so that a filter that matches nothing still moves on. */
	snprintf(sql, sizeof(sql), "SELECT max(ts) FROM \"%s\"", j->table->name);
	r = run_query(j, sql, 0, true);
	if (r < 0)
		return r;
	/* Another statement's answer says only now whether the page was full. */
	j->full = false;
	if (j->max_ts <= 0 || (uint64_t)j->max_ts <= j->from)
		return 0;
	r = select_page(j, (uint64_t)j->max_ts);
	if (r == 0 && !j->full)
		j->upto = (uint64_t)j->max_ts;
	return r;
}

static void page_done(struct rpc_task *task);

static void page_run(struct pool_job *pool_job)
{
	struct page_job *j = container_of(pool_job, struct page_job, pool_job);

	j->r = j->mode == WATCH_POLL ? run_poll(j) : select_page(j, INT64_MAX);
	if (rpc_post(j->s->rpc, &j->task) < 0)
		job_free(j); /* can't be: the engine ends only after the call that we hold */
}

void watch_page_start(struct row_watch *rw, struct watch_table *t)
{
	struct api_server *s = rw->w.s;
	struct page_job *j;

	/* Pages wait as well when memory is short; the tick comes back. */
	if (atomic_load(&s->hub->chunk_bytes) > CHUNKS_MAX_BYTES / 2)
		return;
	j = calloc(1, sizeof(*j));
	if (!j)
		return;
	j->pool_job.run = page_run;
	j->task.run = page_done;
	j->s = s;
	j->call = rpc_call_ref(rw->w.call);
	j->index = (size_t)(t - rw->tables);
	j->table = t->table;
	j->mode = t->mode;
	j->checked = t->checked;
	j->from = j->upto = t->page_ts;
	j->writer.total = &s->hub->chunk_bytes;
	j->where = rw->where ? strdup(rw->where) : NULL;
	j->sql = rw->sql ? strdup(rw->sql) : NULL;
	if ((rw->where && !j->where) || (rw->sql && !j->sql) || pool_submit(s->watch, &j->pool_job) < 0) {
		job_free(j);
		return;
	}
	t->job = j;
}

void watch_page_cancel(struct page_job *job)
{
	atomic_store(&job->cancelled, true);
}

static void put_sql_column(struct buf *table, const char *name, enum column_type type, const struct table *t)
{
	_cleanup_buf_ struct buf b = {};
	int i = table_find(t, name);

	wire_put_bytes(&b, 1, name, strlen(name));
	wire_put_uint(&b, 2, type < COLUMN_X_MAX ? type : 0);
	if (i >= 0 && t->fields[i].type == type) {
		const struct field *f = &t->fields[i];

		wire_put_bytes(&b, 3, f->unit ?: "", strlen(f->unit ?: ""));
		wire_put_uint(&b, 4, f->kind);
		wire_put_uint(&b, 5, f->sensitivity);
		wire_put_bytes(&b, 6, f->help ?: "", strlen(f->help ?: ""));
	}
	if (buf_status(&b) < 0)
		table->failed = true;
	else
		wire_put_bytes(table, 4, b.data, b.len);
}

/* Table: name 1, class 3, columns 4 of name 1, type 2, unit 3, kind 4, sensitivity 5, help 6. */
static int make_sql_table(struct row_watch *rw, struct watch_table *t, struct page_job *j)
{
	_cleanup_buf_ struct buf b = {};

	if (!rw->sql || rw->sql_table)
		return 0;
	t->table = j->table;
	t->hub = hub_find(rw->w.s->hub, j->table->name);
	wire_put_bytes(&b, 1, j->table->name, strlen(j->table->name));
	wire_put_uint(&b, 3, j->table->class);
	for (size_t i = 0; i < j->ncols; i++)
		put_sql_column(&b, j->names[i], j->types[i], j->table);
	if (buf_status(&b) < 0)
		return -ENOMEM;
	rw->sql_table_len = b.len;
	rw->sql_table = TAKE_PTR(b.data);
	return 0;
}

/* Behind the store's last row: listen, then read what was pushed before that. */
static void catch_up(struct row_watch *rw, struct watch_table *t)
{
	uint64_t now = clock_mono_ns();

	if (t->mode == WATCH_HISTORY) {
		hub_listen(rw->w.s->hub, t, &t->target);
		t->mode = WATCH_CATCH_UP;
		t->give_up_ns = now + CATCH_UP_NS;
	}
	if (t->page_ts >= t->target || now >= t->give_up_ns)
		t->mode = WATCH_LIVE;
}

static void failed(struct row_watch *rw, struct watch_table *t, struct page_job *j)
{
	bool request = j->r == -EINVAL || j->r == -EPERM || j->r == -ENOENT || j->r == -EOPNOTSUPP;

	if (request || ++t->failures >= WATCH_MAX_FAILURES)
		rpc_finish_err(rw->w.call, j->r, &j->err);
}

static void page_done(struct rpc_task *task)
{
	struct page_job *j = container_of(task, struct page_job, task);
	struct row_watch *rw = rpc_call_state(j->call);
	struct watch_table *t = rw ? &rw->tables[j->index] : NULL;

	if (!t)
		goto out;
	t->job = NULL;
	if (j->r == 0)
		j->r = make_sql_table(rw, t, j);
	if (j->r < 0) {
		failed(rw, t, j);
		goto out;
	}
	t->failures = 0;
	t->checked = true;
	t->more = j->full && t->mode != WATCH_SNAPSHOT;
	if (j->upto > t->page_ts)
		t->page_ts = j->upto;
	/* What the filter left out need not be looked at again by who comes back with our cursor. */
	if (t->mode == WATCH_POLL && !j->rows.head && t->page_ts > t->cursor)
		t->cursor = t->page_ts;
	chunk_queue_move(&t->page, &j->rows);
	if (t->mode == WATCH_SNAPSHOT)
		t->end_pending = true;
	if ((t->mode == WATCH_HISTORY || t->mode == WATCH_CATCH_UP) && !t->more)
		catch_up(rw, t);
	watch_pump(rw);
out:
	job_free(j);
}
