// SPDX-License-Identifier: Apache-2.0
/* The protobuf wire format, read field by field and written value by value. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "bpf/batch.h"

struct wire {
	const uint8_t *p, *end;
};

struct wire_field {
	uint32_t number;
	enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 } type;
	uint64_t value;       /* WIRE_VARINT */
	const uint8_t *data;  /* WIRE_BYTES; points into the input */
	size_t len;
};

/* 1 and a field, 0 at the end, -EINVAL for anything that isn't protobuf (groups included). */
int wire_next(struct wire *w, struct wire_field *ret);

/*
 * Checks a message before it is unpacked: well-formed, every string valid UTF-8 without NUL (protobuf-c checks neither).
 * -EINVAL; *field is then the name of the string field, or NULL for a broken message.
 */
int wire_check(const ProtobufCMessageDescriptor *type, const void *data, size_t len, const char **field);

void wire_put_varint(struct buf *b, uint64_t v);
void wire_put_tag(struct buf *b, uint32_t number, unsigned int type);
void wire_put_uint(struct buf *b, uint32_t number, uint64_t v); /* also enum and bool; 0 is left out, as proto3 does */
void wire_put_bytes(struct buf *b, uint32_t number, const void *data, size_t len);
size_t wire_varint_size(uint64_t v);
/* One element of RowBatch.values: tag, length and ringside.v1.Value. */
void wire_put_row_value(struct buf *b, const struct value *v);
