// SPDX-License-Identifier: Apache-2.0
/* Field by field from api/ops.h to ringside.v1. */
#include "api/convert.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"

static_assert((int)COLUMN_IP == RINGSIDE__V1__COLUMN_TYPE__COLUMN_TYPE_IP, "enum column_type follows the proto");
static_assert((int)KIND_DELTA == RINGSIDE__V1__COLUMN_KIND__COLUMN_KIND_DELTA, "enum column_kind follows the proto");
static_assert((int)SENSITIVITY_SECRET == RINGSIDE__V1__COLUMN_SENSITIVITY__COLUMN_SENSITIVITY_SECRET,
	      "enum column_sensitivity follows the proto");
static_assert((int)TABLE_METRIC == RINGSIDE__V1__TABLE_CLASS__TABLE_CLASS_METRIC, "enum table_class follows the proto");
static_assert((int)PLUGIN_STATE_UNSUPPORTED == RINGSIDE__V1__PLUGIN_STATE__PLUGIN_STATE_UNSUPPORTED,
	      "enum plugin_state follows the proto");

char *msg_text(struct arena *a, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	char *copy;

	if (!text)
		return (char *)protobuf_c_empty_string;
	if (utf8_valid(text, len))
		return (char *)text;
	copy = arena_alloc(a, len * 3 + 1);
	if (!copy)
		return (char *)protobuf_c_empty_string;
	utf8_sanitize(copy, len * 3 + 1, text, len);
	return copy;
}

Google__Protobuf__Timestamp *msg_timestamp(struct arena *a, uint64_t epoch_ns)
{
	Google__Protobuf__Timestamp *t;

	if (!epoch_ns)
		return NULL;
	t = MSG_NEW(a, Google__Protobuf__Timestamp, google__protobuf__timestamp__init);
	if (t) {
		t->seconds = (int64_t)(epoch_ns / NSEC_PER_SEC);
		t->nanos = (int32_t)(epoch_ns % NSEC_PER_SEC);
	}
	return t;
}

static Ringside__V1__Option *msg_option(struct arena *a, const struct plugin_option_info *o)
{
	Ringside__V1__Option *m = MSG_NEW(a, Ringside__V1__Option, ringside__v1__option__init);

	if (!m)
		return NULL;
	m->key = msg_text(a, o->key);
	m->type = msg_text(a, o->type);
	m->value = msg_text(a, o->value);
	m->default_ = msg_text(a, o->def);
	m->origin = msg_text(a, o->origin);
	m->help = msg_text(a, o->help);
	m->restart = o->restart;
	return m;
}

static Ringside__V1__Program *msg_program(struct arena *a, const struct plugin_program_info *p)
{
	Ringside__V1__Program *m = MSG_NEW(a, Ringside__V1__Program, ringside__v1__program__init);

	if (!m)
		return NULL;
	m->name = msg_text(a, p->name);
	m->section = msg_text(a, p->section);
	m->attach = msg_text(a, p->attach);
	m->attached = p->attached;
	m->id = p->id;
	m->run_count = p->run_count;
	m->run_time = p->run_time_ns;
	m->missed_runs = p->missed_runs;
	return m;
}

static Ringside__V1__PluginStats *msg_plugin_stats(struct arena *a, const struct plugin_info *p)
{
	Ringside__V1__PluginStats *m = MSG_NEW(a, Ringside__V1__PluginStats, ringside__v1__plugin_stats__init);

	if (!m)
		return NULL;
	m->events = p->events;
	m->rows = p->rows;
	m->kernel_drops = p->kernel_drops;
	m->rows_dropped = p->rows_dropped;
	m->decode_errors = p->decode_errors;
	m->map_bytes = p->map_bytes;
	m->ring_bytes = p->ring_bytes;
	m->run_count = p->run_count;
	m->run_time = p->run_time_ns;
	m->missed_runs = p->missed_runs;
	m->user_time = p->user_time_ns;
	m->rows_stored = p->rows_stored;
	m->bytes_stored = p->bytes_stored;
	return m;
}

