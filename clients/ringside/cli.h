// SPDX-License-Identifier: Apache-2.0
/* What all verbs share: the verb table, parsed arguments, the connection, messages to people. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/client.h"
#include "base/macro.h"
#include "clients/ringside/out.h"

enum cli_exit {
	CLI_OK = 0,
	CLI_REFUSED = 1, /* the daemon or this host said no, or something failed */
	CLI_USAGE = 2,
	CLI_UNREACHABLE = 69, /* EX_UNAVAILABLE of sysexits.h: no daemon behind the socket */
};

struct cli;
struct args;

/*
 * words: what completion offers for a value: "a|b|c", or "@plugin", "@table", "@file", or NULL.
 * A table of options ends with {0}.
 */
struct verb_option {
	const char *name; /* without the dashes */
	char letter;	  /* 0: none */
	const char *arg;  /* name of the value, NULL: a switch */
	const char *words;
	bool repeated;
	const char *help; /* one line */
};

/* A table of verbs ends with {0}. A verb with subs and run runs itself when no sub is named. */
struct verb {
	const char *name;
	const char *args; /* for the usage line: "NAME [KEY=VALUE...]"; NULL: takes none */
	size_t min_args, max_args;
	const char *words,
		*more_words; /* completion of the first argument and of those behind it */
	const char *summary; /* one line */
	const char *help;    /* paragraphs for --help and the manual page; may be NULL */
	const struct verb_option *options;
	const struct verb *subs;
	int (*run)(struct cli *cli, const struct args *args); /* returns an enum cli_exit */
	bool hidden;
};

extern const struct verb root_verb; /* its subs are the verbs, its options the global ones */

struct args {
	const struct verb *path[4]; /* root, verb, sub */
	size_t depth;
	const char **pos;
	size_t npos;
	struct {
		const struct verb_option *option;
		const char *value; /* "" for a switch */
	} * set;
	size_t nset;
};

/* args.c */
/* argv[1..argc). 0, or CLI_USAGE with the sentence printed. Strings stay argv's. */
int args_parse(struct args *a, int argc, char **argv);
void args_free(struct args *a);
static inline const struct verb *args_verb(const struct args *a)
{
	return a->path[a->depth - 1];
}
/* The last value of the option, or NULL when it isn't given. */
const char *args_get(const struct args *a, const char *name);
/* The idx-th value of a repeated option, or NULL. */
const char *args_get_nth(const struct args *a, const char *name, size_t idx);
/* 0, or CLI_USAGE with the sentence printed; *ret is left alone when the option isn't given. */
int args_duration(const struct args *a, const char *name, uint64_t *ret_ns);
int args_count(const struct args *a, const char *name, uint64_t *ret);
/* Splits "key=value" arguments from the first-th on. *ret_keys are the caller's to free, with their
 * texts. */
struct cli_pair {
	char *key;
	const char *value;
};
int args_pairs(const struct args *a, size_t first, struct cli_pair **ret, size_t *ret_n);
void pairs_free(struct cli_pair *pairs, size_t n);

struct cli {
	struct client_options connect;
	enum out_format format;
	bool tty_out, tty_err, utf8, color;
	uint64_t timeout_ns;	   /* --timeout; 0: not given */
	struct services *services; /* --services: names of ports; NULL: numbers */
	struct client *client;
};

/* help.c: usage, help texts and manual page from the verb table. */
void help_print(FILE *f, const struct args *a);
void help_usage_line(FILE *f, const struct verb *const *path, size_t depth);
/* "did you mean" for verbs and options, or NULL. */
const char *help_nearest_verb(const struct verb *verb, const char *name);
const char *help_nearest_option(const struct args *a, const char *name);

/* cli.c */
/* "ringside: ..." on standard error, safe for a terminal; returns code. */
int cli_fail(int code, const char *fmt, ...) _printf_(2, 3);
void cli_note(const char *fmt, ...) _printf_(1, 2);
size_t cli_width(const struct cli *cli); /* of the terminal; 0 when standard output isn't one */
size_t cli_height(const struct cli *cli);
int cli_out_new(struct cli *cli, struct out **ret);
/* Ends the output. code, or CLI_REFUSED with a sentence when it couldn't be written. */
int cli_out_done(struct out *o, int code);
/* Set by SIGINT, SIGTERM and SIGHUP once cli_catch_interrupts() was called. */
bool cli_interrupted(void);
/* The same, to be polled by who knows nothing of us. */
const atomic_bool *cli_interrupt_flag(void);
void cli_clear_interrupt(void);
void cli_catch_interrupts(void);
/* Ends the process as the caught signal would have, so that a calling shell sees it. */
_Noreturn void cli_die_of_interrupt(void);

/* rpc.c */
/* 0, or an exit code with the sentence printed. */
int cli_connect(struct cli *cli);
void cli_disconnect(struct cli *cli);
/* One unary call; what: for the progress line ("loading netflow"). *ret: message_free(). */
int cli_call(struct cli *cli, const char *method, const void *request,
	     const ProtobufCMessageDescriptor *type, const char *what, void *ret);
/* As cli_call without a word on standard error: for completion and the shell's word lists. 0 or
 * negative errno. */
int cli_call_quiet(struct cli *cli, const char *method, const void *request,
		   const ProtobufCMessageDescriptor *type, uint64_t timeout_ns, void *ret);
void message_free(void *message);
static inline void message_freep(void *p)
{
	message_free(*(void **)p);
}
#define _cleanup_message_ _cleanup_(message_freep)
/* What an errno of the client means for the exit code, the text printed. */
int cli_fail_err(const struct err *err);

/* verbs */
int verb_status(struct cli *cli, const struct args *args);
int verb_plugin_list(struct cli *cli, const struct args *args);
int verb_plugin_show(struct cli *cli, const struct args *args);
int verb_plugin_enable(struct cli *cli, const struct args *args);
int verb_plugin_disable(struct cli *cli, const struct args *args);
int verb_plugin_set(struct cli *cli, const struct args *args);
int verb_plugin_check(struct cli *cli, const struct args *args);
int verb_tables(struct cli *cli, const struct args *args);
int verb_schema(struct cli *cli, const struct args *args);
int verb_sql(struct cli *cli, const struct args *args);
int verb_snapshot(struct cli *cli, const struct args *args);
int verb_watch(struct cli *cli, const struct args *args);
int verb_top(struct cli *cli, const struct args *args);
int verb_history(struct cli *cli, const struct args *args);
int verb_limits(struct cli *cli, const struct args *args);
int verb_limits_set(struct cli *cli, const struct args *args);
int verb_config_show(struct cli *cli, const struct args *args);
int verb_config_check(struct cli *cli, const struct args *args);
int verb_config_reload(struct cli *cli, const struct args *args);
int verb_doctor(struct cli *cli, const struct args *args);
int verb_log_level(struct cli *cli, const struct args *args);
int verb_shutdown(struct cli *cli, const struct args *args);
int verb_version(struct cli *cli, const struct args *args);
int verb_help(struct cli *cli, const struct args *args);
int verb_completion(struct cli *cli, const struct args *args);
int verb_complete(struct cli *cli, const struct args *args);
int verb_man(struct cli *cli, const struct args *args);
