// SPDX-License-Identifier: Apache-2.0
/* Rows on their way: filling, sealing, reading cells, and the image that crosses processes. */
#include "bpf/batch.h"

#include <arpa/inet.h>
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

/* Decimal of one byte, without leading zeros. */
static char *put_u8(char *p, unsigned int v)
{
	if (v >= 100) {
		*p++ = '0' + v / 100;
		v %= 100;
		*p++ = '0' + v / 10;
	} else if (v >= 10) {
		*p++ = '0' + v / 10;
	}
	*p++ = '0' + v % 10;
	return p;
}

static char *put_hex16(char *p, unsigned int v)
{
	static const char digits[] = "0123456789abcdef";

	if (v >= 0x1000)
		*p++ = digits[v >> 12];
	if (v >= 0x100)
		*p++ = digits[v >> 8 & 15];
	if (v >= 0x10)
		*p++ = digits[v >> 4 & 15];
	*p++ = digits[v & 15];
	return p;
}

/* RFC 5952. Written out because inet_ntop() costs ten times as much and rows have two addresses each. */
static size_t format_ip6(char *dst, const uint8_t *a)
{
	unsigned int w[8], best = 8, best_len = 1;
	char *p = dst;

	for (unsigned int i = 0; i < 8; i++)
		w[i] = (unsigned int)a[2 * i] << 8 | a[2 * i + 1];
	for (unsigned int i = 0, n; i < 8; i += n + 1) {
		for (n = 0; i + n < 8 && !w[i + n]; n++)
			;
		if (n > best_len) {
			best = i;
			best_len = n;
		}
	}
	for (unsigned int i = 0; i < 8; i++) {
		if (i == best) {
			*p++ = ':';
			if (i + best_len == 8)
				*p++ = ':';
			i += best_len - 1;
			continue;
		}
		if (i)
			*p++ = ':';
		p = put_hex16(p, w[i]);
	}
	*p = '\0';
	return p - dst;
}

static size_t format_ip(char *dst, const struct ip_addr *ip)
{
	static const uint8_t zeros[10];
	char *p = dst;

	if (ip->family == 4) {
		for (int i = 0; i < 4; i++) {
			if (i)
				*p++ = '.';
			p = put_u8(p, ip->addr[i]);
		}
		*p = '\0';
		return p - dst;
	}
	if (ip->family == 6) {
		/* Mapped and compatible addresses have dotted forms of their own. */
		if (memcmp(ip->addr, zeros, sizeof(zeros)))
			return format_ip6(dst, ip->addr);
		inet_ntop(AF_INET6, ip->addr, dst, INET6_ADDRSTRLEN);
		return strlen(dst);
	}
	*dst = '\0';
	return 0;
}

char *ip_addr_format(char dst[static 46], const struct ip_addr *ip)
{
	format_ip(dst, ip);
	return dst;
}

static void set_text(struct value *v, const char *text, size_t len)
{
	v->kind = VALUE_TEXT;
	v->text = text;
	v->len = len;
}

static void get_chars(const struct field *f, const char *p, struct value *ret)
{
	size_t len;

	if (f->type == COLUMN_BYTES) {
		ret->kind = VALUE_BYTES;
		ret->text = p;
		ret->len = f->size;
		return;
	}
	len = strnlen(p, f->size);
	if (utf8_valid(p, len))
		set_text(ret, p, len);
	else
		set_text(ret, ret->scratch,
			 utf8_sanitize(ret->scratch, sizeof(ret->scratch), p, len));
	if (!len && f->null == NULL_ZERO)
		ret->kind = VALUE_NULL;
}

static void get_enum(const struct field *f, uint8_t idx, struct value *ret)
{
	for (unsigned int i = 0; f->names[i]; i++) {
		if (i == idx) {
			set_text(ret, f->names[i], strlen(f->names[i]));
			return;
		}
	}
	ret->kind = VALUE_NULL;
}

#define LOAD(type)                          \
	({                                  \
		type _v;                    \
		memcpy(&_v, p, sizeof(_v)); \
		_v;                         \
	})

/* Unsigned values are widened; all bits set in their own width means NULL under NULL_MAX. */
static void set_unsigned(const struct field *f, uint64_t v, uint64_t all_ones, struct value *ret)
{
	if ((f->null == NULL_ZERO && !v) || (f->null == NULL_MAX && v == all_ones)) {
		ret->kind = VALUE_NULL;
		return;
	}
	ret->kind = VALUE_INT;
	ret->i = v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

static void set_signed(const struct field *f, int64_t v, struct value *ret)
{
	ret->kind = (f->null == NULL_ZERO && !v) || (f->null == NULL_MAX && v == -1) ? VALUE_NULL
										     : VALUE_INT;
	ret->i = v;
}

static void get_str(const struct batch *b, const struct field *f, struct str s, struct value *ret)
{
	if (!s.len && f->null == NULL_ZERO)
		ret->kind = VALUE_NULL;
	else
		set_text(ret, s.len ? b->arena + s.off : "", s.len);
}

void batch_get(const struct batch *b, uint32_t row, uint32_t col, struct value *ret)
{
	const struct field *f = &b->table->fields[col];
	const uint8_t *p = (const uint8_t *)batch_row(b, row) + f->off;

	switch (f->repr) {
	case REPR_U8:
		return set_unsigned(f, *p, UINT8_MAX, ret);
	case REPR_U16:
		return set_unsigned(f, LOAD(uint16_t), UINT16_MAX, ret);
	case REPR_U32:
		return set_unsigned(f, LOAD(uint32_t), UINT32_MAX, ret);
	case REPR_U64:
		return set_unsigned(f, LOAD(uint64_t), UINT64_MAX, ret);
	case REPR_I32:
		return set_signed(f, LOAD(int32_t), ret);
	case REPR_I64:
		return set_signed(f, LOAD(int64_t), ret);
	case REPR_F64:
		ret->d = LOAD(double);
		ret->kind = f->null == NULL_ZERO && ret->d == 0 ? VALUE_NULL : VALUE_REAL;
		return;
	case REPR_CHARS:
		return get_chars(f, (const char *)p, ret);
	case REPR_STR:
		return get_str(b, f, LOAD(struct str), ret);
	case REPR_IP:
		set_text(ret, ret->scratch, format_ip(ret->scratch, (const struct ip_addr *)p));
		if (!ret->len)
			ret->kind = VALUE_NULL; /* there is no text for "no address" */
		return;
	case REPR_ENUM:
		if ((f->null == NULL_ZERO && !*p) || (f->null == NULL_MAX && *p == UINT8_MAX))
			ret->kind = VALUE_NULL;
		else
			get_enum(f, *p, ret);
		return;
	case REPR_X_MAX:
		break;
	}
	ret->kind = VALUE_NULL;
}

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
	uint64_t last = 0;

	for (uint32_t row = 0; row < b->nrows; row++) {
		const uint8_t *base = batch_row(b, row);

		if (table_is_history(t)) {
			if (row_ts(base) <= last || row_ts(base) > INT64_MAX)
				return false;
			last = row_ts(base);
		}
		for (uint32_t col = 0; col < t->nfields; col++) {
			const uint8_t *p = base + t->fields[col].off;
			struct str s;

			if (t->fields[col].repr != REPR_STR)
				continue;
			s = LOAD(struct str);
			if (!s.len)
				continue;
			if ((uint64_t)s.off + s.len > b->arena_len ||
			    !utf8_valid(b->arena + s.off, s.len))
				return false;
		}
	}
	return !table_is_history(t) || !b->nrows ||
	       (b->ts_min == row_ts(b->rows) && b->ts_max == last);
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
