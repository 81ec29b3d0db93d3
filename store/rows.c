// SPDX-License-Identifier: Apache-2.0
/* The virtual table of rows: one batch, with ids of the dictionary. */
#include "store/rows.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/macro.h"
#include "base/utf8.h"
#include "store/schema.h"

enum cell {
	CELL_TS,
	CELL_U8,
	CELL_U16,
	CELL_U32,
	CELL_U64,
	CELL_I32,
	CELL_I64,
	CELL_F64,
	CELL_CHARS,
	CELL_CHARS_DICT,
	CELL_BLOB,
	CELL_STR,
	CELL_STR_DICT,
	CELL_IP,
	CELL_ENUM,
};

struct rows_column {
	enum cell cell;
	enum field_null null;
	uint32_t off, size;
	uint32_t enum_base, enum_n;
	const char *const *names;
};

struct rows_plan {
	const struct table *table;
	uint32_t ncols, nenums;
	struct rows_column cols[];
};

static enum cell cell_of(const struct field *f)
{
	static const enum cell plain[] = {
		[REPR_U8] = CELL_U8,   [REPR_U16] = CELL_U16,	  [REPR_U32] = CELL_U32,
		[REPR_U64] = CELL_U64, [REPR_I32] = CELL_I32,	  [REPR_I64] = CELL_I64,
		[REPR_F64] = CELL_F64, [REPR_CHARS] = CELL_CHARS, [REPR_STR] = CELL_STR,
		[REPR_IP] = CELL_IP,   [REPR_ENUM] = CELL_ENUM,
	};
	static_assert(ARRAY_SIZE(plain) == REPR_X_MAX, "a cell for every representation");

	if (f->repr == REPR_CHARS && f->type == COLUMN_BYTES)
		return CELL_BLOB;
	if (f->repr == REPR_CHARS && schema_is_dict(f))
		return CELL_CHARS_DICT;
	if (f->repr == REPR_STR && schema_is_dict(f))
		return CELL_STR_DICT;
	return plain[f->repr];
}

int rows_plan_new(struct rows_plan **ret, const struct table *t, struct err *err)
{
	struct rows_plan *plan;
	char why[160];

	if (table_check(t, why, sizeof(why)) < 0)
		return err_set(err, -EINVAL, "%s", why);
	if (t->nfields > SCHEMA_MAX_COLUMNS)
		return err_set(err, -EINVAL, "table %s has %u columns, a segment holds %d", t->name,
			       t->nfields, SCHEMA_MAX_COLUMNS);
	plan = calloc(1, sizeof(*plan) + t->nfields * sizeof(plan->cols[0]));
	if (!plan)
		return err_set(err, -ENOMEM, "out of memory");
	plan->table = t;
	plan->ncols = t->nfields;
	for (uint32_t i = 0; i < t->nfields; i++) {
		const struct field *f = &t->fields[i];
		struct rows_column *c = &plan->cols[i];

		c->cell = i ? cell_of(f) : CELL_TS;
		c->null = f->null;
		c->off = f->off;
		c->size = f->size;
		c->names = f->names;
		c->enum_base = plan->nenums;
		while (c->cell == CELL_ENUM && c->enum_n < UINT8_MAX + 1u && f->names[c->enum_n])
			c->enum_n++;
		plan->nenums += c->enum_n;
	}
	*ret = plan;
	return 0;
}

void rows_plan_free(struct rows_plan *plan)
{
	free(plan);
}

int rows_source_init(struct rows_source *src, const struct rows_plan *plan, struct dict *dict)
{
	*src = (struct rows_source){
		.plan = plan, .dict = dict, .enum_generation = dict->generation};
	src->enum_ids = calloc(plan->nenums + 1, sizeof(*src->enum_ids));
	return src->enum_ids ? 0 : -ENOMEM;
}

void rows_source_free(struct rows_source *src)
{
	free(src->enum_ids);
	src->enum_ids = NULL;
}

/* Rows */

struct rows_vtab {
	sqlite3_vtab base;
	struct rows_source *src;
};

struct rows_cursor {
	sqlite3_vtab_cursor base;
	struct rows_source *src;
	const uint8_t *row, *end;
};

static int rows_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
			sqlite3_vtab **ret, char **msg)
{
	struct rows_source *src = aux;
	_cleanup_buf_ struct buf sql = {};
	struct rows_vtab *v;
	int rc;

	(void)argc, (void)argv, (void)msg;
	buf_puts(&sql, "CREATE TABLE x(c0");
	for (uint32_t i = 1; i < src->plan->ncols; i++)
		buf_printf(&sql, ",c%u", i);
	buf_puts(&sql, ")");
	if (buf_status(&sql) < 0)
		return SQLITE_NOMEM;
	rc = sqlite3_declare_vtab(db, sql.data);
	if (rc != SQLITE_OK)
		return rc;
	v = sqlite3_malloc(sizeof(*v));
	if (!v)
		return SQLITE_NOMEM;
	*v = (struct rows_vtab){.src = src};
	*ret = &v->base;
	return SQLITE_OK;
}

