// SPDX-License-Identifier: Apache-2.0
/* ringside watch: rows as they happen; a live table is drawn anew at each snapshot. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/units.h"
#include "clients/ringside/cli.h"
#include "clients/ringside/rows.h"
#include "clients/ringside/text.h"

#define WAIT_NS (100 * NSEC_PER_MSEC) /* how soon Ctrl-C is noticed */

struct watched {
	Ringside__V1__Table *table; /* inside message */
	void *message;
	struct row_map map;
};

struct watch {
	struct cli *cli;
	struct out *out;
	const char *columns;
	struct watched *tables;
	size_t ntables;
	bool several;  /* more than one table was asked for */
	bool redraw;   /* one live table on a terminal */
	bool snapshot; /* rows of an unfinished snapshot are held */
	struct watched *current;
	uint64_t rows, dropped, lost;
	uint64_t end_ns; /* CLOCK_MONOTONIC; 0: never */
};

static struct watched *find_table(struct watch *w, const char *name)
{
	for (size_t i = 0; i < w->ntables; i++)
		if (strcmp(w->tables[i].table->name, name) == 0)
			return &w->tables[i];
	return NULL;
}

/* Takes the message over when it brings a table's schema; *taken says so. */
static int take_schema(struct watch *w, Ringside__V1__WatchRowsResponse *m, bool *taken)
{
	struct watched *grown = reallocarray(w->tables, w->ntables + 1, sizeof(*grown));
	_cleanup_free_ char *missing = NULL;
	struct watched *t;

	if (!grown)
		return cli_fail(CLI_REFUSED, "out of memory");
	w->tables = grown;
	t = &w->tables[w->ntables];
	*t = (struct watched){.table = m->table, .message = m};
	switch (row_map_new(&t->map, m->table->columns, m->table->n_columns, w->columns,
			    &missing)) {
	case 0:
		break;
	case -ENOENT:
		row_map_free(&t->map);
		return cli_fail(CLI_USAGE,
				"table '%s' has no column '%s'; see 'ringside schema %s'",
				m->table->name, missing ? missing : "?", m->table->name);
	default:
		row_map_free(&t->map);
		return cli_fail(CLI_REFUSED, "out of memory");
	}
	w->ntables++;
	w->current = NULL; /* the array may have moved */
	*taken = true;
	return 0;
}

static int begin_table(struct watch *w, struct watched *t)
{
	if (w->several && w->cli->format == OUT_TABLE) {
		out_end(w->out);
		printf("%s-- %s --\n", w->current ? "\n" : "", t->table->name);
	}
	w->current = t;
	if (w->several && out_set_tag(w->out, t->table->name) < 0)
		return -ENOMEM;
	return rows_begin(w->out, t->table->columns, t->table->n_columns, &t->map);
}

static void note_dropped(struct watch *w, uint64_t n)
{
	_cleanup_buf_ struct buf count = {0};

	w->dropped += n;
	text_add_count(&count, n);
	cli_note("incomplete: %s rows were missed here because this reader was too slow",
		 count.data ? count.data : "?");
}

/* In the kernel, the daemon or the store: nobody has them. */
static void note_lost(struct watch *w, const char *table, uint64_t n)
{
	_cleanup_buf_ struct buf count = {0};

	w->lost += n;
	text_add_count(&count, n);
	cli_note("incomplete: %s rows of %s are lost or were left out; the table loss says where",
		 count.data ? count.data : "?", table);
}

/* A whole snapshot of one live table: a new screen on a terminal, a frame behind an empty line
 * elsewhere. */
static int end_snapshot(struct watch *w)
{
	w->snapshot = false;
	out_end(w->out);
	if (w->redraw)
		fputs("\033[J", stdout);
	/* Columns are sized again for the next one. */
	w->current = NULL;
	return out_flush(w->out);
}

static int take_rows(struct watch *w, const Ringside__V1__WatchRowsResponse *m)
{
	bool live = false;
	struct watched *t;
	int r = 0;

	if (!m->rows && !m->snapshot_end)
		return 0; /* heartbeat */
	t = find_table(w, m->table_name && *m->table_name ? m->table_name
			  : w->ntables			  ? w->tables[0].table->name
							  : "");
	if (!t)
		return -EPROTO;
	live = t->table->class_ == RINGSIDE__V1__TABLE_CLASS__TABLE_CLASS_LIVE;
	if (live && w->redraw && !w->snapshot) {
		fputs("\033[H", stdout);
		out_set_frame(w->out, cli_width(w->cli), cli_height(w->cli));
	}
	if (w->current != t)
		r = begin_table(w, t);
	w->snapshot = live;
	if (r == 0 && m->rows) {
		w->rows += m->rows->row_count;
		r = rows_add(w->out, m->rows, t->table->n_columns, &t->map);
	}
	if (r < 0)
		return r;
	if (live && m->snapshot_end && w->cli->format == OUT_TABLE)
		return end_snapshot(w);
	return live && w->cli->format == OUT_TABLE ? 0 : out_flush(w->out);
}

