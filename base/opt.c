// SPDX-License-Identifier: Apache-2.0
/* Typed options as data: one table serves file, environment, flags, RPC, help texts and documentation. */
#include "base/opt.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/units.h"

/* More items in a list than anybody writes; keeps a hostile RPC cheap. */
#define LIST_MAX 1024

static const char *const type_names[] = {
	[OPT_BOOL] = "bool",	     [OPT_INT] = "int",	      [OPT_DOUBLE] = "double",
	[OPT_BYTES] = "bytes",	     [OPT_RATE] = "rate",     [OPT_CPU] = "cpu",
	[OPT_DURATION] = "duration", [OPT_STRING] = "string", [OPT_ENUM] = "enum",
	[OPT_LIST] = "list",
};
static_assert(ARRAY_SIZE(type_names) == OPT_X_MAX, "a name for every type");

static const char *const origin_names[] = {
	[OPT_ORIGIN_DEFAULT] = "default", [OPT_ORIGIN_FILE] = "file", [OPT_ORIGIN_STATE] = "state",
	[OPT_ORIGIN_ENV] = "environment", [OPT_ORIGIN_FLAG] = "flag", [OPT_ORIGIN_RPC] = "rpc",
};
static_assert(ARRAY_SIZE(origin_names) == OPT_ORIGIN_X_MAX, "a name for every origin");

struct opt_value {
	bool set;
	enum opt_origin origin;
	char *text, *detail;
	union {
		int64_t i;
		double d;
	};
	char *items; /* LIST: the items, each with its NUL, one behind the other */
	size_t nitems;
};

struct opt_set {
	const struct opt *table;
	size_t n;
	struct opt_value values[];
};

static void opt_value_clear(struct opt_value *v)
{
	free(v->text);
	free(v->detail);
	free(v->items);
	*v = (struct opt_value){};
}

void opt_set_free(struct opt_set *set)
{
	if (!set)
		return;
	for (size_t i = 0; i < set->n; i++)
		opt_value_clear(&set->values[i]);
	free(set);
}

/* The parsers say what is wrong with the text; the caller puts the key in front. */
static int parse_bool(const char *text, int64_t *ret, struct err *err)
{
	static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no",
										    "off", "0"};

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (!strcasecmp(text, yes[i]) || !strcasecmp(text, no[i])) {
			*ret = !strcasecmp(text, yes[i]);
			return 0;
		}
	}
	return err_set(err, -EINVAL, "'%.64s': not a switch, use true or false", text);
}

static int parse_int(const char *text, int64_t *ret, struct err *err)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (end == text || *end)
		return err_set(err, -EINVAL, "'%.64s': not a whole number", text);
	if (errno == ERANGE)
		return err_set(err, -ERANGE, "'%.64s': too large a number", text);
	*ret = v;
	return 0;
}

static int parse_double(const char *text, double *ret, struct err *err)
{
	char *end;
	double v;

	v = strtod(text, &end);
	if (end == text || *end || !__builtin_isfinite(v))
		return err_set(err, -EINVAL, "'%.64s': not a number", text);
	*ret = v;
	return 0;
}

static int parse_enum(const struct opt *o, const char *text, int64_t *ret, struct err *err)
{
	char list[160] = "";
	size_t n = 0;

	for (size_t i = 0; o->choices[i]; i++) {
		if (!strcasecmp(text, o->choices[i])) {
			*ret = i;
			return 0;
		}
		if (n < sizeof(list))
			n += snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "",
				      o->choices[i]);
	}
	return err_set(err, -EINVAL, "'%.64s': unknown, use one of %s", text, list);
}

static int parse_list(const char *text, struct opt_value *v, struct err *err)
{
	_cleanup_buf_ struct buf b = {};
	const char *p = text;

	for (;;) {
		const char *end = strchrnul(p, ','), *last = end;

		while (p < last && isspace((unsigned char)*p))
			p++;
		while (last > p && isspace((unsigned char)last[-1]))
			last--;
		if (last > p) {
			if (v->nitems == LIST_MAX)
				return err_set(err, -E2BIG, "more than %d items", LIST_MAX);
			buf_add(&b, p, last - p);
			buf_putc(&b, '\0');
			v->nitems++;
		}
		if (!*end)
			break;
		p = end + 1;
	}
	if (buf_status(&b) < 0)
		return err_set(err, -ENOMEM, "no memory");
	v->items = TAKE_PTR(b.data);
	return 0;
}

static int parse_unsigned(int (*parse)(const char *, uint64_t *, struct err *), const char *text,
			  int64_t *ret, struct err *err)
{
	uint64_t u;
	int r;

	r = parse(text, &u, err);
	if (!r)
		*ret = u; /* the parsers refuse what is above INT64_MAX */
	return r;
}

