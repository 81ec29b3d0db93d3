// SPDX-License-Identifier: Apache-2.0
/* The one writer of rows: a table for people, json, csv and tsv for programs. */
#include "clients/ringside/out.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/units.h"
#include "clients/ringside/out_internal.h"
#include "clients/ringside/text.h"

#define SAMPLE_ROWS 200u /* enough to size columns by, little enough to be shown at once */

static const char *const format_names[] = {
	[OUT_TABLE] = "table",
	[OUT_JSON] = "json",
	[OUT_CSV] = "csv",
	[OUT_TSV] = "tsv",
};
_Static_assert(ARRAY_SIZE(format_names) == OUT_FORMAT_X_MAX, "a name for each format");

int out_format_parse(const char *text, enum out_format *ret)
{
	for (size_t i = 0; i < OUT_FORMAT_X_MAX; i++) {
		if (strcmp(text, format_names[i]) == 0) {
			*ret = (enum out_format)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *out_format_name(enum out_format format)
{
	return format_names[format];
}

struct cell cell_text(const char *s)
{
	if (!s || !*s)
		return cell_null();
	return (struct cell){.kind = CELL_TEXT, .s = s, .len = strlen(s)};
}

int out_new(struct out **ret, const struct out_options *options)
{
	struct out *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->opt = *options;
	if (!o->opt.sample)
		o->opt.sample = SAMPLE_ROWS;
	if (options->tag && out_set_tag(o, options->tag) < 0) {
		free(o);
		return -ENOMEM;
	}
	*ret = o;
	return 0;
}

static void columns_free(struct out *o)
{
	for (size_t i = 0; i < o->ncols; i++) {
		free(o->cols[i].name);
		free(o->cols[i].unit);
		free(o->cols[i].key);
	}
	free(o->cols);
	o->cols = NULL;
	o->ncols = 0;
	free(o->cells);
	o->cells = NULL;
	o->cap_held = o->nheld = 0;
}

void out_free(struct out *o)
{
	if (!o)
		return;
	out_end(o);
	columns_free(o);
	buf_free(&o->line);
	buf_free(&o->held);
	free(o->tag);
	free(o);
}

uint64_t out_rows(const struct out *o)
{
	return o->rows;
}

void out_set_width(struct out *o, size_t width)
{
	o->opt.width = width;
}

void out_set_frame(struct out *o, size_t width, size_t height)
{
	o->opt.frame = true;
	o->opt.width = width;
	/* Header, the line that counts the rest, and the one where the cursor stays. */
	o->opt.frame_rows = height > 4 ? height - 3 : 1;
}

void out_set_ranks(struct out *o, const uint8_t *ranks)
{
	for (size_t i = 0; i < o->ncols; i++)
		o->cols[i].rank = ranks[i];
}

void out_skip_header(struct out *o)
{
	o->header_done = true;
}

int out_set_tag(struct out *o, const char *tag)
{
	char *copy = tag ? strdup(tag) : NULL;

	if (tag && !copy)
		return -ENOMEM;
	free(o->tag);
	o->tag = copy;
	return 0;
}

/* Writes o->line and empties it. */
int out_write_line(struct out *o)
{
	int r = buf_status(&o->line);

	if (!r && !o->error && fwrite(o->line.data, 1, o->line.len, o->opt.file) != o->line.len)
		r = errno ? -errno : -EIO;
	buf_reset(&o->line);
	if (r && !o->error)
		o->error = r;
	return o->error;
}

/* A json reader keeps only the last of equal names, so that "SELECT 1 a, 2 a" would lose a value.
 */
static char *unique_key(const struct out *o, size_t col, const char *name)
{
	_cleanup_buf_ struct buf b = {0};

	buf_puts(&b, name);
	for (unsigned int n = 2; buf_status(&b) == 0 && b.data; n++) {
		size_t i;

		for (i = 0; i < col && strcmp(o->cols[i].key, b.data) != 0; i++)
			;
		if (i == col)
			return TAKE_PTR(b.data);
		buf_reset(&b);
		buf_printf(&b, "%s_%u", name, n);
	}
	return NULL;
}

/* By name: "dst_port" of a table, "PORT" of a verb's own. */
static bool is_port(const struct column *c)
{
	size_t len = strlen(c->name);

	return (c->type == OUT_INT || c->type == OUT_ANY) &&
	       (strcasecmp(c->name, "port") == 0 ||
		(len > 5 && strcasecmp(c->name + len - 5, "_port") == 0));
}

static bool is_transport(const struct column *c)
{
	return strcasecmp(c->name, "transport") == 0 || strcasecmp(c->name, "proto") == 0;
}

int out_columns(struct out *o, const struct out_column *columns, size_t n)
{
	out_end(o);
	columns_free(o);
	if (o->any && o->opt.format == OUT_TABLE && !o->opt.frame)
		fputc('\n', o->opt.file);
	o->any = true;
	o->cols = calloc(n ? n : 1, sizeof(*o->cols));
	if (!o->cols)
		return -ENOMEM;
	o->transport = n;
	for (size_t i = 0; i < n; i++, o->ncols++) {
		struct column *c = &o->cols[i];

		c->name = strdup(columns[i].name);
		c->unit = strdup(columns[i].unit ? columns[i].unit : "");
		c->key = unique_key(o, i, columns[i].name);
		c->type = columns[i].type;
		c->right = c->type == OUT_INT || c->type == OUT_REAL;
		if (!c->name || !c->unit || !c->key) {
			o->ncols++;
			columns_free(o);
			return -ENOMEM;
		}
		c->port = is_port(c);
		if (is_transport(c) && o->transport == n)
			o->transport = i;
	}
	o->open = true;
	o->sized = o->header_done = false;
	o->rows = o->since_header = 0;
	return 0;
}

static bool unit_duration(const char *unit, uint64_t *ret_ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = {{"ns", 1}, {"us", NSEC_PER_USEC}, {"ms", NSEC_PER_MSEC}, {"s", NSEC_PER_SEC}};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(unit, units[i].unit) == 0) {
			*ret_ns = units[i].ns;
			return true;
		}
	}
	return false;
}

static void add_human_int(struct buf *b, const struct out_column *column, int64_t i)
{
	const char *unit = column->unit ? column->unit : "";
	uint64_t ns, abs = i < 0 ? -(uint64_t)i : (uint64_t)i;
	char text[48];

	if (column->type == OUT_TIME && i > 0) {
		buf_puts(b, clock_format_rfc3339(text, (uint64_t)i));
	} else if (column->type == OUT_BOOL && (i == 0 || i == 1)) {
		buf_puts(b, i ? "true" : "false");
	} else if (strcmp(unit, "By") == 0 || strcmp(unit, "By/s") == 0) {
		buf_printf(b, "%s%s%s", i < 0 ? "-" : "",
			   units_format_bytes(text, sizeof(text), abs), unit[2] ? "/s" : "");
	} else if (unit_duration(unit, &ns) && abs <= UINT64_MAX / ns) {
		buf_printf(b, "%s%s", i < 0 ? "-" : "",
			   units_format_duration(text, sizeof(text), abs * ns));
	} else {
		buf_printf(b, "%" PRId64, i);
	}
}

void out_add_human(struct buf *b, const struct out_column *column, const struct cell *cell)
{
	switch (cell->kind) {
	case CELL_NULL:
		break;
	case CELL_INT:
		add_human_int(b, column, cell->i);
		break;
	case CELL_REAL:
		buf_printf(b, "%.6g", cell->d);
		break;
	case CELL_TEXT:
		text_add_safe(b, cell->s, cell->len);
		break;
	case CELL_BLOB:
		text_add_hex(b, cell->s, cell->len);
		break;
	}
}

static void add_machine_number(struct buf *b, const struct column *c, const struct cell *cell,
			       const char *none)
{
	if (cell->kind == CELL_INT && c->type == OUT_BOOL && (cell->i == 0 || cell->i == 1))
		buf_puts(b, cell->i ? "true" : "false");
	else if (cell->kind == CELL_INT)
		buf_printf(b, "%" PRId64, cell->i);
	else if (!text_add_double(b, cell->d))
		buf_puts(b, none);
}

static int row_json(struct out *o, const struct cell *cells)
{
	struct buf *b = &o->line;

	buf_putc(b, '{');
	if (o->tag) {
		buf_puts(b, "\"_table\":");
		text_add_json(b, o->tag, strlen(o->tag));
	}
	for (size_t i = 0; i < o->ncols; i++) {
		const struct cell *cell = &cells[i];

		if (i || o->tag)
			buf_putc(b, ',');
		text_add_json(b, o->cols[i].key, strlen(o->cols[i].key));
		buf_putc(b, ':');
		if (cell->kind == CELL_NULL) {
			buf_puts(b, "null");
		} else if (cell->kind == CELL_TEXT) {
			text_add_json(b, cell->s, cell->len);
		} else if (cell->kind == CELL_BLOB) {
			buf_putc(b, '"');
			text_add_hex(b, cell->s, cell->len);
			buf_putc(b, '"');
		} else {
			add_machine_number(b, &o->cols[i], cell, "null");
		}
	}
	buf_puts(b, "}\n");
	return out_write_line(o);
}

/* A text field of csv or tsv; on a terminal what it would act on is escaped first. */
static void add_field(struct out *o, const char *s, size_t len)
{
	_cleanup_buf_ struct buf safe = {0};

	if (o->opt.tty) {
		text_add_safe(&safe, s, len);
		if (safe.data) {
			s = safe.data;
			len = safe.len;
		}
	}
	if (o->opt.format == OUT_CSV)
		text_add_csv(&o->line, s, len);
	else if (o->opt.tty)
		buf_add(&o->line, s, len); /* escaped already */
	else
		text_add_tsv(&o->line, s, len);
}

static int header_separated(struct out *o)
{
	o->header_done = true;
	for (size_t i = 0; i < o->ncols; i++) {
		if (i)
			buf_putc(&o->line, o->opt.format == OUT_CSV ? ',' : '\t');
		add_field(o, o->cols[i].name, strlen(o->cols[i].name));
	}
	buf_putc(&o->line, '\n');
	return out_write_line(o);
}

static int row_separated(struct out *o, const struct cell *cells)
{
	if (!o->header_done)
		header_separated(o);
	for (size_t i = 0; i < o->ncols; i++) {
		const struct cell *cell = &cells[i];

		if (i)
			buf_putc(&o->line, o->opt.format == OUT_CSV ? ',' : '\t');
		if (cell->kind == CELL_TEXT)
			add_field(o, cell->s, cell->len);
		else if (cell->kind == CELL_BLOB)
			text_add_hex(&o->line, cell->s, cell->len);
		else if (cell->kind != CELL_NULL)
			add_machine_number(&o->line, &o->cols[i], cell, "");
	}
	buf_putc(&o->line, '\n');
	return out_write_line(o);
}

int out_row(struct out *o, const struct cell *cells)
{
	o->rows++;
	switch (o->opt.format) {
	case OUT_JSON:
		return row_json(o, cells);
	case OUT_CSV:
	case OUT_TSV:
		return row_separated(o, cells);
	default:
		return out_table_row(o, cells);
	}
}

int out_flush(struct out *o)
{
	if (o->open && o->opt.format == OUT_TABLE && o->nheld)
		out_table_flush(o);
	if (fflush(o->opt.file) != 0 && !o->error)
		o->error = errno ? -errno : -EIO;
	return o->error;
}

int out_end(struct out *o)
{
	if (o->open && o->opt.format == OUT_TABLE)
		out_table_end(o);
	else if (o->open && o->opt.format != OUT_JSON && !o->header_done)
		header_separated(o);
	if (fflush(o->opt.file) != 0 && !o->error)
		o->error = errno ? -errno : -EIO;
	o->open = false;
	return o->error;
}
