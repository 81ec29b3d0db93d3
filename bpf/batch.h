// SPDX-License-Identifier: Apache-2.0
/* Rows on their way: filled by one thread, then immutable, refcounted and shared by all sinks. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macro.h"
#include "bpf/table.h"

struct batch {
	const struct table *table;
	_Atomic uint32_t refs;
	uint32_t nrows, cap; /* rows */
	uint32_t rows_cap;   /* rows that have memory; grows up to cap */
	bool sealed;
	uint64_t ts_min, ts_max; /* set by batch_seal; 0 for live tables */
	uint8_t *rows;           /* nrows * table->row_size */
	char *arena;             /* REPR_STR bytes, valid UTF-8 */
	uint32_t arena_len, arena_cap;
};

/*
 * One reference, the caller's. Memory grows with the rows, up to cap; the arena up to 1 MiB, or 1 KiB a row of cap when
 * that is more (64 MiB at most). NULL when out of memory.
 */
struct batch *batch_new(const struct table *table, uint32_t cap);
struct batch *batch_ref(struct batch *b);
void batch_unref(struct batch *b);
DEFINE_CLEANUP(struct batch *, batch_unref)

/* Filling: one thread, before batch_seal. The next row, zeroed, valid until the next call; NULL when full or no memory. */
void *batch_add(struct batch *b);
/* Copies text into the arena, made valid UTF-8; {0,0} when it doesn't fit. */
struct str batch_str(struct batch *b, const char *text, size_t len);
/* Takes back the last row. */
void batch_drop_last(struct batch *b);
/*
 * Ends filling. For history tables sorts the rows by ts, makes ts strictly increasing after *last_ts (NULL: after 0) and
 * moves *last_ts on. A ts that cannot be one (0, or not a positive int64) becomes the time of the call.
 */
void batch_seal(struct batch *b, uint64_t *last_ts);

/*
 * While nobody else holds a reference, sealed or not: another text in a cell (REPR_STR or REPR_CHARS, where it is cut), made
 * valid UTF-8. -ENOSPC: the arena is full, the cell is as it was.
 */
int batch_set_text(struct batch *b, uint32_t row, uint32_t col, const char *text, size_t len);
/* The same: all bits of the cell 0, which is NULL, "" or 0 as the field says. */
void batch_clear(struct batch *b, uint32_t row, uint32_t col);

static inline const void *batch_row(const struct batch *b, uint32_t row)
{
	return b->rows + (size_t)row * b->table->row_size;
}

enum value_kind {
	VALUE_NULL,
	VALUE_INT,   /* INT64, BOOL, TIME */
	VALUE_REAL,
	VALUE_TEXT,
	VALUE_BYTES,
};

/* text points into the batch, a static table or scratch: valid as long as all three. */
struct value {
	enum value_kind kind;
	union {
		int64_t i;
		double d;
		struct {
			const char *text;
			size_t len;
		};
	};
	char scratch[64]; /* IP text; non-UTF-8 comm cleaned */
};

/* Reads one cell. uint64 above INT64_MAX saturates. Any thread once sealed. */
void batch_get(const struct batch *b, uint32_t row, uint32_t col, struct value *ret);

/* ip_addr to text (v4-mapped stays v6 here; plugins normalise); returns dst. */
char *ip_addr_format(char dst[static 46], const struct ip_addr *ip);

/*
 * A portable image of a sealed batch for another process of the same build (query worker): header, rows, arena.
 * batch_image_size bytes; batch_from_image refuses anything that isn't consistent with table.
 */
size_t batch_image_size(const struct batch *b);
void batch_to_image(const struct batch *b, void *dst);
int batch_from_image(const struct table *table, const void *src, size_t len, struct batch **ret);
