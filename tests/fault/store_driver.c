// SPDX-License-Identifier: Apache-2.0
/* A store driven by lines on standard input, for tests that kill it or take its disk away. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "fault/fault_libc.h"
#include "fault/fault_vfs.h"
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

static uint64_t push_ns_max; /* the longest that somebody who pushed had to wait */

static void print_stats(struct store *s)
{
	struct store_stats st;

	store_get_stats(s, RING_FLOW, &st);
	printf("stats {\"rows\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"lost\": %" PRIu64
	       ", \"bytes\": %" PRIu64 ", \"segments\": %" PRIu64 ", \"evicted\": %" PRIu64
	       ", \"quarantined\": %" PRIu64 ", \"indexed\": %" PRIu64 ", \"unindexed\": %" PRIu64
	       ", \"errors\": %" PRIu64 ", \"last_ts\": %" PRIu64
	       ", \"bumped\": %" PRIu64 ", \"queue\": %u, \"commit_ms_max\": %" PRIu64
	       ", \"push_ms_max\": %" PRIu64 ", \"state\": \"%s\"}\n",
	       st.rows, st.rows_refused, st.rows_lost, st.bytes, st.segments, st.evicted,
	       st.quarantined, st.indexed, st.unindexed, st.errors, store_last_ts(s, &flow_rows_table), st.rows_bumped,
	       st.queue_len, (uint64_t)(st.commit_ns_max / NSEC_PER_MSEC),
	       (uint64_t)(push_ns_max / NSEC_PER_MSEC), st.state);
	fflush(stdout);
}

/* One nanosecond apart from the last one stored: a hole in ts is a lost row. */
static uint64_t push(struct store *s, struct flow_rows *g, uint64_t next, uint64_t n, bool wait)
{
	while (n) {
		uint32_t part = n < BATCH_ROWS ? (uint32_t)n : BATCH_ROWS;
		struct batch *b = flow_rows_batch(g, part, next, 1);
		uint64_t start = clock_mono_ns(), took;
		int r = b && b->nrows == part ? store_push(s, b) : -ENOMEM;

		took = clock_mono_ns() - start;
		if (took > push_ns_max)
			push_ns_max = took;
		while (r == -ENOBUFS && wait) {
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
			r = store_push(s, b);
		}
		if (r < 0 && r != -ENOBUFS)
			die(strerror(-r));
		batch_unref(b);
		next += part;
		n -= part;
	}
	return next;
}

/* Lines: "push N", "try N" (no waiting for room), "now N" (rows of the present), "flush", "stats",
 * "slow MS" (each write and sync), "clock SECONDS" (off the truth), "quit". */
static void obey(struct store *s)
{
	struct flow_rows g;
	uint64_t next = store_last_ts(s, &flow_rows_table), n;
	long long seconds;
	char line[64];

	flow_rows_init(&g);
	next = next ? next + 1 : T0;
	printf("ready %" PRIu64 "\n", next);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "push %" SCNu64, &n) == 1) {
			next = push(s, &g, next, n, true);
		} else if (sscanf(line, "try %" SCNu64, &n) == 1) {
			next = push(s, &g, next, n, false);
		} else if (sscanf(line, "now %" SCNu64, &n) == 1) {
			push(s, &g, clock_real_ns(), n, true);
		} else if (sscanf(line, "slow %" SCNu64, &n) == 1) {
			fault_vfs_slow((unsigned int)n);
		} else if (sscanf(line, "clock %lld", &seconds) == 1) {
			fault_clock_real(seconds * (int64_t)NSEC_PER_SEC);
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
}

/* store_driver DIR MAX_BYTES MAX_ROWS RESERVE [MAX_AGE_SECONDS] */
int main(int argc, char **argv)
{
	struct store_options options = {
		.queue_batches = 64, .flush_ns = 50 * NSEC_PER_MSEC, .on_event = on_event};
	struct store *s = NULL;
	struct err err = {};

	if (argc != 5 && argc != 6)
		die("usage: store_driver DIR MAX_BYTES MAX_ROWS RESERVE [MAX_AGE_SECONDS]");
	options.dir = argv[1];
	options.limits[RING_FLOW].max_bytes = strtoull(argv[2], NULL, 10);
	options.limits[RING_FLOW].max_rows = strtoull(argv[3], NULL, 10);
	options.limits[RING_FLOW].max_age_ns =
		argc == 6 ? strtoull(argv[5], NULL, 10) * NSEC_PER_SEC : 0;
	options.limits[RING_AUDIT].max_bytes = 16 << 20;
	options.reserve_bytes = strtoull(argv[4], NULL, 10);
	fault_vfs_register();
	if (store_new(&s, &options, &err) < 0 || store_add_table(s, &flow_rows_table, &err) < 0 ||
	    store_start(s, &err) < 0)
		die(err.msg);
	obey(s);
	store_stop(s, 5 * NSEC_PER_SEC);
	print_stats(s);
	store_free(s);
	return 0;
}
