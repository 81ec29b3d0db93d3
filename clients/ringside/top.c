// SPDX-License-Identifier: Apache-2.0
/* ringside top: flows, what the plugins cost and what the limits say, drawn again and again. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <termios.h>

#include "base/clock.h"
#include "base/units.h"
#include "clients/ringside/governor.h"
#include "clients/ringside/plugin.h"
#include "clients/ringside/rows.h"
#include "clients/ringside/text.h"
#include "ringside/v1/daemon.pb-c.h"
#include "ringside/v1/query.pb-c.h"

#define DEFAULT_INTERVAL_NS (2 * NSEC_PER_SEC)
#define DEFAULT_WINDOW_NS   (30 * NSEC_PER_SEC)
#define QUERY_TIMEOUT_NS    (10 * NSEC_PER_SEC)
#define PLAIN_ROWS	    15u
#define PLAIN_WIDTH	    132u /* a log line that is still read */
#define MAX_ROWS	    1000u
#define POLL_MS		    100

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

struct cost {
	char name[48];
	uint64_t run_count, run_time, events, user_time, bytes_stored;
	uint64_t at;
};

struct top {
	struct cli *cli;
	Ringside__V1__GetDaemonResponse *daemon;
	uint64_t interval_ns, window_ns, end_ns, rows;
	struct cost costs[64]; /* of the frame before */
	size_t ncosts;
	FILE *screen; /* the frame being composed */
	char *text;
	size_t len;
	size_t width, height;
	struct termios saved;
	bool raw;
};

/* For tables within the frame. */
static int frame_out(struct top *t, struct out **ret)
{
	return out_new(ret, &(struct out_options){.format = OUT_TABLE,
						  .file = t->screen,
						  .color = t->cli->color,
						  .utf8 = t->cli->utf8,
						  .width = t->width,
						  .services = t->cli->services});
}

/* The next part of a line, on a new one where the screen ends. */
static void put_part(struct top *t, size_t *column, const char *part)
{
	bool fits = *column + 3 + strlen(part) <= t->width;

	fprintf(t->screen, "%s%s", !*column ? "" : fits ? "   " : "\n", part);
	*column = (*column && fits ? *column + 3 : 0) + strlen(part);
}

static void put_head(struct top *t, const Ringside__V1__Governor *g)
{
	uint64_t started = timestamp_ns(t->daemon->started_at), now = clock_real_ns();
	_cleanup_buf_ struct buf b = {0};
	char up[32], at[40];
	size_t column = 0;

	buf_printf(&b, "ringside %s on ", t->daemon->version);
	text_add_safe(&b, t->daemon->hostname, strlen(t->daemon->hostname));
	buf_printf(&b, ", up %s, %s",
		   units_format_duration(
			   up, sizeof(up),
			   now > started ? (now - started) / NSEC_PER_SEC * NSEC_PER_SEC : 0),
		   clock_format_rfc3339(at, now));
	fprintf(t->screen, "%s\n", b.data ? b.data : "");
	for (size_t i = 0; g && i < g->n_resources; i++) {
		const Ringside__V1__ResourceUsage *u = g->resources[i];

		/* A part of cpu, of interest by itself where it has a budget of its own. */
		if (strcmp(u->resource, "kernel_cpu") == 0 && !u->limit)
			continue;
		buf_reset(&b);
		buf_printf(&b, "%s ", u->resource);
		governor_add_usage(&b, u);
		put_part(t, &column, b.data ? b.data : "");
	}
	if (g && strcmp(g->state, "ok") != 0) {
		buf_reset(&b);
		buf_printf(&b, "governor: %s", g->state);
		put_part(t, &column, b.data ? b.data : "");
	}
	fputs("\n\n", t->screen);
}

static const struct cost *cost_before(const struct top *t, const char *name)
{
	for (size_t i = 0; i < t->ncosts; i++)
		if (strcmp(t->costs[i].name, name) == 0)
			return &t->costs[i];
	return NULL;
}

