// SPDX-License-Identifier: Apache-2.0
/* One error text for log, command line and gRPC status. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	e->code = code;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char old[sizeof(e->msg)];
	size_t len, rest;
	va_list ap;

	if (!e)
		return 0;
	memcpy(old, e->msg, sizeof(old));
	old[sizeof(old) - 1] = '\0';
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);

	len = strlen(e->msg);
	rest = sizeof(e->msg) - len;
	if (len && e->msg[len - 1] != ' ')
		snprintf(e->msg + len, rest, e->msg[len - 1] == ':' ? " %s" : ": %s", old);
	else
		snprintf(e->msg + len, rest, "%s", old);
	return e->code;
}
