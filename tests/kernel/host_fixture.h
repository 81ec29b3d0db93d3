// SPDX-License-Identifier: Apache-2.0
/* The plugins that host_test.c hands to the host, and what their callbacks saw. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/plugin.h"

struct test_row {
	uint64_t ts, n;
};
/* What the callbacks saw; one instance at a time. */
struct seen {
	unsigned int setups, starts, ticks, stops, updates;
	uint64_t forks, selfs, floods, calls, calls_ok, rows, row_sum, last_row_ts, losses;
	char last_event[64], last_actor[32];
	bool serving, order_ok;
	int ring_fd; /* of the run that started last */
};
extern struct seen seen;

extern const struct table test_table, live_table;
extern const struct plugin plugin_host_plugin, plugin_host_never;