static int add_lists(struct arena *a, Ringside__V1__Plugin *m, const struct plugin_info *p)
{
	m->tables = arena_alloc(a, sizeof(*m->tables) * p->ntables);
	m->options = arena_alloc(a, sizeof(*m->options) * p->noptions);
	m->programs = arena_alloc(a, sizeof(*m->programs) * p->nprograms);
	if (!m->tables || !m->options || !m->programs)
		return -1;
	for (unsigned int i = 0; i < p->ntables; i++)
		m->tables[m->n_tables++] = msg_text(a, p->tables[i]);
	for (unsigned int i = 0; i < p->noptions; i++) {
		m->options[m->n_options] = msg_option(a, &p->options[i]);
		if (!m->options[m->n_options++])
			return -1;
	}
	for (unsigned int i = 0; i < p->nprograms; i++) {
		m->programs[m->n_programs] = msg_program(a, &p->programs[i]);
		if (!m->programs[m->n_programs++])
			return -1;
	}
	return 0;
}

Ringside__V1__Plugin *msg_plugin(struct arena *a, const struct plugin_info *p)
{
	Ringside__V1__Plugin *m = MSG_NEW(a, Ringside__V1__Plugin, ringside__v1__plugin__init);

	if (!m || add_lists(a, m, p) < 0)
		return NULL;
	m->name = msg_text(a, p->name);
	m->help = msg_text(a, p->help);
	m->needs = msg_text(a, p->needs);
	m->state = (Ringside__V1__PluginState)p->state;
	m->reason = msg_text(a, p->reason);
	m->hook = msg_text(a, p->hook);
	m->stats = msg_plugin_stats(a, p);
	m->persisted = p->persisted;
	m->enabled_at = msg_timestamp(a, p->enabled_at_ns);
	m->disable_at = msg_timestamp(a, p->disable_at_ns);
	m->etag = msg_text(a, p->etag);
	return m->stats ? m : NULL;
}

char *msg_bytes_limit(struct arena *a, uint64_t bytes, const char *suffix)
{
	static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
	size_t u = 0;
	char *text;

	if (!bytes)
		return (char *)protobuf_c_empty_string;
	text = arena_alloc(a, 40);
	if (!text)
		return (char *)protobuf_c_empty_string;
	while (u + 1 < ARRAY_SIZE(units) && bytes % 1024 == 0) {
		bytes /= 1024;
		u++;
	}
	snprintf(text, 40, "%" PRIu64 "%s%s", bytes, units[u], suffix);
	return text;
}

static char *cpu_limit(struct arena *a, uint64_t millicores)
{
	char *text;

	if (!millicores)
		return (char *)protobuf_c_empty_string;
	text = arena_alloc(a, 40);
	if (!text)
		return (char *)protobuf_c_empty_string;
	if (millicores % 100)
		snprintf(text, 40, "%" PRIu64 ".%03u", millicores / 1000, (unsigned int)(millicores % 1000));
	else
		snprintf(text, 40, "%" PRIu64 ".%u", millicores / 1000, (unsigned int)(millicores % 1000 / 100));
	return text;
}

static Ringside__V1__ResourceUsage *msg_usage(struct arena *a, const char *resource, bool known, uint64_t usage,
					      uint64_t limit, const char *unit)
{
	Ringside__V1__ResourceUsage *m = MSG_NEW(a, Ringside__V1__ResourceUsage, ringside__v1__resource_usage__init);

	if (!m)
		return NULL;
	m->resource = (char *)resource;
	m->known = known;
	m->usage = usage;
	m->limit = limit;
	m->unit = (char *)unit;
	return m;
}

