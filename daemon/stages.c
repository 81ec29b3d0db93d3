// SPDX-License-Identifier: Apache-2.0
/* The table of stages. */
#include "daemon/stages.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include "api/server.h"
#include "base/clock.h"
#include "base/macro.h"
#include "bpf/links.h"
#include "bpf/nat.h"
#include "daemon/access.h"
#include "daemon/bus.h"
#include "daemon/control.h"
#include "daemon/enrich.h"
#include "daemon/host.h"
#include "daemon/ladder.h"
#include "daemon/notify.h"
#include "daemon/probe.h"
#include "daemon/redact.h"
#include "daemon/state.h"
#include "daemon/tables.h"
#include "governor/cgroup.h"
#include "governor/governor.h"
#include "governor/last_exit.h"
#include "store/query.h"
#include "store/store.h"

#define LOG_MODULE "daemon"
#include "base/log.h"

/* Sinks get that long to write what was published; then the rest is lost and counted. */
#define DRAIN_NS (2 * NSEC_PER_SEC)
/* Clients get that long to read the end of their answers. */
#define API_GRACE_NS (1 * NSEC_PER_SEC)

static int lock_up(struct daemon *d, struct err *err)
{
	int r = state_lock(d->state_dir, &d->lock_fd, err);

	if (r == 0 && last_exit_read(d->state_dir, d->last_exit, sizeof(d->last_exit)) == -ENOENT)
		d->last_exit[0] = '\0';
	return r;
}

static void lock_down(struct daemon *d)
{
	closep(&d->lock_fd);
	d->lock_fd = -1;
}

/* Before any thread and socket: both stay in the cgroup that they were made in. */
static int cgroup_up(struct daemon *d, struct err *err)
{
	int r = cgroup_enter(&d->place, "ringsided", opt_bool(d->boot, "cgroup_manage"));

	return r < 0 ? err_set(err, r, "cannot find our place in the cgroups: %s", strerror(-r))
		     : 0;
}

static void cgroup_down(struct daemon *d)
{
	if (d->place)
		cgroup_leave(d->place);
	d->place = NULL;
}

static int kernel_up(struct daemon *d, struct err *err)
{
	const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	int r;

	/* Kernels from 5.11 on charge maps to the cgroup and don't ask; older ones say so when a
	 * map is refused. */
	if (setrlimit(RLIMIT_MEMLOCK, &unlimited) < 0)
		log_debug("cannot raise RLIMIT_MEMLOCK: %s, ignoring", strerror(errno));
	r = probe_new(&d->probe, d->place);
	if (r < 0)
		return err_set(err, r, "out of memory");
	r = probe_require(d->probe, err);
	if (r < 0)
		return r;
	return 0;
}

/* As long as the unit's TimeoutStopSec, told anew while it goes on. */
#define LINKS_PATIENCE_NS (20 * NSEC_PER_SEC)

/*
 * Programs are off, but the kernel takes its time to end their links; the end of the process would
 * wait for it just as well. Nothing else is left to be done then.
 */
static void wait_for_links(void)
{
	unsigned int before = UINT_MAX, left;

	while ((left = links_wait(NSEC_PER_SEC))) {
		if (left < before)
			notify_send("STATUS=Waiting until the kernel has ended %u probes\n"
				    "EXTEND_TIMEOUT_USEC=%" PRIu64,
				    left, (uint64_t)(LINKS_PATIENCE_NS / NSEC_PER_USEC));
		before = left;
	}
}

static void kernel_down(struct daemon *d)
{
	wait_for_links();
	probe_free(d->probe);
	d->probe = NULL;
}

static int push_store(void *ctx, struct batch *batch)
{
	struct daemon *d = ctx;

	return d->store ? store_push(d->store, batch) : -ESHUTDOWN;
}

/* Nobody can watch before the API is up and after it is down. */
static int push_watchers(void *ctx, struct batch *batch)
{
	struct daemon *d = ctx;
	struct api_server *api = atomic_load(&d->api);

	return api ? api_server_push(api, batch) : 0;
}

static void filter(void *ctx, struct batch *batch)
{
	redact_batch(((struct daemon *)ctx)->redact, batch);
}

