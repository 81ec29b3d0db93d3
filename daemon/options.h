// SPDX-License-Identifier: Apache-2.0
/* The daemon's own options: the one table behind file, environment, flags, RPC and documentation.
 */
#pragma once

#include <stdio.h>

#include "base/opt.h"

struct plugin;

enum bpf_stats { BPF_STATS_SAMPLED, BPF_STATS_ALWAYS };

/* {}-terminated. Keys without a dot stand at the top of the file, "a.b" in section [a]. */
extern const struct opt daemon_options[];

/* Reference page of all options, those of plugins included, as Markdown. */
void options_dump_markdown(FILE *out);
/* A configuration file in which every option stands commented out with its default. */
void options_dump_toml(FILE *out);
