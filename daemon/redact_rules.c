// SPDX-License-Identifier: Apache-2.0
/* Rules of the configuration: read, checked against the tables, compiled. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/redact_internal.h"

/* A pattern longer than that is a mistake; RE2 has its own bound on what it compiles to. */
#define PATTERN_LEN 2048

static bool matchable(const struct field *f)
{
	return f->type == COLUMN_TEXT && (f->repr == REPR_STR || f->repr == REPR_CHARS);
}

/* "*" and "table.*" are about what people typed or sent; a column that is named may be any text. */
bool redact_where(const char *where, const struct table *t, const struct field *f)
{
	const char *dot = strchr(where, '.');
	size_t len = dot ? (size_t)(dot - where) : strlen(where);

	if (!matchable(f))
		return false;
	if (strcmp(where, "*") == 0)
		return f->sensitivity != SENSITIVITY_META;
	if (!dot || !((len == 1 && *where == '*') ||
		      (strlen(t->name) == len && !strncmp(t->name, where, len))))
		return false;
	if (strcmp(dot + 1, "*") == 0)
		return f->sensitivity != SENSITIVITY_META;
	return strcmp(dot + 1, f->name) == 0;
}

static const struct table *find_table(const struct table *const *tables, const char *name,
				      size_t len)
{
	for (size_t i = 0; tables[i]; i++)
		if (strlen(tables[i]->name) == len && !strncmp(tables[i]->name, name, len))
			return tables[i];
	return NULL;
}

static int no_table(const char *rule, const char *name, size_t len,
		    const struct table *const *tables, struct err *err)
{
	const char *names[256], *near;
	char text[64];
	size_t n = 0;

	for (; tables[n] && n < ARRAY_SIZE(names); n++)
		names[n] = tables[n]->name;
	snprintf(text, sizeof(text), "%.*s", (int)(len < 63 ? len : 63), name);
	near = opt_nearest(text, names, n);
	return err_set(err, -EINVAL, "redact.rules.%s: no table '%s'%s%s%s", rule, text,
		       near ? "; did you mean '" : "", near ? near : "",
		       near ? "'?" : "; 'ringside tables' lists them");
}

static int check_column(const char *rule, const struct table *t, const char *name, struct err *err)
{
	const char *names[256], *near;
	int col = table_find(t, name);
	size_t n = 0;

	if (col >= 0 && matchable(&t->fields[col]))
		return 0;
	if (col >= 0)
		return err_set(err, -EINVAL,
			       "redact.rules.%s: column %s.%s holds no free text: only that can be "
			       "matched",
			       rule, t->name, name);
	for (; n < t->nfields && n < ARRAY_SIZE(names); n++)
		names[n] = t->fields[n].name;
	near = opt_nearest(name, names, n);
	return err_set(err, -EINVAL, "redact.rules.%s: table %s has no column '%.48s'%s%s%s", rule,
		       t->name, name, near ? "; did you mean '" : "", near ? near : "",
		       near ? "'?" : "");
}

/* Something must answer to it, or the secret that it is about would be stored in peace. */
static int check_where(const char *rule, const char *where, const struct table *const *tables,
		       struct err *err)
{
	const char *dot = strchr(where, '.');
	const struct table *t;

	if (strcmp(where, "*") == 0)
		return 0;
	if (!dot || !dot[1])
		return err_set(err, -EINVAL,
			       "redact.rules.%s: '%.64s' is no place: write table.column, table.*, "
			       "*.column or *",
			       rule, where);
	if (strncmp(where, "*.", 2) != 0) {
		t = find_table(tables, where, (size_t)(dot - where));
		if (!t)
			return no_table(rule, where, (size_t)(dot - where), tables, err);
		return strcmp(dot + 1, "*") ? check_column(rule, t, dot + 1, err) : 0;
	}
	for (size_t i = 0; tables[i]; i++)
		for (uint32_t k = 0; k < tables[i]->nfields; k++)
			if (redact_where(where, tables[i], &tables[i]->fields[k]))
				return 0;
	return err_set(err, -EINVAL, "redact.rules.%s: no table has a text column '%.48s'", rule,
		       dot + 1);
}

static struct rule *add(struct redact *r, const char *name, struct err *err)
{
	struct rule *rule = &r->rules[r->nrules];

	if (r->nrules == REDACT_RULES_MAX) {
		err_set(err, -EINVAL, "redact: more than %d rules, built-in ones included",
			REDACT_RULES_MAX);
		return NULL;
	}
	r->nrules++;
	snprintf(rule->name, sizeof(rule->name), "%s", name);
	return rule;
}

static int check_name(const char *name, struct err *err)
{
	size_t len = strlen(name);

	if (!len || len > RULE_NAME_LEN ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != len)
		return err_set(err, -EINVAL,
			       "redact.rules.%.64s: the name of a rule has letters, digits, '_' "
			       "and '-', at most %d",
			       name, RULE_NAME_LEN);
	return 0;
}

