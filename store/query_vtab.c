// SPDX-License-Identifier: Apache-2.0
/* Live tables inside the worker: the daemon's state as virtual tables, fetched when a statement
 * first reads one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/macro.h"
#include "store/query_worker.h"

/*
 * Rows of a live table as the planner is to believe: few against a segment (a million without
 * ANALYZE), so that a join of live state with history reads the live table in the outer loop.
 */
#define ESTIMATED_ROWS 200

struct query_live {
	struct query_session *session;
	const struct table *table;
	uint32_t index;
	struct batch *batch; /* fetched once: a statement sees one state however often it scans */
};

struct live_vtab {
	sqlite3_vtab base;
	struct query_live *live;
};

struct live_cursor {
	sqlite3_vtab_cursor base;
	struct query_live *live;
	uint32_t row;
};

static const char *column_decl(enum column_type type)
{
	switch (type) {
	case COLUMN_DOUBLE:
		return "REAL";
	case COLUMN_TEXT:
	case COLUMN_IP:
		return "TEXT";
	case COLUMN_BYTES:
		return "BLOB";
	default:
		return "INTEGER";
	}
}

void query_table_ddl(struct buf *b, const struct table *t)
{
	buf_printf(b, "CREATE TABLE \"%s\"(", t->name);
	for (uint32_t i = 0; i < t->nfields; i++)
		buf_printf(b, "%s\"%s\" %s", i ? ", " : "", t->fields[i].name,
			   column_decl(t->fields[i].type));
	buf_puts(b, ")");
}

static int live_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
			sqlite3_vtab **ret, char **error)
{
	struct query_live *live = aux;
	_cleanup_buf_ struct buf ddl = {0};
	struct live_vtab *v;
	int rc;

	(void)argc;
	(void)argv;
	(void)error;
	query_table_ddl(&ddl, live->table);
	if (buf_status(&ddl) < 0)
		return SQLITE_NOMEM;
	rc = sqlite3_declare_vtab(db, ddl.data);
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
	v = sqlite3_malloc(sizeof(*v));
	if (!v)
		return SQLITE_NOMEM;
	*v = (struct live_vtab){.live = live};
	*ret = &v->base;
	return SQLITE_OK;
}

static int live_disconnect(sqlite3_vtab *vtab)
{
	sqlite3_free(vtab);
	return SQLITE_OK;
}

static int live_best_index(sqlite3_vtab *vtab, sqlite3_index_info *info)
{
	(void)vtab;
	info->estimatedRows = ESTIMATED_ROWS;
	info->estimatedCost = ESTIMATED_ROWS;
	return SQLITE_OK;
}

static int live_open(sqlite3_vtab *vtab, sqlite3_vtab_cursor **ret)
{
	struct live_cursor *c = sqlite3_malloc(sizeof(*c));

	if (!c)
		return SQLITE_NOMEM;
	*c = (struct live_cursor){.live = container_of(vtab, struct live_vtab, base)->live};
	*ret = &c->base;
	return SQLITE_OK;
}

static int live_close(sqlite3_vtab_cursor *cursor)
{
	sqlite3_free(cursor);
	return SQLITE_OK;
}

static int map_image(struct query_live *live, int fd, uint64_t size)
{
	void *p;
	int r;

	if (fd < 0 || !size)
		return -EPROTO;
	p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	r = batch_from_image(live->table, p, size, &live->batch);
	munmap(p, size);
	return r;
}

/* Asks the engine and waits; rows found before are sent first, frames keep their order. */
static int fetch(struct query_live *live, char *msg, size_t cap)
{
	struct query_session *s = live->session;
	_cleanup_buf_ struct buf reply = {0};
	_cleanup_close_ int fd = -1;
	const char *text;
	struct wire w;
	uint64_t size;
	size_t at;
	int r;

	query_io_rows_close(s);
	at = wire_open(&s->out, QUERY_FRAME_SNAPSHOT);
	wire_put_u32(&s->out, live->index);
	wire_close(&s->out, at);
	query_io_flush(s, true);
	r = query_io_read(s->sock, QUERY_FRAME_SNAPSHOT, &reply, &fd);
	if (r < 0) {
		snprintf(msg, cap, "no answer from the daemon: %s", strerror(-r));
		return r;
	}
	w = (struct wire){.p = (uint8_t *)reply.data, .end = (uint8_t *)reply.data + reply.len};
	r = -(int)wire_get_u32(&w);
	size = wire_get_u64(&w);
	text = wire_get_str(&w, sizeof(((struct err *)0)->msg));
	if (!wire_done(&w))
		r = -EPROTO;
	if (r < 0) {
		snprintf(msg, cap, "%s", text);
		return r;
	}
	r = map_image(live, fd, size);
	if (r < 0)
		snprintf(msg, cap, "its rows don't fit its columns: %s", strerror(-r));
	return r;
}

