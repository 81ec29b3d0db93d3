// SPDX-License-Identifier: Apache-2.0
/* The daemon's command line: a few words of its own, and a flag for every option of the table. */
#pragma once

#include <stddef.h>

#include "base/err.h"

enum args_mode {
	ARGS_RUN,
	ARGS_HELP,
	ARGS_VERSION,
	ARGS_CHECK_CONFIG,
	ARGS_DUMP_MARKDOWN,
	ARGS_DUMP_TOML,
	ARGS_DUMP_TABLES,
};

struct args {
	enum args_mode mode;
	const char *config_file; /* NULL: nobody named one */
	char **assignments;	 /* "key=value", for config_load(); owned */
	size_t nassignments;
};

/* -EINVAL: unknown flag (with the nearest), missing value, stray word. */
int args_parse(struct args *a, int argc, char **argv, struct err *err);
void args_free(struct args *a);
void args_print_help(void);
