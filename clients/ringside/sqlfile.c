// SPDX-License-Identifier: Apache-2.0
/* Statements over a file, run by the daemon's own query worker: the same functions, limits and
 * sandbox. */
#include "clients/ringside/sqlfile.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "clients/ringside/progress.h"
#include "clients/ringside/rows.h"
#include "store/query.h"
#include "store/snapshot.h"

/* No daemon's other work waits: whoever asks ends it, by --timeout or Ctrl-C. */
#define NO_DEADLINE_NS (24 * 3600 * NSEC_PER_SEC)

_Static_assert(OUT_IP == (int)COLUMN_IP && OUT_TIME == (int)COLUMN_TIME,
	       "same order as the tables'");

struct sql_file {
	struct snapshot *file;
	struct query_engine *engine;
	/* Of the statement that runs. */
	struct out *out;
	struct progress *progress;
	bool tty;
	Ringside__V1__QueryStats stats;
	Ringside__V1__Completeness loss[ARRAY_SIZE(((struct query_stats *)0)->loss)];
	char why[ARRAY_SIZE(((struct query_stats *)0)->loss)]
		[sizeof(((struct query_stats *)0)->loss[0].why)];
	Ringside__V1__Completeness *losses[ARRAY_SIZE(((struct query_stats *)0)->loss)];
};

int sql_file_open(struct sql_file **ret, const char *path)
{
	struct sql_file *f = calloc(1, sizeof(*f));
	struct query_engine_options options = {
		.max_workers = 1,
		.max_deadline_ns = NO_DEADLINE_NS,
		.default_deadline_ns = NO_DEADLINE_NS,
		.max_rows = INT64_MAX,
	};
	char worker[PATH_MAX];
	struct err err = {0};
	int r;

	if (!f)
		return cli_fail(CLI_REFUSED, "out of memory");
	r = snapshot_open(&f->file, path, &err);
	if (r == 0) {
		options.tables = f->file->tables;
		options.file = f->file->path;
		options.file_is_snapshot = !f->file->is_segment;
		options.now_ns = f->file->end_ns;
		options.worker_exe = query_worker_path(worker, sizeof(worker));
		r = query_engine_new(&f->engine, &options, &err);
	}
	if (r < 0) {
		sql_file_close(f);
		return cli_fail(CLI_REFUSED, "%s", err.msg);
	}
	*ret = f;
	return 0;
}

void sql_file_close(struct sql_file *f)
{
	if (!f)
		return;
	query_engine_free(f->engine);
	snapshot_close(f->file);
	free(f);
}

static const struct table *find_table(const struct sql_file *f, const char *name)
{
	for (size_t i = 0; f->file->tables[i]; i++)
		if (strcmp(f->file->tables[i]->name, name) == 0)
			return f->file->tables[i];
	return NULL;
}

const char *sql_file_name(const struct sql_file *f, const char *table, size_t idx)
{
	const struct table *t = table ? find_table(f, table) : NULL;

	if (table)
		return t && idx < t->nfields ? t->fields[idx].name : NULL;
	return f->file->tables[idx] ? f->file->tables[idx]->name : NULL;
}

void sql_file_tables(const struct sql_file *f, struct sql_session *s)
{
	static const struct out_column columns[] = {{"name", OUT_TEXT, NULL},
						    {"columns", OUT_INT, NULL}};

	out_columns(s->out, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; f->file->tables[i]; i++)
		out_row(s->out, (struct cell[]){cell_text(f->file->tables[i]->name),
						cell_uint(f->file->tables[i]->nfields)});
	out_end(s->out);
}

void sql_file_schema(const struct sql_file *f, struct sql_session *s, const char *table)
{
	static const struct out_column columns[] = {
		{"column", OUT_TEXT, NULL}, {"type", OUT_TEXT, NULL}, {"unit", OUT_TEXT, NULL}};
	const struct table *t = find_table(f, table);

	if (!t) {
		cli_fail(CLI_REFUSED, "no table '%s' in this file; .tables lists them", table);
		return;
	}
	out_columns(s->out, columns, ARRAY_SIZE(columns));
	for (uint32_t i = 0; i < t->nfields; i++)
		out_row(s->out, (struct cell[]){cell_text(t->fields[i].name),
						cell_text(column_type_name(t->fields[i].type)),
						cell_text(t->fields[i].unit)});
	out_end(s->out);
}

