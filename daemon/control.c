// SPDX-License-Identifier: Apache-2.0
/* The API's questions about plugins, tables and history. */
#include "daemon/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/access.h"
#include "daemon/bus.h"
#include "daemon/control_internal.h"
#include "daemon/daemon.h"
#include "daemon/host.h"
#include "daemon/probe.h"
#include "daemon/redact.h"
#include "daemon/tables.h"
#include "daemon/window.h"
#include "store/query.h"

#define LOG_MODULE "control"
#include "base/log.h"

/* A live table with more rows than that is cut off with an error: connections of a very busy host
 * are below it. */
#define SNAPSHOT_ROWS_MIN 1024
#define SNAPSHOT_ROWS_MAX (1024 * 1024)

/* The err that a refused mailbox leaves unfilled. */
int control_call(struct daemon *d, mailbox_fn fn, void *arg, struct err *err)
{
	int r;

	if (err)
		err->msg[0] = '\0';
	r = mailbox_call(d->mailbox, fn, arg);
	if (r < 0 && err && !err->msg[0]) {
		if (r == -ESHUTDOWN)
			return err_set(err, r, "the daemon is stopping");
		if (r == -ENOBUFS)
			return err_set(err, r,
				       "too many calls wait for the daemon's loop; try again");
		return err_set(err, r, "%s", strerror(-r));
	}
	return r;
}

struct plugin_request {
	struct daemon *d;
	const char *actor; /* who asks */
	const char *name;
	const struct keyval *options;
	size_t noptions;
	bool persist, validate_only, restarted;
	uint64_t duration_ns;
	struct plugin_info *info;
	unsigned int cap;
	struct requirement_info *requirements;
	unsigned int *nrequirements;
	struct err *err;
};

static void fill_info(struct daemon *d, const struct plugin *p, struct plugin_info *ret)
{
	host_info(d->host, p, ret);
	for (unsigned int i = 0; p->tables && p->tables[i]; i++)
		ret->rows_dropped += bus_dropped(d->bus, p->tables[i]);
}

static int fill_named(struct plugin_request *q)
{
	const struct plugin *p = host_find(q->name, q->err);

	if (!p)
		return -ENOENT;
	if (q->info)
		fill_info(q->d, p, q->info);
	return 0;
}

static int do_list(void *arg)
{
	struct plugin_request *q = arg;
	unsigned int n = 0;

	for (; plugins[n]; n++)
		if (n < q->cap)
			fill_info(q->d, plugins[n], &q->info[n]);
	return (int)n;
}

static int plugin_list(void *ctx, struct plugin_info *ret, unsigned int cap, struct err *err)
{
	struct plugin_request q = {.d = ctx, .info = ret, .cap = cap, .err = err};

	return control_call(ctx, do_list, &q, err);
}

static int do_get(void *arg)
{
	return fill_named(arg);
}

static int plugin_get(void *ctx, const char *name, struct plugin_info *ret, struct err *err)
{
	struct plugin_request q = {.d = ctx, .name = name, .info = ret, .err = err};

	return control_call(ctx, do_get, &q, err);
}

static int do_enable(void *arg)
{
	struct plugin_request *q = arg;
	int r;

	r = host_enable(q->d->host, q->name, q->options, q->noptions, q->persist, q->duration_ns,
			q->validate_only, q->actor, q->err);
	return r < 0 ? r : fill_named(q);
}

static int plugin_enable(void *ctx, const char *name, const struct keyval *options, size_t noptions,
			 bool persist, uint64_t duration_ns, bool validate_only,
			 struct plugin_info *ret, struct err *err)
{
	struct plugin_request q = {
		.d = ctx,
		.actor = api_caller(),
		.name = name,
		.options = options,
		.noptions = noptions,
		.persist = persist,
		.duration_ns = duration_ns,
		.validate_only = validate_only,
		.info = ret,
		.err = err,
	};

	return control_call(ctx, do_enable, &q, err);
}

static int do_disable(void *arg)
{
	struct plugin_request *q = arg;
	int r;

	r = host_disable(q->d->host, q->name, q->persist, q->actor, q->err);
	return r < 0 ? r : fill_named(q);
}

static int plugin_disable(void *ctx, const char *name, bool persist, struct plugin_info *ret,
			  struct err *err)
{
	struct plugin_request q = {.d = ctx,
				   .actor = api_caller(),
				   .name = name,
				   .persist = persist,
				   .info = ret,
				   .err = err};

	return control_call(ctx, do_disable, &q, err);
}

static int do_update(void *arg)
{
	struct plugin_request *q = arg;
	int r;

	r = host_update(q->d->host, q->name, q->options, q->noptions, q->persist, q->validate_only,
			q->actor, &q->restarted, q->err);
	return r < 0 ? r : fill_named(q);
}

static int plugin_update(void *ctx, const char *name, const struct keyval *options, size_t noptions,
			 bool persist, bool validate_only, bool *ret_restarted,
			 struct plugin_info *ret, struct err *err)
{
	struct plugin_request q = {
		.d = ctx,
		.actor = api_caller(),
		.name = name,
		.options = options,
		.noptions = noptions,
		.persist = persist,
		.validate_only = validate_only,
		.info = ret,
		.err = err,
	};
	int r = control_call(ctx, do_update, &q, err);

