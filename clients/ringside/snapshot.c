// SPDX-License-Identifier: Apache-2.0
/* ringside snapshot: a window of the ring as one SQLite file of the user's own, whole or not there
 * at all. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/units.h"
#include "clients/ringside/cli.h"
#include "clients/ringside/progress.h"
#include "clients/ringside/snapfile.h"
#include "ringside/v1/query.pb-c.h"

#define WAIT_NS (100 * NSEC_PER_MSEC) /* how soon Ctrl-C is noticed */

/* "2026-11-22T00:10:00", with a fraction that is dropped, with Z or an offset; local time without.
 */
static bool parse_date(const char *text, int64_t *ret)
{
	struct tm tm = {.tm_isdst = -1}, zone = {0};
	const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	time_t t;

	if (p && *p == '.')
		p += 1 + strspn(p + 1, "0123456789");
	if (!p)
		return false;
	if (!*p) {
		t = mktime(&tm);
	} else {
		p = strptime(p, "%z", &zone);
		if (!p || *p)
			return false;
		t = timegm(&tm) - zone.tm_gmtoff;
	}
	if (t <= 0 || t > (time_t)(INT64_MAX / (int64_t)NSEC_PER_SEC))
		return false;
	*ret = (int64_t)t * (int64_t)NSEC_PER_SEC;
	return true;
}

/* A duration reaches back from now, by the daemon's clock: negative. */
static int parse_bound(const struct args *a, const char *name, int64_t *ret)
{
	const char *text = args_get(a, name);
	struct err err = {0};
	uint64_t ns;

	if (!text || parse_date(text, ret))
		return 0;
	if (units_parse_duration(text, &ns, &err) < 0 || ns > INT64_MAX)
		return cli_fail(CLI_USAGE,
				"--%s '%s' is neither a duration (5m) nor a time "
				"(2026-11-22T00:10:00, with Z or an offset such as +01:00 if it "
				"isn't local)",
				name, text);
	*ret = -(int64_t)ns;
	return 0;
}

static int take_part(struct snapfile *f, const Ringside__V1__SnapshotResponse *m, struct err *err)
{
	switch (m->part_case) {
	case RINGSIDE__V1__SNAPSHOT_RESPONSE__PART_START:
		return snapfile_start(f, m->start, err);
	case RINGSIDE__V1__SNAPSHOT_RESPONSE__PART_TABLE:
		return snapfile_table(f, m->table, err);
	case RINGSIDE__V1__SNAPSHOT_RESPONSE__PART_ROWS:
		return snapfile_rows(f, m->rows, err);
	case RINGSIDE__V1__SNAPSHOT_RESPONSE__PART_TABLE_END:
		return snapfile_table_end(f, m->table_end, err);
	case RINGSIDE__V1__SNAPSHOT_RESPONSE__PART_END:
		return snapfile_end(f, m->end, err);
	default:
		return 0; /* a part that is newer than this client */
	}
}

/* 0 at the end; -EINTR: Ctrl-C. */
static int read_stream(struct snapfile *f, struct client_stream *stream, struct progress *progress,
		       struct err *err)
{
	for (;;) {
		_cleanup_message_ ProtobufCMessage *m = NULL;
		int r = client_stream_next(stream, WAIT_NS, &m, err);

		if (cli_interrupted())
			return err_set(err, -EINTR, "interrupted");
		if (r == -EAGAIN)
			continue;
		if (r <= 0)
			return r;
		r = take_part(f, (const Ringside__V1__SnapshotResponse *)m, err);
		if (r < 0)
			return r;
		atomic_store_explicit(&progress->rows, snapfile_totals(f)->rows,
				      memory_order_relaxed);
	}
}

static int fetch(struct cli *cli, struct snapfile *f, const Ringside__V1__SnapshotRequest *request,
		 struct err *err)
{
	struct client_stream *stream = NULL;
	struct progress progress;
	int r;