static int read_stream(struct watch *w, struct client_stream *stream)
{
	struct err err = {0};

	for (;;) {
		Ringside__V1__WatchRowsResponse *m = NULL;
		bool taken = false;
		int r;

		r = client_stream_next(stream, WAIT_NS, (ProtobufCMessage **)&m, &err);
		if (cli_interrupted() || (w->end_ns && clock_mono_ns() >= w->end_ns)) {
			message_free(m);
			client_stream_cancel(stream);
			return CLI_OK;
		}
		if (r == -EAGAIN)
			continue;
		if (r == 0)
			return CLI_OK;
		if (r < 0) {
			err.code = r;
			return cli_fail_err(&err);
		}
		if (m->dropped)
			note_dropped(w, m->dropped);
		if (m->lost)
			note_lost(w, m->table_name, m->lost);
		r = m->table && !find_table(w, m->table->name) ? take_schema(w, m, &taken) : 0;
		if (r == 0) {
			r = take_rows(w, m);
			if (r < 0 && r != -EPIPE)
				r = cli_fail(CLI_REFUSED, "cannot show the rows: %s", strerror(-r));
		}
		if (!taken)
			message_free(m);
		if (r) {
			client_stream_cancel(stream);
			return r < 0 ? CLI_REFUSED : r;
		}
	}
}

static int fill_request(const struct args *args, Ringside__V1__WatchRowsRequest *q,
			uint64_t *for_ns)
{
	uint64_t since = 0, interval = 0;
	int r = args_duration(args, "since", &since);

	r = r ? r : args_duration(args, "interval", &interval);
	r = r ? r : args_duration(args, "for", for_ns);
	r = r ? r : args_count(args, "max-rows", &q->max_rows);
	if (r)
		return r;
	if (args_get(args, "sql")) {
		if (args->npos || args_get(args, "where"))
			return cli_fail(CLI_USAGE,
					"--sql stands for itself, without TABLE and --where");
		q->sql = (char *)args_get(args, "sql");
	} else if (!args->npos) {
		return cli_fail(CLI_USAGE,
				"'watch' needs a TABLE or --sql; 'ringside tables' lists tables");
	}
	if (args_get(args, "where")) {
		if (args->npos != 1)
			return cli_fail(CLI_USAGE, "--where needs exactly one TABLE");
		q->where = (char *)args_get(args, "where");
	}
	q->n_tables = args->npos;
	q->tables = (char **)args->pos;
	q->interval = (int64_t)interval;
	if (since) {
		q->start_case = RINGSIDE__V1__WATCH_ROWS_REQUEST__START_SINCE;
		q->since = -(int64_t)since;
	}
	return 0;
}

/* Only a lone live table is drawn in place, and only on a terminal that can. */
static bool wants_redraw(struct cli *cli, const struct args *args)
{
	Ringside__V1__ListTablesRequest request = RINGSIDE__V1__LIST_TABLES_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__ListTablesResponse *answer = NULL;

	if (!cli->tty_out || !cli->tty_err || cli->format != OUT_TABLE || args->npos != 1)
		return false;
	if (cli_call_quiet(cli, "/ringside.v1.TableService/ListTables", &request,
			   &ringside__v1__list_tables_response__descriptor, 2 * NSEC_PER_SEC,
			   &answer) < 0)
		return false;
	for (size_t i = 0; i < answer->n_tables; i++)
		if (strcmp(answer->tables[i]->name, args->pos[0]) == 0)
			return answer->tables[i]->class_ ==
			       RINGSIDE__V1__TABLE_CLASS__TABLE_CLASS_LIVE;
	return false;
}

static int run(struct watch *w, const Ringside__V1__WatchRowsRequest *request)
{
	struct client_stream *stream = NULL;
	struct err err = {0};
	int r;

	if (w->redraw)
		fputs("\033[H\033[2J", stdout);
	r = client_stream_open(w->cli->client, "/ringside.v1.TableService/WatchRows",
			       &request->base, &ringside__v1__watch_rows_response__descriptor, 0,
			       &stream, &err);
	if (r < 0) {
		err.code = r;
		return cli_fail_err(&err);
	}
	r = read_stream(w, stream);
	client_stream_free(stream);
	return r;
}

static void note_end(const struct watch *w)
{
	_cleanup_buf_ struct buf rows = {0}, missed = {0}, lost = {0};

	if (!w->dropped && !w->lost)
		return;
	text_add_count(&rows, w->rows);
	text_add_count(&missed, w->dropped);
	text_add_count(&lost, w->lost);
	cli_note("%s rows, %s missed, %s lost", rows.data ? rows.data : "?",
		 missed.data ? missed.data : "?", lost.data ? lost.data : "?");
}

int verb_watch(struct cli *cli, const struct args *args)
{
	Ringside__V1__WatchRowsRequest request = RINGSIDE__V1__WATCH_ROWS_REQUEST__INIT;
	struct watch w = {
		.cli = cli, .columns = args_get(args, "columns"), .several = args->npos > 1};
	uint64_t for_ns = 0;
	int r = fill_request(args, &request, &for_ns);

	if (r)
		return r;
	if (w.several && (cli->format == OUT_CSV || cli->format == OUT_TSV))
		return cli_fail(CLI_USAGE,
				"%s holds one table: watch several with -o json or -o table",
				out_format_name(cli->format));
	r = cli_connect(cli);
	if (r)
		return r;
	r = cli_out_new(cli, &w.out);
	if (r)
		return r;
	cli_catch_interrupts();
	w.redraw = wants_redraw(cli, args);
	w.end_ns = for_ns ? clock_mono_ns() + for_ns : 0;
	r = run(&w, &request);
	r = cli_out_done(w.out, r);
	note_end(&w);
	out_free(w.out);
	for (size_t i = 0; i < w.ntables; i++) {
		row_map_free(&w.tables[i].map);
		message_free(w.tables[i].message);
	}
	free(w.tables);
	return r;
}
