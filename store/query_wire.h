// SPDX-License-Identifier: Apache-2.0
/* The frames that the query engine and its worker exchange: little structs, bounded, checked on
 * arrival. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "bpf/batch.h"
#include "bpf/table.h"

/* Both ends are the same binary, so integers travel in host order. */
enum query_frame {
	QUERY_FRAME_REQUEST = 1, /* engine: first, once */
	QUERY_FRAME_SNAPSHOT, /* worker asks for a live table; the engine answers with the same type
				 and a memfd */
	QUERY_FRAME_NOTE, /* worker: one sentence for the log, before any untrusted SQL is touched
			   */
	QUERY_FRAME_COLUMNS, /* worker: once */
	QUERY_FRAME_ROWS,
	QUERY_FRAME_DONE,  /* worker: last */
	QUERY_FRAME_ERROR, /* worker: last */
	QUERY_FRAME_X_MAX,
};

struct query_frame_header {
	uint32_t type, len; /* len: bytes behind the header */
};

enum {
	QUERY_MAX_FRAME = 4 << 20, /* one row of a few big cells; a request with its tables */
	QUERY_MAX_CELL = 1 << 20,  /* SQLITE_LIMIT_LENGTH of the worker */
	QUERY_MAX_SQL = 64 << 10,
	QUERY_MAX_PARAMS = 256,
	QUERY_MAX_COLUMNS = 256,
	QUERY_MAX_TABLES = 256,
	QUERY_MAX_NAME = 128,  /* of a result column; an expression can be as long as the SQL */
	QUERY_BATCH_ROWS = 64, /* as RowBatch in the API: a frame becomes one message */
	QUERY_BATCH_BYTES = 32 << 10,
};

/* Writing: a frame is opened, filled with wire_put_*, closed. Allocation failures stay in the buf.
 */
size_t wire_open(struct buf *b, enum query_frame type);
void wire_close(struct buf *b, size_t at);
void wire_put_u8(struct buf *b, uint8_t v);
void wire_put_u32(struct buf *b, uint32_t v);
void wire_put_u64(struct buf *b, uint64_t v);
void wire_put_str(struct buf *b, const char *s); /* NULL travels as "" */
void wire_put_text(struct buf *b, const char *s,
		   size_t len); /* as a value's text: made valid UTF-8 without NUL */
void wire_put_value(struct buf *b, const struct value *v);

/* Reading: after the first short or malformed item `bad` stays set and zeros come out. */
struct wire {
	const uint8_t *p, *end;
	bool bad;
};

uint8_t wire_get_u8(struct wire *w);
uint32_t wire_get_u32(struct wire *w);
uint64_t wire_get_u64(struct wire *w);
/* Points into the frame, NUL-terminated, valid UTF-8; "" when bad. */
const char *wire_get_str(struct wire *w, size_t max);
/* text points into the frame. Text must be valid UTF-8 without NUL. */
void wire_get_value(struct wire *w, struct value *ret);
/* All read and nothing bad. */
bool wire_done(const struct wire *w);

/* Field tables, for the worker that has no plugin linked to a name. put: trusted to trusted. */
void wire_put_tables(struct buf *b, const struct table *const *tables);
/* Allocates for the life of the process; strings point into the frame, which must stay.
 * NULL-terminated. */
int wire_get_tables(struct wire *w, const struct table ***ret);

/* What the worker is told. Strings and values point into the frame that it was read from. */
struct query_request {
	const char *sql, *ring_dir, *services_file;
	const char *file; /* instead of ring_dir; "": none */
	bool file_is_snapshot, script;
	uint64_t now_ns; /* 0: the clock's */
	uint64_t max_rows;
	uint64_t deadline_ns;		  /* CLOCK_MONOTONIC */
	uint64_t heap_bytes, spill_bytes; /* as the engine's options; 0: the worker's own */
	uint64_t reserve_bytes;
	uint32_t uid, gid; /* to become; UINT32_MAX: stay */
	uint32_t nparams;
	struct value *params;
	const struct table **tables;
	uint32_t ntables;
};

/* tables: what wire_put_tables wrote, made once by the engine. */
void wire_put_request(struct buf *b, const struct query_request *req, const struct buf *tables);
int wire_get_request(struct wire *w, struct query_request *ret);
