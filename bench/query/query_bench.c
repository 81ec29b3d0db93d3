// SPDX-License-Identifier: Apache-2.0
/* Times queries through the worker process over a ring of a million rows that is being written;
 * prints one JSON object. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "lib/flow_rows.h"
#include "store/query.h"
#include "store/store.h"

#define ROWS	   1000000u
#define BATCH_ROWS 500u
#define STEP_NS	   NSEC_PER_MSEC

struct bench {
	struct query_engine *engine;
	struct store *store;
	struct flow_rows rows;
	uint64_t ts;
	unsigned int pace; /* rows/s while queries run */
	atomic_bool stop;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "query_bench: %s: %s\n", what, why);
	exit(1);
}

static void push(struct bench *b)
{
	struct batch *batch = flow_rows_batch(&b->rows, BATCH_ROWS, b->ts, STEP_NS);

	while (store_push(b->store, batch) == -ENOBUFS)
		usleep(1000);
	batch_unref(batch);
	b->ts += BATCH_ROWS * STEP_NS;
}

static void *pace_main(void *arg)
{
	struct bench *b = arg;

	while (!b->stop) {
		push(b);
		usleep(1000000ull * BATCH_ROWS / b->pace);
	}
	return NULL;
}

static int on_columns(void *arg, const struct query_column *cols, size_t ncols)
{
	(void)arg;
	(void)cols;
	(void)ncols;
	return 0;
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	(void)values;
	(void)ncols;
	*(uint64_t *)arg += nrows;
	return 0;
}

static int on_done(void *arg, const struct query_stats *stats)
{
	(void)arg;
	(void)stats;
	return 0;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double cpu_ms(int who)
{
	struct rusage u;

	getrusage(who, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

/* Medians of the wall clock; CPU of the workers and of this thread, a query: steadier on a busy
 * machine. */
static void run(struct bench *b, const char *name, const char *sql, unsigned int n)
{
	double worker = cpu_ms(RUSAGE_CHILDREN), engine = cpu_ms(RUSAGE_THREAD);
	double *ms = calloc(n, sizeof(*ms));
	uint64_t rows = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct query_sink sink = {on_columns, on_rows, on_done, &rows};
		struct query q = {.sql = sql};
		uint64_t start = clock_mono_ns();
		struct err err = {};

		rows = 0;
		if (query_run(b->engine, &q, &sink, &err) < 0)
			die(sql, err.msg);
		ms[i] = (double)(clock_mono_ns() - start) / NSEC_PER_MSEC;
	}
	qsort(ms, n, sizeof(*ms), compare);
	printf(", \"%s\": {\"ms\": %.2f, \"ms_min\": %.2f, \"ms_max\": %.2f, \"rows\": %" PRIu64,
	       name, ms[n / 2], ms[0], ms[n - 1], rows);
	printf(", \"worker_cpu_ms\": %.2f, \"engine_cpu_ms\": %.2f}",
	       (cpu_ms(RUSAGE_CHILDREN) - worker) / n, (cpu_ms(RUSAGE_THREAD) - engine) / n);
	free(ms);
}

static void open_all(struct bench *b, const char *dir)
{
	static const struct table *const tables[] = {&flow_rows_table, NULL};
	struct store_options so = {
		.dir = dir,
		.limits = {[RING_FLOW] = {.max_bytes = 1ull << 30},
			   [RING_AUDIT] = {.max_bytes = 16 << 20}},
		.queue_batches = 64,
		.flush_ns = 250 * NSEC_PER_MSEC,
	};
	struct query_engine_options qo = {
		.ring_dir = dir,
		.tables = tables,
		.max_workers = 1,
		.max_deadline_ns = 120 * NSEC_PER_SEC,
		.default_deadline_ns = 120 * NSEC_PER_SEC,
		.max_rows = 10000000,
		.worker_user = geteuid() == 0 ? "nobody" : NULL,
	};
	struct err err = {};

	if (store_new(&b->store, &so, &err) < 0 ||
	    store_add_table(b->store, &flow_rows_table, &err) < 0 ||
	    store_start(b->store, &err) < 0 || query_engine_new(&b->engine, &qo, &err) < 0)
		die(dir, err.msg);
}

static void fill(struct bench *b)
{
	while (b->ts < ROWS * STEP_NS + STEP_NS)
		push(b);
	if (store_flush(b->store, 60 * NSEC_PER_SEC) < 0)
		die("fill", "the store is too slow");
}

int main(int argc, char **argv)
{
	struct bench b = {.ts = STEP_NS};
	char top[256];
	pthread_t t;

	if (!strcmp(argv[0], QUERY_WORKER_NAME))
		query_worker_main(argc, argv);
	if (argc != 3) {
		fprintf(stderr, "usage: query_bench DIR ROWS_PER_SECOND_WHILE_QUERYING\n");
		return 2;
	}
	b.pace = atoi(argv[2]);
	flow_rows_init(&b.rows);
	open_all(&b, argv[1]);
	fill(&b);
	if (b.pace && pthread_create(&t, NULL, pace_main, &b))
		die("pace", "cannot start a thread");
	snprintf(top, sizeof(top),
		 "SELECT dst_ip, sum(bytes_read) AS b FROM netflow WHERE ts > %" PRIu64
		 " GROUP BY dst_ip ORDER BY b DESC LIMIT 10",
		 (uint64_t)((ROWS - 300000) * STEP_NS));
	printf("{\"pace\": %u", b.pace);
	run(&b, "select_1", "SELECT 1", 51);
	run(&b, "one_row", "SELECT * FROM netflow LIMIT 1", 21);
	run(&b, "count", "SELECT count(*) FROM netflow", 5);
	run(&b, "top_talkers_300k", top, 5);
	run(&b, "stream_3_columns", "SELECT ts, pid, bytes_read FROM netflow LIMIT 1000000", 3);
	run(&b, "stream_all_columns", "SELECT * FROM netflow LIMIT 300000", 3);
	printf("}\n");
	b.stop = true;
	if (b.pace)
		pthread_join(t, NULL);
	query_engine_free(b.engine);
	store_stop(b.store, NSEC_PER_SEC);
	store_free(b.store);
	return 0;
}
