// SPDX-License-Identifier: Apache-2.0
/* WatchRows: the request, the clock of each watcher, its end. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/watch.h"
#include "base/clock.h"
#include "base/opt.h"

#define DEFAULT_INTERVAL_NS NSEC_PER_SEC
#define MIN_INTERVAL_NS (100 * NSEC_PER_MSEC)
/* As long as the longest identifier or literal anybody needs. */
#define MAX_EXPRESSION (16 << 10)

static void row_watch_free(struct row_watch *rw)
{
	for (size_t i = 0; i < rw->ntables; i++) {
		struct watch_table *t = &rw->tables[i];

		if (t->job)
			watch_page_cancel(t->job);
		hub_unlisten(t);
		chunk_queue_clear(&t->page);
		chunk_queue_clear(&t->queue);
	}
	free(rw->tables);
	free(rw->where);
	free(rw->sql);
	free(rw->sql_table);
	free(rw);
}

static int unknown_table(struct hub *h, const char *name, struct err *err)
{
	_cleanup_free_ const char **names = calloc(h->ntables + 1, sizeof(*names));
	const char *near = NULL;

	for (size_t i = 0; names && i < h->ntables; i++)
		names[i] = h->tables[i].table->name;
	if (names)
		near = opt_nearest(name, names, h->ntables);
	if (near)
		return err_set(err, -ENOENT, "no table '%s', did you mean '%s'?", name, near);
	return err_set(err, -ENOENT, "no table '%s'; ListTables has their names", name);
}

static int add_tables(struct row_watch *rw, const Ringside__V1__WatchRowsRequest *q, struct err *err)
{
	struct hub *h = rw->w.s->hub;

	rw->tables = calloc(q->n_tables + 1, sizeof(*rw->tables));
	if (!rw->tables)
		return err_set(err, -ENOMEM, "no memory for a watcher");
	for (size_t i = 0; i < q->n_tables; i++) {
		struct hub_table *ht = hub_find(h, q->tables[i]);

		if (!ht)
			return unknown_table(h, q->tables[i], err);
		for (size_t k = 0; k < i; k++)
			if (rw->tables[k].hub == ht)
				return err_set(err, -EINVAL, "table '%s' is named twice", q->tables[i]);
		rw->tables[i].hub = ht;
		rw->tables[i].table = ht->table;
		rw->ntables++;
	}
	return 0;
}

/* A SELECT stands for one table that only its answer names: see watch_page.c. */
static int add_sql(struct row_watch *rw, const char *sql, struct err *err)
{
	size_t len = strlen(sql);

	while (len && strchr("; \t\r\n", sql[len - 1]))
		len--;
	rw->tables = calloc(1, sizeof(*rw->tables));
	rw->sql = strndup(sql, len);
	if (!rw->tables || !rw->sql)
		return err_set(err, -ENOMEM, "no memory for a watcher");
	rw->ntables = 1;
	return 0;
}

static int check(const Ringside__V1__WatchRowsRequest *q, struct err *err)
{
	if (!*q->sql == !q->n_tables)
		return err_set(err, -EINVAL, "give either tables or sql%s", *q->sql ? ", not both" : "");
	if (q->n_tables > WATCH_MAX_TABLES)
		return err_set(err, -EINVAL, "%zu tables: at most %d in one watch", q->n_tables, WATCH_MAX_TABLES);
	if (*q->where && q->n_tables != 1)
		return err_set(err, -EINVAL, "where needs exactly one table, %zu are named", q->n_tables);
	if (strlen(q->where) > MAX_EXPRESSION || strlen(q->sql) > MAX_EXPRESSION)
		return err_set(err, -EINVAL, "where and sql may have %d bytes", MAX_EXPRESSION);
	if (q->interval && q->interval < (int64_t)MIN_INTERVAL_NS)
		return err_set(err, -EINVAL, "interval of %" PRId64 " ns: give at least 100000000 (100 ms), or 0 for a second",
			       q->interval);
	return 0;
}

