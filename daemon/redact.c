// SPDX-License-Identifier: Apache-2.0
/* Secrets taken out of rows: which rules a column has is known beforehand, so a batch without one
 * costs a look. */
#include "daemon/redact.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/redact_internal.h"

/*
 * A search may look at the text up to its end: with that many matches of one rule a text is no
 * command line but somebody's try to keep us busy, and goes as a whole.
 */
#define MATCHES_MAX 64
/* Command lines are shorter; what a longer text took is given back. */
#define KEEP_BYTES (64 << 10)

void redact_free(struct redact *r)
{
	if (!r)
		return;
	for (unsigned int i = 0; i < r->nrules; i++)
		regex_free(r->rules[i].re);
	regex_filter_free(r->filter);
	for (size_t i = 0; i < r->nplans; i++)
		free(r->plans[i].columns);
	free(r->plans);
	buf_free(&r->text[0]);
	buf_free(&r->text[1]);
	free(r);
}

static int set_marker(struct redact *r, const char *marker, struct err *err)
{
	r->marker_len = strlen(marker);
	if (r->marker_len >= sizeof(r->marker))
		return err_set(err, -EINVAL, "redact.marker: more than %zu bytes",
			       sizeof(r->marker) - 1);
	memcpy(r->marker, marker, r->marker_len + 1);
	return 0;
}

static int set_drop(struct redact *r, const struct opt_set *values, struct err *err)
{
	const char *item;

	for (size_t i = 0; (item = opt_item(values, "redact.drop", i)); i++) {
		if (!strcmp(item, "content"))
			r->drop[SENSITIVITY_CONTENT] = true;
		else if (!strcmp(item, "secret"))
			r->drop[SENSITIVITY_SECRET] = true;
		else
			return err_set(err, -EINVAL,
				       "redact.drop: '%.48s' is no class of columns that can be "
				       "dropped: content, secret",
				       item);
	}
	return 0;
}

static int plan_table(struct redact *r, struct plan *p, const struct table *t)
{
	p->table = t;
	p->columns = calloc(t->nfields ? t->nfields : 1, sizeof(*p->columns));
	if (!p->columns)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nfields; i++) {
		const struct field *f = &t->fields[i];
		struct plan_column c = {.col = i};

		if ((unsigned int)f->sensitivity < SENSITIVITY_X_MAX && r->drop[f->sensitivity])
			c.drop = (uint8_t)f->sensitivity;
		for (unsigned int k = 0; k < r->nrules && !c.drop; k++)
			if (redact_where(r->rules[k].where, t, f))
				c.rules |= UINT64_C(1) << k;
		if (c.drop || c.rules)
			p->columns[p->ncolumns++] = c;
	}
	return 0;
}

static int make_plans(struct redact *r, const struct table *const *tables)
{
	size_t n = 0;

	while (tables[n])
		n++;
	r->plans = calloc(n + 1, sizeof(*r->plans));
	if (!r->plans)
		return -ENOMEM;
	for (; r->nplans < n; r->nplans++)
		if (plan_table(r, &r->plans[r->nplans], tables[r->nplans]) < 0)
			return -ENOMEM;
	return 0;
}

static int make_filter(struct redact *r, struct err *err)
{
	const struct regex *patterns[REDACT_RULES_MAX];

	for (unsigned int i = 0; i < r->nrules; i++)
		patterns[i] = r->rules[i].re;
	return regex_filter_new(&r->filter, patterns, r->nrules, err);
}

/* Counters never go back because somebody reloads. */
static void inherit(struct redact *r, const struct redact *old)
{
	for (size_t i = 0; i < r->nplans; i++)
		r->plans[i].rows = redact_rows(old, r->plans[i].table);
	memcpy(r->dropped, old->dropped, sizeof(r->dropped));
	for (unsigned int i = 0; i < r->nrules; i++)
		for (unsigned int k = 0; k < old->nrules; k++)
			if (!strcmp(r->rules[i].name, old->rules[k].name) &&
			    r->rules[i].part == old->rules[k].part)
				r->rules[i].cells = old->rules[k].cells;
}

int redact_new(struct redact **ret, const struct opt_set *values, const struct table *const *tables,
	       const struct redact *old, struct err *err)
{
	_cleanup_(redact_freep) struct redact *r = calloc(1, sizeof(*r));
	int x;

	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	x = set_marker(r, opt_str(values, "redact.marker"), err);
	if (x == 0)
		x = set_drop(r, values, err);
	if (x == 0)
		x = redact_add_builtins(r, values, err);
	if (x == 0)
		x = redact_add_rules(r, opt_str(values, "redact.rules"), tables, err);
	if (x == 0)
		x = make_filter(r, err);
	if (x == 0 && make_plans(r, tables) < 0)
		x = err_set(err, -ENOMEM, "out of memory");
	if (x < 0)
		return x;
	if (old)
		inherit(r, old);
	*ret = TAKE_PTR(r);
	return 0;
}

