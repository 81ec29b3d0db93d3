// SPDX-License-Identifier: Apache-2.0
/* What the API asks of the daemon: answers on its worker threads, by way of the loop where that
 * owns the state. */
#pragma once

#include "api/ops.h"

/* ctx is the struct daemon. */
extern const struct api_ops control_ops;

struct daemon;
/* For the query engine: the rows of a live table now. Any thread but the loop's. */
int control_snapshot(void *ctx, const struct table *table, struct batch **ret, struct err *err);
