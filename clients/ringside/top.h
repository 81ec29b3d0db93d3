// SPDX-License-Identifier: Apache-2.0
/* What the parts of "ringside top" share: the frame that is being drawn. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <termios.h>

#include "clients/ringside/cli.h"
#include "clients/ringside/out.h"
#include "ringside/v1/daemon.pb-c.h"
#include "ringside/v1/plugin.pb-c.h"

#define TOP_MAX_ROWS 1000u

/* Of one plugin, when the frame before was drawn. */
struct top_cost {
	char name[48];
	uint64_t run_count, run_time, events, user_time, bytes_stored;
	uint64_t at;
};

struct top {
	struct cli *cli;
	Ringside__V1__GetDaemonResponse *daemon;
	uint64_t interval_ns, window_ns, end_ns, rows;
	struct top_cost costs[64]; /* of the frame before */
	size_t ncosts;
	FILE *screen; /* the frame being composed */
	char *text;
	size_t len;
	size_t width, height;
	struct termios saved;
	bool raw;
};

/* A table within the frame. 0 or -ENOMEM. */
int top_out(struct top *t, struct out **ret);
/* What plugins did since the frame before; those that are off on one line. 0 or an exit code. */
int top_put_plugins(struct top *t, const Ringside__V1__ListPluginsResponse *list);
/* The flows of the window, that many rows at most. 0 or an exit code. */
int top_put_flows(struct top *t, const Ringside__V1__ListPluginsResponse *list, size_t rows);
