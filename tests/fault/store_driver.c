// SPDX-License-Identifier: Apache-2.0
/* A store driven by lines on standard input, for tests that kill it or take its disk away. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "lib/flow_rows.h"
#include "store/store.h"

#define T0	   UINT64_C(1700000000000000000)
#define BATCH_ROWS 500u

static void on_event(void *arg, const char *event, const char *detail)
{
	(void)arg;
	printf("event %s %s\n", event, detail);
	fflush(stdout);
}

static void die(const char *text)
{
	fprintf(stderr, "store_driver: %s\n", text);
	exit(1);
}

static void print_stats(struct store *s)
{
	struct store_stats st;

	store_get_stats(s, RING_FLOW, &st);
	printf("stats {\"rows\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"lost\": %" PRIu64
	       ", \"bytes\": %" PRIu64 ", \"segments\": %" PRIu64 ", \"evicted\": %" PRIu64
	       ", \"quarantined\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"last_ts\": %" PRIu64
	       ", \"state\": \"%s\"}\n",
	       st.rows, st.rows_refused, st.rows_lost, st.bytes, st.segments, st.evicted,
	       st.quarantined, st.errors, store_last_ts(s, &flow_rows_table), st.state);
	fflush(stdout);
}

/* One nanosecond apart from the last one stored: a hole in ts is a lost row. */
static uint64_t push(struct store *s, struct flow_rows *g, uint64_t next, uint64_t n, bool wait)
{
	while (n) {
		uint32_t part = n < BATCH_ROWS ? (uint32_t)n : BATCH_ROWS;
		struct batch *b = flow_rows_batch(g, part, next, 1);
		int r;

		if (!b || b->nrows != part)
			die("out of memory");
		while ((r = store_push(s, b)) == -ENOBUFS && wait)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		if (r < 0 && r != -ENOBUFS)
			die(strerror(-r));
		batch_unref(b);
		next += part;
		n -= part;
	}
	return next;
}

/* store_driver DIR MAX_BYTES MAX_ROWS RESERVE; lines: "push N", "try N" (no waiting for room),
 * "flush", "stats", "quit". */
int main(int argc, char **argv)
{
	struct store_options options = {
		.queue_batches = 64, .flush_ns = 50 * NSEC_PER_MSEC, .on_event = on_event};
	struct store *s = NULL;
	struct flow_rows g;
	struct err err = {};
	char line[64];
	uint64_t next, n;

	if (argc != 5)
		die("usage: store_driver DIR MAX_BYTES MAX_ROWS RESERVE");
	options.dir = argv[1];
	options.limits[RING_FLOW].max_bytes = strtoull(argv[2], NULL, 10);
	options.limits[RING_FLOW].max_rows = strtoull(argv[3], NULL, 10);
	options.limits[RING_AUDIT].max_bytes = 16 << 20;
	options.reserve_bytes = strtoull(argv[4], NULL, 10);
	if (store_new(&s, &options, &err) < 0 || store_add_table(s, &flow_rows_table, &err) < 0 ||
	    store_start(s, &err) < 0)
		die(err.msg);
	flow_rows_init(&g);
	next = store_last_ts(s, &flow_rows_table);
	next = next ? next + 1 : T0;
	printf("ready %" PRIu64 "\n", next);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "push %" SCNu64, &n) == 1) {
			next = push(s, &g, next, n, true);
		} else if (sscanf(line, "try %" SCNu64, &n) == 1) {
			next = push(s, &g, next, n, false);
		} else if (!strncmp(line, "flush", 5)) {
			int r = store_flush(s, 30 * NSEC_PER_SEC);

			printf("flushed %d %" PRIu64 "\n", r, next - 1);
			fflush(stdout);
		} else if (!strncmp(line, "stats", 5)) {
			print_stats(s);
		} else if (!strncmp(line, "quit", 4)) {
			break;
		}
	}
	store_stop(s, 5 * NSEC_PER_SEC);
	print_stats(s);
	store_free(s);
	return 0;
}