/* "table.column pattern" */
static int add_rule(struct redact *r, const char *name, const char *text,
		    const struct table *const *tables, struct err *err)
{
	size_t len = strcspn(text, " \t"), gap = strspn(text + len, " \t");
	const char *pattern = text + len + gap;
	struct rule *rule;
	int x = check_name(name, err);

	if (x < 0)
		return x;
	if (!len || !gap || !*pattern)
		return err_set(
			err, -EINVAL,
			"redact.rules.%s: write a place and a pattern: \"exec.argv EMP-[0-9]{6}\"",
			name);
	if (len > RULE_WHERE_LEN || strlen(pattern) > PATTERN_LEN)
		return err_set(err, -EINVAL,
			       "redact.rules.%s: its place or pattern is longer than %d bytes",
			       name, len > RULE_WHERE_LEN ? RULE_WHERE_LEN : PATTERN_LEN);
	rule = add(r, name, err);
	if (!rule)
		return -EINVAL;
	snprintf(rule->where, sizeof(rule->where), "%.*s", (int)len, text);
	x = check_where(name, rule->where, tables, err);
	if (x == 0) {
		x = regex_new(&rule->re, pattern, err);
		if (x < 0)
			err_prefix(err, "redact.rules.%s", name);
	}
	return x;
}

int redact_add_rules(struct redact *r, const char *text, const struct table *const *tables,
		     struct err *err)
{
	_cleanup_free_ char *copy = strdup(text);
	char *save = NULL;
	int x = copy ? 0 : err_set(err, -ENOMEM, "out of memory");

	for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line && x == 0;
	     line = strtok_r(NULL, "\n", &save)) {
		char *eq = strchr(line, '=');

		if (!eq)
			return err_set(err, -EINVAL,
				       "redact.rules: '%.64s': write a line name=place pattern for "
				       "each rule",
				       line);
		*eq = '\0';
		x = add_rule(r, line, eq + 1, tables, err);
	}
	return x;
}

static int add_builtin(struct redact *r, const struct redact_builtin *b, struct err *err)
{
	for (size_t i = 0; b->patterns[i]; i++) {
		struct rule *rule = add(r, b->name, err);
		int x = rule ? regex_new(&rule->re, b->patterns[i], err) : -EINVAL;

		if (x < 0)
			return x;
		snprintf(rule->where, sizeof(rule->where), "*");
		rule->part = (unsigned int)i;
	}
	return 0;
}

static int unknown_builtin(const char *name, struct err *err)
{
	const char *names[32] = {"all", "none"}, *near;
	size_t n = 2;

	for (size_t i = 0; redact_builtins[i].name && n < ARRAY_SIZE(names); i++)
		names[n++] = redact_builtins[i].name;
	near = opt_nearest(name, names, n);
	return err_set(err, -EINVAL, "redact.builtin: no built-in rule '%.48s'%s%s%s", name,
		       near ? "; did you mean '" : "", near ? near : "",
		       near ? "'?" : "; docs/config.md lists them");
}

static bool listed(const struct opt_set *values, const char *name)
{
	const char *item;

	for (size_t i = 0; (item = opt_item(values, "redact.builtin", i)); i++)
		if (!strcmp(item, name))
			return true;
	return false;
}

int redact_add_builtins(struct redact *r, const struct opt_set *values, struct err *err)
{
	const char *item;
	int x = 0;

	for (size_t i = 0; (item = opt_item(values, "redact.builtin", i)); i++) {
		bool known = !strcmp(item, "all") || !strcmp(item, "none");

		for (size_t k = 0; redact_builtins[k].name && !known; k++)
			known = !strcmp(item, redact_builtins[k].name);
		if (!known)
			return unknown_builtin(item, err);
		if (!strcmp(item, "none") && opt_item(values, "redact.builtin", 1))
			return err_set(err, -EINVAL, "redact.builtin: 'none' stands alone");
	}
	for (size_t i = 0; redact_builtins[i].name && x == 0; i++)
		if (listed(values, "all") || listed(values, redact_builtins[i].name))
			x = add_builtin(r, &redact_builtins[i], err);
	return x;
}

int redact_put(const struct opt_set *values, const char *name, const char *text, char **ret,
	       struct err *err)
{
	_cleanup_free_ char *copy = strdup(opt_str(values, "redact.rules"));
	_cleanup_buf_ struct buf out = {0};
	char *save = NULL;
	int r = check_name(name, err);

	if (r < 0)
		return r;
	if (strchr(text, '\n'))
		return err_set(
			err, -EINVAL,
			"redact.rules.%s: a rule is one line; \\n in a pattern is a line break",
			name);
	for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		size_t len = strlen(name);

		if (!strncmp(line, name, len) && line[len] == '=')
			continue;
		buf_printf(&out, "%s\n", line);
	}
	buf_printf(&out, "%s=%s", name, text);
	*ret = !copy || buf_status(&out) < 0 ? NULL : strdup(out.data);
	return *ret ? 0 : err_set(err, -ENOMEM, "out of memory");
}
