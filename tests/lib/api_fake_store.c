// SPDX-License-Identifier: Apache-2.0
/* The fake daemon's store and query engine: one SQLite file, filled later than the bus on purpose. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/thread.h"
#include "tests/lib/api_fake.h"

#define MAX_ROWS 10000000

static void bind_value(sqlite3_stmt *st, int i, const struct value *v)
{
	switch (v->kind) {
	case VALUE_NULL: sqlite3_bind_null(st, i); break;
	case VALUE_INT: sqlite3_bind_int64(st, i, v->i); break;
	case VALUE_REAL: sqlite3_bind_double(st, i, v->d); break;
	case VALUE_TEXT: sqlite3_bind_text(st, i, v->text, (int)v->len, SQLITE_TRANSIENT); break;
	case VALUE_BYTES: sqlite3_bind_blob(st, i, v->text, (int)v->len, SQLITE_TRANSIENT); break;
	}
}

static void insert(sqlite3 *db, const struct batch *b)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
		return;
	sqlite3_prepare_v2(db, "INSERT INTO events VALUES(?1,?2,?3,?4,?5,?6,?7)", -1, &st, NULL);
	for (uint32_t row = 0; st && row < b->nrows; row++) {
		for (uint32_t col = 0; col < b->table->nfields; col++) {
			struct value v;

			batch_get(b, row, col, &v);
			bind_value(st, (int)col + 1, &v);
		}
		sqlite3_step(st);
		sqlite3_reset(st);
	}
	sqlite3_finalize(st);
	sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
}

static void *store_main(void *arg)
{
	struct fake *f = arg;

	pthread_mutex_lock(&f->store_mu);
	while (!f->store_stop || f->pending) {
		struct pending *p = f->pending;
		uint64_t now = clock_mono_ns();

		if (!p || (p->due_ns > now && !f->store_stop)) {
			uint64_t until = p ? p->due_ns : now + NSEC_PER_SEC;
			struct timespec ts = {(time_t)(until / NSEC_PER_SEC), (long)(until % NSEC_PER_SEC)};

			pthread_cond_timedwait(&f->store_cv, &f->store_mu, &ts);
			continue;
		}
		f->pending = p->next;
		if (!f->pending)
			f->pending_tail = &f->pending;
		pthread_mutex_unlock(&f->store_mu);
		if (!f->store_stop)
			insert(f->db, p->batch);
		batch_unref(p->batch);
		free(p);
		pthread_mutex_lock(&f->store_mu);
	}
	pthread_mutex_unlock(&f->store_mu);
	return NULL;
}

int fake_store_open(struct fake *f)
{
	pthread_condattr_t attr;

	f->pending_tail = &f->pending;
	pthread_mutex_init(&f->store_mu, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->store_cv, &attr);
	pthread_condattr_destroy(&attr);
	snprintf(f->db_path, sizeof(f->db_path), "/tmp/rs-api-fake.%d.db", (int)getpid());
	if (sqlite3_open(f->db_path, &f->db) != SQLITE_OK)
		return -EIO;
	sqlite3_busy_timeout(f->db, 5000);
	if (sqlite3_exec(f->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE events(ts INTEGER PRIMARY KEY, seq, half, name, text, ip, odd);"
				"CREATE TABLE fake(produced); CREATE TABLE many(n INTEGER, pad TEXT);"
				"WITH RECURSIVE c(x) AS (SELECT 0 UNION ALL SELECT x+1 FROM c WHERE x<499)"
				" INSERT INTO many SELECT x, 'mm' FROM c", NULL, NULL, NULL) != SQLITE_OK)
		return -EIO;
	return thread_start(&f->store_thread, "fake-store", store_main, f);
}

void fake_store_close(struct fake *f)
{
	if (!f->store_thread)
		return;
	pthread_mutex_lock(&f->store_mu);
	f->store_stop = true;
	pthread_cond_signal(&f->store_cv);
	pthread_mutex_unlock(&f->store_mu);
	pthread_join(f->store_thread, NULL);
	sqlite3_close(f->db); /* the last one: takes -wal and -shm along */
	unlink(f->db_path);
}

