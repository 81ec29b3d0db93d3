// SPDX-License-Identifier: Apache-2.0
/* What the loads that touch files share: an end with a reason, and names by number. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Good until the fourth one after it. */
static const char *name(const char *prefix, int i)
{
	static char names[4][64];
	static int next;
	char *n = names[next++ % 4];

	snprintf(n, sizeof(names[0]), "%s-%d", prefix, i);
	return n;
}
