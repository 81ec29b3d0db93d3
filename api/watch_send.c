// SPDX-License-Identifier: Apache-2.0
/* WatchRows: makes the next message of a stream from what waits for it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/convert.h"
#include "api/watch.h"
#include "api/wire.h"
#include "base/clock.h"

/* WatchRowsResponse and RowBatch. */
enum { TABLE = 1, TABLE_NAME = 2, ROWS = 3, DROPPED = 4, CURSOR = 5, SNAPSHOT_END = 6, LOST = 7 };
enum { ROW_COUNT = 1 };

#define SCHEMA_ARENA ((size_t)1 << 20)

static int put_schema(struct row_watch *rw, struct watch_table *t, struct buf *b)
{
	struct arena arena = {.limit = SCHEMA_ARENA};
	_cleanup_free_ void *data = NULL;
	Ringside__V1__Table *m;
	size_t len;
	int r;

	t->schema_sent = true;
	if (rw->sql) {
		wire_put_bytes(b, TABLE, rw->sql_table, rw->sql_table_len);
		return 0;
	}
	m = msg_table(&arena, t->table, "");
	r = m ? pack_message(&m->base, &data, &len) : -ENOMEM;
	if (r == 0)
		wire_put_bytes(b, TABLE, data, len);
	arena_free(&arena);
	return r;
}

static void put_cursor(const struct row_watch *rw, struct buf *b)
{
	char text[WATCH_CURSOR_MAX];
	size_t len = 0;

	for (size_t i = 0; i < rw->ntables; i++) {
		const struct watch_table *t = &rw->tables[i];
		int n;

		if (!t->table || !table_is_history(t->table))
			continue;
		n = snprintf(text + len, sizeof(text) - len, "%s%s:%" PRIu64, len ? "," : "", t->table->name, t->cursor);
		if (n < 0 || (size_t)n >= sizeof(text) - len)
			return; /* longer than a request may be: no cursor is better than half of one */
		len += (size_t)n;
	}
	if (len)
		wire_put_bytes(b, CURSOR, text, len);
}

/* Rows of the table that were lost and aren't told yet. */
static uint64_t lost_of(struct row_watch *rw, const struct watch_table *t)
{
	return t->hub && table_is_history(t->table) ? hub_rows_lost(rw->w.s->hub, t->hub) - t->lost_told : 0;
}

/* A message without rows is for the first table that has lost some. */
static struct watch_table *put_lost(struct row_watch *rw, struct watch_table *t, struct buf *b)
{
	uint64_t lost;

	for (size_t i = 0; !t && i < rw->ntables; i++)
		if (lost_of(rw, &rw->tables[i]))
			t = &rw->tables[i];
	lost = t ? lost_of(rw, t) : 0;
	if (lost) {
		wire_put_uint(b, LOST, lost);
		t->lost_told += lost;
	}
	return t;
}

static void send_message(struct row_watch *rw, struct watch_table *t, struct buf *b)
{
	t = put_lost(rw, t, b);
	if (t && t->table)
		wire_put_bytes(b, TABLE_NAME, t->table->name, strlen(t->table->name));
	wire_put_uint(b, DROPPED, rw->dropped);
	put_cursor(rw, b);
	if (buf_status(b) < 0) {
		rpc_finish(rw->w.call, RPC_RESOURCE_EXHAUSTED, "no memory for the message");
		return;
	}
	rw->dropped = 0;
	rw->w.last_sent_ns = clock_mono_ns();
	rpc_send_bytes(rw->w.call, b->data ?: "", b->len);
}

/* Rows that a page has brought already. */
static void skip_known(struct chunk_queue *q, uint64_t ts)
{
	struct chunk *c;

	while ((c = chunk_queue_head(q)) && c->rows[q->skip].ts <= ts)
		chunk_queue_consume(q, 1);
}

