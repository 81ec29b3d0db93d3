// SPDX-License-Identifier: Apache-2.0
/* The writer's tables: columns sized by the first rows, cut to the terminal. */
#include <errno.h>
#include <string.h>

#include "base/services.h"
#include "clients/ringside/out_internal.h"
#include "clients/ringside/text.h"

#define SHRINK_TO 20u /* text columns give way to the terminal's width down to this */
#define GAP	  2u  /* between columns */

/* One padded or cut cell of a table line; *used counts the columns of the line. */
static void add_cell(struct out *o, size_t col, const char *s, size_t len, size_t width,
		     size_t *used)
{
	const struct column *c = &o->cols[col];
	bool right = c->right && !c->text_seen;
	size_t limit = c->limit, pad = 0;

	if (c->dropped)
		return;
	if (limit && width > limit) {
		const char *dots = o->opt.utf8 ? "…" : "...";
		size_t cut = o->opt.utf8 ? 1 : 3;

		len = text_prefix(s, len, limit > cut ? limit - cut : 0, &width);
		buf_add(&o->line, s, len);
		buf_puts(&o->line, dots);
		width += cut;
		len = 0;
	} else if (right && width < c->width) {
		pad = c->width - width;
		buf_printf(&o->line, "%*s", (int)pad, "");
	}
	buf_add(&o->line, s, len);
	*used += width + pad;
	if (col + 1 == o->ncols)
		return;
	pad = GAP + (!right && width < c->width ? c->width - width : 0);
	buf_printf(&o->line, "%*s", (int)pad, "");
	*used += pad;
}

/* Cuts the line that starts at off to the terminal, drops blanks at its end and writes it. */
static int end_line(struct out *o, size_t off, size_t used, const char *after)
{
	size_t cut = o->opt.utf8 ? 1 : 3;

	while (o->line.len > off && o->line.data[o->line.len - 1] == ' ') {
		o->line.len--;
		used--;
	}
	if (o->opt.width > cut && used > o->opt.width && o->line.data) {
		o->line.len = off + text_prefix(o->line.data + off, o->line.len - off,
						o->opt.width - cut, NULL);
		buf_puts(&o->line, o->opt.utf8 ? "…" : "...");
	}
	buf_puts(&o->line, after);
	if (o->opt.frame)
		buf_puts(&o->line, "\033[K"); /* what the frame before left there */
	buf_putc(&o->line, '\n');
	return out_write_line(o);
}

static int header_table(struct out *o)
{
	size_t used = 0, off = 0;

	if (o->opt.color)
		buf_puts(&o->line, "\033[1m");
	off = o->line.len;
	for (size_t i = 0; i < o->ncols; i++) {
		_cleanup_buf_ struct buf safe = {0};

		text_add_safe(&safe, o->cols[i].name, strlen(o->cols[i].name));
		add_cell(o, i, safe.data ? safe.data : "", safe.len,
			 text_width(safe.data, safe.len), &used);
	}
	o->header_done = true;
	o->since_header = 0;
	return end_line(o, off, used, o->opt.color ? "\033[0m" : "");
}

static bool is_text(const struct column *c)
{
	return c->type == OUT_TEXT || c->type == OUT_ANY || c->type == OUT_BYTES;
}

/* By the header and the held rows. */
static void measure_columns(struct out *o)
{
	for (size_t i = 0; i < o->ncols; i++) {
		struct column *c = &o->cols[i];
		_cleanup_buf_ struct buf safe = {0};

		text_add_safe(&safe, c->name, strlen(c->name));
		c->width = text_width(safe.data, safe.len);
		for (size_t row = 0; row < o->nheld; row++) {
			size_t w = o->cells[row * o->ncols + i].width;

			c->width = w > c->width ? w : c->width;
		}
		c->limit = c->width;
		c->dropped = false;
	}
}

/* Of a line whose texts are shrunk as far as they can be. */
static size_t least_width(const struct out *o)
{
	size_t total = 0;

	for (size_t i = 0; i < o->ncols; i++) {
		const struct column *c = &o->cols[i];

		if (c->dropped || !c->width)
			continue;
		total += (is_text(c) && c->width > SHRINK_TO ? SHRINK_TO : c->width) + GAP;
	}
	return total;
}

/* Columns go until the line may fit. */
static void drop_columns(struct out *o)
{
	while (o->opt.width && least_width(o) > o->opt.width + GAP) {
		struct column *first = NULL;

		for (size_t i = 0; i < o->ncols; i++) {
			struct column *c = &o->cols[i];

			if (c->rank && !c->dropped && (!first || c->rank > first->rank))
				first = c;
		}
		if (!first)
			return;
		first->dropped = true;
	}
}

