// SPDX-License-Identifier: Apache-2.0
/* Stages of what rows go through: the bus, the tables, the ring and its queries. */
#include "daemon/stages_priv.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "api/server.h"
#include "base/clock.h"
#include "base/macro.h"
#include "daemon/access.h"
#include "daemon/bus.h"
#include "daemon/control.h"
#include "daemon/redact.h"
#include "daemon/tables.h"
#include "store/query.h"
#include "store/store.h"

#define LOG_MODULE "daemon"
#include "base/log.h"

/* Sinks get that long to write what was published; then the rest is lost and counted. */
#define DRAIN_NS (2 * NSEC_PER_SEC)
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

int daemon_bus_up(struct daemon *d, struct err *err)
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

void daemon_bus_down(struct daemon *d)
{
	bus_free(d->bus);
	d->bus = NULL;
}

int daemon_tables_up(struct daemon *d, struct err *err)
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

void daemon_tables_down(struct daemon *d)
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

static void on_store_event(void *arg, const char *event, const char *detail)
{
	struct daemon *d = arg;

	log_warn("store: %s: %s", event, detail);
	selftables_event_post(d->self, event, "store", detail, "store");
}

int daemon_store_up(struct daemon *d, struct err *err)
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

void daemon_store_down(struct daemon *d)
{
	struct store *s = d->store;

	if (d->self)
		selftables_flush(d->self);
	if (s)
		store_stop(s, DRAIN_NS);
	d->store = NULL;
	store_free(s);
}

int daemon_queries_up(struct daemon *d, struct err *err)
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

void daemon_queries_down(struct daemon *d)
{
	query_engine_free(d->queries);
	d->queries = NULL;
}
