// SPDX-License-Identifier: Apache-2.0
/* The inside of the query worker: one statement, one process, one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/dict.h"
#include "store/query.h"
#include "store/query_wire.h"
#include "store/schema.h"

struct query_live; /* a live table's module and its rows, once fetched */

/* What the statement reads, as the authorizer is told when it is prepared. */
struct query_reads {
	bool table[QUERY_MAX_TABLES];
	struct column_set columns[QUERY_MAX_TABLES]; /* of history tables */
};

struct query_session {
	int sock;
	struct query_request req;
	uint64_t now_ns; /* epoch; the "now" of the whole statement */
	sqlite3 *db;	 /* segments attached, views over them, live tables */
	sqlite3 *shape;	 /* the same names, empty: origins of result columns, what is read, most
			    errors */
	struct segment_file segments[SCHEMA_MAX_SEGMENTS];
	unsigned int nsegments;
	struct decoder *decoders[SCHEMA_MAX_SEGMENTS]; /* one per segment; end with the process */
	struct query_reads reads;
	bool single;		 /* one statement: the views may be made for it alone */
	struct query_live *live; /* [req.ntables] */
	struct buf out;		 /* frames to send; out_sent bytes of it are gone */
	size_t out_sent;
	size_t rows_at; /* the open ROWS frame, if rows_n */
	uint32_t rows_n;
	uint64_t rows_since_ns;
	bool expired;	  /* the progress handler saw the deadline pass */
	char denied[128]; /* what the authorizer refused, for the error text */
};

/* query_io.c: the socket. The peer gone: the process ends. */

/* Reads one frame of that type into *payload; *ret_fd, if not NULL, is the fd that came along or
 * -1. */
int query_io_read(int sock, enum query_frame type, struct buf *payload, int *ret_fd);
/* Sends what the socket takes; waits only when more than what may be held back is waiting, or for
 * all of it. */
void query_io_flush(struct query_session *s, bool all);
_Noreturn void query_io_fail(struct query_session *s, int code, const char *msg);
void query_io_note(struct query_session *s, const char *msg);
/* Closes the ROWS frame that is being filled, if any: before every other frame and every flush. */
void query_io_rows_close(struct query_session *s);

/* query_history.c: with the daemon's rights, before the sandbox. */

/* Takes the snapshot of what is attached, under these names, and its locks. */
int query_history_begin(struct query_session *s, const char *const *schemas, unsigned int n,
			const char *table, struct err *err);
/* The SQL names a history table. */
bool query_history_named(const struct query_session *s);
/* Attaches the segments if the SQL names a history table at all, and begins the read transaction
 * that holds the snapshot. */
int query_history_open(struct query_session *s, struct err *err);
/* Views over the attached segments for the history tables that the SQL names, with the columns that
 * are read. Sandboxed. */
int query_history_views(struct query_session *s, struct err *err);
/* What of a history table is missing in what sql (the last statement) asks for. Sandboxed; the
 * authorizer must be off. All of *ret but table. */
void query_history_loss(struct query_session *s, uint32_t table, const char *sql,
			struct query_loss *ret);

/* query_range.c: the part of a table's time that the statement reads; false: not known. */
bool query_range(struct query_session *s, uint32_t table, const char *sql, uint64_t *ret_from,
		 uint64_t *ret_until);

/* Values that every row must have to be in the statement's answer. */
#define QUERY_LOOKUPS_MAX 8
struct query_lookup {
	unsigned int column;
	enum {
		LOOKUP_INT,   /* column = i */
		LOOKUP_TEXT,  /* column = text */
		LOOKUP_CIDR,  /* in_cidr(column, text) */
		LOOKUP_RANGE, /* column < or > whatever */
	} how;
	int64_t i;
	char text[DICT_MAX_LEN + 1];
};
struct query_lookups {
	unsigned int n;
	struct query_lookup of[QUERY_LOOKUPS_MAX];
};
/* query_range.c: what the only scan of a table looks for; none if it has several, or when it can't
 * be known for sure. */
void query_lookups(struct query_session *s, uint32_t table, const char *sql,
		   struct query_lookups *ret);
/*
 * query_lookup.c: completes the arm with a condition on its cells, as text in where (the caller's).
 * False: the segment has no such row, the view does without it.
 */
bool query_lookup_arm(struct query_session *s, const struct table *t,
		      const struct segment_table *info, const struct query_lookups *lookups,
		      struct schema_arm *arm, struct buf *where);

/* query_file.c: one file instead of the ring; likewise before the sandbox. */
int query_file_open(struct query_session *s, struct err *err);
/* As query_history_loss, from what the snapshot says of itself. */
void query_file_loss(struct query_session *s, uint32_t table, uint64_t *ret_lost,
		     uint64_t *ret_since);

/* query_guard.c: the friendly layer: limits and refusals with sentences. */

void query_guard_limits(sqlite3 *db);
/* on the shape: also notes in s->reads. */
void query_guard_arm(struct query_session *s, sqlite3 *db);
/* Nothing but blanks, comments and semicolons. */
bool query_guard_blank(const char *sql);
/* What stands behind EXPLAIN or EXPLAIN QUERY PLAN, or else the statement. */
const char *query_guard_explained(const char *sql);
/* -EPERM unless the statement begins with SELECT, VALUES, WITH or EXPLAIN of one. */
int query_guard_keyword(const char *sql, struct err *err);
/* What db says about the statement as one of our errnos and texts. */
int query_guard_error(struct query_session *s, sqlite3 *db, int rc, const char *sql,
		      struct err *err);
/* -1: none of our tables. */
int query_table_index(const struct query_session *s, const char *name);

/* query_vtab.c, query_func.c */
/* "CREATE TABLE name(columns as SQLite types)". */
void query_table_ddl(struct buf *b, const struct table *t);
int query_vtab_register(struct query_session *s);
int query_func_register(sqlite3 *db, const uint64_t *now_ns);
/* query_service.c: on both databases. Reads files: not sandboxed. */
int query_service_register(struct query_session *q);

/* What SQLite may allocate at most. */
uint64_t query_heap_max(const struct query_session *s);
/* query_run.c: everything between the sandbox and the last frame. */
_Noreturn void query_session_run(struct query_session *s);
