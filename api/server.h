// SPDX-License-Identifier: Apache-2.0
/* The gRPC server: listeners, identity, services, watchers, drain. */
#pragma once

#include <stdint.h>

#include "api/ops.h"

struct api_server;

struct api_server_options {
	const char *socket_path;   /* unix socket, 0660 root:group; NULL: none */
	const char *group;         /* "ringside"; a missing group means root only */
	const int *activated_fds;  /* listening unix sockets from the service manager */
	unsigned int nactivated;
	const char *listen;        /* "host:port" for mTLS; NULL: none */
	const char *tls_ca, *tls_cert, *tls_key; /* PEM files; all three or none */
	const char *const *tls_admins; /* SAN URIs or DNS names that get the admin role; NULL-terminated; NULL: none */
	/* 0: 128 connections, 2048 calls, 1024 calls on one connection, 8 queries at once. */
	uint32_t max_connections, max_calls, max_calls_per_connection, max_queries;
	const struct api_ops *ops; /* outlives the server, as do all texts above */
	void *ctx;
};

int api_server_new(struct api_server **ret, const struct api_server_options *options, struct err *err);
int api_server_start(struct api_server *s, struct err *err);
/* A bus sink: hands the batch to the watchers of its table. Never blocks. Any thread. */
int api_server_push(struct api_server *s, struct batch *batch);
/* Something that WatchPlugins, WatchGovernor or health watchers wait for has changed. Any thread; never blocks. */
void api_server_plugin_changed(struct api_server *s, const char *name, bool serving);
void api_server_governor_changed(struct api_server *s);
/* Reads the TLS files again for new connections. */
void api_server_reload_tls(struct api_server *s);

struct api_server_stats {
	uint64_t connections, calls_live, calls_total, calls_refused, watchers, rows_sent, rows_dropped;
};
void api_server_get_stats(struct api_server *s, struct api_server_stats *ret);
/* The port of listen, for "host:0"; 0 without one. */
int api_server_tls_port(const struct api_server *s);
/*
 * Drains: listeners closed, watchers ended with UNAVAILABLE, other calls after at most grace_ns. Waits for ops that run: on
 * the thread that serves them, close their mailbox first, so that they return -ESHUTDOWN.
 */
void api_server_stop(struct api_server *s, uint64_t grace_ns);
void api_server_free(struct api_server *s);
