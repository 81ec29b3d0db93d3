// SPDX-License-Identifier: Apache-2.0
/* The one table between errno and google.rpc codes, for both ends. */
#include "api/status.h"

#include <errno.h>
#include <stddef.h>

#include "base/macro.h"

/* For the way back the first row of a code counts. */
static const struct {
	int errnum;
	enum rpc_code code;
} map[] = {
	{EINVAL, RPC_INVALID_ARGUMENT},
	{ENOENT, RPC_NOT_FOUND},
	{EEXIST, RPC_ALREADY_EXISTS},
	{EOPNOTSUPP, RPC_FAILED_PRECONDITION},
	{EPERM, RPC_PERMISSION_DENIED},
	{ENOBUFS, RPC_RESOURCE_EXHAUSTED},
	{ENOMEM, RPC_RESOURCE_EXHAUSTED},
	{E2BIG, RPC_RESOURCE_EXHAUSTED},
	{ETIMEDOUT, RPC_DEADLINE_EXCEEDED},
	{ECANCELED, RPC_CANCELLED},
	{ESHUTDOWN, RPC_UNAVAILABLE},
	{ENOSYS, RPC_UNIMPLEMENTED},
	{EACCES, RPC_UNAUTHENTICATED}, /* on the way back only: see below */
	{EBUSY, RPC_ABORTED},
	{ERANGE, RPC_OUT_OF_RANGE},
	{EIO, RPC_INTERNAL},
};

enum rpc_code rpc_code_from_errno(int r)
{
	if (r == -EACCES)
		return RPC_PERMISSION_DENIED;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (map[i].errnum == -r)
			return map[i].code;
	return RPC_INTERNAL;
}

int rpc_code_to_errno(int code)
{
	if (code == RPC_OK)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if ((int)map[i].code == code)
			return -map[i].errnum;
	return -EIO;
}

const char *rpc_code_name(enum rpc_code code)
{
	static const char *const names[] = {
		"OK",		       "CANCELLED",	"UNKNOWN",	       "INVALID_ARGUMENT",
		"DEADLINE_EXCEEDED",   "NOT_FOUND",	"ALREADY_EXISTS",      "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED",  "FAILED_PRECONDITION", "ABORTED",       "OUT_OF_RANGE",
		"UNIMPLEMENTED",       "INTERNAL",	"UNAVAILABLE",	       "DATA_LOSS",
		"UNAUTHENTICATED",
	};

	return (unsigned int)code < sizeof(names) / sizeof(names[0]) ? names[code] : "UNKNOWN";
}
