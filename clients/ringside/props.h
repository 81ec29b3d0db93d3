// SPDX-License-Identifier: Apache-2.0
/* A list of named values: two columns for people, one flat json object, key and value rows in csv
 * and tsv. */
#pragma once

#include <stddef.h>

#include "clients/ringside/out.h"

struct prop {
	char *key;
	struct out_column column; /* type and unit; name unused */
	struct cell cell;	  /* texts are copied */
};

struct props {
	struct prop *items;
	size_t n;
	bool failed;
};

void props_add(struct props *p, enum out_type type, const char *unit, struct cell cell,
	       const char *key_fmt, ...) _printf_(5, 6);
#define props_text(p, text, ...) props_add((p), OUT_TEXT, NULL, cell_text(text), __VA_ARGS__)
#define props_int(p, value, unit, ...) \
	props_add((p), OUT_INT, (unit), cell_uint(value), __VA_ARGS__)
#define props_bool(p, value, ...) props_add((p), OUT_BOOL, NULL, cell_int(value), __VA_ARGS__)
/* 0 or negative errno. */
int props_write(const struct props *p, struct out *o, enum out_format format);
void props_free(struct props *p);
#define _cleanup_props_ _cleanup_(props_free)
