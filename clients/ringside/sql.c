// SPDX-License-Identifier: Apache-2.0
/* ringside sql: one query, statements from a pipe, or the shell. */
#include "clients/ringside/sql.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/units.h"
#include "clients/ringside/progress.h"
#include "clients/ringside/rows.h"
#include "clients/ringside/sqlfile.h"
#include "clients/ringside/sqltext.h"
#include "clients/ringside/text.h"

#define WAIT_NS (100 * NSEC_PER_MSEC) /* how soon Ctrl-C is noticed */

/* What one statement's stream has said so far. */
struct result {
	struct sql_session *session;
	struct progress *progress;
	size_t ncols;
	bool columns_seen;
	Ringside__V1__QueryStats *stats; /* inside last */
	void *last;
	uint64_t started;
};

/* "1,234 of 5,678 rows of exec are known to be lost from A to B: ring_full 1234" */
static void note_completeness(const Ringside__V1__Completeness *c)
{
	_cleanup_buf_ struct buf b = {0};
	int64_t from = c->from > c->since ? c->from : c->since;
	char time[40];

	if (!c->rows_lost)
		return;
	text_add_count(&b, c->rows_lost);
	if (c->rows_held) {
		buf_puts(&b, " of ");
		text_add_count(&b, c->rows_held + c->rows_lost);
	}
	buf_printf(&b, " rows of %s are known to be lost", c->table);
	if (from > 0)
		buf_printf(&b, " %s %s", c->until > 0 ? "from" : "since",
			   clock_format_rfc3339(time, (uint64_t)from));
	if (c->until > 0)
		buf_printf(&b, "%s %s", from > 0 ? " to" : " before",
			   clock_format_rfc3339(time, (uint64_t)c->until));
	if (*c->why)
		buf_printf(&b, ": %s", c->why);
	cli_note("incomplete: %s", b.data ? b.data : "rows are missing");
}

static void note_stats(const struct result *res)
{
	const Ringside__V1__QueryStats *stats = res->stats;
	_cleanup_buf_ struct buf count = {0};
	double ms = (double)(clock_mono_ns() - res->started) / (double)NSEC_PER_MSEC;
	uint64_t rows = out_rows(res->session->out);
	bool lost = false;

	for (size_t i = 0; stats && i < stats->n_completeness; i++)
		lost |= stats->completeness[i]->rows_lost > 0;
	if (!res->session->summary && !lost && !(stats && stats->truncated))
		return;
	text_add_count(&count, rows);
	cli_note("%s row%s (%.*f ms)%s", count.data ? count.data : "?", rows == 1 ? "" : "s",
		 ms < 10 ? 1 : 0, ms,
		 stats && stats->n_completeness && !lost ? ", nothing was lost" : "");
	if (stats && stats->truncated)
		cli_note("there are more rows: the answer was cut at %s, see --max-rows",
			 count.data ? count.data : "?");
	for (size_t i = 0; stats && i < stats->n_completeness; i++)
		note_completeness(stats->completeness[i]);
}

static int take_message(struct result *res, Ringside__V1__QueryResponse *m)
{
	int r = 0;

	switch (m->part_case) {
	case RINGSIDE__V1__QUERY_RESPONSE__PART_COLUMNS:
		res->ncols = m->columns->n_columns;
		res->columns_seen = true;
		r = rows_begin(res->session->out, m->columns->columns, res->ncols, NULL);
		break;
	case RINGSIDE__V1__QUERY_RESPONSE__PART_ROWS:
		if (!res->columns_seen)
			return -EPROTO;
		/* The line of progress and the rows share the terminal. */
		if (res->session->cli->tty_out)
			progress_end(res->progress);
		r = rows_add(res->session->out, m->rows, res->ncols, NULL);
		atomic_store_explicit(&res->progress->rows, out_rows(res->session->out),
				      memory_order_relaxed);
		break;
	case RINGSIDE__V1__QUERY_RESPONSE__PART_STATS:
		res->stats = m->stats;
		break;
	default:
		break; /* a part that is newer than this client */
	}
	return r;
}