void fake_store_add(struct fake *f, struct batch *b)
{
	struct pending *p = malloc(sizeof(*p));

	if (!p) {
		batch_unref(b);
		return;
	}
	*p = (struct pending){.batch = b, .due_ns = clock_mono_ns() + f->store_lag_ns};
	pthread_mutex_lock(&f->store_mu);
	*f->pending_tail = p;
	f->pending_tail = &p->next;
	pthread_cond_signal(&f->store_cv);
	pthread_mutex_unlock(&f->store_mu);
}

struct run {
	uint64_t deadline_ns;
	const atomic_bool *cancelled;
	bool reads_events;
};

static int progress(void *arg)
{
	struct run *r = arg;

	return (r->cancelled && atomic_load(r->cancelled)) || clock_mono_ns() >= r->deadline_ns;
}

static int authorize(void *arg, int action, const char *a, const char *b, const char *c, const char *d)
{
	struct run *r = arg;

	(void)b;
	(void)c;
	(void)d;
	if (action == SQLITE_READ && a && strcmp(a, "events") == 0)
		r->reads_events = true;
	if (action == SQLITE_READ || action == SQLITE_SELECT || action == SQLITE_FUNCTION || action == SQLITE_RECURSIVE)
		return SQLITE_OK;
	return SQLITE_DENY;
}

static enum column_type type_of(sqlite3_stmt *st, int i)
{
	const char *column = sqlite3_column_name(st, i);
	int f = table_find(fake_tables[0], column);

	return f >= 0 ? fake_tables[0]->fields[f].type : COLUMN_X_MAX;
}

static int give_columns(sqlite3_stmt *st, const struct api_query_sink *sink)
{
	int n = sqlite3_column_count(st);
	struct api_query_column *cols = calloc((size_t)n + 1, sizeof(*cols));
	int r;

	if (!cols)
		return -ENOMEM;
	for (int i = 0; i < n; i++)
		cols[i] = (struct api_query_column){sqlite3_column_name(st, i), "", type_of(st, i)};
	r = sink->columns(sink->arg, cols, (size_t)n);
	free(cols);
	return r;
}

static struct value value_of(sqlite3_stmt *st, int i)
{
	size_t len = (size_t)sqlite3_column_bytes(st, i);

	switch (sqlite3_column_type(st, i)) {
	case SQLITE_INTEGER:
		return (struct value){.kind = VALUE_INT, .i = sqlite3_column_int64(st, i)};
	case SQLITE_FLOAT:
		return (struct value){.kind = VALUE_REAL, .d = sqlite3_column_double(st, i)};
	case SQLITE_TEXT:
		return (struct value){.kind = VALUE_TEXT, .text = (const char *)sqlite3_column_text(st, i), .len = len};
	case SQLITE_BLOB:
		return (struct value){.kind = VALUE_BYTES, .text = sqlite3_column_blob(st, i), .len = len};
	default:
		return (struct value){.kind = VALUE_NULL};
	}
}

static int give_rows(sqlite3 *db, sqlite3_stmt *st, uint64_t max, const struct run *run,
		     const struct api_query_sink *sink, uint64_t *rows, bool *truncated, struct err *err)
{
	int n = sqlite3_column_count(st), rc = SQLITE_ROW, r = 0;
	struct value *row = calloc((size_t)n + 1, sizeof(*row));

	if (!row)
		return -ENOMEM;
	while (r == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		if (*rows == max) {
			*truncated = true;
			break;
		}
		for (int i = 0; i < n; i++)
			row[i] = value_of(st, i);
		r = sink->rows(sink->arg, row, 1, (size_t)n);
		++*rows;
	}
	free(row);
	if (r < 0 || rc == SQLITE_DONE || *truncated)
		return r;
	if (run->cancelled && atomic_load(run->cancelled))
		return err_set(err, -ECANCELED, "cancelled");
	if (rc == SQLITE_INTERRUPT)
		return err_set(err, -ETIMEDOUT, "the query passed its deadline");
	return err_set(err, -EIO, "%s", sqlite3_errmsg(db));
}