static int parse_value(const struct opt *o, const char *text, struct opt_value *v, struct err *err)
{
	switch (o->type) {
	case OPT_BOOL:
		return parse_bool(text, &v->i, err);
	case OPT_INT:
		return parse_int(text, &v->i, err);
	case OPT_DOUBLE:
		return parse_double(text, &v->d, err);
	case OPT_BYTES:
		return parse_unsigned(units_parse_bytes, text, &v->i, err);
	case OPT_RATE:
		return parse_unsigned(units_parse_rate, text, &v->i, err);
	case OPT_CPU:
		return parse_unsigned(units_parse_cpu, text, &v->i, err);
	case OPT_DURATION:
		return parse_unsigned(units_parse_duration, text, &v->i, err);
	case OPT_ENUM:
		return parse_enum(o, text, &v->i, err);
	case OPT_LIST:
		return parse_list(text, v, err);
	case OPT_STRING:
		return 0;
	case OPT_X_MAX:
		break;
	}
	return err_set(err, -EINVAL, "option type %d is unknown", o->type);
}

/* min and max are texts of our own tables: one that doesn't parse is a bug and is reported as such. */
static int check_bound(const struct opt *o, const struct opt_value *v, const char *bound,
		       bool is_max, const char *text, struct err *err)
{
	struct opt_value b = {};
	bool outside;
	int r;

	if (!bound || o->type == OPT_STRING || o->type == OPT_LIST)
		return 0;
	r = parse_value(o, bound, &b, err);
	if (r < 0)
		return r;
	if (o->type == OPT_DOUBLE)
		outside = is_max ? v->d > b.d : v->d < b.d;
	else
		outside = is_max ? v->i > b.i : v->i < b.i;
	if (outside)
		return err_set(err, -EINVAL, "'%.64s': %s %s", text,
			       is_max ? "above the maximum" : "below the minimum", bound);
	return 0;
}

/* v is owned by the caller in any case. */
static int opt_value_fill(struct opt_value *v, const struct opt *o, const char *text,
			  enum opt_origin origin, const char *detail, struct err *err)
{
	int r;

	r = parse_value(o, text, v, err);
	if (!r)
		r = check_bound(o, v, o->min, false, text, err);
	if (!r)
		r = check_bound(o, v, o->max, true, text, err);
	if (r < 0)
		return r;
	v->text = strdup(text);
	if (detail)
		v->detail = strdup(detail);
	if (!v->text || (detail && !v->detail))
		return err_set(err, -ENOMEM, "no memory");
	v->origin = origin;
	v->set = true;
	return 0;
}

