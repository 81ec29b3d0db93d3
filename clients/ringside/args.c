// SPDX-License-Identifier: Apache-2.0
/* Command line to verb, options and arguments, driven by the verb table. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "clients/ringside/cli.h"

#define MAX_DEPTH ARRAY_SIZE(((struct args *)0)->path)

static const struct verb_option *find_in(const struct verb_option *o, const char *name, size_t len,
					 char letter)
{
	for (; o && o->name; o++) {
		if (letter ? o->letter == letter
			   : strlen(o->name) == len && strncmp(o->name, name, len) == 0)
			return o;
	}
	return NULL;
}

/* The innermost verb's option wins over the global one. */
static const struct verb_option *find_option(const struct args *a, const char *name, size_t len,
					     char letter)
{
	for (size_t d = a->depth; d-- > 0;) {
		const struct verb_option *o = find_in(a->path[d]->options, name, len, letter);

		if (o)
			return o;
	}
	return NULL;
}

static int unknown_option(const struct args *a, const char *name, size_t len)
{
	_cleanup_free_ char *copy = strndup(name, len);
	const char *near = copy ? help_nearest_option(a, copy) : NULL;

	if (near)
		return cli_fail(CLI_USAGE, "unknown option '--%s', did you mean '--%s'?", copy,
				near);
	return cli_fail(CLI_USAGE, "unknown option '--%.*s'; see 'ringside%s%s --help'", (int)len,
			name, a->depth > 1 ? " " : "", a->depth > 1 ? a->path[1]->name : "");
}

/* Consumes argv[*i] and perhaps the value behind it. */
static int parse_option(struct args *a, int argc, char **argv, int *i)
{
	const char *text = argv[*i], *value = NULL;
	const struct verb_option *o;

	if (text[1] == '-') {
		size_t len = strcspn(text + 2, "=");

		o = find_option(a, text + 2, len, 0);
		if (!o)
			return unknown_option(a, text + 2, len);
		if (text[2 + len] == '=')
			value = text + 2 + len + 1;
	} else {
		o = find_option(a, NULL, 0, text[1]);
		if (!o)
			return cli_fail(CLI_USAGE, "unknown option '-%.1s'; see 'ringside --help'",
					text + 1);
		if (o->arg && text[2])
			value = text + 2 + (text[2] == '=');
		else if (text[2])
			return cli_fail(CLI_USAGE,
					"option '-%c' takes no value and stands alone, not '%s'",
					o->letter, text);
	}
	if (!o->arg && value)
		return cli_fail(CLI_USAGE, "option '--%s' takes no value", o->name);
	if (o->arg && !value) {
		if (*i + 1 >= argc)
			return cli_fail(CLI_USAGE, "option '--%s' needs a value: --%s %s", o->name,
					o->name, o->arg);
		value = argv[++*i];
	}
	a->set[a->nset].option = o;
	a->set[a->nset++].value = value ? value : "";
	return 0;
}

static int enter_verb(struct args *a, const char *name)
{
	const struct verb *at = args_verb(a);
	const char *near;

	for (const struct verb *v = at->subs; v->name; v++) {
		if (strcmp(v->name, name) == 0) {
			a->path[a->depth++] = v;
			return 0;
		}
	}
	near = help_nearest_verb(at, name);
	if (near)
		return cli_fail(CLI_USAGE, "unknown verb '%s', did you mean '%s'?", name, near);
	return cli_fail(CLI_USAGE, "unknown verb '%s'; 'ringside%s%s --help' lists them", name,
			a->depth > 1 ? " " : "", a->depth > 1 ? at->name : "");
}

static int check_count(const struct args *a)
{
	const struct verb *v = args_verb(a);

	if (!v->run)
		return cli_fail(CLI_USAGE, "'%s' needs one of its verbs; see 'ringside %s --help'",
				v->name, v->name);
	if (a->npos < v->min_args)
		return cli_fail(CLI_USAGE, "'%s' needs %s; see 'ringside %s%s%s --help'", v->name,
				v->args, a->path[1]->name, a->depth > 2 ? " " : "",
				a->depth > 2 ? v->name : "");
	if (a->npos > v->max_args)
		return cli_fail(CLI_USAGE, "'%s' takes %s%s, so '%s' is too much", v->name,
				v->max_args ? "only " : "no argument", v->max_args ? v->args : "",
				a->pos[v->max_args]);
	return 0;
}

