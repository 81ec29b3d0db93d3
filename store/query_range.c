// SPDX-License-Identifier: Apache-2.0
/* What a statement wants of a table: which part of its time, and rows with which values. */
/*
 * In the shape, where all tables are empty, the table is exchanged for one that notes what is asked
 * of it; then the statement is prepared, or run, there once more. That costs next to nothing, and
 * knows what the text doesn't show: parameters, ago('5m'), expressions, what a condition on a
 * subquery or on the other side of a join means for the table.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/macro.h"
#include "store/query_worker.h"

/* A statement over empty tables is over at once, but for one that makes rows of nothing. */
#define RANGE_NS       (20 * NSEC_PER_MSEC)
#define RANGE_LOOK_OPS 1000
/* Conditions on ts and lookups of one scan; more say nothing new. */
#define CONDITIONS_MAX 16
#define OP_LOOKUP      '?'
/* Ways to scan the table that the planner considers, and that are kept. */
#define WAYS_MAX 32
/* Behind the conditions on ts in idxStr: a plan shows where the table is scanned. */
#define WAY_MARK "~way"

struct range {
	const struct table *table;
	bool scanned;
	sqlite3_int64 from, until;  /* of all scans */
	struct query_lookups *ways; /* [WAYS_MAX], by idxNum; NULL: nobody asks */
	unsigned int nways;
};

struct range_vtab {
	sqlite3_vtab base;
	struct range *range;
};

static int range_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
			 sqlite3_vtab **ret, char **error)
{
	struct range *range = aux;
	_cleanup_buf_ struct buf ddl = {0};
	struct range_vtab *v;
	int rc;

	(void)argc;
	(void)argv;
	(void)error;
	query_table_ddl(&ddl, range->table);
	if (buf_status(&ddl) < 0)
		return SQLITE_NOMEM;
	rc = sqlite3_declare_vtab(db, ddl.data);
	if (rc != SQLITE_OK)
		return rc;
	v = sqlite3_malloc(sizeof(*v));
	if (!v)
		return SQLITE_NOMEM;
	*v = (struct range_vtab){.range = range};
	*ret = &v->base;
	return SQLITE_OK;
}

static int range_disconnect(sqlite3_vtab *vtab)
{
	sqlite3_free(vtab);
	return SQLITE_OK;
}

static char condition(int op)
{
	switch (op) {
	case SQLITE_INDEX_CONSTRAINT_EQ:
		return '=';
	case SQLITE_INDEX_CONSTRAINT_GT:
		return '>';
	case SQLITE_INDEX_CONSTRAINT_GE:
		return 'g';
	case SQLITE_INDEX_CONSTRAINT_LT:
		return '<';
	case SQLITE_INDEX_CONSTRAINT_LE:
		return 'l';
	default:
		return 0;
	}
}

/* Only a constant says the same for every row of other tables. */
static bool note_lookup(sqlite3_index_info *info, int i, struct query_lookups *way)
{
	const struct sqlite3_index_constraint *c = &info->aConstraint[i];
	struct query_lookup *l = &way->of[way->n];
	sqlite3_value *v = NULL;
	const char *text;

	if (c->iColumn < 1 || way->n == ARRAY_SIZE(way->of))
		return false;
	l->column = (unsigned int)c->iColumn;
	if (c->op != SQLITE_INDEX_CONSTRAINT_EQ && condition(c->op)) {
		l->how = LOOKUP_RANGE;
		way->n++;
		return true;
	}
	if (sqlite3_vtab_rhs_value(info, i, &v) != SQLITE_OK || !v)
		return false;
	if (c->op == SQLITE_INDEX_CONSTRAINT_EQ && sqlite3_value_type(v) == SQLITE_INTEGER) {
		l->how = LOOKUP_INT;
		l->i = sqlite3_value_int64(v);
		way->n++;
		return true;
	}
	if ((c->op != SQLITE_INDEX_CONSTRAINT_EQ && c->op != SQLITE_INDEX_CONSTRAINT_FUNCTION) ||
	    sqlite3_value_type(v) != SQLITE_TEXT ||
	    strcmp(sqlite3_vtab_collation(info, i), "BINARY") != 0)
		return false;
	text = (const char *)sqlite3_value_text(v);
	if (!text || strlen(text) >= sizeof(l->text)) /* no dictionary has it */
		return false;
	l->how = c->op == SQLITE_INDEX_CONSTRAINT_EQ ? LOOKUP_TEXT : LOOKUP_CIDR;
	snprintf(l->text, sizeof(l->text), "%s", text);
	way->n++;
	return true;
}

