// SPDX-License-Identifier: Apache-2.0
/* The one writer of rows: a table for people, json, csv and tsv for programs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/macro.h"

enum out_format {
	OUT_TABLE,
	OUT_JSON, /* one object a line */
	OUT_CSV,  /* RFC 4180 with a header, LF line ends */
	OUT_TSV,  /* header; \t \n \r \\ escaped */
	OUT_FORMAT_X_MAX,
};

/* Order and meaning as in ringside.v1.ColumnType. */
enum out_type {
	OUT_ANY, /* computed: look at the values */
	OUT_INT,
	OUT_REAL,
	OUT_TEXT,
	OUT_BYTES,
	OUT_BOOL,
	OUT_TIME, /* ns since the Unix epoch */
	OUT_IP,
	OUT_TYPE_X_MAX,
};

enum cell_kind {
	CELL_NULL,
	CELL_INT,
	CELL_REAL,
	CELL_TEXT,
	CELL_BLOB,
};

struct cell {
	enum cell_kind kind;
	union {
		int64_t i;
		double d;
	};
	const char *s; /* TEXT, BLOB: len bytes, borrowed until out_row() returns */
	size_t len;
};

struct out_column {
	const char *name;
	enum out_type type;
	const char *unit; /* "By", "ns", ...: humanised in tables only; NULL or "" for none */
};

struct services;

struct out_options {
	enum out_format format;
	FILE *file;
	bool color;	   /* bold headers */
	bool utf8;	   /* … rather than ... */
	bool tty;	   /* nothing that a terminal would act on leaves, in csv and tsv too */
	size_t width;	   /* columns of the terminal; 0: unlimited */
	size_t sample;	   /* rows that set the column widths; 0: 200 */
	bool frame;	   /* a picture drawn again and again: lines clear what stood behind them */
	size_t frame_rows; /* most rows of a picture; the rest is counted. 0: all */
	size_t page;	   /* repeat the header after so many rows; 0: never */
	const struct services *services; /* tables: ports by name; NULL: by number. Borrowed */
	const char *tag; /* json: a first member "_table" with this value, when several tables share
			    the output */
};

struct out;

int out_new(struct out **ret, const struct out_options *options);
/* Ends what is open first; write errors stay in out_status(). */
void out_free(struct out *o);
DEFINE_CLEANUP(struct out *, out_free)

/* Starts a result; names are copied. A table before it is ended. 0 or -ENOMEM. */
int out_columns(struct out *o, const struct out_column *columns, size_t n);
/* json only: the member "_table" of the rows that follow; copied. NULL: none. */
int out_set_tag(struct out *o, const char *tag);
/*
 * After out_columns(), tables only: columns that go when the line is wider than the terminal, the
 * highest first; 0 stays. One number for each column. Numbers are never cut then, unless those that
 * stay are too many.
 */
void out_set_ranks(struct out *o, const uint8_t *ranks);
/* After out_columns(): this result goes without a header. */
void out_skip_header(struct out *o);
/* One cell for each column. 0, -ENOMEM or the error of the file. */
int out_row(struct out *o, const struct cell *cells);
/* Writes what is held back to size columns: after each message of a live stream. */
int out_flush(struct out *o);
/* Ends the result: header of an empty table, flush. */
int out_end(struct out *o);
/* Rows since out_columns(). */
uint64_t out_rows(const struct out *o);
void out_set_width(struct out *o, size_t width);
/* From now on each result is a picture for a screen of that size. */
void out_set_frame(struct out *o, size_t width, size_t height);

/* "table", "json", ...; -EINVAL for anything else. */
int out_format_parse(const char *text, enum out_format *ret);
const char *out_format_name(enum out_format format);

struct buf;
/* The cell as a table shows it: humanised, safe for a terminal. */
void out_add_human(struct buf *b, const struct out_column *column, const struct cell *cell);

static inline struct cell cell_null(void)
{
	return (struct cell){.kind = CELL_NULL};
}

static inline struct cell cell_int(int64_t i)
{
	return (struct cell){.kind = CELL_INT, .i = i};
}

/* Counters above INT64_MAX saturate, as everywhere in Ringside. */
static inline struct cell cell_uint(uint64_t u)
{
	return cell_int(u > INT64_MAX ? INT64_MAX : (int64_t)u);
}

static inline struct cell cell_real(double d)
{
	return (struct cell){.kind = CELL_REAL, .d = d};
}

/* NULL and "" are SQL NULL here: protobuf knows no unset text. */
struct cell cell_text(const char *s);
