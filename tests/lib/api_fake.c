// SPDX-License-Identifier: Apache-2.0
/* The API server over a daemon that isn't there: made-up plugins and rows, so that tests of the API need no kernel. */
#define LOG_MODULE "fake"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "tests/lib/api_fake.h"

/* Only sizes and counts; the rows themselves must be checkable, so all is a function of seq. */
struct event_row {
	uint64_t ts;
	int64_t seq;
	double half;
	char name[16];
	struct str text;
	struct ip_addr ip;
	uint8_t odd;
};

static const struct field event_fields[] = {
	FIELD(event_row, ts, U64, TIME, TAG, "ns", "time of the row"),
	FIELD(event_row, seq, I64, INT64, COUNTER, "", "1, 2, 3, ..."),
	FIELD(event_row, half, F64, DOUBLE, GAUGE, "", "seq / 2"),
	FIELD(event_row, name, CHARS, TEXT, TAG, "", "row-<seq % 1000>"),
	FIELD(event_row, text, STR, TEXT, TAG, "", "padding", .dict = true),
	FIELD(event_row, ip, IP, IP, TAG, "", "10.x.y.z of seq", .null = NULL_ZERO),
	FIELD(event_row, odd, U8, BOOL, TAG, "", "seq is odd"),
};
static const struct table events_table = TABLE(event_row, FLOW, "events", "Rows that count up", event_fields);

struct fake_row {
	int64_t produced, refused, push_max_us, push_p99_us, rows_sent, rows_dropped, calls_live, watchers, connections;
};

static const struct field fake_fields[] = {
	FIELD(fake_row, produced, I64, INT64, COUNTER, "{row}", "rows made"),
	FIELD(fake_row, refused, I64, INT64, COUNTER, "{row}", "rows that the server refused"),
	FIELD(fake_row, push_max_us, I64, INT64, GAUGE, "us", "longest push"),
	FIELD(fake_row, push_p99_us, I64, INT64, GAUGE, "us", "p99 of push"),
	FIELD(fake_row, rows_sent, I64, INT64, COUNTER, "{row}", "rows sent to watchers"),
	FIELD(fake_row, rows_dropped, I64, INT64, COUNTER, "{row}", "rows that watchers missed"),
	FIELD(fake_row, calls_live, I64, INT64, GAUGE, "{call}", "calls now"),
	FIELD(fake_row, watchers, I64, INT64, GAUGE, "", "streams now"),
	FIELD(fake_row, connections, I64, INT64, GAUGE, "", "connections now"),
};
static const struct table fake_table = TABLE(fake_row, LIVE, "fake", "What the fake daemon did", fake_fields);

struct many_row {
	int64_t n;
	char pad[64];
};
static const struct field many_fields[] = {
	FIELD(many_row, n, I64, INT64, TAG, "", "0 .. 499"),
	FIELD(many_row, pad, CHARS, TEXT, TAG, "", "padding"),
};
static const struct table many_table = TABLE(many_row, LIVE, "many", "500 live rows", many_fields);

const struct table *const fake_tables[] = {&events_table, &fake_table, &many_table, NULL};

static void fill_event(struct batch *b, struct event_row *row, int64_t seq, uint64_t ts, size_t text_len)
{
	char text[4096];

	memset(text, 'x', text_len);
	row->ts = ts;
	row->seq = seq;
	row->half = (double)seq / 2;
	snprintf(row->name, sizeof(row->name), "row-%d", (int)(seq % 1000));
	row->text = batch_str(b, text, text_len);
	row->ip.family = 4;
	row->ip.addr[0] = 10;
	row->ip.addr[1] = (uint8_t)(seq >> 16);
	row->ip.addr[2] = (uint8_t)(seq >> 8);
	row->ip.addr[3] = (uint8_t)seq;
	row->odd = seq & 1;
}

static void count_push(struct fake *f, uint64_t ns)
{
	uint64_t us = ns / 1000;
	size_t i = us < FAKE_HIST ? us : FAKE_HIST - 1;

	f->push_hist[i]++;
	if (us > f->push_max_us)
		f->push_max_us = us;
}

static void publish(struct fake *f, struct batch *b)
{
	uint64_t t0;

	batch_seal(b, &f->last_ts);
	t0 = clock_mono_ns();
	if (api_server_push(f->server, b) < 0)
		atomic_fetch_add(&f->refused, b->nrows);
	count_push(f, clock_mono_ns() - t0);
	atomic_fetch_add(&f->produced, b->nrows);
	fake_store_add(f, b);
}

