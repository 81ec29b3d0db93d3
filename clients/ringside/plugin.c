// SPDX-License-Identifier: Apache-2.0
/* ringside plugin: list, show and check. */
#include "clients/ringside/plugin.h"

#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "clients/ringside/props.h"

#define SERVICE "/ringside.v1.PluginService/"

const char *plugin_state_text(Ringside__V1__PluginState state)
{
	static const char *const names[] = {"unknown",	"disabled", "starting",	  "running",
					    "degraded", "failed",   "unsupported"};

	return (unsigned int)state < ARRAY_SIZE(names) ? names[state] : names[0];
}

bool plugin_runs(const Ringside__V1__Plugin *p)
{
	return p->state == RINGSIDE__V1__PLUGIN_STATE__PLUGIN_STATE_RUNNING ||
	       p->state == RINGSIDE__V1__PLUGIN_STATE__PLUGIN_STATE_DEGRADED;
}

uint64_t timestamp_ns(const Google__Protobuf__Timestamp *t)
{
	return t && t->seconds > 0 ? (uint64_t)t->seconds * NSEC_PER_SEC + (uint64_t)t->nanos : 0;
}

struct cell cell_timestamp(const Google__Protobuf__Timestamp *t)
{
	uint64_t ns = timestamp_ns(t);

	return ns ? cell_uint(ns) : cell_null();
}

int plugin_list(struct cli *cli, Ringside__V1__ListPluginsResponse **ret)
{
	Ringside__V1__ListPluginsRequest request = RINGSIDE__V1__LIST_PLUGINS_REQUEST__INIT;

	return cli_call(cli, SERVICE "ListPlugins", &request,
			&ringside__v1__list_plugins_response__descriptor, "listing plugins", ret);
}

/* NULL where nothing ran yet. */
static struct cell cost_ns(const Ringside__V1__PluginStats *s)
{
	return s && s->run_count ? cell_uint(s->run_time / s->run_count) : cell_null();
}

/* ns since it was enabled; 0: not known. */
static uint64_t enabled_for(const Ringside__V1__Plugin *p)
{
	uint64_t since = timestamp_ns(p->enabled_at), now = clock_real_ns();

	return since && now > since ? now - since : 0;
}

/* Share of one core since it was enabled, in percent. */
static struct cell cost_cpu(const Ringside__V1__Plugin *p, uint64_t time_ns)
{
	uint64_t elapsed = enabled_for(p);

	if (!elapsed || !time_ns)
		return cell_null();
	/* Thousandths are what a glance needs; more would only look exact. */
	return cell_real((double)(uint64_t)(1e5 * (double)time_ns / (double)elapsed) / 1000.0);
}

/* A second, since it was enabled. */
static struct cell cost_rate(const Ringside__V1__Plugin *p, uint64_t n)
{
	uint64_t elapsed = enabled_for(p);

	return elapsed ? cell_uint((uint64_t)((double)n * 1e9 / (double)elapsed)) : cell_null();
}