	progress_begin(&progress, cli->tty_err, "taking the snapshot");
	r = client_stream_open(cli->client, "/ringside.v1.QueryService/Snapshot", &request->base,
			       &ringside__v1__snapshot_response__descriptor, cli->timeout_ns,
			       &stream, err);
	if (r >= 0)
		r = read_stream(f, stream, &progress, err);
	if (stream && r < 0)
		client_stream_cancel(stream);
	if (stream)
		client_stream_free(stream);
	if (r == 0)
		r = snapfile_commit(f, err);
	progress_end(&progress);
	return r;
}

static int report(struct cli *cli, const struct snapfile_totals *t, const char *path)
{
	static const struct out_column columns[] = {
		{"file", OUT_TEXT, NULL},     {"tables", OUT_INT, NULL}, {"rows", OUT_INT, NULL},
		{"bytes", OUT_INT, "By"},     {"since", OUT_TIME, NULL}, {"until", OUT_TIME, NULL},
		{"rows_lost", OUT_INT, NULL},
	};
	_cleanup_(out_freep) struct out *o = NULL;
	struct stat st = {0};
	char text[40];
	int r = cli_out_new(cli, &o);

	if (r)
		return r;
	if (stat(path, &st) < 0)
		st.st_size = 0; /* moved away already */
	out_columns(o, columns, ARRAY_SIZE(columns));
	out_row(o, (struct cell[]){cell_text(path), cell_uint(t->tables), cell_uint(t->rows),
				   cell_uint((uint64_t)st.st_size),
				   t->since ? cell_uint(t->since) : cell_null(),
				   cell_uint(t->until), cell_uint(t->lost)});
	r = cli_out_done(o, CLI_OK);
	if (t->ring_since > t->since && t->since)
		cli_note("incomplete: the ring holds nothing from before %s",
			 clock_format_rfc3339(text, t->ring_since));
	if (t->lost)
		cli_note("incomplete: rows are known to be lost inside the window; see rows_lost "
			 "in snapshot_tables");
	return r;
}

/* All values of --table; each may hold several names. */
static int take_tables(const struct args *args, char ***ret, size_t *ret_n, char **text)
{
	size_t n = 0, len = 0;
	const char *v;
	char *save = NULL;

	for (size_t i = 0; (v = args_get_nth(args, "table", i)); i++)
		len += strlen(v) + 1;
	*text = calloc(1, len + 1);
	*ret = calloc(len + 1, sizeof(**ret));
	if (!*text || !*ret)
		return cli_fail(CLI_REFUSED, "out of memory");
	for (size_t i = 0, at = 0; (v = args_get_nth(args, "table", i)); i++) {
		memcpy(*text + at, v, strlen(v));
		at += strlen(v);
		(*text)[at++] = ',';
	}
	for (char *name = strtok_r(*text, ", ", &save); name; name = strtok_r(NULL, ", ", &save))
		(*ret)[n++] = name;
	*ret_n = n;
	return 0;
}

static int run(struct cli *cli, const Ringside__V1__SnapshotRequest *request, const char *path,
	       bool force)
{
	struct snapfile *f = NULL;
	struct snapfile_totals totals = {0};
	struct err err = {0};
	int r = cli_connect(cli);

	if (r)
		return r;
	cli_catch_interrupts();
	r = snapfile_new(&f, path, force, &err);
	if (r == 0)
		r = fetch(cli, f, request, &err);
	if (r == 0)
		totals = *snapfile_totals(f);
	snapfile_free(f); /* what isn't committed goes with it */
	if (r == -EINTR || (r < 0 && cli_interrupted())) {
		cli_disconnect(cli);
		cli_die_of_interrupt();
	}
	err.code = r;
	return r < 0 ? cli_fail_err(&err) : report(cli, &totals, path);
}

int verb_snapshot(struct cli *cli, const struct args *args)
{
	Ringside__V1__SnapshotRequest request = RINGSIDE__V1__SNAPSHOT_REQUEST__INIT;
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ char **tables = NULL;
	int r = parse_bound(args, "since", &request.since);

	if (!r)
		r = parse_bound(args, "until", &request.until);
	if (!r)
		r = take_tables(args, &tables, &request.n_tables, &text);
	request.tables = tables;
	return r ? r : run(cli, &request, args->pos[0], args_get(args, "force"));
}
