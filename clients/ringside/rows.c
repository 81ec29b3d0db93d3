// SPDX-License-Identifier: Apache-2.0
/* Columns and rows of ringside.v1 to the writer. */
#include "clients/ringside/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_COLUMNS 2000u /* SQLite's own bound */

_Static_assert(OUT_IP == (int)RINGSIDE__V1__COLUMN_TYPE__COLUMN_TYPE_IP, "same order as the proto");
_Static_assert(OUT_TIME == (int)RINGSIDE__V1__COLUMN_TYPE__COLUMN_TYPE_TIME,
	       "same order as the proto");

struct cell cell_of_value(const Ringside__V1__Value *v)
{
	switch (v->kind_case) {
	case RINGSIDE__V1__VALUE__KIND_INTEGER:
		return cell_int(v->integer);
	case RINGSIDE__V1__VALUE__KIND_REAL:
		return cell_real(v->real);
	case RINGSIDE__V1__VALUE__KIND_TEXT:
		/* An empty text is a text here, not NULL. */
		return (struct cell){.kind = CELL_TEXT, .s = v->text, .len = strlen(v->text)};
	case RINGSIDE__V1__VALUE__KIND_BLOB:
		return (struct cell){
			.kind = CELL_BLOB, .s = (const char *)v->blob.data, .len = v->blob.len};
	default:
		return cell_null();
	}
}

struct value value_of_message(const Ringside__V1__Value *v)
{
	switch (v->kind_case) {
	case RINGSIDE__V1__VALUE__KIND_INTEGER:
		return (struct value){.kind = VALUE_INT, .i = v->integer};
	case RINGSIDE__V1__VALUE__KIND_REAL:
		return (struct value){.kind = VALUE_REAL, .d = v->real};
	case RINGSIDE__V1__VALUE__KIND_TEXT:
		return (struct value){.kind = VALUE_TEXT, .text = v->text, .len = strlen(v->text)};
	case RINGSIDE__V1__VALUE__KIND_BLOB:
		return (struct value){.kind = VALUE_BYTES,
				      .text = (const char *)v->blob.data,
				      .len = v->blob.len};
	default:
		return (struct value){.kind = VALUE_NULL};
	}
}

int row_map_new(struct row_map *map, Ringside__V1__Column *const *columns, size_t n,
		const char *wanted, char **ret_missing)
{
	*map = (struct row_map){0};
	if (!wanted)
		return 0;
	map->source = calloc(MAX_COLUMNS, sizeof(*map->source));
	if (!map->source)
		return -ENOMEM;
	for (const char *p = wanted; *p; p += strspn(p, ", ")) {
		size_t len = strcspn(p, ", "), i;

		for (i = 0;
		     i < n && (strncmp(columns[i]->name, p, len) != 0 || columns[i]->name[len]);
		     i++)
			;
		if (i == n || map->n == MAX_COLUMNS) {
			*ret_missing = strndup(p, len);
			return -ENOENT;
		}
		map->source[map->n++] = i;
		p += len;
	}
	return 0;
}

void row_map_free(struct row_map *map)
{
	free(map->source);
	*map = (struct row_map){0};
}

int rows_begin(struct out *o, Ringside__V1__Column *const *columns, size_t n,
	       const struct row_map *map)
{
	size_t shown = map && map->source ? map->n : n;
	_cleanup_free_ struct out_column *cols = calloc(shown ? shown : 1, sizeof(*cols));

	if (!cols)
		return -ENOMEM;
	for (size_t i = 0; i < shown; i++) {
		const Ringside__V1__Column *c = columns[map && map->source ? map->source[i] : i];

		cols[i].name = c->name;
		cols[i].unit = c->unit;
		cols[i].type =
			(unsigned int)c->type < OUT_TYPE_X_MAX ? (enum out_type)c->type : OUT_ANY;
	}
	return out_columns(o, cols, shown);
}

int rows_add(struct out *o, const Ringside__V1__RowBatch *batch, size_t ncols,
	     const struct row_map *map)
{
	size_t shown = map && map->source ? map->n : ncols;
	_cleanup_free_ struct cell *cells = NULL;

	if (!ncols || batch->n_values != (size_t)batch->row_count * ncols)
		return batch->n_values || batch->row_count ? -EPROTO : 0;
	cells = calloc(shown ? shown : 1, sizeof(*cells));
	if (!cells)
		return -ENOMEM;
	for (size_t row = 0; row < batch->row_count; row++) {
		int r;

		for (size_t i = 0; i < shown; i++)
			cells[i] = cell_of_value(
				batch->values[row * ncols +
					      (map && map->source ? map->source[i] : i)]);
		r = out_row(o, cells);
		if (r < 0)
			return r;
	}
	return 0;
}
