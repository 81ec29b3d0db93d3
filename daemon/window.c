// SPDX-License-Identifier: Apache-2.0
/* A window of all tables at one moment: history by one script of the query worker, live tables
 * behind it. */
#include "daemon/window.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/macro.h"
#include "base/opt.h"
#include "daemon/control.h"
#include "daemon/daemon.h"
#include "daemon/tables.h"
#include "store/query.h"

/* Rows of a live table that go to the sink at once. */
#define LIVE_ROWS 64

struct run {
	struct daemon *d;
	const struct api_window_sink *sink;
	const struct table **history, **live; /* NULL-terminated */
	size_t next;			      /* of history: the one whose columns come now */
};

static const struct table *find(const struct daemon *d, const char *name)
{
	for (size_t i = 0; d->tables[i]; i++)
		if (!strcmp(d->tables[i]->name, name))
			return d->tables[i];
	return NULL;
}

static int unknown(const struct daemon *d, const char *name, struct err *err)
{
	_cleanup_free_ const char **names = NULL;
	const char *near = NULL;
	size_t n = 0;

	while (d->tables[n])
		n++;
	names = calloc(n + 1, sizeof(*names));
	for (size_t i = 0; names && i < n; i++)
		names[i] = d->tables[i]->name;
	if (names)
		near = opt_nearest(name, names, n);
	if (near)
		return err_set(err, -ENOENT, "no table '%.64s', did you mean '%s'?", name, near);
	return err_set(err, -ENOENT, "no table '%.64s'; 'ringside tables' lists them", name);
}

/* Asked for; and what is missing in it, "loss", comes along with any history. */
static bool wanted(const struct api_window *w, const struct table *t)
{
	if (!w->ntables || t == &loss_table)
		return true;
	for (size_t i = 0; i < w->ntables; i++)
		if (!strcmp(w->tables[i], t->name))
			return true;
	return false;
}

static int choose(struct run *run, const struct api_window *w, struct err *err)
{
	size_t n = 0, nhistory = 0, nlive = 0;

	for (size_t i = 0; i < w->ntables; i++)
		if (!find(run->d, w->tables[i]))
			return unknown(run->d, w->tables[i], err);
	while (run->d->tables[n])
		n++;
	run->history = calloc(n + 1, sizeof(*run->history));
	run->live = calloc(n + 1, sizeof(*run->live));
	if (!run->history || !run->live)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		const struct table *t = run->d->tables[i];

		if (!wanted(w, t))
			continue;
		if (table_is_history(t))
			run->history[nhistory++] = t;
		else
			run->live[nlive++] = t;
	}
	return 0;
}

static int bound(int64_t given, uint64_t now, const char *name, uint64_t *ret, struct err *err)
{
	uint64_t back = (uint64_t)0 - (uint64_t)given;

	if (given < 0 && back > now)
		return err_set(err, -EINVAL, "%s reaches %" PRIu64 " ns back, before 1970", name,
			       back);
	*ret = given < 0 ? now - back : (uint64_t)given;
	return 0;
}

static int bounds(const struct api_window *w, struct api_window_start *start, struct err *err)
{
	int r;

	start->taken_at_ns = clock_real_ns();
	r = bound(w->since, start->taken_at_ns, "since", &start->since_ns, err);
	if (r == 0)
		r = bound(w->until, start->taken_at_ns, "until", &start->until_ns, err);
	if (r < 0)
		return r;
	if (!w->until)
		start->until_ns = start->taken_at_ns;
	if (start->since_ns > start->until_ns)
		return err_set(err, -EINVAL,
			       "the window ends before it begins: since is later than until");
	return 0;
}