/* rate rows a second in batches each 10 ms, as a plugin's ring buffer gives them. */
static void *producer(void *arg)
{
	struct fake *f = arg;
	uint64_t start = clock_mono_ns(), made = 0;

	while (!atomic_load(&f->stop)) {
		uint64_t want = (clock_mono_ns() - start) * f->rate / NSEC_PER_SEC;
		struct timespec pause = {.tv_nsec = 10 * NSEC_PER_MSEC};

		while (made < want && !atomic_load(&f->stop)) {
			uint32_t n = want - made > 512 ? 512 : (uint32_t)(want - made);
			struct batch *b = batch_new(&events_table, n);

			for (uint32_t i = 0; b && i < n; i++)
				fill_event(b, batch_add(b), (int64_t)++f->seq, clock_real_ns(), f->text_len);
			made += n;
			if (b)
				publish(f, b);
		}
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static int64_t push_p99(const struct fake *f)
{
	uint64_t total = 0, seen = 0;

	for (size_t i = 0; i < FAKE_HIST; i++)
		total += f->push_hist[i];
	for (size_t i = 0; i < FAKE_HIST; i++) {
		seen += f->push_hist[i];
		if (seen * 100 >= total * 99)
			return (int64_t)i;
	}
	return 0;
}

static void fill_fake(struct fake *f, struct fake_row *row)
{
	struct api_server_stats st;

	api_server_get_stats(f->server, &st);
	*row = (struct fake_row){
		.produced = (int64_t)atomic_load(&f->produced),
		.refused = (int64_t)atomic_load(&f->refused),
		.push_max_us = (int64_t)f->push_max_us,
		.push_p99_us = push_p99(f),
		.rows_sent = (int64_t)st.rows_sent,
		.rows_dropped = (int64_t)st.rows_dropped,
		.calls_live = (int64_t)st.calls_live,
		.watchers = (int64_t)st.watchers,
		.connections = (int64_t)st.connections,
	};
}

int fake_snapshot(void *ctx, const struct table *table, struct batch **ret, struct err *err)
{
	struct fake *f = ctx;
	uint32_t n = table == &many_table ? 500 : 1;
	struct batch *b = batch_new(table, n);

	if (!b)
		return err_set(err, -ENOMEM, "no memory for a snapshot");
	for (uint32_t i = 0; i < n; i++) {
		if (table == &many_table) {
			struct many_row *row = batch_add(b);

			row->n = i;
			memset(row->pad, 'm', sizeof(row->pad));
		} else {
			fill_fake(f, batch_add(b));
		}
	}
	batch_seal(b, NULL);
	*ret = b;
	return 0;
}

static bool parse_args(int argc, char **argv, struct fake *f, struct api_server_options *o)
{
	static const struct option longs[] = {
		{"socket", 1, NULL, 's'}, {"group", 1, NULL, 'g'}, {"listen", 1, NULL, 'l'}, {"ca", 1, NULL, 'a'},
		{"cert", 1, NULL, 'c'}, {"key", 1, NULL, 'k'}, {"tls-admin", 1, NULL, 'A'}, {"rate", 1, NULL, 'r'},
		{"text-len", 1, NULL, 't'}, {"store-lag", 1, NULL, 'L'}, {"nofile", 1, NULL, 'n'},
		{"max-connections", 1, NULL, 'C'}, {"max-calls", 1, NULL, 'M'}, {"max-calls-per-connection", 1, NULL, 'P'},
		{"grace", 1, NULL, 'G'}, {"fd", 1, NULL, 'f'}, {}};
	static const char *admins[2];
	static int fd;

	for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (c) {
		case 's': o->socket_path = optarg; break;
		case 'g': o->group = optarg; break;
		case 'l': o->listen = optarg; break;
		case 'a': o->tls_ca = optarg; break;
		case 'c': o->tls_cert = optarg; break;
		case 'k': o->tls_key = optarg; break;
		case 'A': admins[0] = optarg; o->tls_admins = admins; break;
		case 'r': f->rate = strtoull(optarg, NULL, 10); break;
		case 't': f->text_len = strtoul(optarg, NULL, 10) % 4096; break;
		case 'L': f->store_lag_ns = strtoull(optarg, NULL, 10) * NSEC_PER_MSEC; break;
		case 'n': f->nofile = strtoul(optarg, NULL, 10); break;
		case 'C': o->max_connections = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'M': o->max_calls = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'P': o->max_calls_per_connection = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'G': f->grace_ns = strtoull(optarg, NULL, 10) * NSEC_PER_MSEC; break;
		case 'f': fd = atoi(optarg); o->activated_fds = &fd; o->nactivated = 1; break;
		default: return false;
		}
	}
	return o->socket_path || o->listen || o->nactivated;
}

/* TERM and INT end it, HUP reads the TLS files again, USR1 tells the governor's watchers of a change. */
static void serve(struct fake *f, const sigset_t *set)
{
	int sig;

	while (sigwait(set, &sig) == 0) {
		if (sig == SIGHUP)
			api_server_reload_tls(f->server);
		else if (sig == SIGUSR1)
			api_server_governor_changed(f->server);
		else
			return;
	}
}

static int run(struct fake *f, const struct api_server_options *o, const sigset_t *set)
{
	pthread_t producer_thread;
	struct err err = {};
	uint64_t t0;

	if (fake_store_open(f) < 0 || api_server_new(&f->server, o, &err) < 0 || api_server_start(f->server, &err) < 0) {
		fprintf(stderr, "cannot start: %s\n", err.msg);
		api_server_free(f->server);
		fake_store_close(f);
		return 1;
	}
	if (thread_start(&producer_thread, "producer", producer, f) < 0)
		return 1;
	printf("ready %d\n", api_server_tls_port(f->server));
	fflush(stdout);
	serve(f, set);
	t0 = clock_mono_ns();
	api_server_stop(f->server, f->grace_ns);
	printf("drained in %llu ms\n", (unsigned long long)((clock_mono_ns() - t0) / NSEC_PER_MSEC));
	atomic_store(&f->stop, true);
	pthread_join(producer_thread, NULL);
	api_server_free(f->server);
	fake_store_close(f);
	return 0;
}

int main(int argc, char **argv)
{
	static struct fake f = {.grace_ns = 400 * NSEC_PER_MSEC, .text_len = 8};
	struct api_server_options o = {.ops = &fake_ops, .ctx = &f};
	sigset_t set;

	log_init(LOG_LEVEL_INFO);
	if (!parse_args(argc, argv, &f, &o)) {
		fprintf(stderr, "usage: api_fake --socket PATH [--rate N] ...\n");
		return 2;
	}
	if (f.nofile) {
		struct rlimit rl = {f.nofile, f.nofile};

		setrlimit(RLIMIT_NOFILE, &rl);
	}
	fake_plugins_init(&f);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return run(&f, &o, &set);
}
