// SPDX-License-Identifier: Apache-2.0
/* Stages of what is watched and who asks: the plugin host, its plugins, and the API. */
#include "daemon/stages_priv.h"

#include <errno.h>
#include <systemd/sd-daemon.h>

#include "api/server.h"
#include "base/clock.h"
#include "base/macro.h"
#include "bpf/nat.h"
#include "daemon/access.h"
#include "daemon/bus.h"
#include "daemon/control.h"
#include "daemon/enrich.h"
#include "daemon/host.h"
#include "daemon/probe.h"
#include "daemon/tables.h"
#include "governor/cgroup.h"
#include "store/store.h"

/* Clients get that long to read the end of their answers. */
#define API_GRACE_NS (1 * NSEC_PER_SEC)

static void publish(void *ctx, struct batch *batch)
{
	bus_publish(((struct daemon *)ctx)->bus, batch);
}

static uint64_t last_ts(void *ctx, const struct table *table)
{
	return store_last_ts(((struct daemon *)ctx)->store, table);
}

static void stored(void *ctx, const struct plugin *plugin, uint64_t *ret_rows, uint64_t *ret_bytes)
{
	struct store *store = ((struct daemon *)ctx)->store;
	struct store_table_stats st;

	for (unsigned int i = 0; store && plugin->tables && plugin->tables[i]; i++) {
		store_table_stats(store, plugin->tables[i], &st);
		*ret_rows += st.stored;
		*ret_bytes += st.bytes;
	}
}

static void on_plugin_change(void *ctx, const char *plugin, const char *event, const char *detail,
			     const char *actor, bool serving)
{
	struct daemon *d = ctx;
	struct api_server *api = atomic_load(&d->api);

	selftables_event(d->self, event, plugin, detail, actor);
	if (api)
		api_server_plugin_changed(api, plugin, serving);
	if (d->ready)
		daemon_notify_status(d);
}

int daemon_host_up(struct daemon *d, struct err *err)
{
	struct host_options options = {
		.loop = d->loop,
		.config = d->config,
		.state_dir = d->state_dir,
		.enrich = &enrich_ops,
		.self_cgroup_id = cgroup_v2_id(d->place),
		.self_tgid = probe_self_tgid(),
		.publish = publish,
		.last_ts = last_ts,
		.stored = stored,
		.on_change = on_plugin_change,
		.on_load = daemon_note_load,
		.ctx = d,
	};
	int r;

	r = enrich_new(&d->enrich);
	if (r < 0)
		return err_set(err, r, "out of memory");
	options.enrich_ctx = d->enrich;
	r = nat_table_new(&d->nat);
	if (r < 0)
		return err_set(err, r, "out of memory");
	options.nat = d->nat;
	return host_new(&d->host, &options, err);
}

void daemon_host_down(struct daemon *d)
{
	host_free(d->host);
	d->host = NULL;
	enrich_free(d->enrich);
	d->enrich = NULL;
	nat_table_free(d->nat);
	d->nat = NULL;
}

int daemon_plugins_up(struct daemon *d, struct err *err)
{
	(void)err; /* a plugin that can't start is reported and skipped */
	host_enable_configured(d->host);
	return 0;
}

void daemon_plugins_down(struct daemon *d)
{
	if (!d->host)
		return;
	host_stop_all(d->host);
	access_flush(d->access); /* of reads that the API's end ended */
	selftables_second(d->self); /* what the last run lost */
}

static const char *or_null(const char *text)
{
	return *text ? text : NULL;
}

int daemon_api_up(struct daemon *d, struct err *err)
{
	const struct opt_set *v = d->boot;
	int n = sd_listen_fds(1), fds[16];
	struct api_server_options options = {
		.socket_path = n > 0 ? NULL : or_null(opt_str(v, "socket")),
		.group = or_null(opt_str(v, "socket_group")),
		.activated_fds = fds,
		.listen = or_null(opt_str(v, "api.listen")),
		.tls_ca = or_null(opt_str(v, "api.tls_ca")),
		.tls_cert = or_null(opt_str(v, "api.tls_cert")),
		.tls_key = or_null(opt_str(v, "api.tls_key")),
		.tls_admins = d->tls_admins,
		.max_connections = (uint32_t)opt_i64(v, "api.max_connections"),
		.max_calls = (uint32_t)opt_i64(v, "api.max_calls"),
		.max_calls_per_connection = (uint32_t)opt_i64(v, "api.max_calls_per_connection"),
		.ops = &control_ops,
		.ctx = d,
	};
	struct api_server *api = NULL;
	size_t nadmins = 0;
	int r;

	while (nadmins < ARRAY_SIZE(d->tls_admins) - 1 &&
	       (d->tls_admins[nadmins] = opt_item(v, "api.tls_admins", nadmins)))
		nadmins++;
	if (opt_item(v, "api.tls_admins", nadmins))
		return err_set(err, -EINVAL, "api.tls_admins: more than %zu names",
			       ARRAY_SIZE(d->tls_admins) - 1);

	for (int i = 0; i < n && options.nactivated < ARRAY_SIZE(fds); i++) {
		if (sd_is_socket_unix(SD_LISTEN_FDS_START + i, SOCK_STREAM, 1, NULL, 0) <= 0)
			return err_set(err, -EINVAL,
				       "activated socket %d is not a listening unix stream socket",
				       i);
		fds[options.nactivated++] = SD_LISTEN_FDS_START + i;
	}
	r = api_server_new(&api, &options, err);
	if (r == 0)
		r = api_server_start(api, err);
	if (r < 0) {
		api_server_free(api);
		return r;
	}
	atomic_store(&d->api, api);
	return 0;
}

void daemon_api_down(struct daemon *d)
{
	if (!d->api)
		return;
	api_server_stop(d->api, API_GRACE_NS);
	api_server_free(atomic_exchange(&d->api, NULL));
}