/* 0: nothing can be noted. */
static unsigned int new_way(struct range *range)
{
	if (!range->ways || range->nways + 1 >= WAYS_MAX)
		return 0;
	range->ways[++range->nways] = (struct query_lookups){0};
	return range->nways;
}

/*
 * idxStr: one character for each condition, in the order of its value; the mark. A condition counts
 * by being used: one of a LEFT JOIN's ON that names this table on its left is offered too, but no
 * plan can use it.
 */
static int range_best_index(sqlite3_vtab *vtab, sqlite3_index_info *info)
{
	struct range *range = container_of(vtab, struct range_vtab, base)->range;
	unsigned int way = new_way(range);
	char ops[CONDITIONS_MAX + 1] = "";
	int n = 0;

	info->idxNum = (int)way;
	for (int i = 0; i < info->nConstraint && n < CONDITIONS_MAX; i++) {
		const struct sqlite3_index_constraint *c = &info->aConstraint[i];

		if (!c->usable)
			continue;
		if (c->iColumn == 0 && condition(c->op))
			ops[n++] = condition(c->op);
		else if (way && note_lookup(info, i, &range->ways[way]))
			ops[n++] = OP_LOOKUP;
		else
			continue;
		info->aConstraintUsage[i].argvIndex = n;
	}
	info->idxStr = sqlite3_mprintf("%s" WAY_MARK, ops);
	info->needToFreeIdxStr = 1;
	info->estimatedCost = n ? 10 : 1000000;
	info->estimatedRows = n ? 10 : 1000000;
	return info->idxStr ? SQLITE_OK : SQLITE_NOMEM;
}

/* Never called: the table is empty. */
static void no_row(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	(void)argc;
	(void)argv;
	sqlite3_result_null(ctx);
}

/* Makes in_cidr(column, network) a condition that range_best_index() is told of. */
static int range_find_function(sqlite3_vtab *vtab, int argc, const char *name,
			       void (**ret)(sqlite3_context *, int, sqlite3_value **), void **arg)
{
	(void)vtab;
	if (argc != 2 || strcasecmp(name, "in_cidr") != 0)
		return 0;
	*ret = no_row;
	*arg = NULL;
	return SQLITE_INDEX_CONSTRAINT_FUNCTION;
}

static int range_open(sqlite3_vtab *vtab, sqlite3_vtab_cursor **ret)
{
	(void)vtab;
	*ret = sqlite3_malloc(sizeof(**ret));
	if (!*ret)
		return SQLITE_NOMEM;
	memset(*ret, 0, sizeof(**ret));
	return SQLITE_OK;
}

static int range_close(sqlite3_vtab_cursor *cursor)
{
	sqlite3_free(cursor);
	return SQLITE_OK;
}

static void narrow(char op, sqlite3_int64 v, sqlite3_int64 *from, sqlite3_int64 *until)
{
	sqlite3_int64 lo = op == '>' && v < INT64_MAX ? v + 1 : v;
	sqlite3_int64 hi = op == '<' && v > INT64_MIN ? v - 1 : v;

	if (strchr("=>g", op) && lo > *from)
		*from = lo;
	if (strchr("=<l", op) && hi < *until)
		*until = hi;
}

