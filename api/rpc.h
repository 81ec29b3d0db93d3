// SPDX-License-Identifier: Apache-2.0
/* The gRPC engine: listeners, identity, calls, flow control, drain. Services see calls and messages, never a gRPC type. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "api/arena.h"
#include "api/status.h"
#include "base/buf.h"
#include "base/err.h"

struct rpc;
struct rpc_call;
struct api_job;

enum rpc_kind {
	RPC_UNARY,
	RPC_STREAM, /* server streaming */
	RPC_BIDI,   /* one answer a message */
};

enum rpc_role {
	RPC_NOBODY,
	RPC_VIEWER, /* Get, List, Watch, Query, Check, health, reflection */
	RPC_ADMIN,
};

struct rpc_caller {
	const char *transport; /* "unix" or "tls" */
	enum rpc_role role;
	uint32_t uid, gid; /* unix */
	int32_t pid;
	char subject[256]; /* tls: subject of the certificate */
};

/* All functions run on the engine's thread and must not block. */
struct rpc_method {
	const char *path; /* "/ringside.v1.PluginService/ListPlugins" */
	enum rpc_kind kind;
	enum rpc_role role; /* the least that may call it */
	const ProtobufCMessageDescriptor *input;
	/* The request; valid as long as the call (BIDI: until the answer is sent). */
	void (*message)(struct rpc_call *call, const ProtobufCMessage *request);
	/* STREAM: the last message was accepted by the peer's flow control, the next may be sent. */
	void (*ready)(struct rpc_call *call);
	/* Once per call, however it ended; state may be NULL. */
	void (*closed)(struct rpc_call *call);
	int (*handler)(struct api_job *job); /* for the services' own use */
	/* A method that reads rows: what it reads, as SQL. rpc_options.read is called when such a call ends. */
	void (*text)(const ProtobufCMessage *request, struct buf *out);
	bool endless; /* with text: ends when its client wants; rpc_options.read is called when it begins, too */
};

/* A call of a method with text that has ended, or begun. */
struct rpc_read {
	bool begun;
	const struct rpc_method *method;
	const struct rpc_caller *caller;
	const char *exe, *address; /* of a unix, of a tls caller as it was when the request came; "": unknown */
	const ProtobufCMessage *request;
	uint64_t rows, bytes, duration_ns;
	enum rpc_code code;
};

struct rpc_options {
	const struct rpc_method *methods; /* sorted by path; outlive the engine */
	size_t nmethods;
	void *ctx;
	const char *socket_path, *group;
	const int *activated_fds;
	unsigned int nactivated;
	const char *listen, *tls_ca, *tls_cert, *tls_key;
	const char *const *tls_admins; /* NULL-terminated: SAN URIs, DNS names */
	uint32_t max_connections, max_calls, max_calls_per_connection;
	void (*read)(void *ctx, const struct rpc_read *read); /* engine thread; may be NULL */
	void (*drain)(void *ctx); /* engine thread: end the streams */
};

int rpc_new(struct rpc **ret, const struct rpc_options *options, struct err *err);
/* Binds, listens and serves. */
int rpc_start(struct rpc *rpc, struct err *err);
/* Closes the listeners, calls drain, waits for calls at most grace_ns, cancels the rest. Blocks. */
void rpc_stop(struct rpc *rpc, uint64_t grace_ns);
void rpc_free(struct rpc *rpc);
void rpc_reload_tls(struct rpc *rpc);
int rpc_tls_port(const struct rpc *rpc); /* the port bound for listen "host:0" */

struct rpc_stats {
	uint64_t connections, calls_live, calls_total, refused;
};
void rpc_get_stats(struct rpc *rpc, struct rpc_stats *ret);

/* Something to do on the engine's thread. */
struct rpc_task {
	void (*run)(struct rpc_task *task);
	struct rpc_task *next;
};
/* Any thread. -ESHUTDOWN once the engine has stopped: the task stays the caller's. */
int rpc_post(struct rpc *rpc, struct rpc_task *task);

/* Engine thread. */
struct rpc_timer {
	void (*fire)(struct rpc_timer *timer);
	uint64_t due_ns; /* CLOCK_MONOTONIC */
	struct rpc_timer *next;
	bool armed;
};
void rpc_timer_set(struct rpc *rpc, struct rpc_timer *timer, uint64_t due_ns);
void rpc_timer_cancel(struct rpc *rpc, struct rpc_timer *timer);

/* A reference keeps the call's memory (request included), not its connection. Any thread. */
struct rpc_call *rpc_call_ref(struct rpc_call *call);
void rpc_call_unref(struct rpc_call *call);
void *rpc_call_ctx(const struct rpc_call *call); /* rpc_options.ctx */
const struct rpc_method *rpc_call_method(const struct rpc_call *call);
const struct rpc_caller *rpc_call_caller(const struct rpc_call *call);
uint64_t rpc_call_deadline_ns(const struct rpc_call *call); /* CLOCK_MONOTONIC; 0: none */
struct arena *rpc_call_arena(struct rpc_call *call);
/* The peer has gone or cancelled: nobody wants an answer any more. */
bool rpc_call_gone(const struct rpc_call *call);
/* Rows that were sent, or are about to be. Any thread. */
void rpc_call_add_rows(struct rpc_call *call, uint64_t n);

/* Engine thread from here on. After the call has ended they do nothing. */
void rpc_call_set_state(struct rpc_call *call, void *state);
void *rpc_call_state(const struct rpc_call *call);
bool rpc_call_ended(const struct rpc_call *call);
/* STREAM: nothing is being sent. */
bool rpc_call_writable(const struct rpc_call *call);
void rpc_send(struct rpc_call *call, const ProtobufCMessage *message);
void rpc_send_bytes(struct rpc_call *call, const void *data, size_t len);
/* UNARY: the answer and status OK. */
void rpc_reply(struct rpc_call *call, const ProtobufCMessage *message);
void rpc_reply_bytes(struct rpc_call *call, const void *data, size_t len);
void rpc_finish(struct rpc_call *call, enum rpc_code code, const char *fmt, ...) _printf_(3, 4);
/* By the mapping of status.h. */
void rpc_finish_err(struct rpc_call *call, int r, const struct err *err);