/* The widest texts give way until the line fits or none can. */
static void shrink_texts(struct out *o)
{
	size_t total = 0;

	for (size_t i = 0; i < o->ncols; i++)
		total += o->cols[i].dropped ? 0 : o->cols[i].limit + GAP;
	while (o->opt.width && total > o->opt.width + GAP) {
		struct column *widest = NULL;

		for (size_t i = 0; i < o->ncols; i++) {
			struct column *c = &o->cols[i];

			if (is_text(c) && !c->dropped && c->limit > SHRINK_TO &&
			    (!widest || c->limit > widest->limit))
				widest = c;
		}
		if (!widest)
			return;
		widest->limit--;
		total--;
	}
}

static void size_columns(struct out *o)
{
	measure_columns(o);
	drop_columns(o);
	shrink_texts(o);
	for (size_t i = 0; i < o->ncols; i++) {
		struct column *c = &o->cols[i];

		if (c->limit < c->width)
			c->width = c->limit;
		else
			c->limit = 0; /* later rows may be wider */
	}
	o->sized = true;
}

int out_table_flush(struct out *o)
{
	if (!o->sized)
		size_columns(o);
	if (!o->header_done)
		header_table(o);
	for (size_t row = 0; row < o->nheld; row++) {
		size_t used = 0;

		if (o->opt.page && o->since_header >= o->opt.page)
			header_table(o);
		for (size_t i = 0; i < o->ncols; i++) {
			struct held *h = &o->cells[row * o->ncols + i];

			/* Wider than the sample: the column grows rather than hide something. */
			if (!o->cols[i].limit && h->width > o->cols[i].width)
				o->cols[i].width = h->width;
			add_cell(o, i, o->held.data ? o->held.data + h->off : "", h->len, h->width,
				 &used);
		}
		end_line(o, 0, used, "");
		o->since_header++;
	}
	o->nheld = 0;
	buf_reset(&o->held);
	return o->error;
}

/* The port's name where that was asked for and somebody gave it one, else the cell as it is. */
static struct cell name_port(const struct out *o, const struct cell *cells, size_t col)
{
	const struct cell *port = &cells[col];
	char transport[16] = "";
	const char *name;

	if (!o->opt.services || !o->cols[col].port || port->kind != CELL_INT || port->i < 1 ||
	    port->i > UINT16_MAX)
		return *port;
	if (o->transport < o->ncols && cells[o->transport].kind == CELL_TEXT)
		snprintf(transport, sizeof(transport), "%.*s", (int)cells[o->transport].len,
			 cells[o->transport].s);
	name = services_name(o->opt.services, (uint16_t)port->i, transport[0] ? transport : NULL);
	return name ? cell_text(name) : *port;
}

int out_table_row(struct out *o, const struct cell *cells)
{
	if (o->opt.frame && o->opt.frame_rows && o->rows > o->opt.frame_rows)
		return 0; /* counted; out_table_end() says how many */
	if (o->nheld == o->cap_held) {
		size_t cap = o->cap_held ? o->cap_held * 2 : 16;
		struct held *grown =
			reallocarray(o->cells, cap * (o->ncols ? o->ncols : 1), sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		o->cells = grown;
		o->cap_held = cap;
	}
	for (size_t i = 0; i < o->ncols; i++) {
		struct column *c = &o->cols[i];
		struct out_column oc = {.name = c->name, .type = c->type, .unit = c->unit};
		struct held *h = &o->cells[o->nheld * o->ncols + i];
		struct cell cell = name_port(o, cells, i);

		h->off = o->held.len;
		out_add_human(&o->held, &oc, &cell);
		h->len = o->held.len - h->off;
		h->width = h->len ? text_width(o->held.data + h->off, h->len) : 0;
		if (c->type == OUT_ANY && (cell.kind == CELL_INT || cell.kind == CELL_REAL))
			c->right = true;
		else if (cell.kind == CELL_TEXT || cell.kind == CELL_BLOB)
			c->text_seen = true;
	}
	if (buf_status(&o->held) < 0)
		return -ENOMEM;
	o->nheld++;
	return o->nheld >= o->opt.sample ? out_table_flush(o) : o->error;
}

int out_table_end(struct out *o)
{
	uint64_t hidden;

	out_table_flush(o);
	if (!o->opt.frame || !o->opt.frame_rows || o->rows <= o->opt.frame_rows)
		return o->error;
	hidden = o->rows - o->opt.frame_rows;
	text_add_count(&o->line, hidden);
	buf_printf(&o->line, " more row%s", hidden == 1 ? "" : "s");
	return end_line(o, 0, 0, "");
}
