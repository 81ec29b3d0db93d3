// SPDX-License-Identifier: Apache-2.0
/* A list of named values: two columns for people, one flat json object, key and value rows in csv
 * and tsv. */
#include "clients/ringside/props.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

void props_add(struct props *p, enum out_type type, const char *unit, struct cell cell,
	       const char *key_fmt, ...)
{
	struct prop *grown = reallocarray(p->items, p->n + 1, sizeof(*grown));
	struct prop *item;
	va_list ap;

	if (!grown) {
		p->failed = true;
		return;
	}
	p->items = grown;
	item = &p->items[p->n];
	*item = (struct prop){.column = {.type = type, .unit = unit}, .cell = cell};
	va_start(ap, key_fmt);
	if (vasprintf(&item->key, key_fmt, ap) < 0)
		item->key = NULL;
	va_end(ap);
	if (cell.kind == CELL_TEXT)
		item->cell.s = strndup(cell.s, cell.len);
	if (!item->key || (cell.kind == CELL_TEXT && !item->cell.s))
		p->failed = true;
	p->n++;
}

static int write_object(const struct props *p, struct out *o)
{
	_cleanup_free_ struct out_column *columns = calloc(p->n + 1, sizeof(*columns));
	_cleanup_free_ struct cell *cells = calloc(p->n + 1, sizeof(*cells));
	int r;

	if (!columns || !cells)
		return -ENOMEM;
	for (size_t i = 0; i < p->n; i++) {
		columns[i] = p->items[i].column;
		columns[i].name = p->items[i].key;
		cells[i] = p->items[i].cell;
	}
	r = out_columns(o, columns, p->n);
	return r < 0 ? r : out_row(o, cells);
}

int props_write(const struct props *p, struct out *o, enum out_format format)
{
	static const struct out_column columns[] = {{.name = "key", .type = OUT_TEXT},
						    {.name = "value", .type = OUT_TEXT}};
	int r;

	if (p->failed)
		return -ENOMEM;
	if (format == OUT_JSON)
		return write_object(p, o);
	r = out_columns(o, columns, ARRAY_SIZE(columns));
	if (format == OUT_TABLE)
		out_skip_header(o);
	for (size_t i = 0; r >= 0 && i < p->n; i++) {
		const struct prop *item = &p->items[i];
		_cleanup_buf_ struct buf human = {0};
		struct cell cells[] = {cell_text(item->key), item->cell};

		if (format == OUT_TABLE && item->cell.kind != CELL_TEXT &&
		    item->cell.kind != CELL_NULL) {
			out_add_human(&human, &item->column, &item->cell);
			cells[1] = cell_text(human.data);
		}
		/* People don't miss what isn't there. */
		if (format != OUT_TABLE || item->cell.kind != CELL_NULL)
			r = out_row(o, cells);
	}
	return r;
}

void props_free(struct props *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->items[i].key);
		if (p->items[i].cell.kind == CELL_TEXT)
			free((char *)p->items[i].cell.s);
	}
	free(p->items);
	*p = (struct props){0};
}