/* "netflow:1763756400000000000,bash:1763756399000000000" */
static int parse_cursor(struct row_watch *rw, const char *text, struct err *err)
{
	char copy[WATCH_CURSOR_MAX], *save = NULL;
	size_t len = strlen(text);

	if (len >= sizeof(copy))
		return err_set(err, -EINVAL, "cursor has more than %d bytes", WATCH_CURSOR_MAX - 1);
	memcpy(copy, text, len + 1);
	for (char *part = strtok_r(copy, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
		char *colon = strchr(part, ':'), *end = NULL;
		struct watch_table *t = NULL;
		uint64_t ts;

		errno = 0;
		ts = colon ? strtoull(colon + 1, &end, 10) : 0;
		if (!colon || colon[1] < '0' || colon[1] > '9' || *end || errno || ts > INT64_MAX)
			return err_set(err, -EINVAL, "cursor '%.100s' is not one that a watch gave", text);
		*colon = 0;
		for (size_t i = 0; i < rw->ntables; i++)
			if (!rw->tables[i].table || strcmp(rw->tables[i].table->name, part) == 0)
				t = &rw->tables[i];
		if (!t)
			return err_set(err, -EINVAL, "cursor is of table '%s', which is not watched", part);
		t->cursor = t->page_ts = ts;
		t->mode = WATCH_HISTORY;
	}
	return 0;
}

static int since_ts(const Ringside__V1__WatchRowsRequest *q, uint64_t *ret, struct err *err)
{
	uint64_t now = clock_real_ns(), back = (uint64_t)0 - (uint64_t)q->since;

	if (q->since < 0 && back > now)
		return err_set(err, -EINVAL, "since reaches %" PRIu64 " ns back, before 1970", back);
	*ret = q->since < 0 ? now - back : (uint64_t)q->since;
	if (*ret)
		*ret -= 1; /* pages begin after it */
	return 0;
}

static int set_start(struct row_watch *rw, const Ringside__V1__WatchRowsRequest *q, struct err *err)
{
	uint64_t ts = 0;
	int r;

	if (q->start_case == RINGSIDE__V1__WATCH_ROWS_REQUEST__START_CURSOR)
		return parse_cursor(rw, q->cursor, err);
	if (q->start_case != RINGSIDE__V1__WATCH_ROWS_REQUEST__START_SINCE)
		return 0;
	r = since_ts(q, &ts, err);
	for (size_t i = 0; i < rw->ntables; i++) {
		rw->tables[i].cursor = rw->tables[i].page_ts = ts;
		rw->tables[i].mode = WATCH_HISTORY;
	}
	return r;
}

/* Everything about one table before its first row. */
static void start_table(struct row_watch *rw, struct watch_table *t)
{
	struct hub *h = rw->w.s->hub;
	uint64_t last = 0;

	if (t->hub)
		t->lost_told = hub_rows_lost(h, t->hub);
	if (t->table && !table_is_history(t->table)) {
		t->mode = WATCH_SNAPSHOT;
		return;
	}
	if (t->mode == WATCH_HISTORY) {
		if (rw->where || rw->sql)
			t->mode = WATCH_POLL;
		return;
	}
	if (rw->where || rw->sql) {
		if (t->hub)
			hub_last_ts(h, t->hub, &last);
		t->mode = WATCH_POLL;
		t->page_ts = last;
	} else {
		t->mode = WATCH_LIVE;
		hub_listen(h, t, &last);
	}
	t->cursor = last ?: clock_real_ns();
	if (t->mode == WATCH_POLL)
		t->page_ts = t->cursor;
}

static int fill(struct row_watch *rw, const Ringside__V1__WatchRowsRequest *q, struct err *err)
{
	int r = check(q, err);

	if (r == 0)
		r = *q->sql ? add_sql(rw, q->sql, err) : add_tables(rw, q, err);
	if (r == 0)
		r = set_start(rw, q, err);
	if (r < 0)
		return r;
	if (*q->where) {
		rw->where = strdup(q->where);
		if (!rw->where)
			return err_set(err, -ENOMEM, "no memory for a watcher");
	}
	rw->interval_ns = q->interval ? (uint64_t)q->interval : DEFAULT_INTERVAL_NS;
	rw->max_rows = q->max_rows;
	return 0;
}

void rows_watch(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct api_server *s = rpc_call_ctx(call);
	struct row_watch *rw = calloc(1, sizeof(*rw));
	struct err err = {};
	int r;

	if (!rw) {
		rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory for a watcher");
		return;
	}
	rw->w.s = s;
	r = fill(rw, (const void *)request, &err);
	if (r < 0) {
		row_watch_free(rw);
		rpc_finish_err(call, r, &err);
		return;
	}
	for (size_t i = 0; i < rw->ntables; i++)
		start_table(rw, &rw->tables[i]);
	rpc_call_set_state(call, rw);
	watcher_add(s, &rw->w, &s->row_watchers, call);
	watch_pump(rw);
}

void rows_text(const ProtobufCMessage *request, struct buf *out)
{
	const Ringside__V1__WatchRowsRequest *q = (const void *)request;

	buf_puts(out, q->sql);
	for (size_t i = 0; i < q->n_tables && out->len <= API_ACCESS_SQL; i++)
		buf_printf(out, "%sSELECT * FROM %s", i ? "; " : "", q->tables[i]);
	if (*q->where)
		buf_printf(out, " WHERE %s", q->where);
}

void rows_ready(struct rpc_call *call)
{
	struct row_watch *rw = rpc_call_state(call);

	if (rw)
		watch_pump(rw);
}

void rows_closed(struct rpc_call *call)
{
	struct row_watch *rw = rpc_call_state(call);

	if (!rw)
		return;
	rpc_call_set_state(call, NULL);
	watcher_remove(&rw->w);
	row_watch_free(rw);
}

static void tick_table(struct row_watch *rw, struct watch_table *t, uint64_t now)
{
	bool drained = !t->page.head && !t->end_pending && !t->job;

	if (t->mode == WATCH_LIVE)
		return;
	if (t->want) { /* asked for, but there was no room for a job */
		hub_snapshot(rw->w.s->hub, t->hub);
		return;
	}
	/* A reader that is still busy with the last answer skips this turn: state is not owed. */
	if (!drained || (now < t->due_ns && !t->more))
		return;
	if (t->mode == WATCH_SNAPSHOT || t->mode == WATCH_POLL)
		t->due_ns = now + rw->interval_ns;
	if (t->mode == WATCH_SNAPSHOT && !rw->where) {
		t->want = true;
		hub_snapshot(rw->w.s->hub, t->hub);
	} else {
		watch_page_start(rw, t);
	}
}

void rows_tick(struct api_server *s, uint64_t now)
{
	FOR_EACH_WATCHER(w, s->row_watchers) {
		struct row_watch *rw = container_of(w, struct row_watch, w);

		if (rpc_call_ended(w->call))
			continue;
		for (size_t i = 0; i < rw->ntables; i++)
			tick_table(rw, &rw->tables[i], now);
		watch_pump(rw);
	}
}