/* 0 at the end of the answer, negative with *err, or SQL_INTERRUPTED. */
static int read_stream(struct result *res, struct client_stream *stream, struct err *err)
{
	for (;;) {
		ProtobufCMessage *m = NULL;
		int r = client_stream_next(stream, WAIT_NS, &m, err);

		if (cli_interrupted()) {
			message_free(m);
			client_stream_cancel(stream);
			return SQL_INTERRUPTED;
		}
		if (r == -EAGAIN)
			continue;
		if (r <= 0)
			return r;
		r = take_message(res, (Ringside__V1__QueryResponse *)m);
		if (res->stats && !res->last)
			res->last = m;
		else
			message_free(m);
		if (r < 0) {
			client_stream_cancel(stream);
			return err_set(err, r, "cannot show the rows: %s", strerror(-r));
		}
	}
}

static int run_remote(struct result *res, char *sql, struct err *err)
{
	struct sql_session *s = res->session;
	Ringside__V1__QueryRequest request = RINGSIDE__V1__QUERY_REQUEST__INIT;
	struct client_stream *stream = NULL;
	int r;

	request.sql = sql;
	request.n_parameters = s->nparams;
	request.parameters = s->params;
	request.max_rows = s->max_rows;
	r = client_stream_open(s->cli->client, "/ringside.v1.QueryService/Query", &request.base,
			       &ringside__v1__query_response__descriptor, s->cli->timeout_ns,
			       &stream, err);
	if (r >= 0)
		r = read_stream(res, stream, err);
	if (stream)
		client_stream_free(stream);
	return r;
}

int sql_run(struct sql_session *s, const char *text, size_t len)
{
	struct result res = {.session = s, .started = clock_mono_ns()};
	_cleanup_free_ char *sql = NULL;
	struct progress progress;
	struct err err = {0};
	int r = s->file ? 0 : cli_connect(s->cli);

	if (r)
		return r;
	if (memchr(text, 0, len))
		return cli_fail(CLI_REFUSED, "the statement holds a NUL byte");
	for (; len && strchr(" \t\r\n", *text); len--)
		text++;
	for (; len && strchr(" \t\r\n", text[len - 1]); len--)
		;
	/* The server takes one statement; a semicolon in a comment at the end isn't its end. */
	if (len && sql_statement_end(text, len) == len)
		len--;
	sql = strndup(text, len);
	if (!sql)
		return cli_fail(CLI_REFUSED, "out of memory");
	progress_begin(&progress, s->cli->tty_err, "querying");
	res.progress = &progress;
	r = s->file ? sql_file_run(s->file, s, sql, &progress, &res.stats, &err)
		    : run_remote(&res, sql, &err);
	progress_end(&progress);
	if (res.columns_seen || s->file)
		out_end(s->out);
	if (r == 0)
		note_stats(&res);
	message_free(res.last);
	err.code = r;
	return r < 0 ? cli_fail_err(&err) : r;
}

int sql_run_all(struct sql_session *s, const char *text, size_t len)
{
	while (len) {
		size_t n = sql_statement_end(text, len);
		int r = 0;

		n = n ? n : len;
		if (!sql_is_blank(text, n))
			r = sql_run(s, text, n);
		if (r)
			return r;
		text += n;
		len -= n;
	}
	return 0;
}

/* Statements are run as soon as they are complete, so that a writer at the other end sees answers.
 */
