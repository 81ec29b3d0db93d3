// SPDX-License-Identifier: Apache-2.0
/* Big-endian numbers out of a buffer with its bounds kept. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* pos <= len always. Callers ask reader_left() first; beyond the end numbers are 0. */
struct reader {
	const uint8_t *data;
	size_t len, pos;
};

static inline size_t reader_left(const struct reader *r)
{
	return r->len - r->pos;
}

static inline uint32_t reader_be(struct reader *r, size_t octets)
{
	uint32_t v = 0;

	if (reader_left(r) < octets) {
		r->pos = r->len;
		return 0;
	}
	for (size_t i = 0; i < octets; i++)
		v = v << 8 | r->data[r->pos++];
	return v;
}

static inline uint8_t reader_u8(struct reader *r)
{
	return (uint8_t)reader_be(r, 1);
}

static inline uint16_t reader_u16(struct reader *r)
{
	return (uint16_t)reader_be(r, 2);
}

static inline uint32_t reader_u24(struct reader *r)
{
	return reader_be(r, 3);
}

static inline uint32_t reader_u32(struct reader *r)
{
	return reader_be(r, 4);
}

/* The next len octets as a reader of their own, len cut to what is there. */
static inline struct reader reader_part(struct reader *r, size_t len)
{
	struct reader part = {.data = r->data + r->pos,
			      .len = len < reader_left(r) ? len : reader_left(r)};

	r->pos += part.len;
	return part;
}
