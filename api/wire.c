// SPDX-License-Identifier: Apache-2.0
/* Reads and writes protobuf without objects: rows are encoded once and shared by all who watch them. */
#include "api/wire.h"

#include <errno.h>
#include <string.h>

#include "base/utf8.h"

/* Our messages nest 4 deep; a check in the tests refuses recursive ones. */
#define MAX_DEPTH 16

static int get_varint(struct wire *w, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; shift < 64; shift += 7) {
		uint8_t byte;

		if (w->p >= w->end)
			return -EINVAL;
		byte = *w->p++;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = v;
			return 0;
		}
	}
	return -EINVAL;
}

static int skip(struct wire *w, size_t len)
{
	if ((size_t)(w->end - w->p) < len)
		return -EINVAL;
	w->p += len;
	return 1;
}

int wire_next(struct wire *w, struct wire_field *ret)
{
	uint64_t key, len;

	if (w->p >= w->end)
		return 0;
	if (get_varint(w, &key) < 0 || key >> 3 == 0 || key >> 3 > 0x1fffffff)
		return -EINVAL;
	*ret = (struct wire_field){.number = (uint32_t)(key >> 3)};
	switch (key & 7) {
	case WIRE_VARINT:
		ret->type = WIRE_VARINT;
		return get_varint(w, &ret->value) < 0 ? -EINVAL : 1;
	case WIRE_FIXED64:
		ret->type = WIRE_FIXED64;
		return skip(w, 8);
	case WIRE_FIXED32:
		ret->type = WIRE_FIXED32;
		return skip(w, 4);
	case WIRE_BYTES:
		ret->type = WIRE_BYTES;
		if (get_varint(w, &len) < 0 || len > (uint64_t)(w->end - w->p))
			return -EINVAL;
		ret->data = w->p;
		ret->len = (size_t)len;
		return skip(w, ret->len);
	default:
		return -EINVAL;
	}
}

static int check(const ProtobufCMessageDescriptor *type, struct wire w, unsigned int depth, const char **field)
{
	struct wire_field f;
	int r;

	if (depth > MAX_DEPTH)
		return -EINVAL;
	while ((r = wire_next(&w, &f)) > 0) {
		const ProtobufCFieldDescriptor *d;

		d = protobuf_c_message_descriptor_get_field(type, f.number);
		if (!d || f.type != WIRE_BYTES)
			continue;
		if (d->type == PROTOBUF_C_TYPE_STRING &&
		    (!utf8_valid((const char *)f.data, f.len) || memchr(f.data, 0, f.len))) {
			*field = d->name;
			return -EINVAL;
		}
		if (d->type == PROTOBUF_C_TYPE_MESSAGE) {
			r = check(d->descriptor, (struct wire){f.data, f.data + f.len}, depth + 1, field);
			if (r < 0)
				return r;
		}
	}
	return r;
}

int wire_check(const ProtobufCMessageDescriptor *type, const void *data, size_t len, const char **field)
{
	*field = NULL;
	if (!len)
		return 0;
	return check(type, (struct wire){data, (const uint8_t *)data + len}, 0, field);
}

size_t wire_varint_size(uint64_t v)
{
	return v ? (size_t)(63 - __builtin_clzll(v)) / 7 + 1 : 1;
}

static size_t varint_to(uint8_t *dst, uint64_t v)
{
	size_t n = 0;

	while (v >= 0x80) {
		dst[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	dst[n++] = (uint8_t)v;
	return n;
}

void wire_put_varint(struct buf *b, uint64_t v)
{
	uint8_t tmp[10];

	buf_add(b, tmp, varint_to(tmp, v));
}

void wire_put_tag(struct buf *b, uint32_t number, unsigned int type)
{
	wire_put_varint(b, (uint64_t)number << 3 | type);
}

void wire_put_uint(struct buf *b, uint32_t number, uint64_t v)
{
	if (!v)
		return;
	wire_put_tag(b, number, WIRE_VARINT);
	wire_put_varint(b, v);
}

void wire_put_bytes(struct buf *b, uint32_t number, const void *data, size_t len)
{
	wire_put_tag(b, number, WIRE_BYTES);
	wire_put_varint(b, len);
	buf_add(b, data, len);
}

static uint64_t zigzag(int64_t v)
{
	return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

void wire_put_row_value(struct buf *b, const struct value *v)
{
	uint8_t tmp[24] = {2 << 3 | WIRE_BYTES};
	uint8_t *body = tmp + 2; /* scalars are below 128 bytes: their length is one byte */
	size_t n = 0;

	switch (v->kind) {
	case VALUE_NULL:
		break;
	case VALUE_INT:
		body[n++] = 1 << 3 | WIRE_VARINT;
		n += varint_to(body + n, zigzag(v->i));
		break;
	case VALUE_REAL: {
		uint64_t bits;

		memcpy(&bits, &v->d, sizeof(bits));
		body[n++] = 2 << 3 | WIRE_FIXED64;
		for (unsigned int i = 0; i < 8; i++)
			body[n++] = (uint8_t)(bits >> (8 * i));
		break;
	}
	case VALUE_TEXT:
	case VALUE_BYTES:
		buf_add(b, tmp, 1);
		wire_put_varint(b, 1 + wire_varint_size(v->len) + v->len);
		wire_put_bytes(b, v->kind == VALUE_TEXT ? 3 : 4, v->text, v->len);
		return;
	}
	tmp[1] = (uint8_t)n;
	buf_add(b, tmp, 2 + n);
}
