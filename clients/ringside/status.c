// SPDX-License-Identifier: Apache-2.0
/* ringside status: the daemon at a glance. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "clients/ringside/governor.h"
#include "clients/ringside/plugin.h"
#include "clients/ringside/props.h"
#include "ringside/v1/daemon.pb-c.h"

struct facts {
	Ringside__V1__GetDaemonResponse *daemon;
	Ringside__V1__ListPluginsResponse *plugins;
	Ringside__V1__GetGovernorResponse *governor;
};

static void add_plugins(struct props *props, const Ringside__V1__ListPluginsResponse *list,
			bool human)
{
	_cleanup_buf_ struct buf off = {0};

	for (size_t i = 0; i < list->n_plugins; i++) {
		const Ringside__V1__Plugin *p = list->plugins[i];
		_cleanup_buf_ struct buf b = {0};

		if (!human) {
			props_text(props, plugin_state_text(p->state), "plugin.%s", p->name);
			continue;
		}
		if (p->state == RINGSIDE__V1__PLUGIN_STATE__PLUGIN_STATE_DISABLED) {
			buf_printf(&off, "%s%s", off.len ? ", " : "", p->name);
			continue;
		}
		buf_puts(&b, plugin_state_text(p->state));
		if (plugin_runs(p) && p->stats) {
			buf_printf(&b, ", %llu rows", (unsigned long long)p->stats->rows);
			if (p->stats->kernel_drops || p->stats->rows_dropped)
				buf_printf(&b, ", %llu events and %llu rows lost",
					   (unsigned long long)p->stats->kernel_drops,
					   (unsigned long long)p->stats->rows_dropped);
		}
		if (p->reason && *p->reason)
			buf_printf(&b, ": %s", p->reason);
		props_text(props, b.data, "plugin %s", p->name);
	}
	if (off.len)
		props_text(props, off.data, "disabled plugins");
}

static void add_governor(struct props *props, const Ringside__V1__Governor *g, bool human)
{
	props_text(props, g->state, "governor");
	for (size_t i = 0; i < g->n_resources; i++) {
		const Ringside__V1__ResourceUsage *u = g->resources[i];
		_cleanup_buf_ struct buf b = {0};

		governor_add_usage(&b, u);
		if (human)
			props_text(props, b.data, "%s", u->resource);
		else
			props_add(props, OUT_INT, NULL,
				  u->known ? cell_uint(u->usage) : cell_null(), "%s_usage",
				  u->resource);
	}
}

static void add_caller(struct props *props, const Ringside__V1__Caller *c, bool human)
{
	_cleanup_buf_ struct buf b = {0};

	if (!human) {
		props_text(props, c->role, "role");
		return;
	}
	if (strcmp(c->transport, "tls") == 0)
		buf_printf(&b, "%s as %s over tls", c->role, c->subject);
	else
		buf_printf(&b, "%s as uid %u over the %s socket", c->role, c->uid, c->transport);
	props_text(props, b.data, "you are");
}

static int show(struct cli *cli, const struct facts *f)
{
	const Ringside__V1__GetDaemonResponse *d = f->daemon;
	uint64_t since = timestamp_ns(d->started_at), now = clock_real_ns();
	_cleanup_(out_freep) struct out *o = NULL;
	_cleanup_props_ struct props props = {0};
	bool human = cli->format == OUT_TABLE;
	int r;

	props_text(&props, d->version, "version");
	props_text(&props, d->hostname, "host");
	props_text(&props, d->kernel, "kernel");
	props_int(&props, (uint64_t)d->pid, NULL, "pid");
	/* Whole seconds: nobody counts the rest. */
	props_int(&props, since && now > since ? (now - since) / NSEC_PER_SEC : 0, "s", "uptime");
	props_text(&props, d->state_dir, "state_dir");
	add_plugins(&props, f->plugins, human);
	if (f->governor->governor)
		add_governor(&props, f->governor->governor, human);
	props_int(&props, d->connections, NULL, "connections");
	props_int(&props, d->watchers, NULL, "watchers");
	props_int(&props, d->calls_total, NULL, human ? "calls" : "calls_total");
	if (d->caller)
		add_caller(&props, d->caller, human);
	if (!human || (d->last_exit && *d->last_exit))
		props_text(&props, d->last_exit, "last_exit");
	r = cli_out_new(cli, &o);
	if (r)
		return r;
	if (props_write(&props, o, cli->format) < 0)
		return cli_fail(CLI_REFUSED, "out of memory");
	return cli_out_done(o, CLI_OK);
}

int verb_status(struct cli *cli, const struct args *args _unused_)
{
	Ringside__V1__GetDaemonRequest request = RINGSIDE__V1__GET_DAEMON_REQUEST__INIT;
	struct facts f = {0};
	int r = cli_call(cli, "/ringside.v1.DaemonService/GetDaemon", &request,
			 &ringside__v1__get_daemon_response__descriptor, "asking the daemon",
			 &f.daemon);

	r = r ? r : plugin_list(cli, &f.plugins);
	r = r ? r : governor_get(cli, &f.governor);
	r = r ? r : show(cli, &f);
	message_free(f.daemon);
	message_free(f.plugins);
	message_free(f.governor);
	return r;
}
