// SPDX-License-Identifier: Apache-2.0
/* Names of the field vocabulary and the check that a field table is consistent. */
#include "bpf/table.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"

static const char *const type_names[] = {
	[COLUMN_INT64] = "INT64", [COLUMN_DOUBLE] = "DOUBLE", [COLUMN_TEXT] = "TEXT",
	[COLUMN_BYTES] = "BYTES", [COLUMN_BOOL] = "BOOL",     [COLUMN_TIME] = "TIME",
	[COLUMN_IP] = "IP",
};
static_assert(ARRAY_SIZE(type_names) == COLUMN_X_MAX, "a name for every type");

static const char *const kind_names[] = {
	[KIND_TAG] = "tag",
	[KIND_GAUGE] = "gauge",
	[KIND_COUNTER] = "counter",
	[KIND_DELTA] = "delta",
};
static_assert(ARRAY_SIZE(kind_names) == KIND_X_MAX, "a name for every kind");

static const char *const class_names[] = {
	[TABLE_FLOW] = "flow",
	[TABLE_AUDIT] = "audit",
	[TABLE_LIVE] = "live",
	[TABLE_METRIC] = "metric",
};
static_assert(ARRAY_SIZE(class_names) == TABLE_X_MAX, "a name for every class");

#define BIT(n) (1u << (n))

/* What each representation in C may be to the user, and how large it is (0: any). */
static const struct {
	unsigned int types;
	uint16_t size;
	bool integer; /* NULL_MAX is possible */
} reprs[] = {
	[REPR_U8] = {BIT(COLUMN_INT64) | BIT(COLUMN_BOOL), 1, true},
	[REPR_U16] = {BIT(COLUMN_INT64), 2, true},
	[REPR_U32] = {BIT(COLUMN_INT64), 4, true},
	[REPR_U64] = {BIT(COLUMN_INT64) | BIT(COLUMN_TIME), 8, true},
	[REPR_I32] = {BIT(COLUMN_INT64), 4, true},
	[REPR_I64] = {BIT(COLUMN_INT64) | BIT(COLUMN_TIME), 8, true},
	[REPR_F64] = {BIT(COLUMN_DOUBLE), 8, false},
	[REPR_CHARS] = {BIT(COLUMN_TEXT) | BIT(COLUMN_BYTES), 0, false},
	[REPR_STR] = {BIT(COLUMN_TEXT), sizeof(struct str), false},
	[REPR_IP] = {BIT(COLUMN_IP), sizeof(struct ip_addr), false},
	[REPR_ENUM] = {BIT(COLUMN_TEXT), 1, true},
};
static_assert(ARRAY_SIZE(reprs) == REPR_X_MAX, "every representation");

int table_find(const struct table *t, const char *column)
{
	for (uint32_t i = 0; i < t->nfields; i++)
		if (!strcmp(t->fields[i].name, column))
			return i;
	return -1;
}

/* Names go unquoted into SQL, Prometheus and line protocol. */
static bool name_valid(const char *name)
{
	if (!name || !islower((unsigned char)*name) || strlen(name) > 63)
		return false;
	for (; *name; name++)
		if (!islower((unsigned char)*name) && !isdigit((unsigned char)*name) && *name != '_')
			return false;
	return true;
}

static const char *field_fault(const struct table *t, const struct field *f)
{
	if (!name_valid(f->name))
		return "name must be lower-case letters, digits and '_'";
	if (table_find(t, f->name) != f - t->fields)
		return "name is used twice";
	if (f->type < COLUMN_INT64 || f->type >= COLUMN_X_MAX)
		return "type is unknown";
	if ((unsigned int)f->repr >= REPR_X_MAX)
		return "representation is unknown";
	if (!(reprs[f->repr].types & BIT(f->type)))
		return "representation doesn't fit the type";
	if (!f->size || (reprs[f->repr].size && reprs[f->repr].size != f->size))
		return "size doesn't fit the representation";
	if ((uint32_t)f->off + f->size > t->row_size)
		return "lies outside the row";
	if (f->repr == REPR_ENUM && (!f->names || !f->names[0]))
		return "an enum needs names";
	if ((unsigned int)f->null > NULL_MAX)
		return "null rule is unknown";
	if (f->null == NULL_MAX && !reprs[f->repr].integer)
		return "NULL_MAX is for integers";
	if (f->kind < KIND_TAG || f->kind >= KIND_X_MAX)
		return "kind is unknown";
	if (f->sensitivity < SENSITIVITY_META || f->sensitivity >= SENSITIVITY_X_MAX)
		return "sensitivity is unknown";
	if (!f->unit)
		return "unit is missing (\"\" for none)";
	if (!f->help || !*f->help)
		return "help is missing";
	return NULL;
}

int table_check(const struct table *t, char *why, size_t cap)
{
	const char *fault = NULL, *where = "";

	if (!name_valid(t->name))
		fault = "the table's name must be lower-case letters, digits and '_'";
	else if (!t->summary || !*t->summary)
		fault = "the table's summary is missing";
	else if (t->class < TABLE_FLOW || t->class >= TABLE_X_MAX)
		fault = "the table's class is unknown";
	else if (!t->nfields || !t->fields)
		fault = "the table has no columns";
	for (uint32_t i = 0; !fault && i < t->nfields; i++) {
		fault = field_fault(t, &t->fields[i]);
		where = t->fields[i].name ? t->fields[i].name : "(no name)";
	}
	if (!fault && table_is_history(t)) {
		const struct field *ts = &t->fields[0];

		where = "ts";
		if (strcmp(ts->name, "ts") || ts->type != COLUMN_TIME || ts->repr != REPR_U64 || ts->off)
			fault = "a history table begins with ts: TIME, U64, offset 0";
	}
	if (!fault)
		return 0;
	snprintf(why, cap, "%s.%s: %s", t->name ? t->name : "?", where, fault);
	return -EINVAL;
}

const char *column_type_name(enum column_type type)
{
	return type > 0 && type < COLUMN_X_MAX ? type_names[type] : "?";
}

const char *column_kind_name(enum column_kind kind)
{
	return kind > 0 && kind < KIND_X_MAX ? kind_names[kind] : "?";
}

const char *table_class_name(enum table_class class)
{
	return class > 0 && class < TABLE_X_MAX ? class_names[class] : "?";
}