static int run_statement(sqlite3 *db, const char *sql, const struct value *params, size_t nparams, uint64_t max_rows,
			 struct run *run, const struct api_query_sink *sink, struct err *err)
{
	uint64_t t0 = clock_mono_ns(), rows = 0;
	struct api_query_loss loss = {.table = "events", .rows = 7, .since_ns = 1};
	sqlite3_stmt *st = NULL;
	bool truncated = false;
	int r;

	sqlite3_set_authorizer(db, authorize, run);
	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK || !st)
		return err_set(err, -EINVAL, "%s", sqlite3_errmsg(db));
	if ((size_t)sqlite3_bind_parameter_count(st) != nparams) {
		r = err_set(err, -EINVAL, "the statement has %d parameters, %zu are given",
			    sqlite3_bind_parameter_count(st), nparams);
		sqlite3_finalize(st);
		return r;
	}
	for (size_t i = 0; i < nparams; i++)
		bind_value(st, (int)i + 1, &params[i]);
	r = give_columns(st, sink);
	if (r == 0)
		r = give_rows(db, st, max_rows ?: MAX_ROWS, run, sink, &rows, &truncated, err);
	if (r == 0)
		r = sink->done(sink->arg, rows, truncated, clock_mono_ns() - t0, &loss, run->reads_events);
	sqlite3_finalize(st);
	return r;
}

/* For the benchmark: rows without a database, until somebody has had enough. */
static int bench_rows(const atomic_bool *cancelled, const struct api_query_sink *sink)
{
	static const struct api_query_column cols[7] = {{"c0", "", COLUMN_INT64}, {"c1", "", COLUMN_INT64},
							{"c2", "", COLUMN_DOUBLE}, {"c3", "", COLUMN_TEXT},
							{"c4", "", COLUMN_TEXT}, {"c5", "", COLUMN_TEXT},
							{"c6", "", COLUMN_INT64}};
	int r = sink->columns(sink->arg, cols, 7);

	for (int64_t seq = 1; r == 0 && !atomic_load(cancelled); seq++) {
		char name[16];
		struct value row[7] = {{.kind = VALUE_INT, .i = 1763700000000000000 + seq},
				       {.kind = VALUE_INT, .i = seq},
				       {.kind = VALUE_REAL, .d = (double)seq / 2},
				       {.kind = VALUE_TEXT, .text = name},
				       {.kind = VALUE_TEXT, .text = "xxxxxxxx", .len = 8},
				       {.kind = VALUE_TEXT, .text = "10.1.2.3", .len = 8},
				       {.kind = VALUE_INT, .i = seq & 1}};

		row[3].len = (size_t)snprintf(name, sizeof(name), "row-%d", (int)(seq % 1000));
		r = sink->rows(sink->arg, row, 1, 7);
	}
	return r;
}

int fake_query(void *ctx, const char *sql, const struct value *params, size_t nparams, uint64_t max_rows,
	       uint64_t deadline_mono_ns, const atomic_bool *cancelled, const struct api_query_sink *sink,
	       struct err *err)
{
	struct run run = {.deadline_ns = deadline_mono_ns ?: clock_mono_ns() + 10 * NSEC_PER_SEC,
			  .cancelled = cancelled};
	sqlite3 *db = NULL;
	int r;

	if (strcmp(sql, "BENCH") == 0)
		return bench_rows(cancelled, sink);
	if (sqlite3_open(((struct fake *)ctx)->db_path, &db) != SQLITE_OK) {
		sqlite3_close(db);
		return err_set(err, -EIO, "cannot open the database");
	}
	sqlite3_busy_timeout(db, 5000);
	sqlite3_progress_handler(db, 1000, progress, &run);
	r = run_statement(db, sql, params, nparams, max_rows, &run, sink, err);
	sqlite3_close(db);
	return r;
}
