// SPDX-License-Identifier: Apache-2.0
/* What the services share: the server's state, jobs on worker threads, streams that are told of changes. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "api/pool.h"
#include "api/refl.h"
#include "api/rpc.h"
#include "api/server.h"
#include "base/buf.h"

struct hub;
struct state_feed;

/* A stream that waits for changes; embedded in what the service keeps for the call. Engine thread. */
struct watcher {
	struct rpc_call *call; /* not a reference: the watcher goes in the method's closed() */
	struct api_server *s;
	struct watcher *next, **prev;
	uint64_t last_sent_ns; /* CLOCK_MONOTONIC, for heartbeats */
};

struct api_server {
	struct api_server_options options;
	struct rpc *rpc;
	struct refl *refl;
	struct pool *unary, *watch, *query;
	struct rpc_timer tick;
	bool draining; /* engine thread */
	struct watcher *health_watchers, *plugin_watchers, *governor_watchers, *row_watchers;
	struct state_feed *plugins, *governor;
	struct hub *hub;
	_Atomic uint64_t watchers, rows_sent, rows_dropped;
};

/* A client that hears nothing for that long may think that we are gone. */
#define HEARTBEAT_NS (5 * NSEC_PER_SEC)
#define TICK_NS (50 * NSEC_PER_MSEC)

/* A unary call on its way through a worker thread. */
struct api_job {
	struct pool_job pool_job;
	struct rpc_task task;
	struct api_server *s;
	struct rpc_call *call; /* a reference */
	const ProtobufCMessage *request;
	struct arena *arena; /* of the call */
	void *out;
	size_t out_len;
	struct err err;
	int r;
};

/* rpc_method.message of every unary method that may block. */
void job_start(struct rpc_call *call, const ProtobufCMessage *request);
/* Called by a handler with its answer, last thing: packs it, so it may point to the handler's stack. */
int job_reply(struct api_job *job, const ProtobufCMessage *answer);
/* Packs into memory of the caller; -ENOMEM. */
int pack_message(const ProtobufCMessage *m, void **ret, size_t *len);

void watcher_add(struct api_server *s, struct watcher *w, struct watcher **list, struct rpc_call *call);
void watcher_remove(struct watcher *w);

#define FOR_EACH_WATCHER(w, list) for (struct watcher *w = (list), *w##_next; w && (w##_next = w->next, true); w = w##_next)

/* Handlers of unary methods: worker threads; 0 after job_reply, or negative with job->err. */
int plugin_list_handler(struct api_job *job);
int plugin_get_handler(struct api_job *job);
int plugin_enable_handler(struct api_job *job);
int plugin_disable_handler(struct api_job *job);
int plugin_update_handler(struct api_job *job);
int plugin_check_handler(struct api_job *job);
int table_list_handler(struct api_job *job);
int governor_get_handler(struct api_job *job);
int governor_limits_handler(struct api_job *job);
int daemon_get_handler(struct api_job *job);
int daemon_config_handler(struct api_job *job);
int daemon_reload_handler(struct api_job *job);
int daemon_log_level_handler(struct api_job *job);
int daemon_shutdown_handler(struct api_job *job);
int health_plugin_handler(struct api_job *job);

void health_check(struct rpc_call *call, const ProtobufCMessage *request);
void health_watch(struct rpc_call *call, const ProtobufCMessage *request);
void health_ready(struct rpc_call *call);
void health_closed(struct rpc_call *call);
void health_plugin_changed(struct api_server *s, const char *name, bool serving);
void health_drain(struct api_server *s);

void reflection_message(struct rpc_call *call, const ProtobufCMessage *request);

/* WatchPlugins and WatchGovernor. */
int state_feeds_new(struct api_server *s);
void state_feeds_free(struct api_server *s);
void plugin_watch(struct rpc_call *call, const ProtobufCMessage *request);
void governor_watch(struct rpc_call *call, const ProtobufCMessage *request);
void state_ready(struct rpc_call *call);
void state_closed(struct rpc_call *call);
void state_tick(struct api_server *s, uint64_t now);
/* Engine thread. */
void plugin_feed_changed(struct api_server *s);
void governor_feed_changed(struct api_server *s);

void query_message(struct rpc_call *call, const ProtobufCMessage *request);
void query_text(const ProtobufCMessage *request, struct buf *out);
void snapshot_message(struct rpc_call *call, const ProtobufCMessage *request);
void snapshot_text(const ProtobufCMessage *request, struct buf *out);
/* answer.c: of both. */
void answer_ready(struct rpc_call *call);
void answer_closed(struct rpc_call *call);

/* access.c: tells the daemon who read what. */
void access_read(void *ctx, const struct rpc_read *read);

/* WatchRows. */
int hub_new(struct api_server *s);
void hub_free(struct api_server *s);
int hub_push(struct api_server *s, struct batch *batch);
void rows_watch(struct rpc_call *call, const ProtobufCMessage *request);
void rows_text(const ProtobufCMessage *request, struct buf *out);
void rows_ready(struct rpc_call *call);
void rows_closed(struct rpc_call *call);
void rows_tick(struct api_server *s, uint64_t now);