Ringside__V1__Governor *msg_governor(struct arena *a, const struct governor_info *g)
{
	Ringside__V1__Governor *m = MSG_NEW(a, Ringside__V1__Governor, ringside__v1__governor__init);
	Ringside__V1__Limits *l = MSG_NEW(a, Ringside__V1__Limits, ringside__v1__limits__init);

	if (!m || !l)
		return NULL;
	m->limits = l;
	l->cpu_limit = cpu_limit(a, g->cpu_limit);
	l->mem_limit = msg_bytes_limit(a, g->mem_limit, "");
	l->net_limit = msg_bytes_limit(a, g->net_limit, "/s");
	l->limit_action = msg_text(a, g->limit_action);
	l->net_limit_scope = msg_text(a, g->net_limit_scope);
	l->kernel_cpu_limit = cpu_limit(a, g->kernel_cpu_limit);
	m->resources = arena_alloc(a, 4 * sizeof(*m->resources));
	if (!m->resources)
		return NULL;
	m->n_resources = 4;
	m->resources[0] = msg_usage(a, "cpu", g->cpu_known, g->cpu_usage, g->cpu_limit, "m{cpu}");
	m->resources[1] = msg_usage(a, "mem", g->mem_known, g->mem_usage, g->mem_limit, "By");
	m->resources[2] = msg_usage(a, "net", g->net_known, g->net_usage, g->net_limit, "By/s");
	m->resources[3] = msg_usage(a, "kernel_cpu", g->kernel_cpu_known, g->cpu_bpf, g->kernel_cpu_limit, "m{cpu}");
	if (!m->resources[0] || !m->resources[1] || !m->resources[2] || !m->resources[3])
		return NULL;
	m->state = msg_text(a, g->state);
	m->cpu_bpf = g->cpu_bpf;
	m->rss = g->rss_bytes;
	m->bpf_map_bytes = g->bpf_map_bytes;
	m->cgroup = msg_text(a, g->cgroup);
	m->last_event = msg_text(a, g->last_event);
	m->net_interface = msg_text(a, g->net_interface);
	return m;
}

static Ringside__V1__Column *msg_column(struct arena *a, const struct field *f)
{
	Ringside__V1__Column *m = MSG_NEW(a, Ringside__V1__Column, ringside__v1__column__init);

	if (!m)
		return NULL;
	m->name = msg_text(a, f->name);
	m->type = (Ringside__V1__ColumnType)f->type;
	m->unit = msg_text(a, f->unit);
	m->kind = (Ringside__V1__ColumnKind)f->kind;
	m->sensitivity = (Ringside__V1__ColumnSensitivity)f->sensitivity;
	m->help = msg_text(a, f->help);
	return m;
}

Ringside__V1__Table *msg_table(struct arena *a, const struct table *t, const char *plugin)
{
	Ringside__V1__Table *m = MSG_NEW(a, Ringside__V1__Table, ringside__v1__table__init);

	if (!m)
		return NULL;
	m->name = msg_text(a, t->name);
	m->summary = msg_text(a, t->summary);
	m->class_ = (Ringside__V1__TableClass)t->class;
	m->plugin = msg_text(a, plugin);
	m->columns = arena_alloc(a, t->nfields * sizeof(*m->columns));
	if (!m->columns)
		return NULL;
	for (uint32_t i = 0; i < t->nfields; i++) {
		m->columns[i] = msg_column(a, &t->fields[i]);
		if (!m->columns[i])
			return NULL;
	}
	m->n_columns = t->nfields;
	return m;
}

void msg_completeness(Ringside__V1__Completeness *m, const struct api_query_loss *loss)
{
	ringside__v1__completeness__init(m);
	m->table = (char *)loss->table;
	m->rows_lost = loss->rows;
	m->since = (int64_t)loss->since_ns;
	m->from = (int64_t)loss->from_ns;
	m->until = (int64_t)loss->until_ns;
	m->rows_held = loss->held == UINT64_MAX ? 0 : loss->held;
	if (loss->why)
		m->why = (char *)loss->why;
}
