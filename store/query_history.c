// SPDX-License-Identifier: Apache-2.0
/* The worker's view of the ring: segments attached and held, one view per history table that is
 * read. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "store/decode.h"
#include "store/query_worker.h"

/* A reader that finds the WAL index in the middle of a change tries again at once; it lasts
 * microseconds. */
#define BEGIN_TRIES 20

/*
 * SQL has no escapes inside identifiers, so a statement that reads a table holds its name as it is.
 * What it doesn't name isn't attached: "SELECT 1" and queries of live tables open no file.
 */
static bool sql_names(const struct query_session *s, const char *name)
{
	return strcasestr(s->req.sql, name);
}

bool query_history_named(const struct query_session *s)
{
	for (uint32_t i = 0; i < s->req.ntables; i++)
		if (table_is_history(s->req.tables[i]) && sql_names(s, s->req.tables[i]->name))
			return true;
	return false;
}

/*
 * What a view must hold. The authorizer tells of columns by name and of those behind "*", but not
 * of those that a join matches by USING or NATURAL: these stand in the text, or may be any.
 */
static void wanted_columns(const struct query_session *s, uint32_t table, struct column_set *ret)
{
	const struct table *t = s->req.tables[table];
	bool all = sql_names(s, "NATURAL");

	*ret = s->reads.columns[table];
	for (uint32_t i = 0; i < t->nfields; i++)
		if (all || sql_names(s, t->fields[i].name))
			column_set_add(ret, i);
}

static int attach_all(struct query_session *s, struct err *err)
{
	unsigned int kept = 0;
	int n = schema_list(s->req.ring_dir, s->segments, SCHEMA_MAX_SEGMENTS, err);

	if (n == -ENOENT)
		return 0; /* nothing was ever stored: the tables are empty */
	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		struct err why = {0};
		int r = schema_attach(s->db, &s->segments[i], &why);

		if (r == -ENOMEM)
			return err_set(err, r, "%s", why.msg);
		if (r < 0) {
			/* Evicted between the listing and now is the ring at work; anything else
			 * the answer lacks. */
			if (r != -ENOENT) {
				err_prefix(&why, "queries go on without a segment");
				query_io_note(s, why.msg);
			}
			continue;
		}
		if (decoder_new(&s->decoders[kept], s->db, s->segments[i].schema) != SQLITE_OK)
			return err_set(err, -ENOMEM, "out of memory");
		s->segments[kept++] = s->segments[i];
	}
	s->nsegments = kept;
	return 0;
}

