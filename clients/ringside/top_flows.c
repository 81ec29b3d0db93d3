// SPDX-License-Identifier: Apache-2.0
/* ringside top: the flows that moved most. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "clients/ringside/plugin.h"
#include "clients/ringside/rows.h"
#include "clients/ringside/text.h"
#include "clients/ringside/top.h"
#include "ringside/v1/query.pb-c.h"

#define QUERY_TIMEOUT_NS (10 * NSEC_PER_SEC)
#define POLL_MS		 100

/* Sums are exact over rows of any interval; the totals stand in each row so that one statement
 * does. */
static const char flows_sql[] =
	"WITH f AS (SELECT process_name, pid, direction, transport, dst_ip, dst_port, dst_domain,"
	" sum(bytes_read) r, sum(bytes_written) w, sum(tcp_established) c, max(rtt) t"
	" FROM netflow WHERE ts > ?1 GROUP BY 1, 2, 3, 4, 5, 6, 7)"
	" SELECT process_name, pid, direction, transport, dst_ip, dst_port, dst_domain, r, w, c, t,"
	" count(*) OVER (), sum(r) OVER (), sum(w) OVER () FROM f ORDER BY r + w DESC, c DESC "
	"LIMIT ?2";
enum {
	FLOW_PROCESS,
	FLOW_PID,
	FLOW_DIRECTION,
	FLOW_TRANSPORT,
	FLOW_IP,
	FLOW_PORT,
	FLOW_DOMAIN,
	FLOW_READ,
	FLOW_WRITTEN,
	FLOW_CONNECTIONS,
	FLOW_RTT,
	FLOW_COUNT,
	FLOW_SUM_READ,
	FLOW_SUM_WRITTEN,
	FLOW_X_MAX,
};

static int64_t value_int(const Ringside__V1__Value *v)
{
	return v->kind_case == RINGSIDE__V1__VALUE__KIND_INTEGER ? v->integer : 0;
}

static void put_flows_title(struct top *t, Ringside__V1__Value **v, double seconds)
{
	char window[32], in[32], out[32];
	_cleanup_buf_ struct buf n = {0};

	text_add_count(&n, v ? (uint64_t)value_int(v[FLOW_COUNT]) : 0);
	fprintf(t->screen, "\nflows of the last %s: %s, received %s/s, sent %s/s\n",
		units_format_duration(window, sizeof(window), (uint64_t)seconds * NSEC_PER_SEC),
		n.data ? n.data : "?",
		units_format_bytes(in, sizeof(in),
				   v ? (uint64_t)((double)value_int(v[FLOW_SUM_READ]) / seconds)
				     : 0),
		units_format_bytes(out, sizeof(out),
				   v ? (uint64_t)((double)value_int(v[FLOW_SUM_WRITTEN]) / seconds)
				     : 0));
}

static bool is_narrow(const struct top *t)
{
	return t->width && t->width < 100;
}

/* "out" for outgoing. */
static struct cell short_direction(const Ringside__V1__Value *v)
{
	struct cell c = cell_of_value(v);

	if (c.kind == CELL_TEXT && c.len > 5 && strcmp(c.s + c.len - 5, "going") == 0)
		c.len -= 5;
	else if (c.kind == CELL_TEXT && c.len > 6 && strcmp(c.s + c.len - 6, "coming") == 0)
		c.len -= 6;
	return c;
}

static void put_flow(const struct top *t, struct out *o, Ringside__V1__Value **v, double seconds)
{
	struct cell port = cell_of_value(v[FLOW_PORT]);
	struct cell name = cell_of_value(v[FLOW_DOMAIN]);

	if (name.kind != CELL_TEXT || !name.len)
		name = cell_of_value(v[FLOW_IP]);
	/* Ephemeral ports are folded into one row. */
	if (port.kind == CELL_NULL)
		port = cell_text("*");
	out_row(o, (struct cell[]){
			   cell_of_value(v[FLOW_PROCESS]),
			   cell_of_value(v[FLOW_PID]),
			   is_narrow(t) ? short_direction(v[FLOW_DIRECTION])
					: cell_of_value(v[FLOW_DIRECTION]),
			   cell_of_value(v[FLOW_TRANSPORT]),
			   name,
			   port,
			   cell_int((int64_t)((double)value_int(v[FLOW_READ]) / seconds)),
			   cell_int((int64_t)((double)value_int(v[FLOW_WRITTEN]) / seconds)),
			   cell_of_value(v[FLOW_CONNECTIONS]),
			   cell_of_value(v[FLOW_RTT]),
		   });
}