int rows_any_disconnect(sqlite3_vtab *v)
{
	sqlite3_free(v);
	return SQLITE_OK;
}

int rows_any_best_index(sqlite3_vtab *v, sqlite3_index_info *info)
{
	(void)v;
	info->estimatedCost = 1000;
	info->estimatedRows = 1000;
	return SQLITE_OK;
}

static int rows_open(sqlite3_vtab *v, sqlite3_vtab_cursor **ret)
{
	struct rows_cursor *c = sqlite3_malloc(sizeof(*c));

	if (!c)
		return SQLITE_NOMEM;
	*c = (struct rows_cursor){.src = ((struct rows_vtab *)v)->src};
	*ret = &c->base;
	return SQLITE_OK;
}

int rows_any_close(sqlite3_vtab_cursor *cur)
{
	sqlite3_free(cur);
	return SQLITE_OK;
}

/* The time of the row that the cursor stands on: above every one before it. */
static void rows_take_ts(struct rows_cursor *c)
{
	struct rows_source *src = c->src;
	uint64_t ts;

	if (c->row == c->end)
		return;
	memcpy(&ts, c->row, sizeof(ts));
	if (ts <= src->last_ts || ts > INT64_MAX) {
		ts = src->last_ts + 1;
		src->bumped++;
	}
	src->last_ts = ts;
	if (!src->first_ts)
		src->first_ts = ts;
}

static int rows_filter(sqlite3_vtab_cursor *cur, int idx, const char *name, int argc,
		       sqlite3_value **argv)
{
	struct rows_cursor *c = (struct rows_cursor *)cur;
	const struct batch *b = c->src->batch;

	(void)idx, (void)name, (void)argc, (void)argv;
	if (!b || !b->nrows) {
		c->row = c->end = NULL;
		return SQLITE_OK;
	}
	c->row = b->rows;
	c->end = b->rows + (size_t)b->nrows * b->table->row_size;
	rows_take_ts(c);
	return SQLITE_OK;
}

static int rows_next(sqlite3_vtab_cursor *cur)
{
	struct rows_cursor *c = (struct rows_cursor *)cur;

	c->row += c->src->plan->table->row_size;
	rows_take_ts(c);
	return SQLITE_OK;
}

static int rows_eof(sqlite3_vtab_cursor *cur)
{
	struct rows_cursor *c = (struct rows_cursor *)cur;

	return c->row == c->end;
}

/* Cells: a result that isn't set is NULL. */

static void cell_unsigned(sqlite3_context *ctx, enum field_null null, uint64_t v, uint64_t all_ones)
{
	if ((null == NULL_ZERO && !v) || (null == NULL_MAX && v == all_ones))
		return;
	sqlite3_result_int64(ctx, v > INT64_MAX ? INT64_MAX : (int64_t)v);
}

static void cell_signed(sqlite3_context *ctx, enum field_null null, int64_t v)
{
	if ((null == NULL_ZERO && !v) || (null == NULL_MAX && v == -1))
		return;
	sqlite3_result_int64(ctx, v);
}

/* Text that lives as long as the batch; bytes that aren't UTF-8 are replaced. */
static void cell_text(sqlite3_context *ctx, const char *s, uint32_t len)
{
	char *clean;
	size_t n;

	if (utf8_valid(s, len)) {
		sqlite3_result_text(ctx, len ? s : "", (int)len, SQLITE_STATIC);
		return;
	}
	clean = sqlite3_malloc64((sqlite3_uint64)len * 3 + 1);
	if (!clean) {
		sqlite3_result_error_nomem(ctx);
		return;
	}
	n = utf8_sanitize(clean, (size_t)len * 3 + 1, s, len);
	sqlite3_result_text(ctx, clean, (int)n, sqlite3_free);
}

static void cell_string(sqlite3_context *ctx, struct rows_source *src, const struct rows_column *c,
			const char *s, uint32_t len, bool dict)
{
	uint32_t id;

	if (!len && c->null == NULL_ZERO)
		return;
	id = dict ? dict_text(src->dict, s, len) : 0;
	if (id)
		sqlite3_result_int64(ctx, id);
	else
		cell_text(ctx, s, len);
}

static void cell_str(sqlite3_context *ctx, struct rows_source *src, const struct rows_column *c,
		     const uint8_t *p, bool dict)
{
	const struct batch *b = src->batch;
	struct str s;

	memcpy(&s, p, sizeof(s));
	if ((uint64_t)s.off + s.len > b->arena_len)
		return;
	cell_string(ctx, src, c, s.len ? b->arena + s.off : "", s.len, dict);
}