/* One rule over in, result in out. False: nothing found. */
static bool apply(struct redact *r, const struct rule *rule, const char *in, size_t len,
		  struct buf *out)
{
	struct regex_match m;
	size_t from = 0, copied = 0;
	unsigned int n = 0;

	buf_reset(out);
	while (from <= len && regex_find(rule->re, in, len, from, &m)) {
		if (n++ == MATCHES_MAX) {
			buf_reset(out);
			buf_add(out, r->marker, r->marker_len);
			return true;
		}
		if (m.end > m.begin && !(m.end - m.begin == r->marker_len &&
					 !memcmp(in + m.begin, r->marker, r->marker_len))) {
			buf_add(out, in + copied, m.begin - copied);
			buf_add(out, r->marker, r->marker_len);
			copied = m.end;
		}
		from = m.whole_end > from ? m.whole_end : from + 1;
	}
	if (!copied)
		return false;
	buf_add(out, in + copied, len - copied);
	return true;
}

/* The text of a cell after all rules; NULL when none found anything. */
static const struct buf *judge(struct redact *r, uint64_t rules, const char *text, size_t len)
{
	const struct buf *last = NULL;
	uint64_t possible = rules & regex_filter_find(r->filter, text, len);
	unsigned int side = 0;

	for (unsigned int i = 0; i < r->nrules && possible >> i; i++) {
		if (!(possible >> i & 1) || !apply(r, &r->rules[i], text, len, &r->text[side]))
			continue;
		r->rules[i].cells++;
		last = &r->text[side];
		if (buf_status(last) < 0) /* no memory: the cell goes */
			break;
		text = last->data ? last->data : "";
		len = last->len;
		side = !side;
		/* What is there now is another text, in which another rule may find something. */
		possible = rules & regex_filter_find(r->filter, text, len);
	}
	return last;
}

static bool do_cell(struct redact *r, struct batch *b, uint32_t row, const struct plan_column *c)
{
	const struct buf *out;
	struct value v;

	batch_get(b, row, c->col, &v);
	if (c->drop) {
		if (v.kind == VALUE_NULL ||
		    ((v.kind == VALUE_TEXT || v.kind == VALUE_BYTES) && !v.len))
			return false;
		batch_clear(b, row, c->col);
		r->dropped[c->drop]++;
		return true;
	}
	if (v.kind != VALUE_TEXT || !v.len)
		return false;
	out = judge(r, c->rules, v.text, v.len);
	if (!out)
		return false;
	if (buf_status(out) < 0 ||
	    batch_set_text(b, row, c->col, out->data ? out->data : "", out->len) < 0)
		if (batch_set_text(b, row, c->col, r->marker, r->marker_len) < 0)
			batch_clear(b, row, c->col);
	return true;
}

static struct plan *find(const struct redact *r, const struct table *t)
{
	for (size_t i = 0; r && i < r->nplans; i++)
		if (r->plans[i].table == t)
			return &r->plans[i];
	return NULL;
}

void redact_batch(struct redact *r, struct batch *b)
{
	struct plan *p = find(r, b->table);

	if (!p || !p->ncolumns)
		return;
	for (uint32_t row = 0; row < b->nrows; row++) {
		bool any = false;

		for (uint32_t i = 0; i < p->ncolumns; i++)
			any |= do_cell(r, b, row, &p->columns[i]);
		p->rows += any;
	}
	for (int i = 0; i < 2; i++)
		if (r->text[i].cap > KEEP_BYTES)
			buf_free(&r->text[i]);
}

uint64_t redact_rows(const struct redact *r, const struct table *t)
{
	const struct plan *p = find(r, t);

	return p ? p->rows : 0;
}

bool redact_get(const struct redact *r, unsigned int idx, struct redact_view *ret)
{
	static const char *const names[SENSITIVITY_X_MAX] = {
		[SENSITIVITY_CONTENT] = "drop content", [SENSITIVITY_SECRET] = "drop secret"};

	if (r && idx < r->nrules) {
		const struct rule *rule = &r->rules[idx];

		*ret = (struct redact_view){
			.rule = rule->name, .where = rule->where, .cells = rule->cells};
		return true;
	}
	idx -= r ? r->nrules : 0;
	for (int i = SENSITIVITY_CONTENT; r && i < SENSITIVITY_X_MAX; i++) {
		if (!r->drop[i] || idx--)
			continue;
		*ret = (struct redact_view){.rule = names[i], .where = "*", .cells = r->dropped[i]};
		return true;
	}
	return false;
}