static int on_columns(void *arg, const struct query_column *cols, size_t ncols)
{
	struct sql_file *f = arg;
	_cleanup_free_ struct out_column *out = calloc(ncols + 1, sizeof(*out));

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < ncols; i++)
		out[i] = (struct out_column){.name = cols[i].name,
					     .unit = cols[i].unit,
					     .type = cols[i].type < COLUMN_X_MAX
							     ? (enum out_type)cols[i].type
							     : OUT_ANY};
	return out_columns(f->out, out, ncols);
}

static struct cell cell_of(const struct value *v)
{
	switch (v->kind) {
	case VALUE_INT:
		return cell_int(v->i);
	case VALUE_REAL:
		return cell_real(v->d);
	case VALUE_TEXT:
		return (struct cell){.kind = CELL_TEXT, .s = v->text, .len = v->len};
	case VALUE_BYTES:
		return (struct cell){.kind = CELL_BLOB, .s = v->text, .len = v->len};
	default:
		return cell_null();
	}
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	struct sql_file *f = arg;
	_cleanup_free_ struct cell *cells = calloc(ncols + 1, sizeof(*cells));
	int r = cells ? 0 : -ENOMEM;

	/* The line of progress and the rows share the terminal. */
	if (f->tty)
		progress_end(f->progress);
	for (size_t row = 0; r >= 0 && row < nrows; row++) {
		for (size_t col = 0; col < ncols; col++)
			cells[col] = cell_of(&values[row * ncols + col]);
		r = out_row(f->out, cells);
	}
	atomic_store_explicit(&f->progress->rows, out_rows(f->out), memory_order_relaxed);
	return r < 0 ? r : 0;
}

static int on_done(void *arg, const struct query_stats *stats)
{
	struct sql_file *f = arg;

	ringside__v1__query_stats__init(&f->stats);
	f->stats.rows = stats->rows;
	f->stats.truncated = stats->truncated;
	f->stats.completeness = f->losses;
	for (unsigned int i = 0; i < stats->nloss && i < ARRAY_SIZE(f->loss); i++) {
		ringside__v1__completeness__init(&f->loss[i]);
		f->loss[i].table = (char *)stats->loss[i].table;
		f->loss[i].rows_lost = stats->loss[i].rows;
		f->loss[i].since = (int64_t)stats->loss[i].since_ns;
		f->loss[i].from = (int64_t)stats->loss[i].from_ns;
		f->loss[i].until = (int64_t)stats->loss[i].until_ns;
		if (stats->loss[i].held != UINT64_MAX)
			f->loss[i].rows_held = stats->loss[i].held;
		snprintf(f->why[i], sizeof(f->why[i]), "%s", stats->loss[i].why);
		f->loss[i].why = f->why[i];
		f->losses[f->stats.n_completeness++] = &f->loss[i];
	}
	return 0;
}

int sql_file_run(struct sql_file *f, struct sql_session *s, const char *sql,
		 struct progress *progress, Ringside__V1__QueryStats **ret, struct err *err)
{
	const struct query_sink sink = {
		.columns = on_columns, .rows = on_rows, .done = on_done, .arg = f};
	_cleanup_free_ struct value *params = calloc(s->nparams + 1, sizeof(*params));
	struct query q = {
		.sql = sql,
		.nparams = s->nparams,
		.max_rows = s->max_rows,
		.deadline_ns = s->cli->timeout_ns ? clock_mono_ns() + s->cli->timeout_ns : 0,
		.cancelled = cli_interrupt_flag(),
	};
	int r;

	if (!params)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < s->nparams; i++)
		params[i] = value_of_message(&s->values[i]);
	q.params = params;
	f->out = s->out;
	f->progress = progress;
	f->tty = s->cli->tty_out;
	r = query_run(f->engine, &q, &sink, err);
	if (cli_interrupted())
		return SQL_INTERRUPTED;
	*ret = r == 0 ? &f->stats : NULL;
	return r;
}
