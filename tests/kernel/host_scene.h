// SPDX-License-Identifier: Apache-2.0
/* A plugin host of the tests' own, on a loop that they turn. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/host.h"

struct fixture {
	char dir[64], state_dir[96];
	const char *flags[2];
	struct config_source source;
	struct config *config;
	sd_event *loop;
	struct host *host;
	uint64_t store_ts;
};

void make_host(struct fixture *f);
void drop_host(struct fixture *f);
/* cmocka's: *state is a fixture. */
int setup(void **state);
int teardown(void **state);
void turn(struct fixture *f, uint64_t ms);
/* Plugin host_plugin, which must do as it is told. */
void enable(struct fixture *f, const struct keyval *options, size_t n);
void disable(struct fixture *f);
struct plugin_info info_of(struct fixture *f, const struct plugin *p);
