// SPDX-License-Identifier: Apache-2.0
/* Shared by selftables.c and live.c alone. */
#pragma once

#include "daemon/table_rows.h"
#include "daemon/tables.h"

enum self_history {
	SELF_LOSS,
	SELF_DECISIONS,
	SELF_EVENTS,
	SELF_COST,
	SELF_HISTORY_MAX,
};

struct selftables {
	struct daemon *d;
	struct self_out {
		const struct table *table;
		struct batch *batch;
		uint64_t last_ts;
	} out[SELF_HISTORY_MAX];
	uint64_t *drops; /* by index of d->tables: what is told already */
	uint64_t seconds; /* since start */
	uint64_t lost;	 /* rows of our own for which no memory was left */
};