static int exec(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/*
 * One deferred transaction over all: a first read in each segment takes its snapshot and its locks,
 * opens -wal and -shm and maps them. After that a statement needs no file system and no lock.
 */
int query_history_begin(struct query_session *s, const char *const *schemas, unsigned int n,
			const char *table, struct err *err)
{
	int rc = exec(s->db, "BEGIN");

	for (unsigned int i = 0; i < n && rc == SQLITE_OK; i++) {
		char sql[96];

		snprintf(sql, sizeof(sql), "SELECT count(*) FROM \"%s\".%s", schemas[i], table);
		for (int tries = 0; tries < BEGIN_TRIES; tries++) {
			rc = exec(s->db, sql);
			if (rc == SQLITE_OK)
				break;
			if ((rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_READONLY)
				break;
			sqlite3_sleep(1);
		}
	}
	if (rc != SQLITE_OK)
		return err_set(err, -EIO, "cannot begin to read the %s: %s",
			       *s->req.file ? "file" : "ring", sqlite3_errmsg(s->db));
	return 0;
}

int query_history_open(struct query_session *s, struct err *err)
{
	const char *schemas[SCHEMA_MAX_SEGMENTS];
	int r;

	if (!query_history_named(s))
		return 0;
	r = attach_all(s, err);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < s->nsegments; i++)
		schemas[i] = s->segments[i].schema;
	return s->nsegments ? query_history_begin(s, schemas, s->nsegments, "segment_tables", err)
			    : 0;
}

static int view(struct query_session *s, uint32_t table, struct err *err)
{
	const struct table *t = s->req.tables[table];
	struct schema_arm arms[SCHEMA_MAX_SEGMENTS] = {0};
	struct buf where[SCHEMA_MAX_SEGMENTS] = {0};
	struct query_lookups lookups = {0};
	struct column_set wanted;
	_cleanup_buf_ struct buf sql = {0};
	unsigned int narms = 0;
	int r;

	if (s->single && s->reads.table[table])
		query_lookups(s, table, s->req.sql, &lookups);
	for (unsigned int i = 0; i < s->nsegments; i++) {
		struct schema_arm *arm = &arms[narms];
		struct segment_table info = {0};

		if (s->segments[i].ring != schema_ring(t))
			continue;
		r = schema_read_table(s->db, s->segments[i].schema, t, &info, err);
		if (r < 0)
			return r;
		*arm = (struct schema_arm){.schema = s->segments[i].schema,
					   .columns = info.columns,
					   .dict = info.dict};
		if (query_lookup_arm(s, t, &info, &lookups, arm, &where[narms]))
			narms++;
	}
	wanted_columns(s, table, &wanted);
	schema_view_sql(&sql, t, arms, narms, &wanted);
	for (unsigned int i = 0; i < ARRAY_SIZE(where); i++)
		buf_free(&where[i]);
	if (buf_status(&sql) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (exec(s->db, sql.data) != SQLITE_OK)
		return err_set(err, -EIO, "cannot make the view of table %s: %s", t->name,
			       sqlite3_errmsg(s->db));
	return 0;
}

int query_history_views(struct query_session *s, struct err *err)
{
	if (s->req.file_is_snapshot) /* its tables are real and the only ones of their names */
		return 0;
	for (uint32_t i = 0; i < s->req.ntables; i++) {
		int r;

		/* Every table that is named: without the view the name would mean that of the first
		 * segment. */
		if (!table_is_history(s->req.tables[i]) || !sql_names(s, s->req.tables[i]->name))
			continue;
		r = view(s, i, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Where rows were lost: of all that the table "loss" knows, and what newer versions may add. */
#define STAGES_MAX 16

struct stages {
	unsigned int n;
	uint64_t lost; /* all of them */
	struct {
		char name[24];
		uint64_t lost;
	} of[STAGES_MAX];
};

static void add_stage(struct stages *st, const char *name, uint64_t lost)
{
	unsigned int i = 0;

	st->lost += lost;
	/* A damaged segment may hold anything. */
	if (!*name || strspn(name, "abcdefghijklmnopqrstuvwxyz_") != strlen(name))
		name = "unknown";
	while (i < st->n && strcmp(st->of[i].name, name) != 0)
		i++;
	if (i == STAGES_MAX)
		return; /* in the sum alone */
	if (i == st->n)
		snprintf(st->of[st->n++].name, sizeof(st->of[i].name), "%s", name);
	st->of[i].lost += lost;
}

/*
 * What the table "loss" of one segment has for that time. Its rows are about the second before
 * them. What only watchers missed isn't missing here.
 */
static void recorded_loss(struct query_session *s, const char *schema, const char *table,
			  uint64_t from, uint64_t until, struct stages *ret)
{
	sqlite3_stmt *st = NULL;
	char sql[200];

	snprintf(sql, sizeof(sql),
		 "SELECT stage, sum(lost) FROM \"%s\".loss WHERE table_name = ?1 AND ts >= ?2 AND "
		 "ts <= ?3 AND stage <> 'watchers' GROUP BY stage",
		 schema);
	if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) == SQLITE_OK) {
		sqlite3_bind_text(st, 1, table, -1, SQLITE_STATIC);
		sqlite3_bind_int64(st, 2, (sqlite3_int64)from);
		sqlite3_bind_int64(st, 3,
				   until ? (sqlite3_int64)(until + NSEC_PER_SEC) : INT64_MAX);
		while (sqlite3_step(st) == SQLITE_ROW) {
			const char *stage = (const char *)sqlite3_column_text(st, 0);

			add_stage(ret, stage ? stage : "", (uint64_t)sqlite3_column_int64(st, 1));
		}
	}
	sqlite3_finalize(st);
}

/* Counting more than that would take longer than many a query. */
#define HELD_MAX 200000

/* In the segments themselves: the view may hold no more than what the statement looks for. */
static uint64_t held_in(struct query_session *s, const char *schema, const char *table,
			uint64_t from, uint64_t until)
{
	uint64_t rows = UINT64_MAX;
	sqlite3_stmt *st = NULL;
	char sql[200];

	snprintf(sql, sizeof(sql),
		 "SELECT count(*) FROM (SELECT 1 FROM \"%s\".\"%s_data\" WHERE ts >= ?1 AND ts <= "
		 "?2 LIMIT %d)",
		 schema, table, HELD_MAX + 1);
	if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) == SQLITE_OK) {
		sqlite3_bind_int64(st, 1, (sqlite3_int64)from);
		sqlite3_bind_int64(st, 2, until ? (sqlite3_int64)until : INT64_MAX);
		if (sqlite3_step(st) == SQLITE_ROW)
			rows = (uint64_t)sqlite3_column_int64(st, 0);
	}
	sqlite3_finalize(st);
	return rows;
}

static uint64_t held_rows(struct query_session *s, const struct table *t, uint64_t from,
			  uint64_t until)
{
	uint64_t rows = 0;

	for (unsigned int i = 0; i < s->nsegments; i++) {
		struct segment_table info = {0};
		uint64_t n;

		if (s->segments[i].ring != schema_ring(t) ||
		    schema_read_table(s->db, s->segments[i].schema, t, &info, NULL) < 0 ||
		    !info.rows)
			continue;
		n = held_in(s, s->segments[i].schema, t->name, from, until);
		if (n > HELD_MAX || (rows += n) > HELD_MAX)
			return UINT64_MAX;
	}
	return rows;
}

static void say_stages(const struct stages *st, char *dst, size_t cap)
{
	size_t len = 0;

	dst[0] = '\0';
	for (unsigned int i = 0; i < st->n && len < cap; i++)
		len += (size_t)snprintf(dst + len, cap - len, "%s%s %" PRIu64, i ? ", " : "",
					st->of[i].name, st->of[i].lost);
}

static void loss_of(struct query_session *s, const struct table *t, uint64_t from, uint64_t until,
		    struct stages *ret)
{
	*ret = (struct stages){0};
	for (unsigned int i = 0; i < s->nsegments; i++)
		if (s->segments[i].ring == RING_AUDIT)
			recorded_loss(s, s->segments[i].schema, t->name, from, until, ret);
}

void query_history_loss(struct query_session *s, uint32_t table, const char *sql,
			struct query_loss *ret)
{
	const struct table *t = s->req.tables[table];
	uint64_t counted = 0, from, until;
	struct stages stages;

	if (s->req.file_is_snapshot) {
		query_file_loss(s, table, &ret->rows, &ret->since_ns);
		ret->held = UINT64_MAX;
		return;
	}
	for (unsigned int i = 0; i < s->nsegments; i++) {
		struct segment_table info = {0};

		if (s->segments[i].ring != schema_ring(t) ||
		    schema_read_table(s->db, s->segments[i].schema, t, &info, NULL) < 0)
			continue;
		counted += info.lost;
		ret->held += info.rows;
		if (info.ts_min && (!ret->since_ns || info.ts_min < ret->since_ns))
			ret->since_ns = info.ts_min;
	}
	loss_of(s, t, ret->since_ns, 0, &stages);
	/*
	 * The table "loss" tells of every stage from the kernel to the disk; a segment's own count
	 * only of the store, which may be in the other too. The larger is counted once for sure.
	 */
	if (counted > stages.lost)
		add_stage(&stages, "store", counted - stages.lost);
	else if (stages.lost && !s->req.script && query_range(s, table, sql, &from, &until)) {
		ret->from_ns = from;
		ret->until_ns = until;
		loss_of(s, t, from > ret->since_ns ? from : ret->since_ns, until, &stages);
		ret->held = stages.lost ? held_rows(s, t, from, until) : UINT64_MAX;
	}
	ret->rows = stages.lost;
	say_stages(&stages, ret->why, sizeof(ret->why));
}
