// SPDX-License-Identifier: Apache-2.0
/* Shared by the config*.c files alone. */
#pragma once

#include "daemon/config.h"

/* One table of options with its values: the daemon's own, then one per plugin. */
struct section {
	const struct plugin *plugin; /* NULL: the daemon's own */
	const struct opt *table;
	struct opt *owned_table;
	size_t n;
	struct opt_set *values;
};

struct config {
	struct config_source source;
	size_t nsections;
	struct section *sections;
};

/* The full key as users write it: "plugins.netflow.interval"; returns dst. */
const char *config_full_key(const struct section *s, const char *key, char *dst, size_t cap);

/* config_env.c */
int config_load_env(struct config *c, struct err *err);
/* config_state.c: never fails, what makes no sense is logged and left where it is. */
void config_load_state(struct config *c);
