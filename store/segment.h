// SPDX-License-Identifier: Apache-2.0
/* One SQLite file of a ring: made, written, sealed, inspected. Results are SQLite codes: what to do
 * depends on them. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <sqlite3.h>

#include "bpf/batch.h"
#include "store/dict.h"
#include "store/rows.h"
#include "store/store.h"

/* A table that the store was told of. */
struct store_table {
	const struct table *table;
	enum ring_id ring;
	struct rows_plan *plan;
	struct rows_source src;   /* store thread */
	_Atomic uint64_t last_ts; /* committed */
	_Atomic uint64_t lost;    /* refused or given up, not yet written into a segment */
	/* Rows, since the store was made. */
	_Atomic uint64_t all_stored, all_refused, all_given_up;
	_Atomic uint64_t all_bytes; /* store_table_stats.bytes */
};

struct segment_slot {
	struct store_table *table;
	sqlite3_stmt *insert;
	uint64_t rows, ts_min, ts_max, lost; /* as committed */
	uint64_t new_rows, new_lost;         /* of the transaction */
	uint64_t new_bytes;                  /* of its rows */
	uint64_t bumped;                     /* the source's count before it */
};

/* The live segment of a ring: the store thread's alone. */
struct segment {
	sqlite3 *db;
	uint64_t number;
	char path[256];
	struct dict *dict;
	sqlite3_stmt *begin, *commit, *rollback, *strings, *update, *pages;
	uint64_t rows, ts_min, ts_max; /* as committed */
	uint64_t bytes, wal_bytes;     /* on disk; bytes includes the WAL */
	unsigned int nslots;
	struct segment_slot slots[];
};

struct segment_tables {
	struct store_table *const *tables;
	unsigned int n;
};

/*
 * Writes a complete empty segment at path (which must not be in use) and closes it. Rows go into it
 * after segment_open(): a file is never seen half-made.
 */
int segment_create(const char *path, const struct segment_tables *tables, char *why, size_t cap);
/*
 * Opens for writing. budget: bytes that the segment may grow to; it sets how far the WAL goes
 * between checkpoints. SQLITE_SCHEMA: made for other tables.
 */
int segment_open(struct segment **ret, const char *path, uint64_t number,
		 const struct segment_tables *tables, struct dict *dict, uint64_t budget, char *why,
		 size_t cap);
/* One transaction: all rows of all batches and the loss counters, or nothing. */
int segment_write(struct segment *seg, struct batch *const *batches, size_t n, char *why,
		  size_t cap);
bool segment_has_loss(const struct segment *seg);
/* Ends writing; the connection is the caller's. */
sqlite3 *segment_release(struct segment *seg);
/* Closes with a checkpoint if it can be had. */
void segment_close(struct segment *seg);

/*
 * Checkpoint, no WAL any more, 0440 for gid. db: the connection that wrote it, or NULL; closed in
 * any case. SQLITE_BUSY: a reader holds it, again later.
 */
int segment_seal(sqlite3 *db, const char *path, gid_t gid, char *why, size_t cap);
/*
 * Before it: an index on each column that its table says people look for, one transaction each, at
 * a part of a core; readers aren't in the way nor kept waiting. *db as in segment_seal(), opened if
 * NULL. made: at least one is there. SQLITE_INTERRUPT: stop was set. After any failure the segment
 * is as sound as before, and what was made stays.
 */
int segment_index(sqlite3 **db, const char *path, const struct segment_tables *tables,
		  const atomic_bool *stop, bool *made, char *why, size_t cap);
/* Closes without touching the file, which is gone or damaged. */
void segment_discard(sqlite3 *db);
/* PRAGMA quick_check by a connection of its own; SQLITE_CORRUPT with the first finding in why. stop
 * ends it early. */
int segment_check(const char *path, const atomic_bool *stop, char *why, size_t cap);

struct segment_facts {
	int version;
	uint64_t rows, ts_min, ts_max;
};
/*
 * Header and counters of a file that nobody has open; recovers its WAL. SQLITE_NOTADB: no segment;
 * SQLITE_CORRUPT: damaged. table is called for each table with rows. version > SCHEMA_VERSION:
 * nothing else was read.
 */
int segment_inspect(const char *path, bool sealed, struct segment_facts *ret,
		    void (*table)(void *arg, const char *name, uint64_t ts_max), void *arg,
		    char *why, size_t cap);

/* path, -wal, -shm and -journal. */
void segment_unlink(const char *path);
/* Bytes on disk of the file and its WAL, 0 if gone. */
uint64_t segment_size(const char *path, uint64_t *wal_bytes);