	*ret_restarted = q.restarted;
	return r;
}

static int do_check(void *arg)
{
	struct plugin_request *q = arg;
	const struct plugin *p = host_find(q->name, q->err);

	return p ? probe_plugin(q->d->probe, p, q->requirements, q->cap, q->nrequirements, q->err)
		 : -ENOENT;
}

static int plugin_check(void *ctx, const char *name, struct requirement_info *ret, unsigned int cap,
			unsigned int *n, struct err *err)
{
	struct plugin_request q = {.d = ctx,
				   .name = name,
				   .requirements = ret,
				   .cap = cap,
				   .nrequirements = n,
				   .err = err};

	return control_call(ctx, do_check, &q, err);
}

static const struct table *const *list_tables(void *ctx)
{
	return ((struct daemon *)ctx)->tables;
}

struct snapshot_request {
	struct daemon *d;
	const struct table *table;
	struct batch *batch;
};

static int do_snapshot(void *arg)
{
	struct snapshot_request *q = arg;
	int r;

	r = selftables_snapshot(q->d->self, q->table, q->batch);
	if (r == -ENOENT)
		r = host_snapshot(q->d->host, q->table, q->batch);
	if (r >= 0)
		redact_batch(q->d->redact, q->batch);
	return r;
}

int control_snapshot(void *ctx, const struct table *table, struct batch **ret, struct err *err)
{
	int r = -ENOBUFS;

	for (uint32_t cap = SNAPSHOT_ROWS_MIN; r == -ENOBUFS && cap <= SNAPSHOT_ROWS_MAX;
	     cap *= 8) {
		struct snapshot_request q = {.d = ctx, .table = table};

		q.batch = batch_new(table, cap);
		if (!q.batch)
			return err_set(err, -ENOMEM, "out of memory for the rows of %s",
				       table->name);
		r = control_call(ctx, do_snapshot, &q, err);
		if (r < 0) {
			batch_unref(q.batch);
			continue;
		}
		batch_seal(q.batch, NULL);
		*ret = q.batch;
		return 0;
	}
	if (r == -ENOBUFS)
		return err_set(err, -E2BIG, "table %s has more than %d rows now", table->name,
			       SNAPSHOT_ROWS_MAX / 8);
	return r;
}

/* From the store's view of a query to the API's: same data, other structs, so that the two never
 * see each other. */
static int on_columns(void *arg, const struct query_column *cols, size_t ncols)
{
	const struct api_query_sink *sink = arg;
	_cleanup_free_ struct api_query_column *out = calloc(ncols ? ncols : 1, sizeof(*out));

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < ncols; i++)
		out[i] = (struct api_query_column){
			.name = cols[i].name, .unit = cols[i].unit, .type = cols[i].type};
	return sink->columns(sink->arg, out, ncols);
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	const struct api_query_sink *sink = arg;

	return sink->rows(sink->arg, values, nrows, ncols);
}

static int on_done(void *arg, const struct query_stats *stats)
{
	const struct api_query_sink *sink = arg;
	struct api_query_loss loss[ARRAY_SIZE(stats->loss)];
	size_t n = stats->nloss < ARRAY_SIZE(loss) ? stats->nloss : ARRAY_SIZE(loss);

	for (size_t i = 0; i < n; i++)
		loss[i] = (struct api_query_loss){.table = stats->loss[i].table,
						  .rows = stats->loss[i].rows,
						  .since_ns = stats->loss[i].since_ns,
						  .from_ns = stats->loss[i].from_ns,
						  .until_ns = stats->loss[i].until_ns,
						  .held = stats->loss[i].held,
						  .why = stats->loss[i].why};
	return sink->done(sink->arg, stats->rows, stats->truncated, stats->elapsed_ns, loss, n);
}

static int query(void *ctx, const char *sql, const struct value *params, size_t nparams,
		 uint64_t max_rows, uint64_t deadline_mono_ns, const atomic_bool *cancelled,
		 const struct api_query_sink *sink, struct err *err)
{
	struct daemon *d = ctx;
	const struct query q = {
		.sql = sql,
		.params = params,
		.nparams = nparams,
		.max_rows = max_rows,
		.deadline_ns = deadline_mono_ns,
		.cancelled = cancelled,
	};
	const struct query_sink out = {
		.columns = on_columns, .rows = on_rows, .done = on_done, .arg = (void *)sink};

	return query_run(d->queries, &q, &out, err);
}

const struct api_ops control_ops = {
	.plugin_list = plugin_list,
	.plugin_get = plugin_get,
	.plugin_enable = plugin_enable,
	.plugin_disable = plugin_disable,
	.plugin_update = plugin_update,
	.plugin_check = plugin_check,
	.tables = list_tables,
	.snapshot = control_snapshot,
	.query = query,
	.window = control_window,
	.access = control_access,
	.governor_get = control_governor_get,
	.limits_update = control_limits_update,
	.daemon_get = control_daemon_get,
	.config_get = control_config_get,
	.config_reload = control_config_reload,
	.log_level_set = control_log_level_set,
	.shutdown = control_shutdown,
};
