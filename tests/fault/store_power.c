// SPDX-License-Identifier: Apache-2.0
/* A store that is written while its disk is copied as a power loss would leave it (fault_vfs.h). */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "fault/fault_vfs.h"
#include "lib/flow_rows.h"
#include "store/store.h"

#define T0	   UINT64_C(1700000000000000000)
#define TIME_LIMIT (40 * NSEC_PER_SEC)

static _Atomic uint64_t acked;

static void on_event(void *arg, const char *event, const char *detail)
{
	(void)arg;
	printf("event %s %s\n", event, detail);
}

static void die(const char *text)
{
	fprintf(stderr, "store_power: %s\n", text);
	exit(1);
}

/* Transactions of 1 to 400 rows, one nanosecond apart. */
static void write_until(struct store *s, unsigned int cuts)
{
	uint64_t end = clock_mono_ns() + TIME_LIMIT, next = T0;
	struct flow_rows g;

	flow_rows_init(&g);
	while (fault_vfs_cuts() < cuts && clock_mono_ns() < end) {
		uint32_t n = 1 + (uint32_t)(next * 7919 % 400);
		struct batch *b = flow_rows_batch(&g, n, next, 1);

		if (!b || store_push(s, b) < 0)
			die("cannot push");
		batch_unref(b);
		next += n;
		if (store_flush(s, 30 * NSEC_PER_SEC) < 0)
			die("cannot flush");
		atomic_store(&acked, next - 1);
	}
}

/* store_power DIR SEED CUTS EVERY: DIR/ring is written, DIR/cuts/<n>/{full,cut,synced} come of it.
 */
int main(int argc, char **argv)
{
	char ring[128], cuts[128];
	/* Segments of the smallest size: many rotations, seals and evictions. */
	struct store_options options = {
		.dir = ring,
		.limits = {[RING_FLOW] = {.max_bytes = 4 << 20, .max_rows = 14000},
			   [RING_AUDIT] = {.max_bytes = 16 << 20}},
		.queue_batches = 64,
		.flush_ns = 50 * NSEC_PER_MSEC,
		.on_event = on_event,
	};
	struct store *s = NULL;
	struct err err = {};

	if (argc != 5)
		die("usage: store_power DIR SEED CUTS EVERY");
	snprintf(ring, sizeof(ring), "%s/ring", argv[1]);
	snprintf(cuts, sizeof(cuts), "%s/cuts", argv[1]);
	if (mkdir(cuts, 0700) < 0)
		die(strerror(errno));
	fault_vfs_register();
	fault_vfs_record(ring, cuts, (unsigned int)atoi(argv[4]), (unsigned int)atoi(argv[3]),
			 (uint32_t)atoi(argv[2]), &acked);
	if (store_new(&s, &options, &err) < 0 || store_add_table(s, &flow_rows_table, &err) < 0 ||
	    store_start(s, &err) < 0)
		die(err.msg);
	write_until(s, (unsigned int)atoi(argv[3]));
	store_stop(s, 5 * NSEC_PER_SEC);
	store_free(s);
	printf("cuts %u acked %" PRIu64 "\n", fault_vfs_cuts(), atomic_load(&acked) - T0 + 1);
	return 0;
}
