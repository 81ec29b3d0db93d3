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
#include "clients/ringside/text.h"
#include "clients/ringside/top.h"
#include "ringside/v1/daemon.pb-c.h"

#define DEFAULT_INTERVAL_NS (2 * NSEC_PER_SEC)
#define DEFAULT_WINDOW_NS   (30 * NSEC_PER_SEC)
#define PLAIN_ROWS	    15u
#define PLAIN_WIDTH	    132u /* a log line that is still read */
#define POLL_MS		    100

/* For tables within the frame. */
int top_out(struct top *t, struct out **ret)
{
	return out_new(ret, &(struct out_options){.format = OUT_TABLE,
						  .file = t->screen,
						  .color = t->cli->color,
						  .utf8 = t->cli->utf8,
						  .width = t->width,
						  .sample = TOP_MAX_ROWS,
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

/* Of the frame so far. */
static size_t frame_lines(struct top *t)
{
	size_t lines = 0;

	if (fflush(t->screen) == 0)
		for (const char *p = t->text; (p = strchr(p, '\n')); p++)
			lines++;
	return lines;
}

/* That fit below what the frame has. */
static size_t flow_rows(struct top *t)
{
	/* An empty line, a title and a header over the flows, a line left below. */
	size_t used = frame_lines(t) + 4;

	if (t->rows || !t->raw)
		return t->rows ? t->rows : PLAIN_ROWS;
	return t->height > used + 1 ? t->height - used : 1;
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
	r = top_put_plugins(t, plugins);
	r = r ? r : top_put_flows(t, plugins, flow_rows(t));
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
	if (t.rows > TOP_MAX_ROWS)
		return cli_fail(CLI_USAGE, "--rows must be at most %u", TOP_MAX_ROWS);
	t.end_ns = for_ns ? clock_mono_ns() + for_ns : 0;
	return run(&t);
}
