// SPDX-License-Identifier: Apache-2.0
/* Frames between the query engine and its worker, written and read with bounds. */
#include "store/query_wire.h"

#include <errno.h>
#include <string.h>

#include "base/utf8.h"

size_t wire_open(struct buf *b, enum query_frame type)
{
	struct query_frame_header h = {.type = type};
	size_t at = b->len;

	buf_add(b, &h, sizeof(h));
	return at;
}

void wire_close(struct buf *b, size_t at)
{
	uint32_t len;

	if (b->failed)
		return;
	len = b->len - at - sizeof(struct query_frame_header);
	memcpy(b->data + at + offsetof(struct query_frame_header, len), &len, sizeof(len));
}

void wire_put_u8(struct buf *b, uint8_t v)
{
	buf_add(b, &v, sizeof(v));
}

void wire_put_u32(struct buf *b, uint32_t v)
{
	buf_add(b, &v, sizeof(v));
}

void wire_put_u64(struct buf *b, uint64_t v)
{
	buf_add(b, &v, sizeof(v));
}

void wire_put_str(struct buf *b, const char *s)
{
	size_t len;

	if (!s)
		s = "";
	len = strlen(s);
	wire_put_u32(b, len);
	buf_add(b, s, len + 1);
}

static bool text_clean(const char *s, size_t len)
{
	return !memchr(s, '\0', len) && utf8_valid(s, len);
}

void wire_put_text(struct buf *b, const char *s, size_t len)
{
	_cleanup_free_ char *clean = NULL;

	if (len && !text_clean(s, len)) {
		clean = malloc(len * 3 + 1);
		if (!clean) {
			b->failed = true;
			return;
		}
		len = utf8_sanitize(clean, len * 3 + 1, s, len);
		s = clean;
	}
	wire_put_u32(b, len);
	buf_add(b, s, len);
	wire_put_u8(b, 0);
}

void wire_put_value(struct buf *b, const struct value *v)
{
	wire_put_u8(b, v->kind);
	switch (v->kind) {
	case VALUE_NULL:
		break;
	case VALUE_INT:
		wire_put_u64(b, v->i);
		break;
	case VALUE_REAL:
		buf_add(b, &v->d, sizeof(v->d));
		break;
	case VALUE_TEXT:
		wire_put_text(b, v->text, v->len);
		break;
	case VALUE_BYTES:
		wire_put_u32(b, v->len);
		buf_add(b, v->text, v->len);
		break;
	}
}

static const void *wire_take(struct wire *w, size_t len)
{
	const void *p = w->p;

	if (w->bad || len > (size_t)(w->end - w->p)) {
		w->bad = true;
		return NULL;
	}
	w->p += len;
	return p;
}

uint8_t wire_get_u8(struct wire *w)
{
	const uint8_t *p = wire_take(w, 1);

	return p ? *p : 0;
}

uint32_t wire_get_u32(struct wire *w)
{
	const void *p = wire_take(w, sizeof(uint32_t));
	uint32_t v = 0;

	if (p)
		memcpy(&v, p, sizeof(v));
	return v;
}

uint64_t wire_get_u64(struct wire *w)
{
	const void *p = wire_take(w, sizeof(uint64_t));
	uint64_t v = 0;

	if (p)
		memcpy(&v, p, sizeof(v));
	return v;
}

/* len bytes of clean text and a NUL behind. */
static const char *wire_take_text(struct wire *w, size_t len)
{
	const char *p = wire_take(w, len + 1);

	if (p && (p[len] != '\0' || !text_clean(p, len))) {
		w->bad = true;
		p = NULL;
	}
	return p;
}

const char *wire_get_str(struct wire *w, size_t max)
{
	uint32_t len = wire_get_u32(w);
	const char *p;

	if (len > max)
		w->bad = true;
	p = w->bad ? NULL : wire_take_text(w, len);
	return p ? p : "";
}

static void wire_get_blob(struct wire *w, struct value *ret)
{
	ret->len = wire_get_u32(w);
	/* Sanitising triples a cell at worst. */
	if (ret->len > 3 * (size_t)QUERY_MAX_CELL)
		w->bad = true;
	if (w->bad)
		ret->text = NULL;
	else if (ret->kind == VALUE_TEXT)
		ret->text = wire_take_text(w, ret->len);
	else
		ret->text = wire_take(w, ret->len);
	if (!ret->text)
		ret->len = 0;
}

void wire_get_value(struct wire *w, struct value *ret)
{
	const void *p;

	ret->kind = wire_get_u8(w);
	switch (ret->kind) {
	case VALUE_NULL:
		break;
	case VALUE_INT:
		ret->i = wire_get_u64(w);
		break;
	case VALUE_REAL:
		p = wire_take(w, sizeof(ret->d));
		if (p)
			memcpy(&ret->d, p, sizeof(ret->d));
		break;
	case VALUE_TEXT:
	case VALUE_BYTES:
		wire_get_blob(w, ret);
		break;
	default:
		w->bad = true;
	}
	if (w->bad)
		ret->kind = VALUE_NULL;
}

bool wire_done(const struct wire *w)
{
	return !w->bad && w->p == w->end;
}

static void wire_put_field(struct buf *b, const struct field *f)
{
	uint32_t n = 0;

	wire_put_str(b, f->name);
	wire_put_str(b, f->unit);
	wire_put_u8(b, f->type);
	wire_put_u8(b, f->repr);
	wire_put_u8(b, f->null);
	wire_put_u8(b, f->dict);
	wire_put_u32(b, f->off);
	wire_put_u32(b, f->size);
	while (f->names && f->names[n])
		n++;
	wire_put_u32(b, n);
	for (uint32_t i = 0; i < n; i++)
		wire_put_str(b, f->names[i]);
}