int opt_set_new(struct opt_set **ret, const struct opt *table)
{
	_cleanup_(opt_set_freep) struct opt_set *set = NULL;
	size_t n = 0;

	while (table && table[n].key)
		n++;
	set = calloc(1, sizeof(*set) + n * sizeof(set->values[0]));
	if (!set)
		return -ENOMEM;
	set->table = table;
	set->n = n;
	for (size_t i = 0; i < n; i++) {
		int r;

		if (!table[i].def)
			continue;
		r = opt_value_fill(&set->values[i], &table[i], table[i].def, OPT_ORIGIN_DEFAULT,
				   NULL, NULL);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(set);
	return 0;
}

int opt_set_copy(struct opt_set **ret, const struct opt_set *from)
{
	_cleanup_(opt_set_freep) struct opt_set *set = NULL;

	set = calloc(1, sizeof(*set) + from->n * sizeof(set->values[0]));
	if (!set)
		return -ENOMEM;
	set->table = from->table;
	set->n = from->n;
	for (size_t i = 0; i < from->n; i++) {
		const struct opt_value *v = &from->values[i];
		int r;

		if (!v->set)
			continue;
		r = opt_value_fill(&set->values[i], &from->table[i], v->text, v->origin, v->detail,
				   NULL);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(set);
	return 0;
}

static ssize_t opt_index(const struct opt_set *set, const char *key)
{
	for (size_t i = 0; i < set->n; i++)
		if (!strcmp(set->table[i].key, key))
			return i;
	return -1;
}

static int unknown_key(const struct opt_set *set, const char *key, struct err *err)
{
	_cleanup_free_ const char **names = NULL;
	const char *near = NULL;

	names = calloc(set->n + 1, sizeof(*names));
	if (names) {
		for (size_t i = 0; i < set->n; i++)
			names[i] = set->table[i].key;
		near = opt_nearest(key, names, set->n);
	}
	if (near)
		return err_set(err, -ENOENT, "unknown option '%.64s', did you mean '%s'?", key,
			       near);
	return err_set(err, -ENOENT, "unknown option '%.64s'", key);
}

int opt_set_assign_detail(struct opt_set *set, const char *key, const char *text,
			  enum opt_origin origin, const char *detail, struct err *err)
{
	ssize_t i = opt_index(set, key);
	struct opt_value v = {};
	struct err why = {};
	int r;

	if (i < 0)
		return unknown_key(set, key, err);
	/* A bad text is refused even where a higher origin would hide it. */
	r = opt_value_fill(&v, &set->table[i], text, origin, detail, &why);
	if (r < 0) {
		opt_value_clear(&v);
		/* Accepted range or not, a bad value is the input's fault. */
		return err_set(err, r == -ENOMEM ? r : -EINVAL, "%s %s", key, why.msg);
	}
	if (set->values[i].set && set->values[i].origin > origin) {
		opt_value_clear(&v);
		return 0;
	}
	opt_value_clear(&set->values[i]);
	set->values[i] = v;
	return 0;
}

int opt_set_assign(struct opt_set *set, const char *key, const char *text, enum opt_origin origin,
		   struct err *err)
{
	return opt_set_assign_detail(set, key, text, origin, NULL, err);
}

char *opt_env_name(char *dst, size_t cap, const char *prefix, const char *key)
{
	snprintf(dst, cap, "RINGSIDE_%s%s", prefix ? prefix : "", key);
	for (char *p = dst; *p; p++)
		*p = *p == '.' || *p == '-' ? '_' : (char)toupper((unsigned char)*p);
	return dst;
}

int opt_set_assign_env(struct opt_set *set, const char *prefix, struct err *err)
{
	for (size_t i = 0; i < set->n; i++) {
		char name[160];
		const char *names[] = {set->table[i].env, name};

		opt_env_name(name, sizeof(name), prefix, set->table[i].key);
		for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
			const char *text = names[k] ? getenv(names[k]) : NULL;
			int r;

			if (!text)
				continue;
			r = opt_set_assign_detail(set, set->table[i].key, text, OPT_ORIGIN_ENV,
						  names[k], err);
			if (r < 0) {
				err_prefix(err, "%s", names[k]);
				return r;
			}
		}
	}
	return 0;
}

const struct opt *opt_find(const struct opt *table, const char *key)
{
	for (; table && table->key; table++)
		if (!strcmp(table->key, key))
			return table;
	return NULL;
}

/* A key or type that isn't in the table is a bug in this program. */
static const struct opt_value *opt_value_of(const struct opt_set *set, const char *key,
					    unsigned int types)
{
	ssize_t i = opt_index(set, key);

	assert(i >= 0);
	assert(types & (1u << set->table[i].type));
	return &set->values[i];
}

bool opt_bool(const struct opt_set *set, const char *key)
{
	return opt_value_of(set, key, 1u << OPT_BOOL)->i;
}

int64_t opt_i64(const struct opt_set *set, const char *key)
{
	return opt_value_of(set, key,
			    1u << OPT_INT | 1u << OPT_BYTES | 1u << OPT_RATE | 1u << OPT_CPU |
				    1u << OPT_DURATION | 1u << OPT_ENUM)
		->i;
}

double opt_f64(const struct opt_set *set, const char *key)
{
	return opt_value_of(set, key, 1u << OPT_DOUBLE)->d;
}

const char *opt_str(const struct opt_set *set, const char *key)
{
	const struct opt_value *v = opt_value_of(set, key, 1u << OPT_STRING);

	return v->text ? v->text : "";
}

const char *opt_item(const struct opt_set *set, const char *key, size_t idx)
{
	const struct opt_value *v = opt_value_of(set, key, 1u << OPT_LIST);
	const char *p = v->items;

	if (idx >= v->nitems)
		return NULL;
	while (idx--)
		p += strlen(p) + 1;
	return p;
}

#define ANY_TYPE ((1u << OPT_X_MAX) - 1)

bool opt_is_set(const struct opt_set *set, const char *key)
{
	return opt_value_of(set, key, ANY_TYPE)->set;
}

const char *opt_text(const struct opt_set *set, const char *key)
{
	const struct opt_value *v = opt_value_of(set, key, ANY_TYPE);

	return v->text ? v->text : "";
}

enum opt_origin opt_origin(const struct opt_set *set, const char *key)
{
	return opt_value_of(set, key, ANY_TYPE)->origin;
}

const char *opt_origin_detail(const struct opt_set *set, const char *key)
{
	return opt_value_of(set, key, ANY_TYPE)->detail;
}

const char *opt_origin_name(enum opt_origin origin)
{
	return (unsigned int)origin < OPT_ORIGIN_X_MAX ? origin_names[origin] : "?";
}

const char *opt_type_name(enum opt_type type)
{
	return (unsigned int)type < OPT_X_MAX ? type_names[type] : "?";
}

const struct opt *opt_set_table(const struct opt_set *set)
{
	return set->table;
}
