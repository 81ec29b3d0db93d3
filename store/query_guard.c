// SPDX-License-Identifier: Apache-2.0
/* The friendly layer around untrusted SQL: what is refused, and the sentence that says why. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/macro.h"
#include "base/opt.h"
#include "store/query_spill.h"
#include "store/query_worker.h"

/* Virtual machine steps between two looks at the clock: about 20 us. */
#define PROGRESS_OPS 2000
/* A client sees a slow statement's first rows after that, though they don't fill a frame. */
#define ROWS_WAIT_NS (100 * NSEC_PER_MSEC)

/*
 * printf, format: one call with a huge width ran for 17 s without a look at the progress handler.
 * The others make big values from nothing, reach into the engine, or read files and extensions.
 */
static const char *const denied_functions[] = {
	"printf",
	"format",
	"zeroblob",
	"randomblob",
	"load_extension",
	"fts3_tokenizer",
	"fts5",
	"fts5_source_id",
	"matchinfo",
	"offsets",
	"snippet",
	"optimize",
	"rtreecheck",
	"rtreenode",
	"rtreedepth",
	"readfile",
	"writefile",
	"edit",
	"eval",
	"sqlite_log",
	"sqlite_compileoption_get",
	"sqlite_compileoption_used",
	"sqlite_source_id",
	"icu_load_collation",
};

/* Only to suggest one of them for a misspelt name. */
static const char *const known_functions[] = {
	"in_cidr",	"ip_family",	"ago",	    "now_ns",	"rfc3339", "percentile",
	"median",	"count",	"sum",	    "total",	"avg",	   "min",
	"max",		"group_concat", "coalesce", "ifnull",	"nullif",  "iif",
	"length",	"substr",	"lower",    "upper",	"trim",	   "replace",
	"instr",	"round",	"abs",	    "datetime", "service", "strftime",
	"json_extract", "row_number",	"rank",	    "lag",	"lead",
};

static const char *const action_names[] = {
	[SQLITE_ATTACH] = "ATTACH",
	[SQLITE_DETACH] = "DETACH",
	[SQLITE_PRAGMA] = "PRAGMA",
	[SQLITE_INSERT] = "INSERT",
	[SQLITE_UPDATE] = "UPDATE",
	[SQLITE_DELETE] = "DELETE",
	[SQLITE_TRANSACTION] = "BEGIN, COMMIT or ROLLBACK",
	[SQLITE_SAVEPOINT] = "SAVEPOINT",
	[SQLITE_REINDEX] = "REINDEX",
	[SQLITE_ANALYZE] = "ANALYZE",
};

