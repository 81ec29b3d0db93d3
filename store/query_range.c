// SPDX-License-Identifier: Apache-2.0
/* Which part of a table's time a statement reads, as its conditions on ts say when it runs. */
/*
 * In the shape, where all tables are empty, the table is exchanged for one that notes what is asked
 * of its ts; then the statement is run there once more. That costs next to nothing, and knows
 * values that the text doesn't show: parameters, ago('5m'), expressions.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/macro.h"
#include "store/query_worker.h"

/* A statement over empty tables is over at once, but for one that makes rows of nothing. */
#define RANGE_NS       (20 * NSEC_PER_MSEC)
#define RANGE_LOOK_OPS 1000
/* Conditions on ts of one scan; more say nothing new. */
#define CONDITIONS_MAX 8

struct range {
	const struct table *table;
	bool scanned;
	sqlite3_int64 from, until; /* of all scans */
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

/* idxStr: one character for each condition, in the order of its value. */
static int range_best_index(sqlite3_vtab *vtab, sqlite3_index_info *info)
{
	char ops[CONDITIONS_MAX + 1] = "";
	int n = 0;

	(void)vtab;
	for (int i = 0; i < info->nConstraint && n < CONDITIONS_MAX; i++) {
		const struct sqlite3_index_constraint *c = &info->aConstraint[i];

		if (!c->usable || c->iColumn != 0 || !condition(c->op))
			continue;
		ops[n++] = condition(c->op);
		info->aConstraintUsage[i].argvIndex = n;
	}
	info->idxStr = sqlite3_mprintf("%s", ops);
	info->needToFreeIdxStr = 1;
	info->estimatedCost = n ? 10 : 1000000;
	info->estimatedRows = n ? 10 : 1000000;
	return info->idxStr ? SQLITE_OK : SQLITE_NOMEM;
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

bool query_range(struct query_session *s, uint32_t table, const char *sql, uint64_t *ret_from,
		 uint64_t *ret_until)
{
	const struct table *t = s->req.tables[table];
	uint64_t end = clock_mono_ns() + RANGE_NS;
	struct range range = {.table = t};
	_cleanup_buf_ struct buf ddl = {0};
	sqlite3_stmt *st = NULL;
	char drop[128];
	int rc;

	if (!named_once(sql, t->name))
		return false;
	sqlite3_set_authorizer(s->shape, NULL, NULL);
	sqlite3_progress_handler(s->shape, RANGE_LOOK_OPS, too_long, &end);
	snprintf(drop, sizeof(drop), "DROP TABLE \"%s\"", t->name);
	rc = sqlite3_exec(s->shape, drop, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_module_v2(s->shape, t->name, &range_module, &range, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(s->shape, sql, -1, &st, NULL);
	if (rc == SQLITE_OK) {
		bind_all(s, st);
		do
			rc = sqlite3_step(st);
		while (rc == SQLITE_ROW);
	}
	sqlite3_finalize(st);
	/* As it was: the statement may read other tables, which are looked at next. */
	sqlite3_create_module_v2(s->shape, t->name, NULL, NULL, NULL);
	query_table_ddl(&ddl, t);
	if (buf_status(&ddl) < 0 || sqlite3_exec(s->shape, ddl.data, NULL, NULL, NULL) != SQLITE_OK)
		rc = SQLITE_NOMEM;
	query_guard_arm(s, s->shape);
	if (rc != SQLITE_DONE || !range.scanned)
		return false;
	*ret_from = (uint64_t)range.from;
	*ret_until = range.until == INT64_MAX ? 0 : (uint64_t)(range.until > 0 ? range.until : 1);
	return true;
}
