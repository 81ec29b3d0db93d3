// SPDX-License-Identifier: Apache-2.0
/* "dst_ip = '10.0.0.1'" as a condition on a segment's cells: ids that its indexes know. */
#include <stdio.h>
#include <string.h>

#include "store/query_worker.h"

/* A row by an index costs what some twenty rows of a scan do: of more than that share of all rows a
 * scan is faster. */
#define HOT_SHARE 16
/* A network of so many addresses and no more. */
#define IDS_MAX 256

struct ids {
	unsigned int n;
	int64_t id[IDS_MAX + 1];
};

/* One number of a row; false: none, or it can't be had. value: text, or NULL for i. */
static bool ask(sqlite3 *db, const char *sql, const char *text, int64_t i, int64_t limit,
		int64_t *ret)
{
	sqlite3_stmt *st = NULL;
	bool got = false;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK) {
		if (text)
			sqlite3_bind_text(st, 1, text, -1, SQLITE_STATIC);
		else
			sqlite3_bind_int64(st, 1, i);
		sqlite3_bind_int64(st, 2, limit);
		got = sqlite3_step(st) == SQLITE_ROW;
		if (got)
			*ret = sqlite3_column_int64(st, 0);
	}
	sqlite3_finalize(st);
	return got;
}

/* Rows with that cell, limit at most. */
static bool count_cells(sqlite3 *db, const char *schema, const char *table, const char *column,
			const char *text, int64_t i, int64_t limit, int64_t *ret)
{
	char sql[320];

	snprintf(sql, sizeof(sql),
		 "SELECT count(*) FROM (SELECT 1 FROM \"%s\".\"%s_data\" WHERE \"%s\" = ?1 LIMIT "
		 "?2)",
		 schema, table, column);
	return ask(db, sql, text, i, limit, ret);
}

/* Several ids may have one text: what was no UTF-8 was made it only then. */
static bool read_ids(sqlite3 *db, const char *schema, const struct query_lookup *l, struct ids *ret)
{
	sqlite3_stmt *st = NULL;
	char sql[160];
	int rc;

	snprintf(sql, sizeof(sql), "SELECT id FROM \"%s\".strings WHERE %s LIMIT %d", schema,
		 l->how == LOOKUP_CIDR ? "in_cidr(s, ?1)" : "s = ?1", IDS_MAX + 1);
	ret->n = 0;
	rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_text(st, 1, l->text, -1, SQLITE_STATIC);
		while ((rc = sqlite3_step(st)) == SQLITE_ROW)
			ret->id[ret->n++] = sqlite3_column_int64(st, 0);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_DONE && ret->n <= IDS_MAX;
}

/* Keeps the ids that the column has, and says how many rows that makes, limit at most. */
static bool keep_present(sqlite3 *db, const char *schema, const char *table, const char *column,
			 struct ids *ids, int64_t limit, int64_t *ret_rows)
{
	unsigned int kept = 0;
	int64_t sum = 0;

	for (unsigned int i = 0; i < ids->n && sum < limit; i++) {
		int64_t rows;

		if (!count_cells(db, schema, table, column, NULL, ids->id[i], limit, &rows))
			return false;
		sum += rows;
		if (rows)
			ids->id[kept++] = ids->id[i];
	}
	if (sum < limit)
		ids->n = kept;
	*ret_rows = sum;
	return true;
}

static void put_condition(struct buf *where, const char *column, const struct ids *ids,
			  const char *text, bool scan)
{
	buf_printf(where, "%s%sd.\"%s\" ", where->len ? " AND " : "", scan ? "+" : "", column);
	if (ids->n + !!text == 1)
		buf_puts(where, "= ");
	else
		buf_puts(where, "IN (");
	for (unsigned int i = 0; i < ids->n; i++)
		buf_printf(where, "%s%lld", i ? "," : "", (long long)ids->id[i]);
	if (text) {
		char *quoted = sqlite3_mprintf("%s%Q", ids->n ? "," : "", text);

		if (quoted)
			buf_puts(where, quoted);
		else
			where->failed = true;
		sqlite3_free(quoted);
	}
	if (ids->n + !!text != 1)
		buf_putc(where, ')');
}

/* A text column that may hold ids. A cell holds the text itself where the dictionary was full. */
static bool look_up_text(sqlite3 *db, const struct table *t, const struct query_lookup *l,
			 bool indexed, int64_t hot, const char *schema, struct buf *where)
{
	const char *column = t->fields[l->column].name, *text = l->text;
	bool cidr = l->how == LOOKUP_CIDR;
	int64_t rows = 0, inlined = 0;
	struct ids ids;

	if ((cidr && !indexed) || !read_ids(db, schema, l, &ids))
		return true;
	if (indexed) {
		char sql[320];

		/* Behind all numbers in the index; of a network nobody can say which they are. */
		snprintf(
			sql, sizeof(sql),
			"SELECT count(*) FROM (SELECT 1 FROM \"%s\".\"%s_data\" WHERE \"%s\" %s ?1 "
			"LIMIT ?2)",
			schema, t->name, column, cidr ? ">=" : "=");
		if (!keep_present(db, schema, t->name, column, &ids, hot, &rows) ||
		    !ask(db, sql, cidr ? "" : text, 0, hot, &inlined))
			return true;
		if (cidr && (inlined || rows >= hot))
			return true;
		if (!rows && !inlined)
			return false;
		if (!inlined)
			text = NULL;
	}
	put_condition(where, column, &ids, text, rows + inlined >= hot);
	return true;
}

bool query_lookup_arm(struct query_session *s, const struct table *t,
		      const struct segment_table *info, const struct query_lookups *lookups,
		      struct schema_arm *arm, struct buf *where)
{
	int64_t hot = (int64_t)(info->rows / HOT_SHARE) + 1, rows;
	struct column_set indexed;

	if (!lookups->n || !column_set_has(&info->columns, 0) ||
	    schema_read_indexed(s->db, arm->schema, t, &indexed, NULL) < 0)
		return true;
	for (unsigned int i = 0; i < lookups->n; i++) {
		const struct query_lookup *l = &lookups->of[i];
		const char *column = t->fields[l->column].name;
		bool has_index = column_set_has(&indexed, l->column);

		if (l->how == LOOKUP_RANGE) {
			/* "pid > 1000": SQLite takes it for a few rows, and it may be nearly all.
			 */
			column_set_add(&arm->unindexed, l->column);
		} else if (column_set_has(&info->dict, l->column)) {
			if (l->how != LOOKUP_INT &&
			    !look_up_text(s->db, t, l, has_index, hot, arm->schema, where))
				return false;
		} else if (l->how == LOOKUP_INT && has_index &&
			   count_cells(s->db, arm->schema, t->name, column, NULL, l->i, hot,
				       &rows)) {
			if (!rows)
				return false;
			if (rows >= hot)
				column_set_add(&arm->unindexed, l->column);
		}
	}
	/* Out of memory: without the condition the answer is the same. */
	arm->where = where->len && buf_status(where) == 0 ? where->data : NULL;
	return true;
}
