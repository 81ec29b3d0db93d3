// SPDX-License-Identifier: Apache-2.0
/* Command line of ringsided. */
#include "daemon/args.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/config.h"
#include "daemon/options.h"

static const struct word {
	const char *name;
	enum args_mode mode;
	const char *help;
} words[] = {
	{"help", ARGS_HELP, "this text"},
	{"version", ARGS_VERSION, "the version"},
	{"check-config", ARGS_CHECK_CONFIG, "say what is wrong with the configuration and end"},
	{"dump-options-markdown", ARGS_DUMP_MARKDOWN, "the reference page of all options"},
	{"dump-tables-markdown", ARGS_DUMP_TABLES, "the reference page of all tables"},
	{"dump-options-toml", ARGS_DUMP_TOML, "a configuration file with every default"},
};

/* "store.flow.max_bytes" -> "store-flow-max-bytes". */
static const char *flag_name(const char *key, char *dst, size_t cap)
{
	snprintf(dst, cap, "%s", key);
	for (char *p = dst; *p; p++)
		if (*p == '.' || *p == '_')
			*p = '-';
	return dst;
}

static const struct opt *find_flag(const char *name, size_t len)
{
	char flag[96];

	for (const struct opt *o = daemon_options; o->key; o++)
		if (strlen(flag_name(o->key, flag, sizeof(flag))) == len &&
		    strncmp(flag, name, len) == 0)
			return o;
	return NULL;
}

static int unknown_flag(const char *arg, size_t len, struct err *err)
{
	char flags[80][96], given[96];
	const char *names[80], *near;
	size_t n = 0;

	for (const struct opt *o = daemon_options; o->key && n < ARRAY_SIZE(names) - 2; o++, n++)
		names[n] = flag_name(o->key, flags[n], sizeof(flags[n]));
	names[n++] = "config";
	names[n++] = "set";
	snprintf(given, sizeof(given), "%.*s", (int)len, arg);
	near = opt_nearest(given, names, n);
	if (near)
		return err_set(err, -EINVAL, "unknown flag '--%s'; did you mean '--%s'?", given,
			       near);
	return err_set(err, -EINVAL, "unknown flag '--%s'; --help lists all of them", given);
}

static int add_assignment(struct args *a, const char *key, const char *value)
{
	char *text;

	if (asprintf(&text, "%s%s%s", key, *key ? "=" : "", value) < 0)
		return -ENOMEM;
	a->assignments[a->nassignments++] = text;
	return 0;
}

/* *next tells whether value is the next word of the command line. */
static int parse_flag(struct args *a, const char *arg, const char *value, struct err *err)
{
	size_t len = strcspn(arg, "=");
	const struct opt *o = find_flag(arg, len);

	if (strncmp(arg, "config", len) == 0 && len == 6) {
		a->config_file = value;
		return 0;
	}
	if (len == 3 && strncmp(arg, "set", len) == 0) {
		if (!strchr(value, '='))
			return err_set(err, -EINVAL, "--set '%.80s': expected KEY=VALUE", value);
		return add_assignment(a, "", value);
	}
	if (!o)
		return unknown_flag(arg, len, err);
	return add_assignment(a, o->key, value);
}

static const struct word *find_word(const char *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i].name, arg) == 0)
			return &words[i];
	return NULL;
}

int args_parse(struct args *a, int argc, char **argv, struct err *err)
{
	int r;

	memset(a, 0, sizeof(*a));
	a->assignments = calloc(argc, sizeof(*a->assignments));
	if (!a->assignments)
		return err_set(err, -ENOMEM, "out of memory");
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i], *value = strchr(arg, '=');
		const struct word *w;

		if (strcmp(arg, "-h") == 0)
			arg = "--help";
		if (strncmp(arg, "--", 2) != 0 || !arg[2])
			return err_set(err, -EINVAL,
				       "unexpected word '%.80s'; --help says what is known", arg);
		arg += 2;
		w = find_word(arg);
		if (w) {
			a->mode = w->mode;
			continue;
		}
		if (!value && i + 1 == argc) {
			if (!find_flag(arg, strlen(arg)) && strcmp(arg, "config") != 0 &&
			    strcmp(arg, "set") != 0)
				return unknown_flag(arg, strlen(arg), err);
			return err_set(err, -EINVAL, "flag '--%.80s' needs a value", arg);
		}
		r = parse_flag(a, arg, value ? value + 1 : argv[i + 1], err);
		if (r < 0)
			return r;
		i += !value;
	}
	return 0;
}

void args_free(struct args *a)
{
	for (size_t i = 0; i < a->nassignments; i++)
		free(a->assignments[i]);
	free(a->assignments);
}

void args_print_help(void)
{
	char flag[96];

	printf("ringsided %s: watches this host from the kernel, keeps what it sees, answers "
	       "gRPC\n\n"
	       "usage: ringsided [--config FILE] [--set KEY=VALUE]... [FLAG VALUE]...\n\n"
	       "  --config FILE\n      configuration (%s)\n"
	       "  --set KEY=VALUE\n      any option by its key, those of plugins too "
	       "(plugins.netflow.interval=5s)\n",
	       RINGSIDE_VERSION, CONFIG_FILE_DEFAULT);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		printf("  --%s\n      %s\n", words[i].name, words[i].help);
	for (const struct opt *o = daemon_options; o->key; o++)
		printf("  --%s %s\n      %s%s%s%s\n", flag_name(o->key, flag, sizeof(flag)),
		       opt_type_name(o->type), o->help, o->def ? " (" : "", o->def ? o->def : "",
		       o->def ? ")" : "");
	printf("\nExit status: 0 stopped as asked, 1 failure, 2 usage or bad configuration, 3 "
	       "kernel without what is needed,\n"
	       "81, 82, 83 cpu, mem, net limit exceeded.\n");
}