static int run_pipe(struct sql_session *s)
{
	_cleanup_buf_ struct buf b = {0};
	char chunk[4096];

	for (;;) {
		ssize_t got = read(STDIN_FILENO, chunk, sizeof(chunk));
		size_t n, used = 0;

		if (cli_interrupted())
			return SQL_INTERRUPTED;
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return cli_fail(CLI_REFUSED, "cannot read standard input: %s",
					strerror(errno));
		if (got == 0)
			return b.len ? sql_run_all(s, b.data, b.len) : 0;
		buf_add(&b, chunk, (size_t)got);
		if (buf_status(&b) < 0)
			return cli_fail(CLI_REFUSED, "out of memory");
		while ((n = sql_statement_end(b.data + used, b.len - used))) {
			int r = sql_is_blank(b.data + used, n) ? 0 : sql_run(s, b.data + used, n);

			if (r)
				return r;
			used += n;
		}
		if (b.len - used > SQL_MAX_STATEMENT)
			return cli_fail(CLI_REFUSED,
					"a statement on standard input is longer than %u bytes",
					SQL_MAX_STATEMENT);
		memmove(b.data, b.data + used, b.len - used + 1);
		b.len -= used;
	}
}

/* 42, 1.5, null, 'always text', or text. */
static void parse_value(Ringside__V1__Value *v, char *text)
{
	size_t len = strlen(text);
	char *end;
	long long i;
	double d;

	ringside__v1__value__init(v);
	if (strcmp(text, "null") == 0 || strcmp(text, "NULL") == 0)
		return;
	errno = 0;
	i = strtoll(text, &end, 10);
	if (len && !*end && !errno && !strchr(" \t\n", text[0])) {
		v->kind_case = RINGSIDE__V1__VALUE__KIND_INTEGER;
		v->integer = i;
		return;
	}
	d = strtod(text, &end);
	/* Not "nan", "inf" or "0x10": those are more likely words. */
	if (len && !*end && strspn(text, "+-.0123456789eE") == len) {
		v->kind_case = RINGSIDE__V1__VALUE__KIND_REAL;
		v->real = d;
		return;
	}
	if (len >= 2 && text[0] == '\'' && text[len - 1] == '\'') {
		text[len - 1] = '\0';
		text++;
	}
	v->kind_case = RINGSIDE__V1__VALUE__KIND_TEXT;
	v->text = text;
}

static int take_params(struct sql_session *s, const struct args *args)
{
	size_t n = 0;

	while (args_get_nth(args, "param", n))
		n++;
	s->values = calloc(n + 1, sizeof(*s->values));
	s->params = calloc(n + 1, sizeof(*s->params));
	if (!s->values || !s->params)
		return cli_fail(CLI_REFUSED, "out of memory");
	for (size_t i = 0; i < n; i++) {
		/* argv is ours to write to. */
		parse_value(&s->values[i], (char *)args_get_nth(args, "param", i));
		s->params[i] = &s->values[i];
	}
	s->nparams = n;
	return 0;
}

int verb_sql(struct cli *cli, const struct args *args)
{
	struct sql_session s = {.cli = cli};
	int r = args_count(args, "max-rows", &s.max_rows);

	if (!r)
		r = take_params(&s, args);
	if (!r && args_get(args, "file"))
		r = sql_file_open(&s.file, args_get(args, "file"));
	if (!r)
		r = cli_out_new(cli, &s.out);
	if (!r) {
		s.summary = cli->format == OUT_TABLE && cli->tty_out;
		cli_catch_interrupts();
		if (args->npos && sql_is_blank(args->pos[0], strlen(args->pos[0])))
			r = cli_fail(CLI_USAGE, "the query is empty");
		else if (args->npos)
			r = sql_run_all(&s, args->pos[0], strlen(args->pos[0]));
		else if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
			r = shell_run(&s);
		else
			r = run_pipe(&s);
		if (r != SQL_INTERRUPTED)
			r = cli_out_done(s.out, r);
	}
	out_free(s.out);
	sql_file_close(s.file);
	free(s.values);
	free(s.params);
	if (r == SQL_INTERRUPTED) {
		cli_disconnect(cli);
		cli_die_of_interrupt();
	}
	return r;
}
