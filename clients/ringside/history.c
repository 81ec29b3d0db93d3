// SPDX-License-Identifier: Apache-2.0
/* ringside history: how far back the rings reach, and how far they will. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "clients/ringside/cli.h"
#include "ringside/v1/daemon.pb-c.h"
#include "ringside/v1/query.pb-c.h"

#define WAIT_NS (100 * NSEC_PER_MSEC) /* how soon Ctrl-C is noticed */
/* The rate of now is that of the newest segments, as many as it takes to be that long. */
#define RATE_SPAN_NS (600 * NSEC_PER_SEC)
/* The first pages of a file are there before its first row: less than that, and not for long, says
 * nothing about what is to come. */
#define RATE_BYTES_MIN (1024 * 1024)
#define MAX_RINGS      8u

/* Newest first: what comes before RATE_SPAN_NS is full is the rate. */
static const char segments_sql[] =
	"SELECT ring, ts_min, ts_max, rows, bytes FROM segments ORDER BY ring, number DESC";
enum { SEG_RING, SEG_TS_MIN, SEG_TS_MAX, SEG_ROWS, SEG_BYTES, SEG_X_MAX };

struct ring_sum {
	char name[16];
	uint64_t segments, oldest, newest, rows, bytes;
	uint64_t recent_since, recent_rows, recent_bytes;
	uint64_t max_bytes, max_rows, max_age_ns;
};

struct history {
	struct ring_sum rings[MAX_RINGS];
	size_t n;
	uint64_t now;
};

static struct ring_sum *find_ring(struct history *h, const char *name)
{
	for (size_t i = 0; i < h->n; i++)
		if (strcmp(h->rings[i].name, name) == 0)
			return &h->rings[i];
	if (h->n == MAX_RINGS)
		return NULL;
	snprintf(h->rings[h->n].name, sizeof(h->rings[0].name), "%s", name);
	return &h->rings[h->n++];
}

/* NULL, as of a segment without rows, is 0. */
static uint64_t number(const Ringside__V1__Value *v)
{
	return v->kind_case == RINGSIDE__V1__VALUE__KIND_INTEGER && v->integer > 0
		       ? (uint64_t)v->integer
		       : 0;
}

static int add_segment(struct history *h, Ringside__V1__Value *const *v)
{
	uint64_t from = number(v[SEG_TS_MIN]), to = number(v[SEG_TS_MAX]);
	uint64_t rows = number(v[SEG_ROWS]), bytes = number(v[SEG_BYTES]);
	struct ring_sum *ring;

	if (v[SEG_RING]->kind_case != RINGSIDE__V1__VALUE__KIND_TEXT)
		return -EPROTO;
	ring = find_ring(h, v[SEG_RING]->text);
	if (!ring)
		return -EPROTO;
	ring->segments++;
	ring->rows += rows;
	ring->bytes += bytes;
	if (!from)
		return 0;
	if (!ring->oldest || from < ring->oldest)
		ring->oldest = from;
	if (to > ring->newest)
		ring->newest = to;
	if (!ring->recent_since || ring->recent_since + RATE_SPAN_NS > h->now) {
		ring->recent_since = from;
		ring->recent_rows += rows;
		ring->recent_bytes += bytes;
	}
	return 0;
}

static int take_message(struct history *h, const Ringside__V1__QueryResponse *m)
{
	const Ringside__V1__RowBatch *b = m->rows;
	int r = 0;

	if (m->part_case != RINGSIDE__V1__QUERY_RESPONSE__PART_ROWS)
		return 0;
	if (b->n_values != (size_t)b->row_count * SEG_X_MAX)
		return -EPROTO;
	for (size_t i = 0; r == 0 && i < b->row_count; i++)
		r = add_segment(h, b->values + i * SEG_X_MAX);
	return r;
}

static int read_segments(struct cli *cli, struct history *h)
{
	Ringside__V1__QueryRequest request = RINGSIDE__V1__QUERY_REQUEST__INIT;
	struct client_stream *stream = NULL;
	struct err err = {0};
	int r = cli_connect(cli);

	if (r)
		return r;
	request.sql = (char *)segments_sql;
	r = client_stream_open(cli->client, "/ringside.v1.QueryService/Query", &request.base,
			       &ringside__v1__query_response__descriptor, cli->timeout_ns, &stream,
			       &err);
	while (r >= 0) {
		_cleanup_message_ ProtobufCMessage *m = NULL;

		r = client_stream_next(stream, WAIT_NS, &m, &err);
		if (cli_interrupted())
			r = err_set(&err, -EINTR, "interrupted");
		if (r == -EAGAIN) {
			r = 1;
			continue;
		}
		if (r <= 0)
			break;
		r = take_message(h, (const Ringside__V1__QueryResponse *)m);
		if (r < 0)
			err_set(&err, r, "the daemon's answer isn't a list of segments");
		else
			r = 1;
	}
	if (stream)
		client_stream_free(stream);
	err.code = r;
	return r < 0 ? cli_fail_err(&err) : CLI_OK;
}

