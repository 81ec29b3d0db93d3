// SPDX-License-Identifier: Apache-2.0
/* Shared by selftables.c, ledger.c and live.c alone. */
#pragma once

#include "daemon/table_rows.h"
#include "daemon/tables.h"

/* Few rows a second; a batch that is full is published and followed by another. */
#define SELF_BATCH_ROWS 64

enum self_history {
	SELF_LOSS,
	SELF_LEDGER,
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
	struct ledger *ledger;
	uint64_t seconds; /* since start */
	uint64_t lost;	  /* rows of our own for which no memory was left */
};

/* The next row, and the batch that it is in; NULL when out of memory (counted). */
void *selftables_row(struct selftables *t, enum self_history which, struct batch **ret);

struct plugin_cost;
/* selftables.c: all but ts. */
void selftables_fill_cost(struct batch *b, struct plugin_cost_row *row, const struct plugin_cost *c);

/* ledger.c: the tables "loss" and "ledger". Loop thread. */
struct ledger *ledger_new(const struct daemon *d);
void ledger_free(struct ledger *l);
/* Something for "loss"; for host_account(). The texts are static. */
void ledger_lost(void *selftables, const char *table, const char *plugin, const char *stage,
		 uint64_t lost);
/* Each second, after host_account(): what was lost, and what became of all that plugins saw. */
void ledger_second(struct selftables *t);