int verb_plugin_list(struct cli *cli, const struct args *args _unused_)
{
	static const struct out_column columns[] = {
		{"name", OUT_TEXT, NULL},	  {"state", OUT_TEXT, NULL},
		{"rows", OUT_INT, NULL},	  {"events", OUT_INT, NULL},
		{"kernel_drops", OUT_INT, NULL},  {"rows_dropped", OUT_INT, NULL},
		{"ns_per_run", OUT_INT, NULL},	  {"cpu_percent", OUT_REAL, NULL},
		{"user_percent", OUT_REAL, NULL}, {"events_per_s", OUT_INT, NULL},
		{"stored_per_s", OUT_INT, NULL},  {"bytes_per_s", OUT_INT, "By"},
		{"map_bytes", OUT_INT, "By"},	  {"persisted", OUT_BOOL, NULL},
		{"disable_at", OUT_TIME, NULL},	  {"about", OUT_TEXT, NULL},
	};
	_cleanup_message_ Ringside__V1__ListPluginsResponse *answer = NULL;
	_cleanup_(out_freep) struct out *o = NULL;
	int r = plugin_list(cli, &answer);

	r = r ? r : cli_out_new(cli, &o);
	if (r)
		return r;
	out_columns(o, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < answer->n_plugins; i++) {
		const Ringside__V1__Plugin *p = answer->plugins[i];
		const Ringside__V1__PluginStats *s = p->stats;
		bool on = s && plugin_runs(p);

		out_row(o, (struct cell[]){
				   cell_text(p->name),
				   cell_text(plugin_state_text(p->state)),
				   on ? cell_uint(s->rows) : cell_null(),
				   on ? cell_uint(s->events) : cell_null(),
				   on ? cell_uint(s->kernel_drops) : cell_null(),
				   on ? cell_uint(s->rows_dropped) : cell_null(),
				   on ? cost_ns(s) : cell_null(),
				   on ? cost_cpu(p, s->run_time) : cell_null(),
				   on ? cost_cpu(p, s->user_time) : cell_null(),
				   on ? cost_rate(p, s->events) : cell_null(),
				   on ? cost_rate(p, s->rows_stored) : cell_null(),
				   on ? cost_rate(p, s->bytes_stored) : cell_null(),
				   on ? cell_uint(s->map_bytes + s->ring_bytes) : cell_null(),
				   cell_int(p->persisted),
				   cell_timestamp(p->disable_at),
				   cell_text(p->reason && *p->reason ? p->reason : p->help),
			   });
	}
	return cli_out_done(o, CLI_OK);
}

static void add_list(struct props *props, const char *key, char *const *items, size_t n)
{
	_cleanup_buf_ struct buf b = {0};

	for (size_t i = 0; i < n; i++)
		buf_printf(&b, "%s%s", i ? ", " : "", items[i]);
	props_text(props, b.data, "%s", key);
}

static void add_stats(struct props *props, const Ringside__V1__PluginStats *s)
{
	props_int(props, s->events, NULL, "events");
	props_int(props, s->rows, NULL, "rows");
	props_int(props, s->kernel_drops, NULL, "kernel_drops");
	props_int(props, s->rows_dropped, NULL, "rows_dropped");
	props_int(props, s->decode_errors, NULL, "decode_errors");
	props_int(props, s->map_bytes, "By", "map_bytes");
	props_int(props, s->ring_bytes, "By", "ring_bytes");
	props_int(props, s->run_count, NULL, "run_count");
	props_int(props, s->missed_runs, NULL, "missed_runs");
	props_int(props, s->run_time, "ns", "run_time");
	props_int(props, s->user_time, "ns", "user_time");
	props_int(props, s->rows_stored, NULL, "rows_stored");
	props_int(props, s->bytes_stored, "By", "bytes_stored");
}

/* People read help and default beside the value; programs want the value alone under its key. */
static void add_option(struct props *props, const Ringside__V1__Option *o, bool human)
{
	_cleanup_buf_ struct buf b = {0};

	if (!human) {
		props_text(props, o->value, "option.%s", o->key);
		return;
	}
	buf_printf(&b, "%s", *o->value ? o->value : "(unset)");
	if (strcmp(o->value, o->default_) != 0)
		buf_printf(&b, " (%s; default %s)", o->origin,
			   *o->default_ ? o->default_ : "unset");
	buf_printf(&b, "  %s%s", o->help, o->restart ? " [restarts the plugin]" : "");
	props_text(props, b.data, "option.%s", o->key);
}

