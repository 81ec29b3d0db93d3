// SPDX-License-Identifier: Apache-2.0
/* One error text for log, command line and gRPC status. */
#pragma once

#include "base/macro.h"

/*
 * code is a negative errno. The API maps it to a google.rpc code:
 * EINVAL INVALID_ARGUMENT, ENOENT NOT_FOUND, EEXIST ALREADY_EXISTS, EOPNOTSUPP FAILED_PRECONDITION,
 * EPERM and EACCES PERMISSION_DENIED, ENOBUFS, ENOMEM and E2BIG RESOURCE_EXHAUSTED, ETIMEDOUT
 * DEADLINE_EXCEEDED, ECANCELED CANCELLED, ESHUTDOWN UNAVAILABLE, ENOSYS UNIMPLEMENTED, the rest INTERNAL.
 * msg names the input and the mend: "mem_limit '4gigs': unknown unit 'gigs', use K, KiB, M, MiB, G or GiB".
 */
struct err {
	int code;
	char msg[256];
};

/* Fills *e (NULL is allowed) and returns code. */
int err_set(struct err *e, int code, const char *fmt, ...) _printf_(3, 4);

/*
 * Puts context in front of what *e says, with ": " between unless fmt brings it: ("plugin %s", "netflow") makes
 * "plugin netflow: ..."; returns e->code, 0 without e.
 */
int err_prefix(struct err *e, const char *fmt, ...) _printf_(2, 3);