/* Moves values of up to max rows from q to b; their number is the result. */
static uint32_t gather(struct chunk_queue *q, uint64_t max, struct buf *b, uint64_t *last_ts)
{
	uint32_t total = 0;
	struct chunk *c;

	if (max > CHUNK_ROWS)
		max = CHUNK_ROWS;
	while (total < max && (c = chunk_queue_head(q))) {
		uint32_t first = q->skip, n = 0;
		uint32_t from = first ? c->rows[first - 1].end : 0;

		while (first + n < c->nrows && total + n < max &&
		       (total + n == 0 || b->len + c->rows[first + n].end - from <= CHUNK_BYTES))
			n++;
		if (!n)
			break;
		buf_add(b, c->data + from, c->rows[first + n - 1].end - from);
		*last_ts = c->rows[first + n - 1].ts;
		total += n;
		chunk_queue_consume(q, n);
	}
	return total;
}

static void send_rows(struct row_watch *rw, struct watch_table *t, struct chunk_queue *q)
{
	_cleanup_buf_ struct buf values = {}, b = {};
	uint64_t max = rw->max_rows ? rw->max_rows - rw->sent : UINT64_MAX, last_ts = 0;
	uint32_t n = gather(q, max, &values, &last_ts);

	if (buf_status(&values) < 0) {
		rpc_finish(rw->w.call, RPC_RESOURCE_EXHAUSTED, "no memory for the message");
		return;
	}
	if (!t->schema_sent && put_schema(rw, t, &b) < 0) {
		rpc_finish(rw->w.call, RPC_RESOURCE_EXHAUSTED, "no memory for the message");
		return;
	}
	wire_put_tag(&b, ROWS, WIRE_BYTES);
	wire_put_varint(&b, 1 + wire_varint_size(n) + values.len);
	wire_put_uint(&b, ROW_COUNT, n);
	buf_add(&b, values.data, values.len);
	if (last_ts > t->cursor)
		t->cursor = last_ts;
	rw->sent += n;
	atomic_fetch_add_explicit(&rw->w.s->rows_sent, n, memory_order_relaxed);
	rpc_call_add_rows(rw->w.call, n);
	if (!q->head && t->end_pending && q == &t->page) {
		t->end_pending = false;
		wire_put_uint(&b, SNAPSHOT_END, 1);
	}
	send_message(rw, t, &b);
}

static void send_bare(struct row_watch *rw, struct watch_table *t)
{
	_cleanup_buf_ struct buf b = {};

	if (!t->schema_sent && put_schema(rw, t, &b) < 0) {
		rpc_finish(rw->w.call, RPC_RESOURCE_EXHAUSTED, "no memory for the message");
		return;
	}
	if (t->end_pending && !t->page.head) {
		t->end_pending = false;
		wire_put_uint(&b, SNAPSHOT_END, 1);
	}
	send_message(rw, t, &b);
}

/* Whether the table had something to say. */
static bool send_table(struct row_watch *rw, struct watch_table *t)
{
	if (!t->schema_sent && (t->table && (!rw->sql || rw->sql_table))) {
		if (t->mode == WATCH_SNAPSHOT && t->end_pending && t->page.head)
			send_rows(rw, t, &t->page);
		else
			send_bare(rw, t);
		return true;
	}
	if (t->page.head) {
		send_rows(rw, t, &t->page);
		return true;
	}
	if (t->end_pending) {
		send_bare(rw, t);
		return true;
	}
	if (t->mode != WATCH_LIVE)
		return false;
	if (t->page_ts)
		skip_known(&t->queue, t->page_ts);
	if (!t->queue.head)
		return false;
	send_rows(rw, t, &t->queue);
	return true;
}

static void heartbeat(struct row_watch *rw)
{
	_cleanup_buf_ struct buf b = {};

	if (clock_mono_ns() - rw->w.last_sent_ns >= HEARTBEAT_NS)
		send_message(rw, NULL, &b);
}

void watch_pump(struct row_watch *rw)
{
	if (!rpc_call_writable(rw->w.call))
		return;
	if (rw->max_rows && rw->sent >= rw->max_rows) {
		rpc_finish(rw->w.call, RPC_OK, NULL);
		return;
	}
	for (size_t i = 0; i < rw->ntables; i++) {
		struct watch_table *t = &rw->tables[rw->next];

		rw->next = (rw->next + 1) % rw->ntables;
		if (send_table(rw, t))
			return;
		/* Drained: the next page at once. */
		if (t->more && !t->job && !t->page.head)
			watch_page_start(rw, t);
	}
	heartbeat(rw);
}