/* Of one core, in percent, to the thousandth. */
static struct cell share(uint64_t time_ns, double seconds)
{
	return seconds > 0 ? cell_real((double)(uint64_t)((double)time_ns / seconds / 1e4) / 1000)
			   : cell_null();
}

/* What a plugin did since the frame before; at the first frame, since it was enabled. */
static void put_plugin(struct top *t, struct out *o, const Ringside__V1__Plugin *p, uint64_t now)
{
	const Ringside__V1__PluginStats *s = p->stats;
	const struct cost *before = cost_before(t, p->name);
	uint64_t enabled = timestamp_ns(p->enabled_at), real = clock_real_ns();
	/* Smaller than before: it was enabled anew. */
	bool delta =
		before && s && s->run_count >= before->run_count && s->events >= before->events;
	double seconds = delta			     ? (double)(now - before->at)
			 : enabled && real > enabled ? (double)(real - enabled)
						     : 0;
	uint64_t runs, time, events, user, bytes;

	if (!s || !plugin_runs(p)) {
		out_row(o, (struct cell[]){cell_text(p->name),
					   cell_text(plugin_state_text(p->state)), cell_null(),
					   cell_null(), cell_null(), cell_null(), cell_null(),
					   cell_null(), cell_null(), cell_text(p->reason)});
		return;
	}
	runs = s->run_count - (delta ? before->run_count : 0);
	time = s->run_time - (delta ? before->run_time : 0);
	events = s->events - (delta ? before->events : 0);
	user = s->user_time - (delta ? before->user_time : 0);
	bytes = s->bytes_stored - (delta ? before->bytes_stored : 0);
	seconds /= (double)NSEC_PER_SEC;
	out_row(o,
		(struct cell[]){
			cell_text(p->name),
			cell_text(plugin_state_text(p->state)),
			seconds > 0 ? cell_uint((uint64_t)((double)events / seconds)) : cell_null(),
			seconds > 0 ? cell_uint((uint64_t)((double)runs / seconds)) : cell_null(),
			runs ? cell_uint(time / runs) : cell_null(),
			share(time, seconds),
			share(user, seconds),
			seconds > 0 ? cell_uint((uint64_t)((double)bytes / seconds)) : cell_null(),
			cell_uint(s->kernel_drops + s->rows_dropped),
			cell_text(p->reason),
		});
}

/* Nothing to say of it but that it is there. One that was shed, or whose time is up, has a reason.
 */
static bool is_idle(const Ringside__V1__Plugin *p)
{
	return p->state == RINGSIDE__V1__PLUGIN_STATE__PLUGIN_STATE_DISABLED &&
	       (!p->reason || !*p->reason);
}

/* On one line, as many names as it has room for. */
static void put_idle(struct top *t, const Ringside__V1__ListPluginsResponse *list)
{
	static const char head[] = "disabled: ";
	const size_t more = strlen(", and 00 more");
	_cleanup_buf_ struct buf b = {0};
	size_t width = strlen(head), left = 0;

	for (size_t i = 0; i < list->n_plugins; i++)
		left += is_idle(list->plugins[i]);
	if (!left)
		return;
	buf_puts(&b, head);
	for (size_t i = 0; i < list->n_plugins; i++) {
		const Ringside__V1__Plugin *p = list->plugins[i];
		size_t len = is_idle(p) ? strlen(p->name) + 2 : 0;

		if (!len)
			continue;
		if (width + len + (left > 1 ? more : 0) > t->width)
			break;
		buf_puts(&b, width > strlen(head) ? ", " : "");
		text_add_safe(&b, p->name, strlen(p->name));
		width += len;
		left--;
	}
	if (left)
		buf_printf(&b, "%s%zu more", width > strlen(head) ? ", and " : "", left);
	fprintf(t->screen, "%s\n", b.data ? b.data : "");
}

