// SPDX-License-Identifier: Apache-2.0
/* Rows on their way: filling, other texts, and sealing. */
#include "bpf/batch.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"

#define ROWS_FIRST    16u
#define ARENA_FIRST   1024u
#define ARENA_MAX     (1u << 20)
#define ARENA_PER_ROW 1024u
#define ARENA_LIMIT   (64u << 20)

struct batch *batch_new(const struct table *table, uint32_t cap)
{
	struct batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->table = table;
	b->cap = cap;
	atomic_init(&b->refs, 1);
	return b;
}

struct batch *batch_ref(struct batch *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void batch_unref(struct batch *b)
{
	if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(b->rows);
	free(b->arena);
	free(b);
}

void *batch_add(struct batch *b)
{
	size_t size = b->table->row_size;
	void *row;

	if (b->sealed || b->nrows == b->cap)
		return NULL;
	if (b->nrows == b->rows_cap) {
		uint32_t n = b->rows_cap ? b->rows_cap * 2 : ROWS_FIRST;
		uint8_t *rows;

		if (n > b->cap || n < b->rows_cap)
			n = b->cap;
		rows = reallocarray(b->rows, n, size);
		if (!rows)
			return NULL;
		b->rows = rows;
		b->rows_cap = n;
	}
	row = b->rows + b->nrows++ * size;
	memset(row, 0, size);
	return row;
}

static uint32_t arena_limit(const struct batch *b)
{
	uint64_t limit = (uint64_t)b->cap * ARENA_PER_ROW;

	if (limit < ARENA_MAX)
		return ARENA_MAX;
	return limit > ARENA_LIMIT ? ARENA_LIMIT : limit;
}

/* Room for len bytes and the NUL that utf8_sanitize() writes behind them. */
static bool arena_reserve(struct batch *b, size_t len, uint32_t limit)
{
	uint32_t cap = b->arena_cap ? b->arena_cap : ARENA_FIRST;
	char *p;

	if (len >= limit || b->arena_len + len + 1 > limit)
		return false;
	while (cap < b->arena_len + len + 1)
		cap *= 2;
	if (cap == b->arena_cap)
		return true;
	p = realloc(b->arena, cap);
	if (!p)
		return false;
	b->arena = p;
	b->arena_cap = cap;
	return true;
}

static struct str add_text(struct batch *b, const char *text, size_t len, uint32_t limit)
{
	bool plain = utf8_valid(text, len) && !memchr(text, 0, len);
	struct str s = {};
	size_t most = len;

	if (!len)
		return s;
	/* Each invalid byte becomes three. */
	if (!plain && __builtin_mul_overflow(len, 3, &most))
		return s;
	if (!arena_reserve(b, most, limit))
		return s;
	s.off = b->arena_len;
	if (plain) {
		memcpy(b->arena + s.off, text, len);
		s.len = len;
	} else {
		s.len = utf8_sanitize(b->arena + s.off, b->arena_cap - s.off, text, len);
	}
	b->arena_len += s.len;
	return s;
}

struct str batch_str(struct batch *b, const char *text, size_t len)
{
	return b->sealed ? (struct str){} : add_text(b, text, len, arena_limit(b));
}

static uint8_t *alone_cell(struct batch *b, uint32_t row, uint32_t col)
{
	assert(atomic_load_explicit(&b->refs, memory_order_relaxed) == 1);
	assert(row < b->nrows && col < b->table->nfields);
	return b->rows + (size_t)row * b->table->row_size + b->table->fields[col].off;
}

int batch_set_text(struct batch *b, uint32_t row, uint32_t col, const char *text, size_t len)
{
	const struct field *f = &b->table->fields[col];
	uint8_t *cell = alone_cell(b, row, col);
	struct str s;

	if (f->repr == REPR_CHARS) {
		while (len > f->size || (len && !utf8_valid(text, len)))
			len--;
		memset(cell, 0, f->size);
		memcpy(cell, text, len);
		return 0;
	}
	/* The old text stays beside the new one: twice the room for a batch that was full. */
	s = add_text(b, text, len, 2 * arena_limit(b));
	if (len && !s.len)
		return -ENOSPC;
	memcpy(cell, &s, sizeof(s));
	return 0;
}

void batch_clear(struct batch *b, uint32_t row, uint32_t col)
{
	memset(alone_cell(b, row, col), 0, b->table->fields[col].size);
}

void batch_drop_last(struct batch *b)
{
	if (b->nrows && !b->sealed)
		b->nrows--;
}

static uint64_t row_ts(const uint8_t *row)
{
	uint64_t ts;

	memcpy(&ts, row, sizeof(ts));
	return ts;
}

struct order {
	uint64_t ts;
	uint32_t row;
};

static int order_cmp(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	if (x->ts != y->ts)
		return x->ts < y->ts ? -1 : 1;
	return x->row < y->row ? -1 : 1;
}

/* Without memory the rows stay as they came: the timestamps are made increasing all the same. */
static void sort_rows(struct batch *b)
{
	_cleanup_free_ struct order *order = NULL;
	size_t size = b->table->row_size;
	uint8_t *rows;

	order = reallocarray(NULL, b->nrows, sizeof(*order));
	rows = reallocarray(NULL, b->nrows, size);
	if (!order || !rows) {
		free(rows);
		return;
	}
	for (uint32_t i = 0; i < b->nrows; i++)
		order[i] = (struct order){row_ts(b->rows + i * size), i};
	qsort(order, b->nrows, sizeof(*order), order_cmp);
	for (uint32_t i = 0; i < b->nrows; i++)
		memcpy(rows + i * size, b->rows + order[i].row * size, size);
	free(b->rows);
	b->rows = rows;
	b->rows_cap = b->nrows;
}

void batch_seal(struct batch *b, uint64_t *last_ts)
{
	uint64_t last = last_ts ? *last_ts : 0, before = 0;
	size_t size = b->table->row_size;
	bool sorted = true;

	b->sealed = true;
	if (!table_is_history(b->table) || !b->nrows)
		return;
	for (uint32_t i = 0; i < b->nrows; i++) {
		uint64_t ts = row_ts(b->rows + i * size);

		if (!ts || ts > INT64_MAX) {
			ts = clock_real_ns();
			memcpy(b->rows + i * size, &ts, sizeof(ts));
		}
		sorted &= ts >= before;
		before = ts;
	}
	if (!sorted)
		sort_rows(b);
	for (uint32_t i = 0; i < b->nrows; i++) {
		uint64_t ts = row_ts(b->rows + i * size);

		if (ts <= last)
			ts = last + 1;
		memcpy(b->rows + i * size, &ts, sizeof(ts));
		last = ts;
	}
	b->ts_min = row_ts(b->rows);
	b->ts_max = last;
	if (last_ts)
		*last_ts = last;
}
