// SPDX-License-Identifier: Apache-2.0
/* Field tables: what a row is made of, for every sink, client and document. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a user sees; order and names as in ringside.v1.ColumnType. */
enum column_type {
	COLUMN_INT64 = 1,
	COLUMN_DOUBLE,
	COLUMN_TEXT,
	COLUMN_BYTES,
	COLUMN_BOOL,
	COLUMN_TIME, /* ns since the Unix epoch */
	COLUMN_IP,   /* text in every output */
	COLUMN_X_MAX,
};

/* How the C struct holds it. */
enum field_repr {
	REPR_U8,
	REPR_U16,
	REPR_U32,
	REPR_U64,
	REPR_I32,
	REPR_I64,
	REPR_F64,
	REPR_CHARS, /* char[N], NUL-terminated or full */
	REPR_STR,   /* struct str: bytes in the batch's arena */
	REPR_IP,    /* struct ip_addr */
	REPR_ENUM,  /* uint8_t index into names[] */
	REPR_X_MAX,
};

enum column_kind {
	KIND_TAG = 1,
	KIND_GAUGE,
	KIND_COUNTER, /* grows for the life of what it belongs to */
	KIND_DELTA,   /* since the last row: SUM() over rows is exact */
	KIND_X_MAX,
};

enum column_sensitivity {
	SENSITIVITY_META = 1,
	SENSITIVITY_CONTENT, /* what people typed or sent */
	SENSITIVITY_SECRET,
	SENSITIVITY_X_MAX,
};

/* Which value of the C field means SQL NULL. */
enum field_null {
	NULL_NEVER,
	NULL_ZERO, /* 0, "", family 0 */
	NULL_MAX,  /* all bits set (-1) */
};

enum table_class {
	TABLE_FLOW = 1, /* history, flow ring */
	TABLE_AUDIT,    /* history, audit ring */
	TABLE_LIVE,     /* state now, never stored */
	TABLE_METRIC,   /* history, flow ring; counters and gauges */
	TABLE_X_MAX,
};

struct str {
	uint32_t off, len; /* into batch->arena; len 0 is "" */
};

struct ip_addr {
	uint8_t family; /* 4, 6; 0: none */
	uint8_t pad[3];
	uint8_t addr[16]; /* network order; IPv4 in the first four */
};

struct field {
	const char *name;
	enum column_type type;
	enum field_repr repr;
	uint16_t off, size;
	enum field_null null;
	enum column_kind kind;
	enum column_sensitivity sensitivity;
	bool dict;                /* few distinct values: the store dictionary-encodes it */
	bool indexed;             /* people look for one value of it: sealed segments get an index (17 B a row) */
	const char *unit;         /* "By", "us", "ns", "{packet}" (UCUM as OpenTelemetry writes it), "" */
	const char *const *names; /* REPR_ENUM: NULL-terminated */
	const char *help;         /* one line; says the source where it isn't obvious */
};

/*
 * History tables begin with field "ts", COLUMN_TIME, REPR_U64 at offset 0: event time or the end of the interval; strictly
 * increasing within a table (batch_seal sees to it), so it is the row's identity and the watch cursor.
 */
struct table {
	const char *name;
	const char *summary; /* one line */
	enum table_class class;
	uint32_t row_size;
	uint32_t nfields;
	const struct field *fields;
};

/* FIELD(row struct, member, repr, type, kind, unit, help, more designated initialisers...) */
#define FIELD(st, m, r, t, k, u, h, ...) FIELD_OF(META, st, m, r, t, k, u, h, __VA_ARGS__)
/* The same for what people typed or sent. */
#define FIELD_CONTENT(st, m, r, t, k, u, h, ...) FIELD_OF(CONTENT, st, m, r, t, k, u, h, __VA_ARGS__)
#define FIELD_OF(s, st, m, r, t, k, u, h, ...)                                                               \
	{.name = #m, .type = COLUMN_##t, .repr = REPR_##r, .off = offsetof(struct st, m),                   \
	 .size = sizeof(((struct st *)0)->m), .kind = KIND_##k, .sensitivity = SENSITIVITY_##s, .unit = (u), \
	 .help = (h), __VA_ARGS__}
#define TABLE(st, cl, nm, sum, flds)                                                                     \
	{.name = (nm), .summary = (sum), .class = TABLE_##cl, .row_size = sizeof(struct st),           \
	 .nfields = sizeof(flds) / sizeof((flds)[0]), .fields = (flds)}

static inline bool table_is_history(const struct table *t)
{
	return t->class != TABLE_LIVE;
}

/* Index of the column, or -1. */
int table_find(const struct table *t, const char *column);
/* 0, or -EINVAL with *why (static text plus column): names unique and valid, offsets inside the row, repr fits type. */
int table_check(const struct table *t, char *why, size_t cap);
const char *column_type_name(enum column_type type); /* "INT64", ... */
const char *column_kind_name(enum column_kind kind); /* "tag", ... */
const char *table_class_name(enum table_class class); /* "flow", ... */