int args_parse(struct args *a, int argc, char **argv)
{
	bool only_args = false;

	*a = (struct args){.path = {&root_verb}, .depth = 1};
	a->pos = calloc((size_t)argc + 1, sizeof(*a->pos));
	a->set = calloc((size_t)argc + 1, sizeof(*a->set));
	if (!a->pos || !a->set)
		return cli_fail(CLI_REFUSED, "out of memory");
	for (int i = 1; i < argc; i++) {
		int r = 0;

		if (!only_args && strcmp(argv[i], "--") == 0)
			only_args = true;
		else if (!only_args && argv[i][0] == '-' && argv[i][1])
			r = parse_option(a, argc, argv, &i);
		else if (args_verb(a)->subs && a->npos == 0 && a->depth < MAX_DEPTH)
			r = enter_verb(a, argv[i]);
		else
			a->pos[a->npos++] = argv[i];
		if (r)
			return r;
		/* What stands behind the hidden verb are somebody's half-typed words, not ours to
		 * parse. */
		if (args_verb(a)->hidden)
			only_args = true;
	}
	if (args_get(a, "help") || args_get(a, "version"))
		return 0;
	return check_count(a);
}

void args_free(struct args *a)
{
	free(a->pos);
	free(a->set);
}

const char *args_get(const struct args *a, const char *name)
{
	for (size_t i = a->nset; i-- > 0;) {
		if (strcmp(a->set[i].option->name, name) == 0)
			return a->set[i].value;
	}
	return NULL;
}

const char *args_get_nth(const struct args *a, const char *name, size_t idx)
{
	for (size_t i = 0; i < a->nset; i++) {
		if (strcmp(a->set[i].option->name, name) == 0 && idx-- == 0)
			return a->set[i].value;
	}
	return NULL;
}

int args_duration(const struct args *a, const char *name, uint64_t *ret_ns)
{
	const char *text = args_get(a, name);
	struct err err = {0};

	if (!text || units_parse_duration(text, ret_ns, &err) >= 0)
		return 0;
	return cli_fail(CLI_USAGE, "--%s: %s", name, err.msg);
}

int args_count(const struct args *a, const char *name, uint64_t *ret)
{
	const char *text = args_get(a, name);
	unsigned long long n;
	char *end;

	if (!text)
		return 0;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno)
		return cli_fail(CLI_USAGE, "--%s '%s' is not a whole number", name, text);
	*ret = n;
	return 0;
}

void pairs_free(struct cli_pair *pairs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(pairs[i].key);
	free(pairs);
}

int args_pairs(const struct args *a, size_t first, struct cli_pair **ret, size_t *ret_n)
{
	size_t n = a->npos - first;
	struct cli_pair *pairs = calloc(n + 1, sizeof(*pairs));

	if (!pairs)
		return cli_fail(CLI_REFUSED, "out of memory");
	for (size_t i = 0; i < n; i++) {
		const char *text = a->pos[first + i], *eq = strchr(text, '=');

		if (eq && eq > text)
			pairs[i].key = strndup(text, (size_t)(eq - text));
		if (!pairs[i].key) {
			pairs_free(pairs, n);
			return cli_fail(CLI_USAGE, "'%s' is not KEY=VALUE", text);
		}
		pairs[i].value = eq + 1;
		for (size_t j = 0; j < i; j++) {
			if (strcmp(pairs[j].key, pairs[i].key) == 0) {
				cli_fail(CLI_USAGE, "'%s' is given twice", pairs[i].key);
				pairs_free(pairs, n);
				return CLI_USAGE;
			}
		}
	}
	*ret = pairs;
	*ret_n = n;
	return 0;
}
