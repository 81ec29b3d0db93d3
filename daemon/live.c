// SPDX-License-Identifier: Apache-2.0
/* Live tables about Ringside itself: rows made when somebody asks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/bus.h"
#include "daemon/daemon.h"
#include "daemon/enrich.h"
#include "daemon/host.h"
#include "daemon/names.h"
#include "daemon/probe.h"
#include "daemon/redact.h"
#include "daemon/selftables.h"
#include "daemon/tags.h"
#include "governor/cgroup.h"
#include "governor/governor.h"
#include "store/store.h"

static struct str text(struct batch *b, const char *s)
{
	return s && *s ? batch_str(b, s, strlen(s)) : (struct str){0};
}

static uint64_t plugin_rows_dropped(struct daemon *d, const struct plugin *p)
{
	uint64_t n = 0;

	for (unsigned int i = 0; p->tables && p->tables[i]; i++)
		n += bus_dropped(d->bus, p->tables[i]);
	return n;
}

static uint64_t plugin_rows_redacted(struct daemon *d, const struct plugin *p)
{
	uint64_t n = 0;

	for (unsigned int i = 0; p->tables && p->tables[i]; i++)
		n += redact_rows(d->redact, p->tables[i]);
	return n;
}

static int live_redaction(struct daemon *d, struct batch *b)
{
	struct redact_view v;

	for (unsigned int i = 0; redact_get(d->redact, i, &v); i++) {
		struct redaction_row *row = batch_add(b);

		if (!row)
			return -ENOBUFS;
		row->rule = text(b, v.rule);
		row->place = text(b, v.where);
		row->cells = v.cells;
	}
	return 0;
}

static int live_plugins(struct daemon *d, struct batch *b)
{
	for (unsigned int i = 0; plugins[i]; i++) {
		struct plugins_row *row = batch_add(b);
		struct plugin_info info;

		if (!row)
			return -ENOBUFS;
		host_info(d->host, plugins[i], &info);
		row->name = text(b, info.name);
		row->state = (uint8_t)(info.state - 1);
		row->reason = text(b, info.reason);
		row->hook = text(b, info.hook);
		row->enabled_at = info.enabled_at_ns;
		row->disable_at = info.disable_at_ns;
		row->persisted = info.persisted;
		row->events = info.events;
		row->rows = info.rows;
		row->kernel_drops = info.kernel_drops;
		row->decode_errors = info.decode_errors;
		row->filtered = info.filtered;
		row->rows_dropped = info.rows_dropped + plugin_rows_dropped(d, plugins[i]);
		row->programs = info.nprograms;
		row->run_count = info.run_count;
		row->run_time = info.run_time_ns;
		row->missed_runs = info.missed_runs;
		row->user_time = info.user_time_ns;
		row->rows_stored = info.rows_stored;
		row->bytes_stored = info.bytes_stored;
		row->sampled = info.sampled;
		row->rows_redacted = plugin_rows_redacted(d, plugins[i]);
		row->map_bytes = info.map_bytes;
		row->ring_bytes = info.ring_bytes;
	}
	return 0;
}

static int live_plugin_programs(struct daemon *d, struct batch *b)
{
	for (unsigned int i = 0; plugins[i]; i++) {
		struct plugin_info info;

		host_info(d->host, plugins[i], &info);
		for (unsigned int k = 0; k < info.nprograms; k++) {
			const struct plugin_program_info *p = &info.programs[k];
			struct plugin_programs_row *row = batch_add(b);

			if (!row)
				return -ENOBUFS;
			row->plugin = text(b, info.name);
			row->program = text(b, p->name);
			row->section = text(b, p->section);
			row->attached = p->attached;
			row->prog_id = p->id;
			row->run_count = p->run_count;
			row->run_time = p->run_time_ns;
			row->missed_runs = p->missed_runs;
			row->run_time_avg =
				p->run_count ? (double)p->run_time_ns / (double)p->run_count : 0;
		}
	}
	return 0;
}

struct costs {
	struct batch *batch;
	int r;
};

static void on_cost_now(void *arg, const struct plugin_cost *c)
{
	struct costs *costs = arg;
	struct plugin_cost_row *row = batch_add(costs->batch);

	if (row)
		selftables_fill_cost(costs->batch, row, c);
	else
		costs->r = -ENOBUFS;
}

static int live_plugin_cost(struct daemon *d, struct batch *b)
{
	struct costs costs = {.batch = b};

	host_costs_now(d->host, on_cost_now, &costs);
	return costs.r;
}

static int sink_store(struct daemon *d, struct batch *b, enum ring_id ring, const char *name)
{
	struct sinks_row *row = batch_add(b);
	struct store_stats s;

	if (!row)
		return -ENOBUFS;
	store_get_stats(d->store, ring, &s);
	row->name = text(b, name);
	row->state = text(b, s.state);
	row->batches = s.batches;
	row->rows = s.rows;
	row->rows_dropped = s.rows_refused + s.rows_lost;
	row->queue_len = s.queue_len;
	row->queue_cap = s.queue_cap;
	row->bytes = s.bytes;
	row->errors = s.errors;
	return 0;
}

/* The store's two rings speak for themselves; the others are known by the bus. */
static int live_sinks(struct daemon *d, struct batch *b)
{
	struct bus_sink_stats stats[16];
	unsigned int n = bus_stats(d->bus, stats, 16);
	int r;

	r = sink_store(d, b, RING_FLOW, "store_flow");
	if (r == 0)
		r = sink_store(d, b, RING_AUDIT, "store_audit");
	for (unsigned int i = 0; r == 0 && i < n && i < 16; i++) {
		struct sinks_row *row;

		if (strcmp(stats[i].name, "store") == 0)
			continue;
		row = batch_add(b);
		if (!row)
			return -ENOBUFS;
		row->name = text(b, stats[i].name);
		row->state = text(b, "ok");
		row->batches = stats[i].batches;
		row->rows = stats[i].rows;
		row->rows_dropped = stats[i].rows_dropped;
	}
	return r;
}

