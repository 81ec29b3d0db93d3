// SPDX-License-Identifier: Apache-2.0
/* The ring: batches in, SQLite segment files out, the oldest evicted. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bpf/batch.h"

struct store;

enum ring_id {
	RING_FLOW,  /* flow and metric tables */
	RING_AUDIT, /* audit tables */
	RING_X_MAX,
};

struct ring_limits {
	uint64_t max_bytes;  /* all segments, WAL included */
	uint64_t max_rows;   /* 0: no limit */
	uint64_t max_age_ns; /* 0: no limit */
};

struct store_options {
	/* <state-dir>/ring, made if missing: 0750, group of its parent; it reads sealed files. */
	const char *dir;
	struct ring_limits limits[RING_X_MAX];
	uint32_t queue_batches; /* per ring; refused beyond (counted) */
	uint64_t flush_ns;      /* a transaction is committed after that or 1000 rows */
	uint64_t reserve_bytes; /* free space of the file system below which the oldest goes */
	/* Called on the store thread when something worth a log line and an audit row happens (disk
	 * full, quarantine, recovered). */
	void (*on_event)(void *arg, const char *event, const char *detail);
	void *arg;
};

/* Opens or makes the directory, checks every segment, quarantines the damaged. No thread yet. */
int store_new(struct store **ret, const struct store_options *options, struct err *err);
/* Before store_start: every history table that may come. The table must outlive the store. */
int store_add_table(struct store *s, const struct table *table, struct err *err);
int store_start(struct store *s, struct err *err);
/*
 * Takes its own reference. -ENOBUFS (counted) when the ring's queue is full, -ESHUTDOWN (counted)
 * once it stops, -ENOENT for a table that wasn't added; never waits. Any thread.
 */
int store_push(struct store *s, struct batch *batch);
/*
 * Waits until all that was pushed before is committed, or timeout_ns: -ETIMEDOUT. -EIO: some of what
 * was pushed since the last flush was given up (and counted). 0 means that it survives the end of this process, however it ends.
 * Any thread but the store's.
 */
int store_flush(struct store *s, uint64_t timeout_ns);
/* The last committed ts of a table (0: none): where a restarted daemon goes on. Any thread. */
uint64_t store_last_ts(struct store *s, const struct table *table);
/* Rows of a table since the store was made; what was pushed and isn't among them waits. */
struct store_table_stats {
	uint64_t stored;
	uint64_t refused;  /* the queue was full, or the store stops */
	uint64_t given_up; /* taken, but the disk wouldn't have them */
	/* What files grew by for the stored ones: pages, each when it is begun, and new texts of the
	 * dictionary. Not: indexes that a segment gets at its end, and the WAL that is written first. */
	uint64_t bytes;
};
/* Any thread. Zeroes for a table that wasn't added. */
void store_table_stats(struct store *s, const struct table *table, struct store_table_stats *ret);
int store_set_limits(struct store *s, enum ring_id ring, const struct ring_limits *limits);
/* Drains for at most drain_ns, checkpoints, ends the thread. */
void store_stop(struct store *s, uint64_t drain_ns);
void store_free(struct store *s);
DEFINE_CLEANUP(struct store *, store_free)

struct store_stats {
	uint64_t rows, batches, transactions; /* committed */
	uint64_t rows_refused;                /* queue full */
	uint64_t rows_lost;                   /* given up after errors */
	uint64_t rows_bumped; /* stored with a later ts: theirs was not above the last one */
	uint64_t dict_full;   /* cells stored inline: the segment's dictionary had no room */
	uint64_t bytes;       /* on disk now */
	uint64_t segments, evicted, quarantined;
	uint64_t indexed;   /* segments that were sealed with their indexes */
	uint64_t unindexed; /* and without: no room, an error, or the sealer was behind */
	uint64_t errors; /* SQLite errors that were survived */
	uint32_t queue_len, queue_cap;
	uint64_t commit_ns_max, commit_ns_total;
	char state[64]; /* "ok", "disk full since ...", ... */
};
void store_get_stats(struct store *s, enum ring_id ring, struct store_stats *ret);

/* One row per segment, for the live table "segments". */
struct segment_info {
	enum ring_id ring;
	uint64_t number;
	bool live;
	uint64_t ts_min, ts_max, rows, bytes;
	char path[256];
};
/* Copies up to cap; returns how many there are. Any thread. */
unsigned int store_segments(struct store *s, struct segment_info *ret, unsigned int cap);
const char *store_dir(const struct store *s);