static void cell_ip(sqlite3_context *ctx, struct rows_source *src, const uint8_t *p)
{
	const struct ip_addr *ip = (const struct ip_addr *)p; /* bytes only: any alignment */
	char text[46];
	uint32_t id;

	if (ip->family != 4 && ip->family != 6)
		return;
	id = dict_ip(src->dict, ip);
	if (id)
		sqlite3_result_int64(ctx, id);
	else
		sqlite3_result_text(ctx, ip_addr_format(text, ip), -1, SQLITE_TRANSIENT);
}

static void cell_enum(sqlite3_context *ctx, struct rows_source *src, const struct rows_column *c,
		      uint8_t v)
{
	uint32_t *id;

	if ((c->null == NULL_ZERO && !v) || (c->null == NULL_MAX && v == UINT8_MAX) ||
	    v >= c->enum_n)
		return;
	if (src->enum_generation != src->dict->generation) {
		memset(src->enum_ids, 0, src->plan->nenums * sizeof(*src->enum_ids));
		src->enum_generation = src->dict->generation;
	}
	id = &src->enum_ids[c->enum_base + v];
	if (!*id)
		*id = dict_text(src->dict, c->names[v], (uint32_t)strlen(c->names[v]));
	if (*id)
		sqlite3_result_int64(ctx, *id);
	else
		sqlite3_result_text(ctx, c->names[v], -1, SQLITE_STATIC);
}

#define LOAD(type)                          \
	({                                  \
		type _v;                    \
		memcpy(&_v, p, sizeof(_v)); \
		_v;                         \
	})

static int rows_column(sqlite3_vtab_cursor *cur, sqlite3_context *ctx, int col)
{
	struct rows_cursor *cursor = (struct rows_cursor *)cur;
	struct rows_source *src = cursor->src;
	const struct rows_column *c = &src->plan->cols[col];
	const uint8_t *p = cursor->row + c->off;
	double d;

	switch (c->cell) {
	case CELL_TS:
		sqlite3_result_int64(ctx, (int64_t)src->last_ts);
		break;
	case CELL_U8:
		cell_unsigned(ctx, c->null, *p, UINT8_MAX);
		break;
	case CELL_U16:
		cell_unsigned(ctx, c->null, LOAD(uint16_t), UINT16_MAX);
		break;
	case CELL_U32:
		cell_unsigned(ctx, c->null, LOAD(uint32_t), UINT32_MAX);
		break;
	case CELL_U64:
		cell_unsigned(ctx, c->null, LOAD(uint64_t), UINT64_MAX);
		break;
	case CELL_I32:
		cell_signed(ctx, c->null, LOAD(int32_t));
		break;
	case CELL_I64:
		cell_signed(ctx, c->null, LOAD(int64_t));
		break;
	case CELL_F64:
		d = LOAD(double);
		if (c->null != NULL_ZERO || d != 0)
			sqlite3_result_double(ctx, d);
		break;
	case CELL_CHARS:
	case CELL_CHARS_DICT:
		cell_string(ctx, src, c, (const char *)p,
			    (uint32_t)strnlen((const char *)p, c->size),
			    c->cell == CELL_CHARS_DICT);
		break;
	case CELL_BLOB:
		sqlite3_result_blob(ctx, p, (int)c->size, SQLITE_STATIC);
		break;
	case CELL_STR:
	case CELL_STR_DICT:
		cell_str(ctx, src, c, p, c->cell == CELL_STR_DICT);
		break;
	case CELL_IP:
		cell_ip(ctx, src, p);
		break;
	case CELL_ENUM:
		cell_enum(ctx, src, c, *p);
		break;
	}
	return SQLITE_OK;
}

int rows_any_rowid(sqlite3_vtab_cursor *cur, sqlite3_int64 *ret)
{
	(void)cur;
	*ret = 0; /* nobody asks: the tables are read from start to end */
	return SQLITE_OK;
}

static const sqlite3_module rows_module = {
	.xConnect = rows_connect,
	.xBestIndex = rows_any_best_index,
	.xDisconnect = rows_any_disconnect,
	.xOpen = rows_open,
	.xClose = rows_any_close,
	.xFilter = rows_filter,
	.xNext = rows_next,
	.xEof = rows_eof,
	.xColumn = rows_column,
	.xRowid = rows_any_rowid,
};

int rows_register(sqlite3 *db, struct rows_source *src)
{
	char name[96];

	snprintf(name, sizeof(name), ROWS_PREFIX "%s", src->plan->table->name);
	return sqlite3_create_module_v2(db, name, &rows_module, src, NULL);
}