static int live_filter(sqlite3_vtab_cursor *cursor, int idx, const char *idx_str, int argc,
		       sqlite3_value **argv)
{
	struct live_cursor *c = container_of(cursor, struct live_cursor, base);
	char msg[256];

	(void)idx;
	(void)idx_str;
	(void)argc;
	(void)argv;
	c->row = 0;
	if (c->live->batch || fetch(c->live, msg, sizeof(msg)) >= 0)
		return SQLITE_OK;
	sqlite3_free(cursor->pVtab->zErrMsg);
	cursor->pVtab->zErrMsg =
		sqlite3_mprintf("cannot read table %s: %s", c->live->table->name, msg);
	return SQLITE_ERROR;
}

static int live_next(sqlite3_vtab_cursor *cursor)
{
	container_of(cursor, struct live_cursor, base)->row++;
	return SQLITE_OK;
}

static int live_eof(sqlite3_vtab_cursor *cursor)
{
	struct live_cursor *c = container_of(cursor, struct live_cursor, base);

	return c->row >= c->live->batch->nrows;
}

static int live_column(sqlite3_vtab_cursor *cursor, sqlite3_context *ctx, int col)
{
	struct live_cursor *c = container_of(cursor, struct live_cursor, base);
	struct value v;

	batch_get(c->live->batch, c->row, col, &v);
	switch (v.kind) {
	case VALUE_NULL:
		sqlite3_result_null(ctx);
		break;
	case VALUE_INT:
		sqlite3_result_int64(ctx, v.i);
		break;
	case VALUE_REAL:
		sqlite3_result_double(ctx, v.d);
		break;
	case VALUE_TEXT: /* may be in v.scratch */
		sqlite3_result_text(ctx, v.text, v.len, SQLITE_TRANSIENT);
		break;
	case VALUE_BYTES:
		sqlite3_result_blob(ctx, v.text, v.len, SQLITE_TRANSIENT);
		break;
	}
	return SQLITE_OK;
}

static int live_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *ret)
{
	*ret = container_of(cursor, struct live_cursor, base)->row + 1;
	return SQLITE_OK;
}

/* No xCreate: the table is there under the module's name and cannot be made under another. */
static const sqlite3_module live_module = {
	.xConnect = live_connect,
	.xDisconnect = live_disconnect,
	.xBestIndex = live_best_index,
	.xOpen = live_open,
	.xClose = live_close,
	.xFilter = live_filter,
	.xNext = live_next,
	.xEof = live_eof,
	.xColumn = live_column,
	.xRowid = live_rowid,
};

/*
 * SQLite asks the authorizer whether it may write the schema when a virtual table is connected,
 * which is when a statement first names it: so it's connected before there is an authorizer.
 */
static int connect(struct query_session *s, sqlite3 *db, const char *name)
{
	_cleanup_buf_ struct buf sql = {0};
	sqlite3_stmt *st = NULL;
	int rc;

	if (!strcasestr(s->req.sql, name))
		return 0;
	buf_printf(&sql, "SELECT 1 FROM \"%s\"", name);
	if (buf_status(&sql) < 0)
		return -ENOMEM;
	rc = sqlite3_prepare_v2(db, sql.data, -1, &st, NULL);
	sqlite3_finalize(st);
	return rc == SQLITE_OK ? 0 : -ENOMEM;
}

int query_vtab_register(struct query_session *s)
{
	static const char *const keep[] = {"json_each", "json_tree", NULL};
	int r = 0;

	s->live = calloc(s->req.ntables ? s->req.ntables : 1, sizeof(*s->live));
	if (!s->live)
		return -ENOMEM;
	/* Full-text, R-tree, dbstat, sqlite_stmt: nothing that a query needs, much that it could
	 * abuse. */
	sqlite3_drop_modules(s->db, (const char **)keep);
	sqlite3_drop_modules(s->shape, (const char **)keep);
	for (size_t i = 0; keep[i] && !r; i++)
		r = connect(s, s->db, keep[i]) < 0 ? -ENOMEM : connect(s, s->shape, keep[i]);
	for (uint32_t i = 0; i < s->req.ntables && !r; i++) {
		const struct table *t = s->req.tables[i];

		if (table_is_history(t))
			continue;
		s->live[i] = (struct query_live){.session = s, .table = t, .index = i};
		if (sqlite3_create_module_v2(s->db, t->name, &live_module, &s->live[i], NULL) !=
		    SQLITE_OK)
			return -ENOMEM;
		r = connect(s, s->db, t->name);
	}
	return r;
}