/* Several scans (of an OR, of the values of an IN) read all that each of them does. */
static int range_filter(sqlite3_vtab_cursor *cursor, int idx, const char *ops, int argc,
			sqlite3_value **argv)
{
	struct range *r = container_of(cursor->pVtab, struct range_vtab, base)->range;
	sqlite3_int64 from = 0, until = INT64_MAX;

	(void)idx;
	for (int i = 0; i < argc && ops[i]; i++) {
		int type = sqlite3_value_type(argv[i]);

		if (type == SQLITE_INTEGER || type == SQLITE_FLOAT)
			narrow(ops[i], sqlite3_value_int64(argv[i]), &from, &until);
	}
	if (!r->scanned || from < r->from)
		r->from = from;
	if (!r->scanned || until > r->until)
		r->until = until;
	r->scanned = true;
	return SQLITE_OK;
}

static int range_next(sqlite3_vtab_cursor *cursor)
{
	(void)cursor;
	return SQLITE_OK;
}

static int range_eof(sqlite3_vtab_cursor *cursor)
{
	(void)cursor;
	return 1;
}

static int range_column(sqlite3_vtab_cursor *cursor, sqlite3_context *ctx, int col)
{
	(void)cursor;
	(void)col;
	sqlite3_result_null(ctx);
	return SQLITE_OK;
}

static int range_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *ret)
{
	(void)cursor;
	*ret = 0;
	return SQLITE_OK;
}

static const sqlite3_module range_module = {
	.xConnect = range_connect,
	.xBestIndex = range_best_index,
	.xDisconnect = range_disconnect,
	.xOpen = range_open,
	.xClose = range_close,
	.xFilter = range_filter,
	.xNext = range_next,
	.xEof = range_eof,
	.xColumn = range_column,
	.xRowid = range_rowid,
	.xFindFunction = range_find_function,
};

/*
 * A table that is read twice may be scanned once only while it is empty. As the name of a column's
 * table it stands before a dot.
 */
static bool named_once(const char *sql, const char *name)
{
	size_t len = strlen(name);
	unsigned int n = 0;

	for (const char *p = sql; (p = strcasestr(p, name)); p += len) {
		const char *end = p + len;

		while (*end == '"' || *end == '`' || *end == ']' || isspace((unsigned char)*end))
			end++;
		n += *end != '.';
	}
	return n == 1;
}

static void bind_all(struct query_session *s, sqlite3_stmt *st)
{
	for (uint32_t i = 0; i < s->req.nparams; i++) {
		const struct value *v = &s->req.params[i];

		/* Others are no bounds of ts. */
		if (v->kind == VALUE_INT)
			sqlite3_bind_int64(st, (int)i + 1, v->i);
		else if (v->kind == VALUE_REAL)
			sqlite3_bind_double(st, (int)i + 1, v->d);
		else if (v->kind == VALUE_TEXT)
			sqlite3_bind_text(st, (int)i + 1, v->text, (int)v->len, SQLITE_STATIC);
	}
}

static int too_long(void *arg)
{
	return clock_mono_ns() >= *(const uint64_t *)arg;
}

/* Between these the shape's table notes what is asked of it. */
static int begin(struct query_session *s, struct range *range, const uint64_t *end)
{
	const char *name = range->table->name;
	char drop[128];
	int rc;

	sqlite3_set_authorizer(s->shape, NULL, NULL);
	sqlite3_progress_handler(s->shape, RANGE_LOOK_OPS, too_long, (void *)end);
	snprintf(drop, sizeof(drop), "DROP TABLE \"%s\"", name);
	rc = sqlite3_exec(s->shape, drop, NULL, NULL, NULL);
	return rc == SQLITE_OK
		       ? sqlite3_create_module_v2(s->shape, name, &range_module, range, NULL)
		       : rc;
}