/* "store.flow.max_bytes" and its like; what can't be read bounds nothing. */
static void take_option(struct history *h, const char *key, const char *value)
{
	for (size_t i = 0; i < h->n; i++) {
		struct ring_sum *ring = &h->rings[i];
		char name[64];

		snprintf(name, sizeof(name), "store.%s.max_bytes", ring->name);
		if (strcmp(key, name) == 0 && units_parse_bytes(value, &ring->max_bytes, NULL) < 0)
			ring->max_bytes = 0;
		snprintf(name, sizeof(name), "store.%s.max_rows", ring->name);
		if (strcmp(key, name) == 0)
			ring->max_rows = strtoull(value, NULL, 10);
		snprintf(name, sizeof(name), "store.%s.max_age", ring->name);
		if (strcmp(key, name) == 0 &&
		    units_parse_duration(value, &ring->max_age_ns, NULL) < 0)
			ring->max_age_ns = 0;
	}
}

static int read_bounds(struct cli *cli, struct history *h)
{
	Ringside__V1__GetConfigRequest request = RINGSIDE__V1__GET_CONFIG_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__GetConfigResponse *answer = NULL;
	int r = cli_call(cli, "/ringside.v1.DaemonService/GetConfig", &request,
			 &ringside__v1__get_config_response__descriptor,
			 "reading the configuration", &answer);

	for (size_t i = 0; !r && i < answer->n_values; i++)
		take_option(h, answer->values[i]->key, answer->values[i]->value);
	return r;
}

/* How long it takes until what comes now is evicted; 0: nobody can tell, or never at this rate. */
static uint64_t reach_ns(const struct ring_sum *ring, uint64_t span_ns, double rows_rate,
			 double bytes_rate)
{
	/* Beyond a century it is a number without a meaning. */
	double reach = 100.0 * 365 * 86400, never = reach;

	bool enough = ring->recent_bytes >= RATE_BYTES_MIN || span_ns >= RATE_SPAN_NS;

	if (enough && ring->max_bytes && bytes_rate > 0 &&
	    (double)ring->max_bytes / bytes_rate < reach)
		reach = (double)ring->max_bytes / bytes_rate;
	if (enough && ring->max_rows && rows_rate > 0 && (double)ring->max_rows / rows_rate < reach)
		reach = (double)ring->max_rows / rows_rate;
	if (ring->max_age_ns && (double)ring->max_age_ns / 1e9 < reach)
		reach = (double)ring->max_age_ns / 1e9;
	return reach < never ? (uint64_t)reach * NSEC_PER_SEC : 0;
}

static double tenths(double v)
{
	return (double)(uint64_t)(v * 10 + 0.5) / 10;
}

static void write_ring(struct out *o, const struct ring_sum *ring, uint64_t now)
{
	uint64_t span =
		ring->recent_since && now > ring->recent_since ? now - ring->recent_since : 0;
	double rows = span ? (double)ring->recent_rows * 1e9 / (double)span : 0;
	double bytes = span ? (double)ring->recent_bytes * 1e9 / (double)span : 0;
	uint64_t reach = reach_ns(ring, span, rows, bytes);

	out_row(o, (struct cell[]){
			   cell_text(ring->name),
			   cell_uint(ring->segments),
			   ring->oldest ? cell_uint(ring->oldest) : cell_null(),
			   ring->newest ? cell_uint(ring->newest) : cell_null(),
			   cell_uint(ring->rows),
			   cell_uint(ring->bytes),
			   ring->max_bytes ? cell_uint(ring->max_bytes) : cell_null(),
			   span ? cell_real(tenths(rows)) : cell_null(),
			   span ? cell_uint((uint64_t)bytes) : cell_null(),
			   reach ? cell_uint(reach) : cell_null(),
		   });
}

int verb_history(struct cli *cli, const struct args *args _unused_)
{
	static const struct out_column columns[] = {
		{"ring", OUT_TEXT, NULL},	{"segments", OUT_INT, NULL},
		{"oldest", OUT_TIME, NULL},	{"newest", OUT_TIME, NULL},
		{"rows", OUT_INT, NULL},	{"bytes", OUT_INT, "By"},
		{"max_bytes", OUT_INT, "By"},	{"rows_per_s", OUT_REAL, NULL},
		{"bytes_per_s", OUT_INT, "By"}, {"reach", OUT_INT, "ns"},
	};
	struct history h = {.now = clock_real_ns()};
	_cleanup_(out_freep) struct out *o = NULL;
	int r = read_segments(cli, &h);

	r = r ? r : read_bounds(cli, &h);
	r = r ? r : cli_out_new(cli, &o);
	if (r)
		return r;
	out_columns(o, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < h.n; i++)
		write_ring(o, &h.rings[i], h.now);
	return cli_out_done(o, CLI_OK);
}
