// SPDX-License-Identifier: Apache-2.0
/* Shell completion: one answer from the verb table and the daemon, three small scripts that ask for
 * it. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "clients/ringside/cli.h"
#include "ringside/v1/plugin.pb-c.h"
#include "ringside/v1/table.pb-c.h"

/* Somebody waits at a prompt: rather no names than a pause. */
#define COMPLETE_TIMEOUT_NS (500 * NSEC_PER_MSEC)

static const char bash_script[] = "# bash completion for ringside\n"
				  "_ringside() {\n"
				  "\tlocal line\n"
				  "\tCOMPREPLY=()\n"
				  "\twhile IFS= read -r line; do\n"
				  "\t\tcase $line in\n"
				  "\t\t@file) compopt -o default; COMPREPLY=(); return ;;\n"
				  "\t\t*=) compopt -o nospace; COMPREPLY+=(\"$line\") ;;\n"
				  "\t\t*) COMPREPLY+=(\"$line\") ;;\n"
				  "\t\tesac\n"
				  "\tdone < <(\"${COMP_WORDS[0]}\" complete "
				  "\"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null | cut -f1)\n"
				  "}\n"
				  "complete -F _ringside ringside\n";

static const char zsh_script[] =
	"#compdef ringside\n"
	"_ringside() {\n"
	"\tlocal line\n"
	"\tlocal -a plain assign\n"
	"\twhile IFS= read -r line; do\n"
	"\t\tcase ${line%%$'\\t'*} in\n"
	"\t\t@file) _files; return ;;\n"
	"\t\t*=) assign+=(\"${line%%$'\\t'*}\") ;;\n"
	"\t\t*) plain+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
	"\t\tesac\n"
	"\tdone < <(\"${words[1]}\" complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
	"\t(( $#plain )) && _describe 'ringside' plain\n"
	"\t(( $#assign )) && compadd -S '' -- $assign\n"
	"}\n"
	"if [ \"$funcstack[1]\" = _ringside ]; then _ringside \"$@\"; else compdef _ringside "
	"ringside; fi\n";

static const char fish_script[] = "# fish completion for ringside\n"
				  "function __ringside_complete\n"
				  "\tset -l words (commandline -opc) (commandline -ct)\n"
				  "\tset -l answer ($words[1] complete $words[2..-1] 2>/dev/null)\n"
				  "\tif test \"$answer[1]\" = '@file\t'\n"
				  "\t\t__fish_complete_path (commandline -ct)\n"
				  "\telse\n"
				  "\t\tprintf '%s\\n' $answer\n"
				  "\tend\n"
				  "end\n"
				  "complete -c ringside -f -a '(__ringside_complete)'\n";

int verb_completion(struct cli *cli, const struct args *args)
{
	static const struct {
		const char *shell, *script;
	} scripts[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

	(void)cli;
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		if (strcmp(args->pos[0], scripts[i].shell) == 0) {
			fputs(scripts[i].script, stdout);
			return CLI_OK;
		}
	}
	return cli_fail(CLI_USAGE, "shell '%s' is none of bash, zsh and fish", args->pos[0]);
}

static void offer(const char *prefix, const char *word, size_t len, const char *help)
{
	if (strncmp(word, prefix, strlen(prefix)) == 0 || strlen(prefix) == 0)
		printf("%.*s\t%s\n", (int)len, word, help ? help : "");
}

static void offer_plugins(struct cli *cli, const char *prefix)
{
	Ringside__V1__ListPluginsRequest request = RINGSIDE__V1__LIST_PLUGINS_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__ListPluginsResponse *answer = NULL;

	if (cli_call_quiet(cli, "/ringside.v1.PluginService/ListPlugins", &request,
			   &ringside__v1__list_plugins_response__descriptor, COMPLETE_TIMEOUT_NS,
			   &answer) < 0)
		return;
	for (size_t i = 0; i < answer->n_plugins; i++)
		offer(prefix, answer->plugins[i]->name, strlen(answer->plugins[i]->name),
		      answer->plugins[i]->help);
}

static void offer_plugin_options(struct cli *cli, const char *plugin, const char *prefix)
{
	Ringside__V1__GetPluginRequest request = RINGSIDE__V1__GET_PLUGIN_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__GetPluginResponse *answer = NULL;

	request.name = (char *)plugin;
	if (cli_call_quiet(cli, "/ringside.v1.PluginService/GetPlugin", &request,
			   &ringside__v1__get_plugin_response__descriptor, COMPLETE_TIMEOUT_NS,
			   &answer) < 0 ||
	    !answer->plugin)
		return;
	for (size_t i = 0; i < answer->plugin->n_options; i++) {
		const Ringside__V1__Option *o = answer->plugin->options[i];
		char key[80];

		snprintf(key, sizeof(key), "%s=", o->key);
		offer(prefix, key, strlen(key), o->help);
	}
}