/* As it was: the statement may read other tables, which are looked at next. */
static int end(struct query_session *s, const struct range *range)
{
	_cleanup_buf_ struct buf ddl = {0};
	int rc = SQLITE_OK;

	sqlite3_create_module_v2(s->shape, range->table->name, NULL, NULL, NULL);
	query_table_ddl(&ddl, range->table);
	if (buf_status(&ddl) < 0 || sqlite3_exec(s->shape, ddl.data, NULL, NULL, NULL) != SQLITE_OK)
		rc = SQLITE_NOMEM;
	query_guard_arm(s, s->shape);
	return rc;
}

bool query_range(struct query_session *s, uint32_t table, const char *sql, uint64_t *ret_from,
		 uint64_t *ret_until)
{
	struct range range = {.table = s->req.tables[table]};
	uint64_t deadline = clock_mono_ns() + RANGE_NS;
	sqlite3_stmt *st = NULL;
	int rc;

	if (!named_once(sql, range.table->name))
		return false;
	rc = begin(s, &range, &deadline);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(s->shape, sql, -1, &st, NULL);
	if (rc == SQLITE_OK) {
		bind_all(s, st);
		do
			rc = sqlite3_step(st);
		while (rc == SQLITE_ROW);
	}
	sqlite3_finalize(st);
	if (end(s, &range) != SQLITE_OK || rc != SQLITE_DONE || !range.scanned)
		return false;
	*ret_from = (uint64_t)range.from;
	*ret_until = range.until == INT64_MAX ? 0 : (uint64_t)(range.until > 0 ? range.until : 1);
	return true;
}

/* The statement's own text, with the values of its parameters in their places. */
static char *expanded(struct query_session *s, const char *sql)
{
	sqlite3_stmt *st = NULL;
	char *text = NULL;

	for (uint32_t i = 0; i < s->req.nparams; i++)
		if (s->req.params[i].kind == VALUE_TEXT &&
		    memchr(s->req.params[i].text, 0, s->req.params[i].len))
			return NULL;
	if (sqlite3_prepare_v2(s->shape, sql, -1, &st, NULL) == SQLITE_OK && st) {
		bind_all(s, st);
		text = sqlite3_expanded_sql(st);
	}
	sqlite3_finalize(st);
	return text;
}

/* A line of the plan. Names are the statement's, and may look like anything: but not without
 * showing the mark once more than there are scans. */
static void find_way(const char *line, unsigned int *scans, unsigned long *way)
{
	static const char before[] = "VIRTUAL TABLE INDEX ";
	const char *p = line, *at = NULL;

	for (const char *mark = line; (mark = strstr(mark, WAY_MARK)); mark++)
		(*scans)++;
	while ((p = strstr(p, before))) {
		p += strlen(before);
		at = p;
	}
	if (at && strstr(at, WAY_MARK))
		*way = strtoul(at, NULL, 10);
}

/*
 * With one scan of the table in the whole program, what that scan must find is what all of the
 * answer is made of: the rest of the table may as well not be there. Constants alone: others may
 * differ from one run of the scan to the next.
 */
void query_lookups(struct query_session *s, uint32_t table, const char *sql,
		   struct query_lookups *ret)
{
	struct range range = {.table = s->req.tables[table]};
	uint64_t deadline = clock_mono_ns() + RANGE_NS;
	char *text = expanded(s, sql), *plan = NULL;
	unsigned int scans = 0;
	unsigned long way = 0;
	sqlite3_stmt *st = NULL;
	int rc = SQLITE_NOMEM;

	*ret = (struct query_lookups){0};
	range.ways = calloc(WAYS_MAX, sizeof(*range.ways));
	if (text)
		plan = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", query_guard_explained(text));
	if (range.ways && plan)
		rc = begin(s, &range, &deadline);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(s->shape, plan, -1, &st, NULL);
	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW)
			find_way((const char *)sqlite3_column_text(st, 3), &scans, &way);
	}
	sqlite3_finalize(st);
	if (range.ways && plan && end(s, &range) == SQLITE_OK && rc == SQLITE_DONE && scans == 1 &&
	    way && way <= range.nways)
		*ret = range.ways[way];
	free(range.ways);
	sqlite3_free(plan);
	sqlite3_free(text);
}
