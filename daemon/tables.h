// SPDX-License-Identifier: Apache-2.0
/* Tables about Ringside itself: plugins, sinks, governor, capabilities, segments; what was lost,
 * decided and done. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "bpf/batch.h"
#include "bpf/table.h"

struct daemon;
struct governor_event;
struct selftables;

extern const struct table plugins_table, plugin_cost_table, plugin_programs_table, sinks_table, governor_table,
	capabilities_table, segments_table, tags_table, names_table, names_stats_table, loss_table, ledger_table,
	governor_decisions_table, daemon_events_table, access_log_table, redaction_table, plugin_cost_history_table;
/* All of them; NULL-terminated. */
extern const struct table *const self_tables[];

/* Tables of all plugins, running or not, then our own; allocated, NULL-terminated. */
int tables_all(const struct table ***ret);

int selftables_new(struct selftables **ret, struct daemon *d);
void selftables_free(struct selftables *t);

/* Once the store is up: our rows go on behind those that it holds. */
void selftables_seed(struct selftables *t);

/* Rows of one of our live tables now. Loop thread. -ENOENT: not one of ours. -ENOBUFS: larger
 * batch, please. */
int selftables_snapshot(struct selftables *t, const struct table *table, struct batch *batch);
/* Each second on the loop thread: accounts costs and losses, publishes what was gathered. */
void selftables_second(struct selftables *t);
/* Publishes what was gathered. Loop thread. */
void selftables_flush(struct selftables *t);

/* One row of daemon_events. Loop thread. Texts may be NULL. */
void selftables_event(struct selftables *t, const char *event, const char *subject,
		      const char *detail, const char *actor);
/* The same from any other thread, by way of the loop. */
void selftables_event_post(struct selftables *t, const char *event, const char *subject,
			   const char *detail, const char *actor);
/* One row of governor_decisions: message instead of the event's text, and the plugin that it is
 * about or "". Loop thread. */
void selftables_decision(struct selftables *t, const struct governor_event *event,
			 const char *message, const char *plugin);

struct host_sampling;
/* The same of a plugin that leaves out more of one cgroup than of others, or did until then. */
void selftables_sampling(struct selftables *t, const struct governor_event *event,
			 const struct host_sampling *sampling);

/* Reference page of all tables, those of plugins included, as Markdown. */
void tables_dump_markdown(FILE *out);