static void offer_tables(struct cli *cli, const char *prefix)
{
	Ringside__V1__ListTablesRequest request = RINGSIDE__V1__LIST_TABLES_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__ListTablesResponse *answer = NULL;

	if (cli_call_quiet(cli, "/ringside.v1.TableService/ListTables", &request,
			   &ringside__v1__list_tables_response__descriptor, COMPLETE_TIMEOUT_NS,
			   &answer) < 0)
		return;
	for (size_t i = 0; i < answer->n_tables; i++)
		offer(prefix, answer->tables[i]->name, strlen(answer->tables[i]->name),
		      answer->tables[i]->summary);
}

static void offer_words(struct cli *cli, const struct args *a, const char *words,
			const char *prefix)
{
	if (!words)
		return;
	if (strcmp(words, "@file") == 0)
		puts("@file\t");
	else if (strcmp(words, "@plugin") == 0)
		offer_plugins(cli, prefix);
	else if (strcmp(words, "@table") == 0)
		offer_tables(cli, prefix);
	else if (strcmp(words, "@option") == 0)
		offer_plugin_options(cli, a->pos[0], prefix);
	else if (strcmp(words, "@limit") == 0)
		offer_words(
			cli, a,
			"cpu_limit=|kernel_cpu_limit=|mem_limit=|net_limit=|limit_action=|"
			"net_limit_scope=",
			prefix);
	else
		for (const char *p = words; *p; p += strspn(p, "|")) {
			size_t len = strcspn(p, "|");

			offer(prefix, p, len, NULL);
			p += len;
		}
}

static const struct verb_option *option_of_word(const struct args *a, const char *word)
{
	for (size_t d = a->depth; d-- > 0;) {
		for (const struct verb_option *o = a->path[d]->options; o && o->name; o++) {
			if (word[0] == '-' && ((word[1] == '-' && strcmp(word + 2, o->name) == 0) ||
					       (o->letter && word[1] == o->letter && !word[2])))
				return o;
		}
	}
	return NULL;
}

/* Follows the words that are complete; returns the option that waits for the last one's value, or
 * NULL. */
static const struct verb_option *follow(struct cli *cli, struct args *a, const char **words,
					size_t n)
{
	const struct verb_option *waiting = NULL;

	for (size_t i = 0; i < n; i++) {
		const struct verb *v = args_verb(a)->subs;
		const struct verb_option *o;

		/* bash cuts "--output=json" into three words. */
		if (strcmp(words[i], "=") == 0)
			continue;
		if (waiting) {
			if (strcmp(waiting->name, "socket") == 0)
				cli->connect.socket_path = words[i];
			waiting = NULL;
			continue;
		}
		o = option_of_word(a, words[i]);
		if (o) {
			waiting = o->arg ? o : NULL;
			continue;
		}
		if (words[i][0] == '-')
			continue;
		while (v && v->name && strcmp(v->name, words[i]) != 0)
			v++;
		if (v && v->name && a->npos == 0 && a->depth < ARRAY_SIZE(a->path))
			a->path[a->depth++] = v;
		else
			a->pos[a->npos++] = words[i];
	}
	return waiting;
}

int verb_complete(struct cli *cli, const struct args *args)
{
	size_t n = args->npos ? args->npos - 1 : 0;
	const char *last = args->npos ? args->pos[n] : "";
	_cleanup_free_ const char **pos = calloc(args->npos + 1, sizeof(*pos));
	struct args a = {.path = {&root_verb}, .depth = 1, .pos = pos};
	const struct verb_option *waiting;
	const struct verb *v;

	if (!pos)
		return CLI_REFUSED;
	waiting = follow(cli, &a, args->pos, n);
	if (strcmp(last, "=") == 0)
		last = "";
	if (waiting) {
		offer_words(cli, &a, waiting->words, last);
		return CLI_OK;
	}
	v = args_verb(&a);
	if (last[0] == '-') {
		for (size_t d = a.depth; d-- > 0;) {
			for (const struct verb_option *o = a.path[d]->options; o && o->name; o++) {
				char word[80];

				snprintf(word, sizeof(word), "--%s", o->name);
				offer(last, word, strlen(word), o->help);
			}
		}
		return CLI_OK;
	}
	for (const struct verb *s = v->subs; s && s->name && a.npos == 0; s++)
		if (!s->hidden)
			offer(last, s->name, strlen(s->name), s->summary);
	if (a.npos < v->max_args)
		offer_words(cli, &a, a.npos ? v->more_words : v->words, last);
	return CLI_OK;
}
