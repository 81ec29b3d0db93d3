// SPDX-License-Identifier: Apache-2.0
/* What the engine makes of a worker's frames: checked, then given to the sink. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/query.h"
#include "store/query_spawn.h"
#include "store/query_wire.h"
#include "store/schema.h"

struct query_engine {
	struct query_engine_options options;
	char *ring_dir, *services_file, *file;
	uint32_t uid, gid, ntables;
	struct buf tables; /* as they travel, made once */
	atomic_uint running;
	int exe_fd; /* O_PATH of the worker's binary; -1: our own */
};

/* One query_run() on its caller's thread. */
struct query_run {
	struct query_engine *engine;
	const struct query *query;
	const struct query_sink *sink;
	struct query_child child;
	uint64_t started_ns, deadline_ns, max_rows;
	struct buf in; /* bytes that don't make a frame yet */
	struct query_column *columns;
	char *names; /* of the columns */
	uint32_t ncols;
	bool has_columns;
	uint32_t notes, statements; /* statements: done already */
	uint64_t rows;
	struct value *values;	       /* QUERY_BATCH_ROWS rows */
	bool served[QUERY_MAX_TABLES]; /* live tables: one snapshot each */
};

/* 0: go on, 1: that was the last, negative: the query's end. The worker is untrusted: anything
 * unexpected ends it. */
int query_answer_frame(struct query_run *run, uint32_t type, const uint8_t *p, size_t len,
		       struct err *err);
int query_answer_broken(struct err *err);
void query_answer_free(struct query_run *run);

/* query.c: sends the rows of a live table, or why there are none. */
int query_serve_snapshot(struct query_run *run, const struct table *t, struct err *err);
