// SPDX-License-Identifier: Apache-2.0
/* Rows in wire form, encoded once and shared by all who watch them. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "bpf/batch.h"

/* A message of WatchRows: at most that many rows, or bytes unless one row alone is larger. */
#define CHUNK_ROWS 64
#define CHUNK_BYTES (32 << 10)

struct chunk {
	_Atomic uint32_t refs;
	_Atomic size_t *total; /* where its bytes are counted */
	uint32_t nrows;
	size_t len;
	uint8_t *data; /* elements of RowBatch.values */
	struct {
		uint64_t ts;  /* 0 for live tables */
		uint32_t end; /* of the row's bytes in data */
	} rows[];
};

struct chunk *chunk_ref(struct chunk *c);
void chunk_unref(struct chunk *c);

/* Gathers rows into chunks; zero it, set total. */
struct chunk_queue;
struct chunk_writer {
	_Atomic size_t *total;
	struct buf values;
	uint32_t nrows;
	uint64_t ts[CHUNK_ROWS];
	uint32_t end[CHUNK_ROWS];
};

/* The row is complete: its values are in w->values. -ENOMEM drops what is gathered. */
int chunk_writer_row(struct chunk_writer *w, uint64_t ts, struct chunk_queue *out);
int chunk_writer_flush(struct chunk_writer *w, struct chunk_queue *out);
/* All rows of a sealed batch. */
int chunk_write_batch(const struct batch *b, _Atomic size_t *total, struct chunk_queue *out);

/* A list of references. One thread. */
struct chunk_node;
struct chunk_queue {
	struct chunk_node *head, *tail;
	uint64_t rows;
	size_t bytes;
	uint32_t skip; /* rows of the head that were sent or are not wanted */
};

/* Takes the reference, also on failure (-ENOMEM). */
int chunk_queue_push(struct chunk_queue *q, struct chunk *c);
struct chunk *chunk_queue_head(const struct chunk_queue *q);
/* Walks a copy of the queue struct; the queue itself keeps its references. */
void chunk_queue_next(struct chunk_queue *copy);
/* n more rows of the head are done with; a chunk that has none left goes. */
void chunk_queue_consume(struct chunk_queue *q, uint32_t n);
/* Drops the head; returns its rows that were still wanted. */
uint64_t chunk_queue_drop_head(struct chunk_queue *q);
uint64_t chunk_queue_clear(struct chunk_queue *q);
/* Appends all of from to q and leaves it empty. */
void chunk_queue_move(struct chunk_queue *q, struct chunk_queue *from);
