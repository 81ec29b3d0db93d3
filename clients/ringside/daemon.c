// SPDX-License-Identifier: Apache-2.0
/* ringside log-level, shutdown and version. */
#include <stdio.h>

#include "clients/ringside/cli.h"
#include "ringside/v1/daemon.pb-c.h"

int verb_log_level(struct cli *cli, const struct args *args)
{
	Ringside__V1__SetLogLevelRequest request = RINGSIDE__V1__SET_LOG_LEVEL_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__SetLogLevelResponse *answer = NULL;

	request.level = (char *)args->pos[0];
	return cli_call(cli, "/ringside.v1.DaemonService/SetLogLevel", &request,
			&ringside__v1__set_log_level_response__descriptor, "setting the log level",
			&answer);
}

int verb_shutdown(struct cli *cli, const struct args *args _unused_)
{
	Ringside__V1__ShutdownRequest request = RINGSIDE__V1__SHUTDOWN_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__ShutdownResponse *answer = NULL;

	return cli_call(cli, "/ringside.v1.DaemonService/Shutdown", &request,
			&ringside__v1__shutdown_response__descriptor, "stopping the daemon",
			&answer);
}

/* Works without a daemon: the first question of whoever finds none. */
int verb_version(struct cli *cli, const struct args *args _unused_)
{
	if (cli->format == OUT_JSON)
		printf("{\"version\":\"%s\"}\n", RINGSIDE_VERSION);
	else
		printf("ringside %s\n", RINGSIDE_VERSION);
	return CLI_OK;
}
