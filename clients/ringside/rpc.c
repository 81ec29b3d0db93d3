// SPDX-License-Identifier: Apache-2.0
/* The connection to the daemon: opened at the first call, errors turned into exit codes. */
#include <errno.h>

#include "base/clock.h"
#include "clients/ringside/cli.h"
#include "clients/ringside/progress.h"

#define CALL_TIMEOUT_NS \
	(30 * NSEC_PER_SEC) /* longer than any load of a plugin that has been seen */

int cli_fail_err(const struct err *err)
{
	switch (-err->code) {
	case ECONNREFUSED:
		return cli_fail(CLI_UNREACHABLE,
				"%s; is the daemon running, and is --socket (or RINGSIDE_SOCKET) "
				"the one it listens on?",
				err->msg);
	case ESHUTDOWN:
		return cli_fail(CLI_UNREACHABLE, "%s", err->msg);
	default:
		return cli_fail(CLI_REFUSED, "%s", err->msg);
	}
}

int cli_connect(struct cli *cli)
{
	struct err err = {0};
	int r;

	if (cli->client)
		return 0;
	r = client_new(&cli->client, &cli->connect, &err);
	if (r < 0) {
		err.code = r;
		return cli_fail_err(&err);
	}
	return 0;
}

void cli_disconnect(struct cli *cli)
{
	if (cli->client)
		client_free(cli->client);
	cli->client = NULL;
}

void message_free(void *message)
{
	if (message)
		protobuf_c_message_free_unpacked(message, NULL);
}

int cli_call(struct cli *cli, const char *method, const void *request,
	     const ProtobufCMessageDescriptor *type, const char *what, void *ret)
{
	struct progress progress;
	struct err err = {0};
	ProtobufCMessage *answer = NULL;
	int r = cli_connect(cli);

	if (r)
		return r;
	progress_begin(&progress, cli->tty_err, what);
	r = client_call(cli->client, method, request, type,
			cli->timeout_ns ? cli->timeout_ns : CALL_TIMEOUT_NS, &answer, &err);
	progress_end(&progress);
	if (r < 0) {
		err.code = r;
		return cli_fail_err(&err);
	}
	*(ProtobufCMessage **)ret = answer;
	return 0;
}

int cli_call_quiet(struct cli *cli, const char *method, const void *request,
		   const ProtobufCMessageDescriptor *type, uint64_t timeout_ns, void *ret)
{
	ProtobufCMessage *answer = NULL;
	struct err err = {0};
	int r = 0;

	if (!cli->client)
		r = client_new(&cli->client, &cli->connect, &err);
	if (r >= 0)
		r = client_call(cli->client, method, request, type, timeout_ns, &answer, &err);
	if (r >= 0)
		*(ProtobufCMessage **)ret = answer;
	return r < 0 ? r : 0;
}