static int put_plugins(struct top *t, const Ringside__V1__ListPluginsResponse *list)
{
	static const struct out_column columns[] = {
		{"PLUGIN", OUT_TEXT, NULL},  {"STATE", OUT_TEXT, NULL},
		{"EVENTS/S", OUT_INT, NULL}, {"RUNS/S", OUT_INT, NULL},
		{"NS/RUN", OUT_INT, NULL},   {"CPU %", OUT_REAL, NULL},
		{"USER %", OUT_REAL, NULL},  {"STORED", OUT_INT, "By/s"},
		{"LOST", OUT_INT, NULL},     {"", OUT_TEXT, NULL},
	};
	_cleanup_(out_freep) struct out *o = NULL;
	uint64_t now = clock_mono_ns();

	if (frame_out(t, &o) < 0)
		return cli_fail(CLI_REFUSED, "out of memory");
	out_columns(o, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < list->n_plugins; i++) {
		if (is_idle(list->plugins[i]))
			continue;
		put_plugin(t, o, list->plugins[i], now);
	}
	t->ncosts = 0;
	for (size_t i = 0; i < list->n_plugins && t->ncosts < ARRAY_SIZE(t->costs); i++) {
		const Ringside__V1__Plugin *p = list->plugins[i];
		struct cost *c = &t->costs[t->ncosts];

		if (!p->stats || !plugin_runs(p))
			continue;
		*c = (struct cost){.run_count = p->stats->run_count,
				   .run_time = p->stats->run_time,
				   .events = p->stats->events,
				   .user_time = p->stats->user_time,
				   .bytes_stored = p->stats->bytes_stored,
				   .at = now};
		snprintf(c->name, sizeof(c->name), "%s", p->name);
		t->ncosts++;
	}
	return 0;
}

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

static void put_flow(struct out *o, Ringside__V1__Value **v, double seconds)
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
			   cell_of_value(v[FLOW_DIRECTION]),
			   cell_of_value(v[FLOW_TRANSPORT]),
			   name,
			   port,
			   cell_int((int64_t)((double)value_int(v[FLOW_READ]) / seconds)),
			   cell_int((int64_t)((double)value_int(v[FLOW_WRITTEN]) / seconds)),
			   cell_of_value(v[FLOW_CONNECTIONS]),
			   cell_of_value(v[FLOW_RTT]),
		   });
}

static const struct out_column flow_columns[] = {
	{"PROCESS", OUT_TEXT, NULL},   {"PID", OUT_INT, NULL},	   {"DIRECTION", OUT_TEXT, NULL},
	{"PROTO", OUT_TEXT, NULL},     {"REMOTE", OUT_TEXT, NULL}, {"PORT", OUT_ANY, NULL},
	{"RECEIVED", OUT_INT, "By/s"}, {"SENT", OUT_INT, "By/s"},  {"NEW", OUT_INT, NULL},
	{"RTT", OUT_INT, "us"},
};

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
					out_columns(o, flow_columns, ARRAY_SIZE(flow_columns));
				titled = true;
				put_flow(o, m->rows->values + i, seconds);
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
	if (frame_out(t, &o) < 0)
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

/* Of the frame so far. */
static size_t frame_lines(struct top *t)
{
	size_t lines = 0;

	if (fflush(t->screen) == 0)
		for (const char *p = t->text; (p = strchr(p, '\n')); p++)
			lines++;
	return lines;
}

