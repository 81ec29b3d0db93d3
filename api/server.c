// SPDX-License-Identifier: Apache-2.0
/* The table of methods, and the server's way up and down. */
#define LOG_MODULE "api"
#include "api/server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/descriptors.h"
#include "api/service.h"
#include "base/clock.h"
#include "base/log.h"
#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "grpc/reflection/v1alpha/reflection.pb-c.h"
#include "ringside/v1/daemon.pb-c.h"
#include "ringside/v1/governor.pb-c.h"
#include "ringside/v1/plugin.pb-c.h"
#include "ringside/v1/query.pb-c.h"
#include "ringside/v1/table.pb-c.h"

/* A few changes and reads at once are all that one host's operators make; the rest waits. */
#define UNARY_THREADS 2
#define UNARY_BACKLOG 256
/* Snapshots and expressions of watchers: apart, so that a slow one never delays a command. */
#define WATCH_THREADS 2
#define WATCH_BACKLOG 4096

#define UNARY(p, r, in, h) \
	{.path = (p), .kind = RPC_UNARY, .role = RPC_##r, .input = &(in), .message = job_start, .handler = (h)}
#define STREAM(p, r, in, m) \
	{.path = (p), .kind = RPC_STREAM, .role = RPC_##r, .input = &(in), .message = m}

/* Sorted by path; check_methods() compares it with the descriptors at start. */
static const struct rpc_method methods[] = {
	{.path = "/grpc.health.v1.Health/Check", .kind = RPC_UNARY, .role = RPC_VIEWER,
	 .input = &grpc__health__v1__health_check_request__descriptor, .message = health_check,
	 .handler = health_plugin_handler},
	{.path = "/grpc.health.v1.Health/Watch", .kind = RPC_STREAM, .role = RPC_VIEWER,
	 .input = &grpc__health__v1__health_check_request__descriptor, .message = health_watch,
	 .ready = health_ready, .closed = health_closed},
	{.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", .kind = RPC_BIDI, .role = RPC_VIEWER,
	 .input = &grpc__reflection__v1__server_reflection_request__descriptor, .message = reflection_message},
	{.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", .kind = RPC_BIDI,
	 .role = RPC_VIEWER, .input = &grpc__reflection__v1alpha__server_reflection_request__descriptor,
	 .message = reflection_message},
	UNARY("/ringside.v1.DaemonService/GetConfig", VIEWER, ringside__v1__get_config_request__descriptor,
	      daemon_config_handler),
	UNARY("/ringside.v1.DaemonService/GetDaemon", VIEWER, ringside__v1__get_daemon_request__descriptor,
	      daemon_get_handler),
	UNARY("/ringside.v1.DaemonService/ReloadConfig", ADMIN, ringside__v1__reload_config_request__descriptor,
	      daemon_reload_handler),
	UNARY("/ringside.v1.DaemonService/SetLogLevel", ADMIN, ringside__v1__set_log_level_request__descriptor,
	      daemon_log_level_handler),
	UNARY("/ringside.v1.DaemonService/Shutdown", ADMIN, ringside__v1__shutdown_request__descriptor,
	      daemon_shutdown_handler),
	UNARY("/ringside.v1.GovernorService/GetGovernor", VIEWER, ringside__v1__get_governor_request__descriptor,
	      governor_get_handler),
	UNARY("/ringside.v1.GovernorService/UpdateLimits", ADMIN, ringside__v1__update_limits_request__descriptor,
	      governor_limits_handler),
	{.path = "/ringside.v1.GovernorService/WatchGovernor", .kind = RPC_STREAM, .role = RPC_VIEWER,
	 .input = &ringside__v1__watch_governor_request__descriptor, .message = governor_watch,
	 .ready = state_ready, .closed = state_closed},
	UNARY("/ringside.v1.PluginService/CheckPlugin", VIEWER, ringside__v1__check_plugin_request__descriptor,
	      plugin_check_handler),
	UNARY("/ringside.v1.PluginService/DisablePlugin", ADMIN, ringside__v1__disable_plugin_request__descriptor,
	      plugin_disable_handler),
	UNARY("/ringside.v1.PluginService/EnablePlugin", ADMIN, ringside__v1__enable_plugin_request__descriptor,
	      plugin_enable_handler),
	UNARY("/ringside.v1.PluginService/GetPlugin", VIEWER, ringside__v1__get_plugin_request__descriptor,
	      plugin_get_handler),
	UNARY("/ringside.v1.PluginService/ListPlugins", VIEWER, ringside__v1__list_plugins_request__descriptor,
	      plugin_list_handler),
	UNARY("/ringside.v1.PluginService/UpdatePlugin", ADMIN, ringside__v1__update_plugin_request__descriptor,
	      plugin_update_handler),
	{.path = "/ringside.v1.PluginService/WatchPlugins", .kind = RPC_STREAM, .role = RPC_VIEWER,
	 .input = &ringside__v1__watch_plugins_request__descriptor, .message = plugin_watch,
	 .ready = state_ready, .closed = state_closed},
	{.path = "/ringside.v1.QueryService/Query", .kind = RPC_STREAM, .role = RPC_VIEWER,
	 .input = &ringside__v1__query_request__descriptor, .message = query_message,
	 .ready = answer_ready, .closed = answer_closed, .text = query_text},
	{.path = "/ringside.v1.QueryService/Snapshot", .kind = RPC_STREAM, .role = RPC_VIEWER,
	 .input = &ringside__v1__snapshot_request__descriptor, .message = snapshot_message,
	 .ready = answer_ready, .closed = answer_closed, .text = snapshot_text},
	UNARY("/ringside.v1.TableService/ListTables", VIEWER, ringside__v1__list_tables_request__descriptor,
	      table_list_handler),
	{.path = "/ringside.v1.TableService/WatchRows", .kind = RPC_STREAM, .role = RPC_VIEWER, .endless = true,
	 .input = &ringside__v1__watch_rows_request__descriptor, .message = rows_watch,
	 .ready = rows_ready, .closed = rows_closed, .text = rows_text},
};

static const struct rpc_method *find_method(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (strcmp(methods[i].path, path) == 0)
			return &methods[i];
	return NULL;
}

static enum rpc_kind kind_of(const struct refl_symbol *m)
{
	if (m->client_streaming)
		return RPC_BIDI;
	return m->server_streaming ? RPC_STREAM : RPC_UNARY;
}

/* Every method of the descriptors is in the table, with its kind and input, and nothing else is. */
static int check_methods(const struct refl *refl, struct err *err)
{
	const struct refl_symbol *symbols;
	size_t n, found = 0;

	symbols = refl_symbols(refl, &n);
	for (size_t i = 0; i < n; i++) {
		const struct refl_symbol *m = &symbols[i];
		const char *dot = strrchr(m->name, '.');
		const struct rpc_method *method;
		char path[160];

		if (!m->input.len || !dot)
			continue;
		snprintf(path, sizeof(path), "/%.*s/%s", (int)(dot - m->name), m->name, dot + 1);
		method = find_method(path);
		if (!method)
			return err_set(err, -EINVAL, "method %s has no handler", path);
		if (method->kind != kind_of(m) || m->input.len < 1 ||
		    strlen(method->input->name) != m->input.len - 1 ||
		    memcmp(method->input->name, m->input.p + 1, m->input.len - 1) != 0)
			return err_set(err, -EINVAL, "method %s differs from its descriptor", path);
		found++;
	}
	if (found != ARRAY_SIZE(methods))
		return err_set(err, -EINVAL, "%zu methods in the table, %zu in the descriptors", ARRAY_SIZE(methods),
			       found);
	return 0;
}

static void on_tick(struct rpc_timer *timer)
{
	struct api_server *s = container_of(timer, struct api_server, tick);
	uint64_t now = clock_mono_ns();

	state_tick(s, now);
	rows_tick(s, now);
	if (s->plugin_watchers || s->governor_watchers || s->row_watchers)
		rpc_timer_set(s->rpc, timer, now + TICK_NS);
}

void watcher_add(struct api_server *s, struct watcher *w, struct watcher **list, struct rpc_call *call)
{
	w->s = s;
	w->call = call;
	w->last_sent_ns = clock_mono_ns();
	w->next = *list;
	if (w->next)
		w->next->prev = &w->next;
	w->prev = list;
	*list = w;
	atomic_fetch_add(&s->watchers, 1);
	if (!s->tick.armed)
		rpc_timer_set(s->rpc, &s->tick, w->last_sent_ns + TICK_NS);
}

void watcher_remove(struct watcher *w)
{
	if (!w->prev)
		return;
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->prev = NULL;
	atomic_fetch_sub(&w->s->watchers, 1);
}

static void end_all(struct watcher *list)
{
	FOR_EACH_WATCHER(w, list)
		rpc_finish(w->call, RPC_UNAVAILABLE, "ringsided is shutting down");
}

static void on_drain(void *ctx)
{
	struct api_server *s = ctx;

	s->draining = true;
	health_drain(s);
	end_all(s->plugin_watchers);
	end_all(s->governor_watchers);
	end_all(s->row_watchers);
}

static int make_parts(struct api_server *s, struct err *err)
{
	const struct api_server_options *o = &s->options;
	struct rpc_options ro = {
		.methods = methods, .nmethods = ARRAY_SIZE(methods), .ctx = s, .read = access_read, .drain = on_drain,
		.socket_path = o->socket_path, .group = o->group,
		.activated_fds = o->activated_fds, .nactivated = o->nactivated,
		.listen = o->listen, .tls_ca = o->tls_ca, .tls_cert = o->tls_cert, .tls_key = o->tls_key,
		.tls_admins = o->tls_admins,
		.max_connections = o->max_connections, .max_calls = o->max_calls,
		.max_calls_per_connection = o->max_calls_per_connection,
	};
	int r = refl_new(&s->refl, api_fds, (size_t)(api_fds_end - api_fds));

	if (r < 0)
		return err_set(err, r, "the embedded descriptors cannot be read");
	r = check_methods(s->refl, err);
	if (r < 0)
		return r;
	r = pool_new(&s->unary, "api-call", UNARY_THREADS, UNARY_BACKLOG);
	if (r == 0)
		r = pool_new(&s->watch, "api-watch", WATCH_THREADS, WATCH_BACKLOG);
	if (r == 0)
		r = pool_new(&s->query, "api-query", o->max_queries, 0);
	if (r == 0)
		r = state_feeds_new(s);
	if (r == 0)
		r = hub_new(s);
	if (r < 0)
		return err_set(err, r, "no memory for the API server");
	return rpc_new(&s->rpc, &ro, err);
}

int api_server_new(struct api_server **ret, const struct api_server_options *options, struct err *err)
{
	struct api_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "no memory for the API server");
	s->options = *options;
	s->options.max_connections = options->max_connections ?: 128;
	s->options.max_calls = options->max_calls ?: 2048;
	s->options.max_calls_per_connection = options->max_calls_per_connection ?: 1024;
	s->options.max_queries = options->max_queries ?: 8;
	s->tick.fire = on_tick;
	r = make_parts(s, err);
	if (r < 0) {
		api_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int api_server_start(struct api_server *s, struct err *err)
{
	return rpc_start(s->rpc, err);
}

int api_server_push(struct api_server *s, struct batch *batch)
{
	return hub_push(s, batch);
}

struct change_task {
	struct rpc_task task;
	struct api_server *s;
	bool serving;
	char name[]; /* "": the governor */
};

static void run_change(struct rpc_task *task)
{
	struct change_task *c = container_of(task, struct change_task, task);

	if (c->name[0]) {
		health_plugin_changed(c->s, c->name, c->serving);
		plugin_feed_changed(c->s);
	} else {
		governor_feed_changed(c->s);
	}
	free(c);
}

static void post_change(struct api_server *s, const char *name, bool serving)
{
	size_t len = strlen(name) + 1;
	struct change_task *c = calloc(1, sizeof(*c) + len);

	if (!c) {
		log_warn("no memory to tell watchers of a change, ignoring");
		return;
	}
	*c = (struct change_task){.task.run = run_change, .s = s, .serving = serving};
	memcpy(c->name, name, len);
	if (rpc_post(s->rpc, &c->task) < 0)
		free(c); /* before the start or after the end: nobody watches */
}

void api_server_plugin_changed(struct api_server *s, const char *name, bool serving)
{
	post_change(s, name, serving);
}

void api_server_governor_changed(struct api_server *s)
{
	post_change(s, "", false);
}

void api_server_reload_tls(struct api_server *s)
{
	rpc_reload_tls(s->rpc);
}

int api_server_tls_port(const struct api_server *s)
{
	return rpc_tls_port(s->rpc);
}

void api_server_get_stats(struct api_server *s, struct api_server_stats *ret)
{
	struct rpc_stats rs;

	rpc_get_stats(s->rpc, &rs);
	*ret = (struct api_server_stats){
		.connections = rs.connections,
		.calls_live = rs.calls_live,
		.calls_total = rs.calls_total,
		.calls_refused = rs.refused,
		.watchers = atomic_load(&s->watchers),
		.rows_sent = atomic_load(&s->rows_sent),
		.rows_dropped = atomic_load(&s->rows_dropped),
	};
}

void api_server_stop(struct api_server *s, uint64_t grace_ns)
{
	rpc_stop(s->rpc, grace_ns);
	/* Jobs without a call may still run; what they post is refused and freed by them. */
	pool_stop(s->unary);
	pool_stop(s->watch);
	pool_stop(s->query);
}

void api_server_free(struct api_server *s)
{
	if (!s)
		return;
	if (s->rpc)
		api_server_stop(s, 0);
	pool_free(s->unary);
	pool_free(s->watch);
	pool_free(s->query);
	rpc_free(s->rpc);
	state_feeds_free(s);
	hub_free(s);
	refl_free(s->refl);
	free(s);
}
