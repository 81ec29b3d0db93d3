// SPDX-License-Identifier: Apache-2.0
/* Filters by path for plugins whose programs include bpf/lib/path_filter.bpf.h. Loop thread. */
#pragma once

#include <stdbool.h>

#include "bpf/lib/path_filter.h"
#include "bpf/plugin.h"

/* Entries for the option table; both live. */
/* clang-format off */
#define PATH_OPTIONS                                                                          \
	{.key = "paths", .type = OPT_LIST,                                                    \
	 .help = "only what is at these absolute paths or below; symbolic links in them "     \
		 "aren't followed"},                                                          \
	{.key = "exclude_paths", .type = OPT_LIST,                                            \
	 .help = "nothing at these paths or below"}
/* clang-format on */

/*
 * Hands the lists to the programs: from start, and from update when path_filter_has(key). All of
 * the new ones or, on failure, all of the old ones are in force.
 */
int path_filter_apply(struct instance *in, struct err *err);
bool path_filter_has(const char *key);