/* In as few columns of the terminal as numbers allow where there are not many. */
static void begin_flows(const struct top *t, struct out *o)
{
	static const struct out_column columns[] = {
		{"PROCESS", OUT_TEXT, NULL},	{"PID", OUT_INT, NULL},
		{"DIRECTION", OUT_TEXT, NULL},	{"PROTO", OUT_TEXT, NULL},
		{"REMOTE", OUT_TEXT, NULL},	{"PORT", OUT_ANY, NULL},
		{"RECEIVED", OUT_INT, "By/s"},	{"SENT", OUT_INT, "By/s"},
		{"NEW", OUT_INT, NULL},		{"RTT", OUT_INT, "us"},
	};
	static const struct out_column narrow[] = {
		{"PROCESS", OUT_TEXT, NULL},	{"PID", OUT_INT, NULL},
		{"DIR", OUT_TEXT, NULL},	{"PROTO", OUT_TEXT, NULL},
		{"REMOTE", OUT_TEXT, NULL},	{"PORT", OUT_ANY, NULL},
		{"RECV/S", OUT_INT, "By"},	{"SENT/S", OUT_INT, "By"},
		{"NEW", OUT_INT, NULL},		{"RTT", OUT_INT, "us"},
	};
	/* Who, with whom and how much stays. Nearly all of it is TCP. */
	static const uint8_t ranks[] = {0, 4, 3, 5, 0, 0, 0, 0, 2, 1};

	out_columns(o, is_narrow(t) ? narrow : columns, ARRAY_SIZE(columns));
	out_set_ranks(o, ranks);
}

/* Reads the answer to flows_sql into the frame. */
static int read_flows(struct top *t, struct client_stream *stream, struct out *o, double seconds,
		      struct err *err)
{
	bool titled = false;

	for (;;) {
		Ringside__V1__QueryResponse *m = NULL;
		int r = client_stream_next(stream, POLL_MS * NSEC_PER_MSEC, (ProtobufCMessage **)&m,
					   err);

		if (cli_interrupted()) {
			message_free(m);
			client_stream_cancel(stream);
			return 0;
		}
		if (r == -EAGAIN)
			continue;
		if (r <= 0) {
			if (!titled && r == 0)
				put_flows_title(t, NULL, seconds);
			return r;
		}
		if (m->part_case == RINGSIDE__V1__QUERY_RESPONSE__PART_ROWS) {
			for (size_t i = 0; i + FLOW_X_MAX <= m->rows->n_values; i += FLOW_X_MAX) {
				if (!titled)
					put_flows_title(t, m->rows->values + i, seconds);
				if (!titled)
					begin_flows(t, o);
				titled = true;
				put_flow(t, o, m->rows->values + i, seconds);
			}
		}
		message_free(m);
	}
}

static int query_flows(struct top *t, const Ringside__V1__Plugin *netflow, size_t rows)
{
	Ringside__V1__QueryRequest request = RINGSIDE__V1__QUERY_REQUEST__INIT;
	Ringside__V1__Value from = RINGSIDE__V1__VALUE__INIT, limit = RINGSIDE__V1__VALUE__INIT;
	Ringside__V1__Value *params[] = {&from, &limit};
	uint64_t now = clock_real_ns(), since = now - t->window_ns,
		 enabled = timestamp_ns(netflow->enabled_at);
	_cleanup_(out_freep) struct out *o = NULL;
	struct client_stream *stream = NULL;
	struct err err = {0};
	int r;

	/* Rates over a window that the plugin hasn't seen would be too small. */
	if (enabled > since && enabled + NSEC_PER_SEC < now)
		since = enabled;
	from.kind_case = limit.kind_case = RINGSIDE__V1__VALUE__KIND_INTEGER;
	from.integer = (int64_t)since;
	limit.integer = (int64_t)rows;
	request.sql = (char *)flows_sql;
	request.parameters = params;
	request.n_parameters = ARRAY_SIZE(params);
	if (top_out(t, &o) < 0)
		return cli_fail(CLI_REFUSED, "out of memory");
	r = client_stream_open(t->cli->client, "/ringside.v1.QueryService/Query", &request.base,
			       &ringside__v1__query_response__descriptor, QUERY_TIMEOUT_NS, &stream,
			       &err);
	if (r >= 0)
		r = read_flows(t, stream, o, (double)(now - since) / (double)NSEC_PER_SEC, &err);
	if (stream)
		client_stream_free(stream);
	err.code = r;
	return r < 0 ? cli_fail_err(&err) : 0;
}

int top_put_flows(struct top *t, const Ringside__V1__ListPluginsResponse *list, size_t rows)
{
	for (size_t i = 0; i < list->n_plugins; i++) {
		if (strcmp(list->plugins[i]->name, "netflow") != 0)
			continue;
		if (plugin_runs(list->plugins[i]))
			return query_flows(t, list->plugins[i], rows);
		fputs("\nno flows: 'ringside plugin enable netflow' starts them\n", t->screen);
		return 0;
	}
	fputs("\nno flows: this build has no plugin netflow\n", t->screen);
	return 0;
}
