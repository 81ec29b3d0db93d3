// SPDX-License-Identifier: Apache-2.0
/* google.rpc codes without a grpc header, and their mapping to and from errno. */
#pragma once

enum rpc_code {
	RPC_OK = 0,
	RPC_CANCELLED = 1,
	RPC_UNKNOWN = 2,
	RPC_INVALID_ARGUMENT = 3,
	RPC_DEADLINE_EXCEEDED = 4,
	RPC_NOT_FOUND = 5,
	RPC_ALREADY_EXISTS = 6,
	RPC_PERMISSION_DENIED = 7,
	RPC_RESOURCE_EXHAUSTED = 8,
	RPC_FAILED_PRECONDITION = 9,
	RPC_ABORTED = 10,
	RPC_OUT_OF_RANGE = 11,
	RPC_UNIMPLEMENTED = 12,
	RPC_INTERNAL = 13,
	RPC_UNAVAILABLE = 14,
	RPC_DATA_LOSS = 15,
	RPC_UNAUTHENTICATED = 16,
};

/* As base/err.h says; r is negative. */
enum rpc_code rpc_code_from_errno(int r);
/* Never -EAGAIN: that is "not yet" for streams. */
int rpc_code_to_errno(int code);
/* "OK", "INVALID_ARGUMENT", ... */
const char *rpc_code_name(enum rpc_code code);
