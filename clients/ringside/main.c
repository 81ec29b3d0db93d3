// SPDX-License-Identifier: Apache-2.0
/* ringside: the command line of ringsided. */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/services.h"
#include "clients/ringside/cli.h"
#include "store/query.h"

#define DEFAULT_SOCKET "/run/ringside/ringside.sock"

static const char *env_or(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && *value ? value : otherwise;
}

/* Other formats are for programs: they get numbers, and service() in SQL if they want names. */
static int load_services(struct cli *cli, const struct args *a)
{
	const char *own = args_get(a, "services-file");
	int r;

	if (cli->format != OUT_TABLE || (!own && !args_get(a, "services")))
		return 0;
	r = services_new(&cli->services);
	if (r == 0 && own) {
		r = services_add_file(cli->services, own);
		if (r < 0)
			return cli_fail(CLI_REFUSED, "--services-file: cannot read '%s': %s", own,
					strerror(-r));
	}
	if (r == 0) {
		r = services_add_file(cli->services, SERVICES_FILE);
		if (r < 0 && r != -ENOMEM && !own)
			cli_note("ports stay numbers: cannot read '%s': %s; --services-file FILE "
				 "takes another",
				 SERVICES_FILE, strerror(-r));
	}
	return r == -ENOMEM ? cli_fail(CLI_REFUSED, "out of memory") : 0;
}

static int globals(struct cli *cli, const struct args *a)
{
	const char *format = args_get(a, "output"), *socket = args_get(a, "socket");
	const char *term = env_or("TERM", "dumb");
	struct client_options *c = &cli->connect;
	int r;

	c->socket_path = socket ? socket : env_or("RINGSIDE_SOCKET", DEFAULT_SOCKET);
	c->address = args_get(a, "address");
	c->tls_ca = args_get(a, "tls-ca");
	c->tls_cert = args_get(a, "tls-cert");
	c->tls_key = args_get(a, "tls-key");
	if (c->address && socket)
		return cli_fail(CLI_USAGE, "--socket and --address exclude each other");
	if (c->address && !(c->tls_ca && c->tls_cert && c->tls_key))
		return cli_fail(CLI_USAGE, "--address needs --tls-ca, --tls-cert and --tls-key");
	if (!c->address && (c->tls_ca || c->tls_cert || c->tls_key))
		return cli_fail(CLI_USAGE, "the --tls options need --address HOST:PORT");
	if (format && out_format_parse(format, &cli->format) < 0)
		return cli_fail(CLI_USAGE, "output '%s' is none of table, json, csv and tsv",
				format);
	cli->tty_out = isatty(STDOUT_FILENO);
	cli->tty_err = isatty(STDERR_FILENO) && strcmp(term, "dumb") != 0;
	cli->color = cli->tty_out && strcmp(term, "dumb") != 0 && !args_get(a, "no-color") &&
		     !*env_or("NO_COLOR", "");
	cli->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	r = load_services(cli, a);
	return r ? r : args_duration(a, "timeout", &cli->timeout_ns);
}

int main(int argc, char **argv)
{
	struct cli cli = {0};
	struct args args;
	int r;

	/* Where its own binary isn't installed, the worker of 'sql --file' is this one. */
	if (argc == 1 && strcmp(argv[0], QUERY_WORKER_NAME) == 0)
		query_worker_main(argc, argv);
	setlocale(LC_CTYPE, "");
	/* The parent may have left it ignored; "ringside sql ... | head" must end. */
	signal(SIGPIPE, SIG_DFL);
	r = args_parse(&args, argc, argv);
	if (r == 0)
		r = globals(&cli, &args);
	if (r == 0) {
		if (args_get(&args, "help"))
			help_print(stdout, &args);
		else if (args_get(&args, "version"))
			r = verb_version(&cli, &args);
		else
			r = args_verb(&args)->run(&cli, &args);
	}
	cli_disconnect(&cli);
	services_free(cli.services);
	args_free(&args);
	if (fflush(stdout) != 0 && r == 0)
		r = cli_fail(CLI_REFUSED, "cannot write to standard output");
	return r;
}
