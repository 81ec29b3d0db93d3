// SPDX-License-Identifier: Apache-2.0
/* A window of the ring as one portable SQLite file: its form, writing it, and what it says of
 * itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/macro.h"
#include "bpf/batch.h"
#include "bpf/table.h"

/*
 * Every table of the window is a real table under its own name, with decoded columns; of history
 * tables ts is the INTEGER PRIMARY KEY, so that a condition on ts is a seek. Beside them:
 *
 *   snapshot_info(key, value)
 *           host, version, kernel, taken_at, since, until, rows
 *   snapshot_tables(name, class, summary, rows, ts_min, ts_max, since, ring_since, rows_lost,
 * ring_rows_lost, missing) since: where the window begins; ring_since: the oldest ts that the ring
 * still held, so the table is whole only from there on; rows_lost: known lost inside the window;
 * ring_rows_lost: since ring_since; missing: why the table has no rows although there may have been
 * some snapshot_columns(table_name, position, name, type, unit, kind, sensitivity, help)
 */
/* "RSS1" */
#define SNAPSHOT_APPLICATION_ID 0x52535331
/* user_version */
#define SNAPSHOT_VERSION 1
#define SNAPSHOT_INFO	 "snapshot_info"
#define SNAPSHOT_TABLES	 "snapshot_tables"
#define SNAPSHOT_COLUMNS "snapshot_columns"

struct snapshot_writer;

/* Fills the file at path, which is there and empty; its contents are undefined until
 * snapshot_finish(). One thread. */
int snapshot_create(struct snapshot_writer **ret, const char *path, struct err *err);
/* -ENOSPC and the like come from any of these, with a sentence. Rows belong to the table begun
 * last. */
int snapshot_table(struct snapshot_writer *w, const struct table *t, struct err *err);
int snapshot_row(struct snapshot_writer *w, const struct value *values, size_t n, struct err *err);

struct snapshot_table_end {
	uint64_t since, ring_since, ring_rows_lost;
	const char *missing; /* NULL or "": nothing */
};
int snapshot_table_end(struct snapshot_writer *w, const struct snapshot_table_end *end,
		       struct err *err);
int snapshot_info_text(struct snapshot_writer *w, const char *key, const char *value,
		       struct err *err);
int snapshot_info_int(struct snapshot_writer *w, const char *key, int64_t value, struct err *err);
uint64_t snapshot_rows(const struct snapshot_writer *w);
/* All of it on disk. *ret_lost: rows of all tables that are known lost inside the window. */
int snapshot_finish(struct snapshot_writer *w, uint64_t *ret_lost, struct err *err);
/* The file stays the caller's. */
void snapshot_free(struct snapshot_writer *w);
DEFINE_CLEANUP(struct snapshot_writer *, snapshot_free)

/* What a snapshot, or a segment of a ring, holds. */
struct snapshot {
	bool is_segment;
	char *path;		     /* absolute */
	const struct table **tables; /* NULL-terminated; what describes the file is among them */
	uint64_t end_ns;	     /* until when it reaches: what ago() counts from */
};

/*
 * The file may come from anybody: it is read with bounds. -EBADMSG: neither snapshot nor segment,
 * -EPROTONOSUPPORT: made by a newer version.
 */
int snapshot_open(struct snapshot **ret, const char *path, struct err *err);
void snapshot_close(struct snapshot *s);
DEFINE_CLEANUP(struct snapshot *, snapshot_close)