static int live_governor(struct daemon *d, struct batch *b)
{
	static const char *const units[RESOURCE_X_MAX] = {"m", "By", "By/s", "m"};
	struct policy_limits limits;
	struct governor_usage usage;
	enum governor_level level;

	governor_get(d->governor, &limits, &usage, &level);
	for (unsigned int i = 0; i < RESOURCE_X_MAX; i++) {
		struct governor_row *row = batch_add(b);

		if (!row)
			return -ENOBUFS;
		row->resource = text(b, resource_name(i));
		row->state = text(b, governor_level_name(level));
		row->usage = usage.sample.valid[i] ? usage.sample.value[i] : UINT64_MAX;
		row->limit_value = limits.limit[i];
		row->unit = text(b, units[i]);
		row->scope = i == RESOURCE_NET ? text(b, net_scope_names[limits.net_scope])
					       : (struct str){0};
		row->action = text(b, limit_action_names[limits.action]);
		row->cgroup = text(b, cgroup_describe(d->place));
	}
	return 0;
}

static int live_capabilities(struct daemon *d, struct batch *b)
{
	struct capability_info caps[40];
	unsigned int n = probe_capabilities(d->probe, caps, 40);

	for (unsigned int i = 0; i < n && i < 40; i++) {
		struct capabilities_row *row = batch_add(b);

		if (!row)
			return -ENOBUFS;
		row->name = text(b, caps[i].name);
		row->available = caps[i].available;
		row->detail = text(b, caps[i].detail);
	}
	return 0;
}

static int live_segments(struct daemon *d, struct batch *b)
{
	_cleanup_free_ struct segment_info *segments = NULL;
	unsigned int cap = 64, n;

	segments = calloc(cap, sizeof(*segments));
	if (!segments)
		return -ENOMEM;
	n = store_segments(d->store, segments, cap);
	for (unsigned int i = 0; i < n && i < cap; i++) {
		struct segments_row *row = batch_add(b);

		if (!row)
			return -ENOBUFS;
		row->ring = (uint8_t)segments[i].ring;
		row->number = segments[i].number;
		row->live = segments[i].live;
		row->ts_min = segments[i].ts_min;
		row->ts_max = segments[i].ts_max;
		row->rows = segments[i].rows;
		row->bytes = segments[i].bytes;
		row->path = text(b, segments[i].path);
	}
	return 0;
}

static int on_name(void *arg, const struct name_view *v)
{
	struct batch *b = arg;
	struct names_row *row = batch_add(b);

	if (!row)
		return -ENOBUFS;
	row->netns = v->netns;
	row->ip = v->ip;
	row->name = text(b, v->name);
	row->origin = v->origin;
	row->learned_at = clock_boot_to_real(v->learned_ns);
	row->expires_at = clock_boot_to_real(v->expires_ns);
	row->hits = v->hits;
	if (row->name.len)
		return 0;
	batch_drop_last(b);
	return -ENOBUFS;
}

static int live_names(struct daemon *d, struct batch *b)
{
	return names_each(enrich_names(d->enrich), clock_boot_ns(), on_name, b);
}

static int live_names_stats(struct daemon *d, struct batch *b)
{
	struct names_stats *row = batch_add(b);

	if (!row)
		return -ENOBUFS;
	names_get_stats(enrich_names(d->enrich), row);
	return 0;
}

static int live_tags(struct daemon *d, struct batch *b)
{
	_cleanup_(tags_freep) struct tags *tags = NULL;
	int r = tags_new(&tags, config_daemon(d->config), NULL); /* checked when it was read */

	for (size_t i = 0; r == 0 && i < tags_count(tags); i++) {
		struct tags_row *row = batch_add(b);

		if (!row)
			return -ENOBUFS;
		row->key = text(b, tags_key(tags, i));
		row->value = text(b, tags_value(tags, i));
	}
	return r;
}

int selftables_snapshot(struct selftables *t, const struct table *table, struct batch *batch)
{
	static const struct {
		const struct table *table;
		int (*fill)(struct daemon *d, struct batch *b);
	} live[] = {
		{&plugins_table, live_plugins},	  {&plugin_cost_table, live_plugin_cost},
		{&plugin_programs_table, live_plugin_programs},
		{&sinks_table, live_sinks},	  {&governor_table, live_governor},
		{&segments_table, live_segments}, {&capabilities_table, live_capabilities},
		{&tags_table, live_tags},
		{&redaction_table, live_redaction},
		{&names_table, live_names},	  {&names_stats_table, live_names_stats},
	};

	for (size_t i = 0; i < ARRAY_SIZE(live); i++)
		if (live[i].table == table)
			return live[i].fill(t->d, batch);
	return -ENOENT;
}
