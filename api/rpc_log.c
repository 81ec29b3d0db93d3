// SPDX-License-Identifier: Apache-2.0
/* The core's own log lines, into ours: a peer can trigger them, so they are limited. */
#define LOG_MODULE "grpc"
#include <grpc/support/log.h>

#include "api/rpc_internal.h"
#include "base/log.h"

#define BURST 10

static void forward(gpr_log_func_args *args)
{
	if (args->severity == GPR_LOG_SEVERITY_ERROR) {
		if (log_ratelimit("grpc", BURST))
			log_warn("%s, ignoring", args->message);
	} else {
		log_debug("%s", args->message);
	}
}

void rpc_log_init(void)
{
	gpr_set_log_function(forward);
	gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
}
