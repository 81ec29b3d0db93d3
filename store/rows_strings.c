// SPDX-License-Identifier: Apache-2.0
/* The virtual table of strings: what the dictionary has and the segment has not. */
#include "store/rows.h"

struct strings_vtab {
	sqlite3_vtab base;
	struct dict *dict;
};

struct strings_cursor {
	sqlite3_vtab_cursor base;
	const struct dict *dict;
	uint32_t idx;
};

static int strings_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
			   sqlite3_vtab **ret, char **msg)
{
	struct strings_vtab *v;
	int rc = sqlite3_declare_vtab(db, "CREATE TABLE x(id, s)");

	(void)argc, (void)argv, (void)msg;
	if (rc != SQLITE_OK)
		return rc;
	v = sqlite3_malloc(sizeof(*v));
	if (!v)
		return SQLITE_NOMEM;
	*v = (struct strings_vtab){.dict = aux};
	*ret = &v->base;
	return SQLITE_OK;
}

static int strings_open(sqlite3_vtab *v, sqlite3_vtab_cursor **ret)
{
	struct strings_cursor *c = sqlite3_malloc(sizeof(*c));

	if (!c)
		return SQLITE_NOMEM;
	*c = (struct strings_cursor){.dict = ((struct strings_vtab *)v)->dict};
	*ret = &c->base;
	return SQLITE_OK;
}

static int strings_filter(sqlite3_vtab_cursor *cur, int idx, const char *name, int argc,
			  sqlite3_value **argv)
{
	struct strings_cursor *c = (struct strings_cursor *)cur;

	(void)idx, (void)name, (void)argc, (void)argv;
	c->idx = c->dict->saved;
	return SQLITE_OK;
}

static int strings_next(sqlite3_vtab_cursor *cur)
{
	((struct strings_cursor *)cur)->idx++;
	return SQLITE_OK;
}

static int strings_eof(sqlite3_vtab_cursor *cur)
{
	struct strings_cursor *c = (struct strings_cursor *)cur;

	return c->idx >= c->dict->nkeys;
}

static int strings_column(sqlite3_vtab_cursor *cur, sqlite3_context *ctx, int col)
{
	struct strings_cursor *c = (struct strings_cursor *)cur;
	char scratch[DICT_MAX_LEN * 3 + 1];
	const char *s;
	uint32_t len;

	if (col == 0) {
		sqlite3_result_int64(ctx, c->dict->keys[c->idx].id);
		return SQLITE_OK;
	}
	s = dict_key_text(c->dict, c->idx, scratch, sizeof(scratch), &len);
	sqlite3_result_text(ctx, s, (int)len, s == scratch ? SQLITE_TRANSIENT : SQLITE_STATIC);
	return SQLITE_OK;
}

static const sqlite3_module strings_module = {
	.xConnect = strings_connect,
	.xBestIndex = rows_any_best_index,
	.xDisconnect = rows_any_disconnect,
	.xOpen = strings_open,
	.xClose = rows_any_close,
	.xFilter = strings_filter,
	.xNext = strings_next,
	.xEof = strings_eof,
	.xColumn = strings_column,
	.xRowid = rows_any_rowid,
};

int rows_register_strings(sqlite3 *db, struct dict *dict)
{
	return sqlite3_create_module_v2(db, ROWS_STRINGS, &strings_module, dict, NULL);
}
