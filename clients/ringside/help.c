// SPDX-License-Identifier: Apache-2.0
/* Usage lines, help texts and "did you mean", all from the verb table. */
#include <stdio.h>
#include <string.h>

#include "base/opt.h"
#include "clients/ringside/cli.h"

#define HELP_WIDTH 96

const char *help_nearest_verb(const struct verb *verb, const char *name)
{
	const char *names[64];
	size_t n = 0;

	for (const struct verb *v = verb->subs; v && v->name && n < ARRAY_SIZE(names); v++)
		if (!v->hidden)
			names[n++] = v->name;
	return opt_nearest(name, names, n);
}

const char *help_nearest_option(const struct args *a, const char *name)
{
	const char *names[64];
	size_t n = 0;

	for (size_t d = 0; d < a->depth; d++)
		for (const struct verb_option *o = a->path[d]->options;
		     o && o->name && n < ARRAY_SIZE(names); o++)
			names[n++] = o->name;
	return opt_nearest(name, names, n);
}

void help_usage_line(FILE *f, const struct verb *const *path, size_t depth)
{
	const struct verb *v = path[depth - 1];

	for (size_t d = 0; d < depth; d++)
		fprintf(f, "%s%s", d ? " " : "", path[d]->name);
	if (v->options)
		fputs(" [OPTION...]", f);
	if (v->subs)
		fputs(v->run ? " [VERB]" : " VERB", f);
	if (v->args)
		fprintf(f, " %s", v->args);
	fputc('\n', f);
}

/* Words of text, broken at HELP_WIDTH; an empty line starts a paragraph. */
static void print_wrapped(FILE *f, const char *text)
{
	size_t used = 0;

	while (*text) {
		size_t len = strcspn(text, " \n");

		if (used && used + 1 + len > HELP_WIDTH) {
			fputc('\n', f);
			used = 0;
		}
		fprintf(f, "%s%.*s", used ? " " : "", (int)len, text);
		used += len + (used ? 1 : 0);
		text += len;
		if (*text == '\n') {
			fputc('\n', f);
			used = 0;
			text++;
		} else if (*text) {
			text++;
		}
	}
	fputc('\n', f);
}

static void print_options(FILE *f, const struct verb_option *options)
{
	for (const struct verb_option *o = options; o && o->name; o++) {
		char left[64];

		snprintf(left, sizeof(left), "%c%c%s --%s%s%s", o->letter ? '-' : ' ',
			 o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name,
			 o->arg ? " " : "", o->arg ? o->arg : "");
		fprintf(f, "  %-26s %s%s\n", left, o->help, o->repeated ? " (repeatable)" : "");
	}
}

static void print_verbs(FILE *f, const struct verb *v)
{
	for (const struct verb *s = v->subs; s && s->name; s++) {
		if (s->hidden)
			continue;
		fprintf(f, "  %-12s %s\n", s->name, s->summary);
	}
}

void help_print(FILE *f, const struct args *a)
{
	const struct verb *v = args_verb(a);

	fputs("Usage: ", f);
	help_usage_line(f, a->path, a->depth);
	fputc('\n', f);
	fprintf(f, "%s: %s\n", v->name, v->summary);
	if (v->help) {
		fputc('\n', f);
		print_wrapped(f, v->help);
	}
	if (v->subs) {
		fputs("\nVerbs:\n", f);
		print_verbs(f, v);
	}
	if (v->options && a->depth > 1) {
		fputs("\nOptions:\n", f);
		print_options(f, v->options);
	}
	fputs("\nGlobal options:\n", f);
	print_options(f, root_verb.options);
	if (a->depth == 1)
		fputs("\nExit codes: 0 done, 1 refused or failed, 2 usage, 69 daemon not "
		      "reachable.\n",
		      f);
}

int verb_help(struct cli *cli, const struct args *args)
{
	struct args at = {.path = {&root_verb}, .depth = 1};

	(void)cli;
	for (size_t i = 0; i < args->npos; i++) {
		const struct verb *v = args_verb(&at)->subs;
		const char *near;

		while (v && v->name && strcmp(v->name, args->pos[i]) != 0)
			v++;
		if (!v || !v->name) {
			near = help_nearest_verb(args_verb(&at), args->pos[i]);
			return cli_fail(CLI_USAGE, "unknown verb '%s'%s%s%s", args->pos[i],
					near ? ", did you mean '" : "", near ? near : "",
					near ? "'?" : "");
		}
		at.path[at.depth++] = v;
	}
	help_print(stdout, &at);
	return CLI_OK;
}