static void add_program(struct props *props, const Ringside__V1__Program *g, bool human)
{
	_cleanup_buf_ struct buf b = {0};

	if (!human) {
		props_bool(props, g->attached, "program.%s.attached", g->name);
		props_text(props, g->attach, "program.%s.attach", g->name);
		props_int(props, g->id, NULL, "program.%s.id", g->name);
		props_int(props, g->run_count, NULL, "program.%s.run_count", g->name);
		props_int(props, g->run_time, "ns", "program.%s.run_time", g->name);
		return;
	}
	buf_printf(&b, "%s, %s", g->section, g->attached ? "attached" : "not attached");
	if (g->run_count)
		buf_printf(&b, ", %llu runs of %llu ns", (unsigned long long)g->run_count,
			   (unsigned long long)(g->run_time / g->run_count));
	props_text(props, b.data, "program.%s", g->name);
}

int verb_plugin_show(struct cli *cli, const struct args *args)
{
	Ringside__V1__GetPluginRequest request = RINGSIDE__V1__GET_PLUGIN_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__GetPluginResponse *answer = NULL;
	_cleanup_(out_freep) struct out *o = NULL;
	_cleanup_props_ struct props props = {0};
	bool human = cli->format == OUT_TABLE;
	const Ringside__V1__Plugin *p;
	int r;

	request.name = (char *)args->pos[0];
	r = cli_call(cli, SERVICE "GetPlugin", &request,
		     &ringside__v1__get_plugin_response__descriptor, "reading the plugin", &answer);
	if (r)
		return r;
	p = answer->plugin;
	if (!p)
		return cli_fail(CLI_REFUSED, "the daemon sent no plugin");
	props_text(&props, p->name, "name");
	props_text(&props, p->help, "help");
	props_text(&props, plugin_state_text(p->state), "state");
	props_text(&props, p->reason, "reason");
	props_text(&props, p->needs, "needs");
	props_text(&props, p->hook, "hook");
	add_list(&props, "tables", p->tables, p->n_tables);
	props_bool(&props, p->persisted, "persisted");
	props_add(&props, OUT_TIME, NULL, cell_timestamp(p->enabled_at), "enabled_at");
	props_add(&props, OUT_TIME, NULL, cell_timestamp(p->disable_at), "disable_at");
	props_text(&props, p->etag, "etag");
	if (p->stats)
		add_stats(&props, p->stats);
	for (size_t i = 0; i < p->n_options; i++)
		add_option(&props, p->options[i], human);
	for (size_t i = 0; i < p->n_programs; i++)
		add_program(&props, p->programs[i], human);
	r = cli_out_new(cli, &o);
	if (r)
		return r;
	if (props_write(&props, o, cli->format) < 0)
		return cli_fail(CLI_REFUSED, "out of memory");
	return cli_out_done(o, CLI_OK);
}

int verb_plugin_check(struct cli *cli, const struct args *args)
{
	static const struct out_column columns[] = {
		{"requirement", OUT_TEXT, NULL},
		{"met", OUT_BOOL, NULL},
		{"required", OUT_BOOL, NULL},
		{"detail", OUT_TEXT, NULL},
	};
	Ringside__V1__CheckPluginRequest request = RINGSIDE__V1__CHECK_PLUGIN_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__CheckPluginResponse *answer = NULL;
	_cleanup_(out_freep) struct out *o = NULL;
	int r;

	request.name = (char *)args->pos[0];
	r = cli_call(cli, SERVICE "CheckPlugin", &request,
		     &ringside__v1__check_plugin_response__descriptor, "checking the kernel",
		     &answer);
	r = r ? r : cli_out_new(cli, &o);
	if (r)
		return r;
	out_columns(o, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < answer->n_requirements; i++) {
		const Ringside__V1__Requirement *q = answer->requirements[i];

		out_row(o, (struct cell[]){cell_text(q->name), cell_int(q->met),
					   cell_int(q->required), cell_text(q->detail)});
	}
	r = cli_out_done(o, CLI_OK);
	if (r == CLI_OK && !answer->supported)
		return cli_fail(CLI_REFUSED, "this kernel cannot carry plugin '%s'", args->pos[0]);
	return r;
}