static int bus_up(struct daemon *d, struct err *err)
{
	const struct bus_sink sinks[] = {
		{.name = "store", .push = push_store, .ctx = d},
		{.name = "watchers", .push = push_watchers, .ctx = d},
	};
	int r;

	r = bus_new(&d->bus);
	if (r == 0)
		bus_set_filter(d->bus, filter, d);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(sinks); i++)
		r = bus_add_sink(d->bus, &sinks[i]);
	return r < 0 ? err_set(err, r, "cannot make the bus: %s", strerror(-r)) : 0;
}

static void bus_down(struct daemon *d)
{
	bus_free(d->bus);
	d->bus = NULL;
}

static int tables_up(struct daemon *d, struct err *err)
{
	int r = tables_all(&d->tables);

	if (r < 0)
		return err_set(err, r, "out of memory");
	r = redact_new(&d->redact, config_daemon(d->config), d->tables, NULL, err);
	if (r == 0 && access_new(&d->access, d) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	r = selftables_new(&d->self, d);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

static void tables_down(struct daemon *d)
{
	selftables_free(d->self);
	d->self = NULL;
	access_free(d->access);
	d->access = NULL;
	redact_free(d->redact);
	d->redact = NULL;
	free(d->tables);
	d->tables = NULL;
}

static void bpf_cost(void *ctx, uint64_t *ret_run_ns, uint64_t *ret_map_bytes)
{
	struct daemon *d = ctx;

	*ret_run_ns = atomic_load(&d->bpf_run_ns);
	*ret_map_bytes = atomic_load(&d->bpf_map_bytes);
}

static void on_governor_exit(void *ctx, int code, const struct governor_event *event)
{
	(void)event; /* the governor has logged it */
	daemon_stop(ctx, code);
}

/* What ended us minutes ago is probably still there. */
#define LAST_EXIT_RECENT_NS (600 * NSEC_PER_SEC)

static bool starts_down(const struct daemon *d, const struct policy_limits *limits)
{
	bool any = false;

	for (unsigned int i = 0; i < RESOURCE_X_MAX; i++)
		any |= limits->limit[i] > 0;
	return any && limits->action == LIMIT_ACTION_SHED &&
	       last_exit_recent(d->state_dir, clock_real_ns(), LAST_EXIT_RECENT_NS);
}

static int governor_up(struct daemon *d, struct err *err)
{
	struct governor_options options = {
		.state_dir = d->state_dir,
		.place = d->place,
		.interval_ns = NSEC_PER_SEC,
		.bpf_cost = bpf_cost,
		.can_shed = ladder_can,
		.on_event = ladder_decided,
		.on_exit = on_governor_exit,
		.ctx = d,
	};
	int r;

	daemon_read_ceiling(d);
	options.limits = daemon_limits(d);
	if (starts_down(d, &options.limits)) {
		options.start_level = GOVERNOR_SAMPLE;
		options.start_reason = d->last_exit;
	}
	r = governor_new(&d->governor, &options, err);
	if (r < 0)
		return r;
	daemon_apply_backstops(d);
	return governor_start(d->governor, err);
}

static void governor_down(struct daemon *d)
{
	if (d->governor)
		governor_stop(d->governor);
	governor_free(d->governor);
	d->governor = NULL;
}

static void on_store_event(void *arg, const char *event, const char *detail)
{
	struct daemon *d = arg;

	log_warn("store: %s: %s", event, detail);
	selftables_event_post(d->self, event, "store", detail, "store");
}

static int store_up(struct daemon *d, struct err *err)
{
	const struct opt_set *v = d->boot;
	char dir[PATH_MAX];
	struct store_options options = {
		.dir = dir,
		.queue_batches = (uint32_t)opt_i64(v, "store.queue_batches"),
		.flush_ns = (uint64_t)opt_i64(v, "store.flush"),
		.reserve_bytes = (uint64_t)opt_i64(v, "store.reserve_bytes"),
		.on_event = on_store_event,
		.arg = d,
	};
	int r;

	daemon_ring_limits(d, options.limits);
	snprintf(dir, sizeof(dir), "%s/ring", d->state_dir);
	r = store_new(&d->store, &options, err);
	for (size_t i = 0; r == 0 && d->tables[i]; i++)
		if (table_is_history(d->tables[i]))
			r = store_add_table(d->store, d->tables[i], err);
	if (r == 0)
		r = store_start(d->store, err);
	if (r == 0) {
		selftables_seed(d->self);
		access_seed(d->access);
	}
	return r;
}

static void store_down(struct daemon *d)
{
	struct store *s = d->store;

	if (d->self)
		selftables_flush(d->self);
	if (s)
		store_stop(s, DRAIN_NS);
	d->store = NULL;
	store_free(s);
}

static int queries_up(struct daemon *d, struct err *err)
{
	char worker[PATH_MAX];
	const struct opt_set *v = d->boot;
	const struct query_engine_options options = {
		.ring_dir = store_dir(d->store),
		.services_file = opt_str(v, "query.services_file"),
		.tables = d->tables,
		.max_workers = (unsigned int)opt_i64(v, "query.max_workers"),
		.max_deadline_ns = (uint64_t)opt_i64(v, "query.max_deadline"),
		.default_deadline_ns = (uint64_t)opt_i64(v, "query.deadline"),
		.max_rows = (uint64_t)opt_i64(v, "query.max_rows"),
		.worker_exe = query_worker_path(worker, sizeof(worker)),
		.worker_user = opt_str(v, "query.user"),
		.reserve_bytes = (uint64_t)opt_i64(v, "store.reserve_bytes"),
		.snapshot = control_snapshot,
		.ctx = d,
	};

	return query_engine_new(&d->queries, &options, err);
}

static void queries_down(struct daemon *d)
{
	query_engine_free(d->queries);
	d->queries = NULL;
}

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

static int host_up(struct daemon *d, struct err *err)
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

static void host_down(struct daemon *d)
{
	host_free(d->host);
	d->host = NULL;
	enrich_free(d->enrich);
	d->enrich = NULL;
	nat_table_free(d->nat);
	d->nat = NULL;
}

static int plugins_up(struct daemon *d, struct err *err)
{
	(void)err; /* a plugin that can't start is reported and skipped */
	host_enable_configured(d->host);
	return 0;
}

static void plugins_down(struct daemon *d)
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

static int api_up(struct daemon *d, struct err *err)
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

static void api_down(struct daemon *d)
{
	if (!d->api)
		return;
	api_server_stop(d->api, API_GRACE_NS);
	api_server_free(atomic_exchange(&d->api, NULL));
}

static const struct stage {
	const char *name;
	int (*up)(struct daemon *d, struct err *err);
	void (*down)(struct daemon *d); /* copes with an up that failed halfway */
	int status;			/* exit code when it fails */
} stages[] = {
	{"lock", lock_up, lock_down, EXIT_STATUS_FAILURE},
	{"cgroup", cgroup_up, cgroup_down, EXIT_STATUS_FAILURE},
	{"kernel", kernel_up, kernel_down, EXIT_STATUS_KERNEL},
	{"loop", daemon_loop_up, daemon_loop_down, EXIT_STATUS_FAILURE},
	{"bus", bus_up, bus_down, EXIT_STATUS_FAILURE},
	{"tables", tables_up, tables_down, EXIT_STATUS_FAILURE},
	/* Below what it watches: it sees to it that the way out ends. */
	{"governor", governor_up, governor_down, EXIT_STATUS_FAILURE},
	{"store", store_up, store_down, EXIT_STATUS_FAILURE},
	{"queries", queries_up, queries_down, EXIT_STATUS_FAILURE},
	{"host", host_up, host_down, EXIT_STATUS_FAILURE},
	{"plugins", plugins_up, plugins_down, EXIT_STATUS_FAILURE},
	{"api", api_up, api_down, EXIT_STATUS_FAILURE},
};

static void unwind(struct daemon *d, size_t n)
{
	/* The loop doesn't turn any more. Calls that wait for it get their answer, and what was
	 * posted is run while all that it speaks about is still there. */
	if (d->mailbox)
		mailbox_close(d->mailbox);
	while (n-- > 0) {
		uint64_t start = clock_mono_ns();

		stages[n].down(d);
		log_debug("stage %s is down after %llu ms", stages[n].name,
			  (unsigned long long)((clock_mono_ns() - start) / NSEC_PER_MSEC));
	}
}

int stages_up(struct daemon *d, int *ret_status, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
		uint64_t start = clock_mono_ns();
		int r = stages[i].up(d, err);

		if (r < 0) {
			*ret_status = stages[i].status;
			unwind(d, i + 1);
			return r;
		}
		log_debug("stage %s is up after %llu ms", stages[i].name,
			  (unsigned long long)((clock_mono_ns() - start) / NSEC_PER_MSEC));
	}
	return 0;
}

void stages_down(struct daemon *d)
{
	unwind(d, ARRAY_SIZE(stages));
}