void query_guard_limits(sqlite3 *db)
{
	static const struct {
		int id, value;
	} limits[] = {
		{SQLITE_LIMIT_LENGTH, QUERY_MAX_CELL},
		{SQLITE_LIMIT_SQL_LENGTH, QUERY_MAX_SQL},
		{SQLITE_LIMIT_COLUMN, QUERY_MAX_COLUMNS},
		{SQLITE_LIMIT_EXPR_DEPTH, 100},
		{SQLITE_LIMIT_COMPOUND_SELECT,
		 128}, /* a view of 7 segments joined with itself is 49 */
		{SQLITE_LIMIT_VDBE_OP, 100000},
		{SQLITE_LIMIT_FUNCTION_ARG, 32},
		{SQLITE_LIMIT_ATTACHED, 0},
		{SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256},
		{SQLITE_LIMIT_VARIABLE_NUMBER, QUERY_MAX_PARAMS},
		{SQLITE_LIMIT_TRIGGER_DEPTH, 1},
		{SQLITE_LIMIT_WORKER_THREADS, 0},
	};
	static const struct {
		int id, value;
	} configs[] = {
		{SQLITE_DBCONFIG_DEFENSIVE, 1},
		{SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
		{SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
		{SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0},
		{SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
		{SQLITE_DBCONFIG_DQS_DML, 0},
		{SQLITE_DBCONFIG_DQS_DDL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		sqlite3_limit(db, limits[i].id, limits[i].value);
	for (size_t i = 0; i < ARRAY_SIZE(configs); i++)
		sqlite3_db_config(db, configs[i].id, configs[i].value, NULL);
}

int query_table_index(const struct query_session *s, const char *name)
{
	for (uint32_t i = 0; i < s->req.ntables; i++)
		if (!strcasecmp(s->req.tables[i]->name, name))
			return i;
	return -1;
}

/* The first refusal is the reason; SQLite may go on asking. */
#define deny(s, ...)                                                             \
	({                                                                       \
		if (!(s)->denied[0])                                             \
			snprintf((s)->denied, sizeof((s)->denied), __VA_ARGS__); \
		SQLITE_DENY;                                                     \
	})

static bool is_denied_function(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(denied_functions); i++)
		if (!strcasecmp(name, denied_functions[i]))
			return true;
	return false;
}

/* Tables of SQLite itself that answer without being ours; reads of whole rows of a CTE look the
 * same otherwise. */
static bool is_engine_table(const char *name)
{
	static const char *const prefixes[] = {"sqlite_", "pragma_",  "dbstat",	    "fts",
					       "rtree",	  "bytecode", "tables_used"};

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncasecmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

static int authorize_read(struct query_session *s, const char *table, const char *column,
			  const char *view)
{
	int i;

	if (view) { /* our own views over the segments; nobody else can make one */
		i = query_table_index(s, view);
		if (i >= 0)
			s->reads.table[i] = true;
		return SQLITE_OK;
	}
	i = query_table_index(s, table);
	if (i >= 0) {
		int col = table_find(s->req.tables[i], column);

		s->reads.table[i] = true;
		if (col >= 0 && col < SCHEMA_MAX_COLUMNS)
			column_set_add(&s->reads.columns[i], col);
		return SQLITE_OK;
	}
	if (!strcasecmp(table, "json_each") || !strcasecmp(table, "json_tree"))
		return SQLITE_OK;
	/* count(*) of a subquery or CTE: its name, no column. */
	if (!column[0] && !is_engine_table(table))
		return SQLITE_OK;
	return deny(s,
		    "table '%.64s' cannot be read in queries; list the tables that can with "
		    "'ringside tables'",
		    table);
}

static int authorize(void *arg, int action, const char *a, const char *b, const char *db,
		     const char *view)
{
	struct query_session *s = arg;

	(void)db;
	switch (action) {
	case SQLITE_SELECT:
	case SQLITE_RECURSIVE:
		return SQLITE_OK;
	case SQLITE_READ:
		return authorize_read(s, a ? a : "", b ? b : "", view);
	case SQLITE_FUNCTION:
		if (b && is_denied_function(b))
			return deny(s, "function '%.64s' is not offered in queries", b);
		return SQLITE_OK;
	}
	if (action > 0 && (size_t)action < ARRAY_SIZE(action_names) && action_names[action])
		return deny(s, "a query only reads: %s is refused", action_names[action]);
	return deny(s, "a query only reads: %s is refused", "this statement");
}

static int progress(void *arg)
{
	struct query_session *s = arg;
	uint64_t now = clock_mono_ns();

	if (s->rows_n && now - s->rows_since_ns > ROWS_WAIT_NS)
		query_io_flush(s, false);
	s->expired = now >= s->req.deadline_ns;
	return s->expired;
}

void query_guard_arm(struct query_session *s, sqlite3 *db)
{
	sqlite3_set_authorizer(db, authorize, s);
	sqlite3_progress_handler(db, PROGRESS_OPS, progress, s);
}

/* Behind blanks, comments and semicolons. */
static const char *skip_blank(const char *p)
{
	for (;;) {
		if (isspace((unsigned char)*p) || *p == ';') {
			p++;
		} else if (p[0] == '-' && p[1] == '-') {
			p += strcspn(p, "\n");
		} else if (p[0] == '/' && p[1] == '*') {
			const char *end = strstr(p + 2, "*/");

			p = end ? end + 2 : p + strlen(p);
		} else {
			return p;
		}
	}
}

static size_t word_len(const char *p)
{
	size_t n = 0;

	while (isalnum((unsigned char)p[n]) || p[n] == '_')
		n++;
	return n;
}

static bool is_word(const char *p, const char *word)
{
	return word_len(p) == strlen(word) && !strncasecmp(p, word, strlen(word));
}

bool query_guard_blank(const char *sql)
{
	return *skip_blank(sql) == '\0';
}

const char *query_guard_explained(const char *sql)
{
	const char *p = skip_blank(sql);

	if (is_word(p, "EXPLAIN")) {
		p = skip_blank(p + word_len(p));
		if (is_word(p, "QUERY")) {
			p = skip_blank(p + word_len(p));
			if (is_word(p, "PLAN"))
				p = skip_blank(p + word_len(p));
		}
	}
	return p;
}

int query_guard_keyword(const char *sql, struct err *err)
{
	const char *p = query_guard_explained(sql);

	if (query_guard_blank(sql))
		return err_set(err, -EINVAL, "the query is empty");
	if (is_word(p, "SELECT") || is_word(p, "WITH") || is_word(p, "VALUES"))
		return 0;
	if (!word_len(p))
		return err_set(
			err, -EINVAL,
			"a query begins with SELECT, WITH, VALUES or EXPLAIN, not with '%.16s'", p);
	return err_set(
		err, -EPERM,
		"a query only reads: it begins with SELECT, WITH, VALUES or EXPLAIN, not with %.*s",
		(int)(word_len(p) < 32 ? word_len(p) : 32), p);
}

static const char *nearest_table(const struct query_session *s, const char *name)
{
	const char *names[QUERY_MAX_TABLES];

	for (uint32_t i = 0; i < s->req.ntables; i++)
		names[i] = s->req.tables[i]->name;
	return opt_nearest(name, names, s->req.ntables);
}

/* Among the columns of the tables that the statement names. */
static const char *nearest_column(const struct query_session *s, const char *name, const char *sql)
{
	for (uint32_t i = 0; i < s->req.ntables; i++) {
		const struct table *t = s->req.tables[i];
		const char *names[QUERY_MAX_COLUMNS], *near;

		if (!strcasestr(sql, t->name))
			continue;
		for (uint32_t k = 0; k < t->nfields; k++)
			names[k] = t->fields[k].name;
		near = opt_nearest(name, names, t->nfields);
		if (near)
			return near;
	}
	return NULL;
}

/* ", did you mean 'netflow'?" for SQLite's "no such table: netflw". */
static void hint(const struct query_session *s, const char *msg, const char *sql, int offset,
		 char *dst, size_t cap)
{
	static const char prefix_table[] = "no such table: ", prefix_column[] = "no such column: ",
			  prefix_function[] = "no such function: ";
	const char *near = NULL, *dot;
	char name[48];

	dst[0] = '\0';
	if (!strncmp(msg, prefix_table, strlen(prefix_table))) {
		snprintf(name, sizeof(name), "%s", msg + strlen(prefix_table));
		near = nearest_table(s, name);
		if (!near)
			snprintf(dst, cap, "; list the tables with 'ringside tables'");
	} else if (!strncmp(msg, prefix_column, strlen(prefix_column))) {
		msg += strlen(prefix_column);
		dot = strrchr(msg, '.');
		snprintf(name, sizeof(name), "%s", dot ? dot + 1 : msg);
		near = nearest_column(s, name, sql);
		if (!near && offset >= 0 && sql[offset] == '"')
			snprintf(dst, cap, "; text is written in single quotes");
	} else if (!strncmp(msg, prefix_function, strlen(prefix_function))) {
		snprintf(name, sizeof(name), "%s", msg + strlen(prefix_function));
		near = opt_nearest(name, known_functions, ARRAY_SIZE(known_functions));
	}
	if (near)
		snprintf(dst, cap, ", did you mean '%s'?", near);
}

int query_guard_error(struct query_session *s, sqlite3 *db, int rc, const char *sql,
		      struct err *err)
{
	const char *msg = sqlite3_errmsg(db);
	int offset = sqlite3_error_offset(db);
	char text[96], at[32] = "";

	if (s->expired)
		return err_set(
			err, -ETIMEDOUT,
			"the query passed its deadline: read less (a condition on ts is cheap) or "
			"allow more time");
	if (s->denied[0]) /* a table is SQLITE_AUTH, a function a plain error */
		return err_set(err, -EPERM, "%s", s->denied);
	if (query_spill_error(err) < 0)
		return err->code;
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		return err_set(
			err, -E2BIG,
			"the query needs more memory than a query may have%s%s%s: sort, group or "
			"join less",
			*query_spill_missing() ? " (it cannot sort on disk here: " : "",
			query_spill_missing(), *query_spill_missing() ? ")" : "");
	case SQLITE_TOOBIG:
		return err_set(err, -E2BIG, "a text or blob of the query is larger than %d KiB",
			       QUERY_MAX_CELL / 1024);
	case SQLITE_AUTH:
		return err_set(err, -EPERM, "%.200s", msg);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_set(
			err, -EIO,
			"a segment of the ring is damaged (%.100s): leave its time range out", msg);
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_FULL:
		return err_set(err, -EIO, "cannot read the ring: %.150s", msg);
	}
	hint(s, msg, sql, offset, text, sizeof(text));
	if (offset >= 0)
		snprintf(at, sizeof(at), " (at character %d)", offset + 1);
	return err_set(err, -EINVAL, "%.120s%s%s", msg, at, text);
}
