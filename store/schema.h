// SPDX-License-Identifier: Apache-2.0
/* The form of the ring on disk: names, tables and views of segments, and SQL over several. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "base/buf.h"
#include "base/err.h"
#include "bpf/table.h"
#include "store/store.h"

/*
 * A ring is a directory of SQLite files "<ring>-<number, 8 digits>.db", oldest = lowest number.
 * In each:
 *
 *   segment_tables(name, hash, rows, ts_min, ts_max, lost)
 *           one row per table that it may hold, kept in each transaction
 *   strings(id INTEGER PRIMARY KEY, s TEXT)
 *           the dictionary of this segment
 *   <table>_data(ts INTEGER PRIMARY KEY, ...)
 *           rows as stored: a dictionary cell holds the id, or the text itself when the dictionary
 *           was full
 *   <table>
 *           a view with every column decoded
 *
 * The newest file of a ring is live: mode 0600, WAL, only root can read it. Sealed ones are 0440
 * and have no WAL.
 */
/* "RSD1": tells a segment from any other SQLite file. */
#define SCHEMA_APPLICATION_ID 0x52534431
/* user_version: how a segment is built; not which columns a table has. */
#define SCHEMA_VERSION 1
#define SCHEMA_MAX_COLUMNS 128
/* SQLITE_MAX_ATTACHED of a stock sqlite3: readers attach them all. */
#define SCHEMA_MAX_SEGMENTS 10

const char *ring_name(enum ring_id ring); /* "flow", "audit" */
enum ring_id schema_ring(const struct table *t);
/* How many files a ring has at most, the live one included; the sum is SCHEMA_MAX_SEGMENTS. */
unsigned int schema_ring_files(enum ring_id ring);

struct segment_file {
	enum ring_id ring;
	uint64_t number;
	bool sealed;     /* else live or about to be sealed: root's, with -wal and -shm */
	uint64_t bytes;  /* with the WAL */
	char schema[24]; /* the name to attach it by: "flow42" */
	char path[256];
};

/*
 * Segments in the directory by ring, then by number (oldest first). When there are more than cap
 * the oldest of the flow ring are left out, then the oldest of the audit ring: SCHEMA_MAX_SEGMENTS
 * is the cap of a reader. Returns how many, or negative errno. A file may be evicted between this
 * and the ATTACH: a reader skips what is gone.
 */
int schema_list(const char *dir, struct segment_file *ret, unsigned int cap, struct err *err);

/*
 * ATTACH read-only under file->schema, and check that it is a segment that this version can read.
 * On failure nothing stays attached. -ENOENT: evicted meanwhile; -EACCES: not for this user;
 * -EPROTONOSUPPORT: written by a newer version; -EBADMSG: damaged, or no segment; -EBUSY: locked
 * (sealing does that for some ms: the reader sets a busy timeout). db must be opened with
 * SQLITE_OPEN_URI.
 */
int schema_attach(sqlite3 *db, const struct segment_file *file, struct err *err);

/* Which columns of a table, by index in table->fields. */
struct column_set {
	uint64_t bits[SCHEMA_MAX_COLUMNS / 64];
};

static inline bool column_set_has(const struct column_set *set, unsigned int col)
{
	return set->bits[col / 64] >> (col % 64) & 1;
}

static inline void column_set_add(struct column_set *set, unsigned int col)
{
	set->bits[col / 64] |= UINT64_C(1) << (col % 64);
}

/* What an attached segment (schema: its name in db) holds of a table. */
struct segment_table {
	struct column_set columns; /* empty: it doesn't hold the table */
	struct column_set dict;    /* those of them whose cells may be dictionary ids */
	uint64_t rows;
	uint64_t ts_min, ts_max; /* 0 when it has no rows */
	uint64_t lost;           /* rows refused or given up while it was live */
};
int schema_read_table(sqlite3 *db, const char *schema, const struct table *t,
		      struct segment_table *ret, struct err *err);

/* Which columns of a table have an index there: sealed segments have some (struct field, indexed). */
int schema_read_indexed(sqlite3 *db, const char *schema, const struct table *t,
			struct column_set *ret, struct err *err);

struct schema_arm {
	const char *schema; /* as attached */
	struct column_set columns;
	/* As segment_table says, if it has a decoder (store/decode.h): faster. Empty: by the view. */
	struct column_set dict;
	/* Indexes on these don't pay for the statement. */
	struct column_set unindexed;
	const char *where; /* a condition on d."<column>", that is on cells as stored; NULL: none */
};

/*
 * "CREATE TEMP VIEW <table> AS ..." over the arms, oldest first: UNION ALL of one SELECT with
 * explicit columns per arm that has the table, NULL for columns that it lacks. A condition on ts
 * becomes a rowid range in each arm (also through an aggregate), and a cell is decoded only if it's
 * needed: SQLite before 3.41 computes every column of a UNION ALL view below an aggregate, so a
 * reader that knows which columns the statement reads passes them as wanted (the others are NULL);
 * it can ask the authorizer: SQLITE_READ of the view outside any view, in a first prepare. That
 * isn't told of columns which a join matches by USING or NATURAL: add those that the text names, or
 * all. NULL: all. ts is always there.
 */
void schema_view_sql(struct buf *sql, const struct table *t, const struct schema_arm *arms,
		     size_t narms, const struct column_set *wanted);

/* "file:<path, escaped>?mode=ro". */
void schema_uri(struct buf *uri, const char *path);

/* For the writer. */

/* The columns as stored: a segment goes on being used only by a table with the same hash. */
uint64_t schema_table_hash(const struct table *t);
/* True if cells are dictionary ids: dict text, IPs, enums. */
bool schema_is_dict(const struct field *f);
/* Tables of every segment; then data table and view of one table. */
void schema_segment_sql(struct buf *sql);
void schema_table_sql(struct buf *sql, const struct table *t);
/*
 * When it is sealed; the second: from a text to its ids. Not WHERE ... IS NOT NULL: SQLite walks all
 * of such an index, and the table in its order, for as little as pid <> 0.
 */
#define SCHEMA_INDEX_SQL \
	"CREATE INDEX \"%s_by_%s\" ON \"%s_data\"(\"%s\")" /* table, column, table, column */
#define SCHEMA_STRINGS_INDEX_SQL "CREATE INDEX IF NOT EXISTS strings_by_s ON strings(s)"