void wire_put_tables(struct buf *b, const struct table *const *tables)
{
	uint32_t n = 0;

	while (tables[n])
		n++;
	wire_put_u32(b, n);
	for (uint32_t i = 0; i < n; i++) {
		wire_put_str(b, tables[i]->name);
		wire_put_u8(b, tables[i]->class);
		wire_put_u32(b, tables[i]->row_size);
		wire_put_u32(b, tables[i]->nfields);
		for (uint32_t k = 0; k < tables[i]->nfields; k++)
			wire_put_field(b, &tables[i]->fields[k]);
	}
}

static int wire_get_field(struct wire *w, struct field *f)
{
	const char **names;
	uint32_t n;

	f->name = wire_get_str(w, QUERY_MAX_NAME);
	f->unit = wire_get_str(w, QUERY_MAX_NAME);
	f->type = wire_get_u8(w);
	f->repr = wire_get_u8(w);
	f->null = wire_get_u8(w);
	f->dict = wire_get_u8(w);
	f->off = wire_get_u32(w);
	f->size = wire_get_u32(w);
	f->kind = KIND_TAG;
	f->sensitivity = SENSITIVITY_META;
	f->help = "";
	n = wire_get_u32(w);
	if (w->bad || n > 256)
		return -EPROTO;
	if (!n)
		return 0;
	names = calloc(n + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		names[i] = wire_get_str(w, QUERY_MAX_NAME);
	f->names = names;
	return w->bad ? -EPROTO : 0;
}

static int wire_get_table(struct wire *w, struct table *t)
{
	struct field *fields;
	int r = 0;

	t->name = wire_get_str(w, QUERY_MAX_NAME);
	t->summary = "";
	t->class = wire_get_u8(w);
	t->row_size = wire_get_u32(w);
	t->nfields = wire_get_u32(w);
	if (w->bad || t->nfields > QUERY_MAX_COLUMNS)
		return -EPROTO;
	fields = calloc(t->nfields ? t->nfields : 1, sizeof(*fields));
	if (!fields)
		return -ENOMEM;
	t->fields = fields;
	for (uint32_t i = 0; i < t->nfields && !r; i++)
		r = wire_get_field(w, &fields[i]);
	return r;
}

int wire_get_tables(struct wire *w, const struct table ***ret)
{
	uint32_t n = wire_get_u32(w);
	const struct table **list;
	struct table *tables;
	int r = 0;

	if (w->bad || n > QUERY_MAX_TABLES)
		return -EPROTO;
	list = calloc(n + 1, sizeof(*list));
	tables = calloc(n ? n : 1, sizeof(*tables));
	*ret = list;
	if (!list || !tables) {
		free(tables);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n && !r; i++) {
		list[i] = &tables[i];
		r = wire_get_table(w, &tables[i]);
	}
	return r;
}

void wire_put_request(struct buf *b, const struct query_request *req, const struct buf *tables)
{
	size_t at = wire_open(b, QUERY_FRAME_REQUEST);

	wire_put_str(b, req->sql);
	wire_put_str(b, req->ring_dir);
	wire_put_str(b, req->services_file);
	wire_put_str(b, req->file);
	wire_put_u8(b, req->file_is_snapshot);
	wire_put_u8(b, req->script);
	wire_put_u64(b, req->now_ns);
	wire_put_u64(b, req->max_rows);
	wire_put_u64(b, req->deadline_ns);
	wire_put_u64(b, req->heap_bytes);
	wire_put_u64(b, req->spill_bytes);
	wire_put_u64(b, req->reserve_bytes);
	wire_put_u32(b, req->uid);
	wire_put_u32(b, req->gid);
	wire_put_u32(b, req->nparams);
	for (uint32_t i = 0; i < req->nparams; i++)
		wire_put_value(b, &req->params[i]);
	buf_add(b, tables->data, tables->len);
	wire_close(b, at);
}

int wire_get_request(struct wire *w, struct query_request *ret)
{
	int r;

	*ret = (struct query_request){0};
	ret->sql = wire_get_str(w, QUERY_MAX_SQL);
	ret->ring_dir = wire_get_str(w, 4096);
	ret->services_file = wire_get_str(w, 4096);
	ret->file = wire_get_str(w, 4096);
	ret->file_is_snapshot = wire_get_u8(w);
	ret->script = wire_get_u8(w);
	ret->now_ns = wire_get_u64(w);
	ret->max_rows = wire_get_u64(w);
	ret->deadline_ns = wire_get_u64(w);
	ret->heap_bytes = wire_get_u64(w);
	ret->spill_bytes = wire_get_u64(w);
	ret->reserve_bytes = wire_get_u64(w);
	ret->uid = wire_get_u32(w);
	ret->gid = wire_get_u32(w);
	ret->nparams = wire_get_u32(w);
	if (w->bad || ret->nparams > QUERY_MAX_PARAMS)
		return -EPROTO;
	ret->params = calloc(ret->nparams ? ret->nparams : 1, sizeof(*ret->params));
	if (!ret->params)
		return -ENOMEM;
	for (uint32_t i = 0; i < ret->nparams; i++)
		wire_get_value(w, &ret->params[i]);
	r = wire_get_tables(w, &ret->tables);
	if (r < 0)
		return r;
	while (ret->tables[ret->ntables])
		ret->ntables++;
	return wire_done(w) ? 0 : -EPROTO;
}
