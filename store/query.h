// SPDX-License-Identifier: Apache-2.0
/* One SELECT over history and live tables, run by an unprivileged worker process that dies at its
 * deadline. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "bpf/batch.h"
#include "bpf/table.h"

struct query_engine;

struct query_engine_options {
	const char *ring_dir;
	const char *services_file; /* for service(), before /etc/services; NULL or "": none */
	const struct table *const
		*tables;	  /* history and live; NULL-terminated; outlive the engine */
	unsigned int max_workers; /* at once; -ENOBUFS beyond */
	uint64_t max_deadline_ns, default_deadline_ns;
	uint64_t max_rows; /* upper bound and default of query.max_rows */
	/*
	 * What runs as the worker, held open from now on so that an upgrade on disk can't put
	 * another version beside a running daemon; NULL, or not there: this very binary (slower to
	 * start where it links much more).
	 */
	const char *worker_exe;
	const char *worker_user; /* "nobody" */
	/*
	 * Instead of ring_dir: one file that lies on disk by itself, a segment or a snapshot
	 * (store/snapshot.h), with the tables that snapshot_open() found in it. now_ns: what ago()
	 * and now_ns() count from; 0: the clock.
	 */
	const char *file;
	bool file_is_snapshot;
	uint64_t now_ns;
	/* Of a worker, lower than its own; 0: its own. Heap, and what its sorts may put on disk. */
	uint64_t heap_bytes, spill_bytes;
	/* What the store keeps free on the disk: below it segments are evicted, so no sort may get
	 * there. */
	uint64_t reserve_bytes;
	/* The rows of a live table now (a sealed batch, the caller's reference). Called on the
	 * thread that runs query_run. */
	int (*snapshot)(void *ctx, const struct table *table, struct batch **ret, struct err *err);
	void *ctx;
};

int query_engine_new(struct query_engine **ret, const struct query_engine_options *options,
		     struct err *err);
void query_engine_free(struct query_engine *e);

struct query {
	const char *sql;
	const struct value *params;
	size_t nparams;
	uint64_t max_rows;	      /* 0: the engine's */
	uint64_t deadline_ns;	      /* CLOCK_MONOTONIC; 0: default */
	const atomic_bool *cancelled; /* polled at least every 50 ms; may be NULL */
	/*
	 * sql is several statements without parameters, ended by semicolons: all see the ring as it
	 * stands in one moment, and the sink is given columns, rows and done for each of them in
	 * order. No limit of rows; the default deadline is the longest that there is.
	 */
	bool script;
};

struct query_column {
	const char *name;
	enum column_type type; /* COLUMN_TEXT, _INT64, ... of the table column it comes from;
				  COLUMN_X_MAX if computed */
	const char *unit;
};

struct query_stats {
	uint64_t rows;
	bool truncated; /* max_rows reached */
	uint64_t elapsed_ns;
	/* How complete the answer is, per history table that the statement reads. */
	unsigned int nloss;
	struct query_loss {
		const char *table;
		uint64_t rows;
		uint64_t since_ns; /* oldest ts that the ring holds for it */
		/*
		 * The time that rows counts in: what the statement asks of ts, where that is known;
		 * 0: no bound, but for since_ns.
		 */
		uint64_t from_ns, until_ns;
		uint64_t held; /* rows of it that the ring holds in that time; UINT64_MAX: not
				  counted */
		char why[96];  /* "ring_full 12, sampled 3"; "": nothing was lost, or it isn't known
				  where */
	} loss[16];
};

/* Called on the thread that runs query_run; a negative result ends the query and is returned.
 * values: nrows * ncols, row-major. */
struct query_sink {
	int (*columns)(void *arg, const struct query_column *cols, size_t ncols);
	int (*rows)(void *arg, const struct value *values, size_t nrows, size_t ncols);
	int (*done)(void *arg, const struct query_stats *stats);
	void *arg;
};

/*
 * Blocks until done. -EINVAL bad SQL (with SQLite's text and position), -ETIMEDOUT, -ECANCELED,
 * -ENOBUFS too many at once, -E2BIG memory of the worker, -EPERM statement that isn't a read.
 */
int query_run(struct query_engine *e, const struct query *q, const struct query_sink *sink,
	      struct err *err);

/* The worker's binary beside our own, or where it is installed; NULL: not there, our own serves. */
const char *query_worker_path(char *dst, size_t cap);

/* The worker's own main: ringsided calls it first thing when argv[0] is QUERY_WORKER_NAME. Never
 * returns. */
#define QUERY_WORKER_NAME "ringside-query"
_Noreturn void query_worker_main(int argc, char **argv);