static int script(const struct run *run, const struct api_window_start *start, struct buf *sql,
		  struct err *err)
{
	for (size_t i = 0; run->history[i]; i++)
		buf_printf(sql,
			   "SELECT * FROM \"%s\" WHERE ts >= %" PRIu64 " AND ts <= %" PRIu64
			   " ORDER BY ts;\n",
			   run->history[i]->name, start->since_ns, start->until_ns);
	return buf_status(sql) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

static int on_columns(void *arg, const struct query_column *cols, size_t ncols)
{
	struct run *run = arg;
	const struct table *t = run->history[run->next];

	(void)cols;
	if (!t || ncols != t->nfields)
		return -EPROTO;
	return run->sink->table(run->sink->arg, t);
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	struct run *run = arg;

	return run->sink->rows(run->sink->arg, values, nrows, ncols);
}

static int on_done(void *arg, const struct query_stats *stats)
{
	struct run *run = arg;
	struct api_query_loss loss = {0};

	if (stats->nloss)
		loss = (struct api_query_loss){.table = stats->loss[0].table,
					       .rows = stats->loss[0].rows,
					       .since_ns = stats->loss[0].since_ns,
					       .from_ns = stats->loss[0].from_ns,
					       .until_ns = stats->loss[0].until_ns,
					       .held = stats->loss[0].held,
					       .why = stats->loss[0].why};
	run->next++;
	return run->sink->table_end(run->sink->arg, stats->rows, &loss, "");
}

static int send_live(struct run *run, const struct batch *b)
{
	const struct table *t = b->table;
	_cleanup_free_ struct value *values =
		calloc((size_t)LIVE_ROWS * t->nfields, sizeof(*values));
	int r = values ? 0 : -ENOMEM;

	for (uint32_t row = 0; r == 0 && row < b->nrows; row += LIVE_ROWS) {
		uint32_t n = b->nrows - row < LIVE_ROWS ? b->nrows - row : LIVE_ROWS;

		for (uint32_t i = 0; i < n; i++)
			for (uint32_t col = 0; col < t->nfields; col++)
				batch_get(b, row + i, col, &values[(size_t)i * t->nfields + col]);
		r = run->sink->rows(run->sink->arg, values, n, t->nfields);
	}
	return r;
}

/* A live table that can't be read, of a plugin that isn't there now, says so; the others are as
 * good. */
static int live(struct run *run, const struct table *t)
{
	_cleanup_(batch_unrefp) struct batch *b = NULL;
	struct err why = {0};
	int got = control_snapshot(run->d, t, &b, &why), r;

	r = run->sink->table(run->sink->arg, t);
	if (r == 0 && got == 0)
		r = send_live(run, b);
	if (r < 0)
		return r;
	return run->sink->table_end(run->sink->arg, got == 0 ? b->nrows : 0, NULL,
				    got < 0 ? why.msg : "");
}

static int history(struct run *run, const struct api_window *w,
		   const struct api_window_start *start, struct err *err)
{
	_cleanup_buf_ struct buf sql = {0};
	const struct query_sink sink = {
		.columns = on_columns, .rows = on_rows, .done = on_done, .arg = run};
	struct query q = {
		.deadline_ns = w->deadline_mono_ns, .cancelled = w->cancelled, .script = true};
	int r = script(run, start, &sql, err);

	if (r < 0 || !run->history[0])
		return r;
	q.sql = sql.data;
	r = query_run(run->d->queries, &q, &sink, err);
	if (r == -ETIMEDOUT)
		err_set(err, r,
			"the window was not read within the time that a query may have: ask for a "
			"shorter one, "
			"for fewer tables, or raise query.max_deadline");
	return r;
}

int control_window(void *ctx, const struct api_window *window, const struct api_window_sink *sink,
		   struct err *err)
{
	struct daemon *d = ctx;
	struct run run = {.d = d, .sink = sink};
	struct api_window_start start = {.version = RINGSIDE_VERSION};
	char host[256] = "";
	struct utsname u = {0};
	int r = bounds(window, &start, err);

	if (gethostname(host, sizeof(host) - 1) < 0)
		host[0] = '\0';
	uname(&u);
	start.host = host;
	start.kernel = u.release;
	if (r == 0)
		r = choose(&run, window, err);
	if (r == 0)
		r = sink->start(sink->arg, &start);
	if (r == 0)
		r = history(&run, window, &start, err);
	for (size_t i = 0; r == 0 && run.live[i]; i++)
		r = live(&run, run.live[i]);
	if (r < 0 && err && !err->msg[0])
		err_set(err, r, "the snapshot could not be delivered: %s", strerror(-r));
	free(run.history);
	free(run.live);
	return r;
}