static int put_flows(struct top *t, const Ringside__V1__ListPluginsResponse *list)
{
	/* An empty line, a title and a header over the flows, a line left below. */
	size_t used = frame_lines(t) + 4, rows = t->rows;

	if (!rows)
		rows = !t->raw ? PLAIN_ROWS : t->height > used + 1 ? t->height - used : 1;
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

/* On a terminal every line clears what stood behind it and nothing scrolls. */
static void show_frame(struct top *t)
{
	size_t lines = 0;

	if (!t->raw) {
		printf("%s\n", t->text);
		fflush(stdout);
		return;
	}
	fputs("\033[H", stdout);
	for (const char *p = t->text; *p && lines + 1 < t->height; lines++) {
		size_t len = strcspn(p, "\n");

		printf("%.*s\033[K\n", (int)len, p);
		p += len + (p[len] == '\n');
	}
	fputs("\033[J", stdout);
	fflush(stdout);
}

static int draw(struct top *t)
{
	_cleanup_message_ Ringside__V1__GetGovernorResponse *governor = NULL;
	_cleanup_message_ Ringside__V1__ListPluginsResponse *plugins = NULL;
	int r = governor_get(t->cli, &governor);

	r = r ? r : plugin_list(t->cli, &plugins);
	if (r)
		return r;
	t->width = t->raw ? cli_width(t->cli) : PLAIN_WIDTH;
	t->height = t->raw ? cli_height(t->cli) : 0;
	t->screen = open_memstream(&t->text, &t->len);
	if (!t->screen)
		return cli_fail(CLI_REFUSED, "out of memory");
	put_head(t, governor->governor);
	r = put_plugins(t, plugins);
	if (!r) {
		put_idle(t, plugins);
		r = put_flows(t, plugins);
	}
	if (fclose(t->screen) == 0 && !r && !cli_interrupted())
		show_frame(t);
	free(t->text);
	t->text = NULL;
	return r;
}

static void terminal_enter(struct top *t)
{
	struct termios raw;

	if (!t->cli->tty_out || !t->cli->tty_err || !isatty(STDIN_FILENO) ||
	    tcgetattr(STDIN_FILENO, &t->saved) < 0)
		return;
	raw = t->saved;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	t->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	if (t->raw)
		/* The other screen, no cursor, long lines end at the edge. */
		fputs("\033[?1049h\033[?25l\033[?7l", stdout);
}

static void terminal_leave(struct top *t)
{
	if (!t->raw)
		return;
	fputs("\033[?7h\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSANOW, &t->saved);
	t->raw = false;
}

/* Until the next frame is due; false when it is time to go. */
static bool wait_frame(struct top *t, uint64_t due)
{
	for (;;) {
		struct pollfd in = {.fd = t->raw ? STDIN_FILENO : -1, .events = POLLIN};
		uint64_t now = clock_mono_ns();
		char key;

		if (cli_interrupted() || (t->end_ns && now >= t->end_ns))
			return false;
		if (now >= due)
			return true;
		if (poll(&in, 1, POLL_MS) > 0 &&
		    (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q'))
			return false;
	}
}

static int run(struct top *t)
{
	Ringside__V1__GetDaemonRequest request = RINGSIDE__V1__GET_DAEMON_REQUEST__INIT;
	int r = cli_call(t->cli, "/ringside.v1.DaemonService/GetDaemon", &request,
			 &ringside__v1__get_daemon_response__descriptor, "asking the daemon",
			 &t->daemon);
	uint64_t due;

	if (r)
		return r;
	cli_catch_interrupts();
	terminal_enter(t);
	do {
		due = clock_mono_ns() + t->interval_ns;
		r = draw(t);
	} while (!r && wait_frame(t, due));
	terminal_leave(t);
	message_free(t->daemon);
	return r;
}

int verb_top(struct cli *cli, const struct args *args)
{
	struct top t = {
		.cli = cli, .interval_ns = DEFAULT_INTERVAL_NS, .window_ns = DEFAULT_WINDOW_NS};
	uint64_t for_ns = 0;
	int r = args_duration(args, "interval", &t.interval_ns);

	r = r ? r : args_duration(args, "window", &t.window_ns);
	r = r ? r : args_duration(args, "for", &for_ns);
	r = r ? r : args_count(args, "rows", &t.rows);
	if (r)
		return r;
	if (cli->format != OUT_TABLE)
		return cli_fail(CLI_USAGE, "top is for people; 'watch' and 'sql' write %s",
				out_format_name(cli->format));
	if (t.interval_ns < 100 * NSEC_PER_MSEC || t.window_ns < NSEC_PER_SEC)
		return cli_fail(CLI_USAGE,
				"--interval must be 100ms or more and --window 1s or more");
	if (t.rows > MAX_ROWS)
		return cli_fail(CLI_USAGE, "--rows must be at most %u", MAX_ROWS);
	t.end_ns = for_ns ? clock_mono_ns() + for_ns : 0;
	return run(&t);
}
