// SPDX-License-Identifier: Apache-2.0
/* Encoded rows and the lists in which they wait for slow readers. */
#include "api/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/wire.h"
#include "base/macro.h"

struct chunk_node {
	struct chunk_node *next;
	struct chunk *chunk;
};

struct chunk *chunk_ref(struct chunk *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void chunk_unref(struct chunk *c)
{
	if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	atomic_fetch_sub_explicit(c->total, c->len, memory_order_relaxed);
	free(c->data);
	free(c);
}

int chunk_writer_flush(struct chunk_writer *w, struct chunk_queue *out)
{
	struct chunk *c;

	if (!w->nrows)
		return 0;
	c = calloc(1, sizeof(*c) + w->nrows * sizeof(c->rows[0]));
	if (!c || buf_status(&w->values) < 0) {
		free(c);
		buf_free(&w->values);
		w->nrows = 0;
		return -ENOMEM;
	}
	atomic_init(&c->refs, 1);
	c->total = w->total;
	c->nrows = w->nrows;
	c->len = w->values.len;
	for (uint32_t i = 0; i < w->nrows; i++) {
		c->rows[i].ts = w->ts[i];
		c->rows[i].end = w->end[i];
	}
	c->data = (uint8_t *)w->values.data;
	w->values = (struct buf){};
	w->nrows = 0;
	atomic_fetch_add_explicit(c->total, c->len, memory_order_relaxed);
	return chunk_queue_push(out, c);
}

int chunk_writer_row(struct chunk_writer *w, uint64_t ts, struct chunk_queue *out)
{
	w->ts[w->nrows] = ts;
	w->end[w->nrows] = (uint32_t)w->values.len;
	w->nrows++;
	if (w->nrows == CHUNK_ROWS || w->values.len >= CHUNK_BYTES)
		return chunk_writer_flush(w, out);
	return 0;
}

int chunk_write_batch(const struct batch *b, _Atomic size_t *total, struct chunk_queue *out)
{
	struct chunk_writer w = {.total = total};
	bool history = table_is_history(b->table);
	int r = 0;

	for (uint32_t row = 0; row < b->nrows; row++) {
		uint64_t ts = 0;
		int n;

		for (uint32_t col = 0; col < b->table->nfields; col++) {
			struct value v;

			batch_get(b, row, col, &v);
			if (history && col == 0)
				ts = (uint64_t)v.i;
			wire_put_row_value(&w.values, &v);
		}
		n = chunk_writer_row(&w, ts, out);
		if (n < 0)
			r = n;
	}
	if (chunk_writer_flush(&w, out) < 0)
		r = -ENOMEM;
	buf_free(&w.values);
	return r;
}

int chunk_queue_push(struct chunk_queue *q, struct chunk *c)
{
	struct chunk_node *n = malloc(sizeof(*n));

	if (!n) {
		chunk_unref(c);
		return -ENOMEM;
	}
	*n = (struct chunk_node){.chunk = c};
	if (q->tail)
		q->tail->next = n;
	else
		q->head = n;
	q->tail = n;
	q->rows += c->nrows;
	q->bytes += c->len;
	return 0;
}

struct chunk *chunk_queue_head(const struct chunk_queue *q)
{
	return q->head ? q->head->chunk : NULL;
}

void chunk_queue_next(struct chunk_queue *q)
{
	q->head = q->head->next;
}

static void pop(struct chunk_queue *q)
{
	struct chunk_node *n = q->head;

	q->head = n->next;
	if (!q->head)
		q->tail = NULL;
	q->bytes -= n->chunk->len;
	q->skip = 0;
	chunk_unref(n->chunk);
	free(n);
}

void chunk_queue_consume(struct chunk_queue *q, uint32_t n)
{
	q->skip += n;
	q->rows -= n;
	if (q->skip == q->head->chunk->nrows)
		pop(q);
}

uint64_t chunk_queue_drop_head(struct chunk_queue *q)
{
	uint32_t left = q->head->chunk->nrows - q->skip;

	q->rows -= left;
	pop(q);
	return left;
}

uint64_t chunk_queue_clear(struct chunk_queue *q)
{
	uint64_t rows = 0;

	while (q->head)
		rows += chunk_queue_drop_head(q);
	return rows;
}

void chunk_queue_move(struct chunk_queue *q, struct chunk_queue *from)
{
	if (!from->head)
		return;
	if (q->tail)
		q->tail->next = from->head;
	else
		q->head = from->head;
	q->tail = from->tail;
	q->rows += from->rows;
	q->bytes += from->bytes;
	*from = (struct chunk_queue){};
}
