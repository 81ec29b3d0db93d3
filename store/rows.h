// SPDX-License-Identifier: Apache-2.0
/* Batches as a virtual table of the writer's connection, so that one INSERT ... SELECT stores a
 * whole batch. */
#pragma once

#include <stdint.h>

#include <sqlite3.h>

#include "base/err.h"
#include "bpf/batch.h"
#include "store/dict.h"

/*
 * Why a virtual table and not bound parameters: one statement a batch instead of one a row. The
 * b-tree cursor stays on the last leaf, nothing is bound, reset and stepped for each row, and a
 * column goes from the row struct to its register in one call.
 */

/* How the columns of a table are read; made once, immutable. */
struct rows_plan;
int rows_plan_new(struct rows_plan **ret, const struct table *t, struct err *err);
void rows_plan_free(struct rows_plan *plan);

/* What the virtual table reads from while an INSERT runs; it belongs to the segment and outlives
 * the connection. */
struct rows_source {
	const struct rows_plan *plan;
	struct dict *dict;
	const struct batch *batch;
	uint64_t last_ts;   /* moved on row by row */
	uint64_t first_ts;  /* of this transaction; 0: none yet */
	uint64_t bumped;    /* rows whose ts was not above the last one */
	uint32_t *enum_ids; /* of one dictionary generation: [column's enum_base + value] */
	uint64_t enum_generation;
};
int rows_source_init(struct rows_source *src, const struct rows_plan *plan, struct dict *dict);
void rows_source_free(struct rows_source *src);

#define ROWS_PREFIX  "ringside_rows_"   /* + table: the virtual table's name */
#define ROWS_STRINGS "ringside_strings" /* (id, s): what dict has and the segment has not */
/* Registers the virtual table of one source; SQLite result code. */
int rows_register(sqlite3 *db, struct rows_source *src);
int rows_register_strings(sqlite3 *db, struct dict *dict);

/* What both virtual tables have in common. */
int rows_any_disconnect(sqlite3_vtab *v);
int rows_any_best_index(sqlite3_vtab *v, sqlite3_index_info *info);
int rows_any_close(sqlite3_vtab_cursor *cur);
int rows_any_rowid(sqlite3_vtab_cursor *cur, sqlite3_int64 *ret);
