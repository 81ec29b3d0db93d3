// SPDX-License-Identifier: Apache-2.0
/* What several verbs say about plugins. */
#pragma once

#include "clients/ringside/cli.h"
#include "ringside/v1/plugin.pb-c.h"

const char *plugin_state_text(Ringside__V1__PluginState state);
bool plugin_runs(const Ringside__V1__Plugin *p);
/* All plugins; 0 or an exit code with the sentence printed. */
int plugin_list(struct cli *cli, Ringside__V1__ListPluginsResponse **ret);
uint64_t timestamp_ns(const Google__Protobuf__Timestamp *t);
/* TIME cell, NULL when unset. */
struct cell cell_timestamp(const Google__Protobuf__Timestamp *t);
