// SPDX-License-Identifier: Apache-2.0
/* The writer's state, shared by its two files. */
#pragma once

#include "base/buf.h"
#include "clients/ringside/out.h"

struct held {
	size_t off, len, width; /* into out->held */
};

struct column {
	char *name, *unit;
	char *key; /* name for json: unique within the row */
	enum out_type type;
	bool right;	/* numbers */
	bool port;	/* of TCP, UDP, ...: a service has it */
	bool text_seen; /* OUT_ANY and something that isn't a number came */
	uint8_t rank;	/* 0: stays; of the others, the highest goes first */
	bool dropped;
	size_t width, limit;
};

struct out {
	struct out_options opt;
	struct column *cols;
	size_t ncols;
	size_t transport;	/* the column that says whose ports those are; ncols: none */
	struct buf line;	/* being written */
	struct buf held;	/* texts of the held cells */
	struct held *cells;	/* nheld rows of ncols */
	size_t nheld, cap_held; /* rows */
	bool sized, header_done, open;
	bool any; /* something has been written by this writer */
	uint64_t rows, since_header;
	char *tag;
	int error;
};

/* Writes o->line and empties it; 0 or the first error. */
int out_write_line(struct out *o);
/* Holds the row until widths are known. */
int out_table_row(struct out *o, const struct cell *cells);
int out_table_flush(struct out *o);
int out_table_end(struct out *o);
