// SPDX-License-Identifier: Apache-2.0
/* The image of a batch that crosses processes, and what must hold of one that comes. */
#include "bpf/batch.h"

#include <errno.h>
#include <string.h>

#include "base/utf8.h"

#define IMAGE_MAGIC 0x31626452u /* "Rdb1" */

struct image {
	uint32_t magic, row_size, nfields, nrows, arena_len, pad;
	uint64_t ts_min, ts_max;
};

size_t batch_image_size(const struct batch *b)
{
	return sizeof(struct image) + (size_t)b->nrows * b->table->row_size + b->arena_len;
}

void batch_to_image(const struct batch *b, void *dst)
{
	size_t rows = (size_t)b->nrows * b->table->row_size;
	struct image h = {
		.magic = IMAGE_MAGIC,
		.row_size = b->table->row_size,
		.nfields = b->table->nfields,
		.nrows = b->nrows,
		.arena_len = b->arena_len,
		.ts_min = b->ts_min,
		.ts_max = b->ts_max,
	};
	char *p = dst;

	memcpy(p, &h, sizeof(h));
	if (rows)
		memcpy(p + sizeof(h), b->rows, rows);
	if (b->arena_len)
		memcpy(p + sizeof(h) + rows, b->arena, b->arena_len);
}

/* Every text inside the arena and valid; every ts after the one before. */
static bool image_rows_valid(const struct batch *b)
{
	const struct table *t = b->table;
	uint64_t first = 0, last = 0, ts;

	for (uint32_t row = 0; row < b->nrows; row++) {
		const uint8_t *base = batch_row(b, row);

		if (table_is_history(t)) {
			memcpy(&ts, base, sizeof(ts));
			if (ts <= last || ts > INT64_MAX)
				return false;
			first = row ? first : ts;
			last = ts;
		}
		for (uint32_t col = 0; col < t->nfields; col++) {
			const uint8_t *p = base + t->fields[col].off;
			struct str s;

			if (t->fields[col].repr != REPR_STR)
				continue;
			memcpy(&s, p, sizeof(s));
			if (!s.len)
				continue;
			if ((uint64_t)s.off + s.len > b->arena_len ||
			    !utf8_valid(b->arena + s.off, s.len))
				return false;
		}
	}
	return !table_is_history(t) || !b->nrows || (b->ts_min == first && b->ts_max == last);
}

int batch_from_image(const struct table *table, const void *src, size_t len, struct batch **ret)
{
	_cleanup_(batch_unrefp) struct batch *b = NULL;
	const char *p = src;
	struct image h;
	size_t rows;

	if (len < sizeof(h))
		return -EINVAL;
	memcpy(&h, p, sizeof(h));
	if (h.magic != IMAGE_MAGIC || h.row_size != table->row_size || h.nfields != table->nfields)
		return -EINVAL;
	if (__builtin_mul_overflow((size_t)h.nrows, (size_t)h.row_size, &rows) ||
	    rows > len - sizeof(h) || h.arena_len != len - sizeof(h) - rows)
		return -EINVAL;

	b = batch_new(table, h.nrows);
	if (!b)
		return -ENOMEM;
	if (rows) {
		b->rows = malloc(rows);
		if (!b->rows)
			return -ENOMEM;
		memcpy(b->rows, p + sizeof(h), rows);
	}
	if (h.arena_len) {
		b->arena = malloc(h.arena_len);
		if (!b->arena)
			return -ENOMEM;
		memcpy(b->arena, p + sizeof(h) + rows, h.arena_len);
	}
	b->nrows = b->rows_cap = h.nrows;
	b->arena_len = b->arena_cap = h.arena_len;
	b->ts_min = h.ts_min;
	b->ts_max = h.ts_max;
	b->sealed = true;
	if (!image_rows_valid(b))
		return -EINVAL;
	*ret = TAKE_PTR(b);
	return 0;
}
