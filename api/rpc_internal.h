// SPDX-License-Identifier: Apache-2.0
/* What the engine's own files share; the only header of ours that knows gRPC types. */
#pragma once

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>

#include "api/rpc.h"
#include "base/thread.h"

/* A request carries names, options or SQL; 256 KiB is 100 times the largest sensible one. */
#define RPC_MAX_REQUEST (256 << 10)
/* Unpacked request and what a handler builds on it, per call and for all calls together. */
#define RPC_CALL_ARENA ((size_t)2 << 20)
#define RPC_ALL_ARENAS ((size_t)32 << 20)
/* fd numbers beyond are refused: the table is indexed by them. */
#define RPC_MAX_FD 65536
#define RPC_MAX_LISTENERS 8
/* Generic requests outstanding at the core: calls that arrive in one read are not delayed by our loop. */
#define RPC_PENDING 4

struct rpc_tag {
	void (*fn)(struct rpc_tag *tag, bool ok);
};

/* A peer: unix connections by fd, TLS ones by their address while they have calls. */
struct rpc_conn {
	bool used;
	uint64_t inode; /* unix: tells whether the fd is still ours */
	uint32_t uid, gid;
	int32_t pid;
	enum rpc_role role;
	char peer[72]; /* tls */
	_Atomic uint32_t calls;
	uint32_t refused; /* calls over the cap; engine thread */
};

enum {
	CALL_TAG_NEW,
	CALL_TAG_CLOSE,
	CALL_TAG_RECV,
	CALL_TAG_SEND,
	CALL_TAG_FIN,
	CALL_TAG_X_MAX,
};

struct rpc_call_tag {
	struct rpc_tag tag;
	struct rpc_call *call;
};

struct rpc_call {
	struct rpc_call_tag tags[CALL_TAG_X_MAX];
	struct rpc *rpc;
	_Atomic uint32_t refs; /* tags under way, plus those of services */
	grpc_call *call;
	grpc_call_details details;
	grpc_metadata_array metadata;
	grpc_byte_buffer *in;
	const struct rpc_method *method;
	struct rpc_caller caller;
	struct rpc_conn *conn;
	struct arena arena;
	void *state;
	uint64_t deadline_ns;
	int cancelled;
	/* For rpc_read. */
	const ProtobufCMessage *request;
	const char *exe, *address;
	uint64_t began_ns, bytes;
	_Atomic uint64_t rows;
	enum rpc_code code;
	bool initial_sent, sending, finished;
	atomic_bool closed;
};

struct rpc_listener {
	int fd;
	bool activated; /* the service manager's: never unlinked */
};

struct rpc {
	struct rpc_options options;
	grpc_server *server;
	grpc_completion_queue *cq;
	grpc_server_credentials *unix_creds;
	pthread_t thread, accept_thread;
	bool thread_running, accept_running, core_started, server_started;
	atomic_bool draining;
	struct rpc_tag shutdown_tag;
	struct heartbeat heartbeat;

	/* Tasks for the engine's thread; wake_call is a client call that never goes anywhere: its empty batch is an alarm. */
	pthread_mutex_t inbox_mu;
	struct rpc_task *inbox, **inbox_tail;
	bool inbox_closed, wake_pending;
	grpc_channel *wake_channel;
	grpc_call *wake_call;
	struct rpc_tag wake_tag;

	struct rpc_timer *timers; /* by due time; engine thread */

	/* rpc_stop waits here for calls and for the core's shutdown. */
	pthread_mutex_t state_mu;
	pthread_cond_t state_cv;
	bool core_down;
	_Atomic uint64_t calls_live, calls_total, refused;
	_Atomic size_t arena_budget;

	/* rpc_listen.c */
	struct rpc_listener listeners[RPC_MAX_LISTENERS];
	unsigned int nlisteners;
	uint64_t socket_inode, socket_device;
	int stop_fd, spare_fd;
	int64_t group_gid; /* -1: no such group */
	pthread_mutex_t conn_mu;
	struct rpc_conn *conns; /* RPC_MAX_FD entries, touched on use */
	int max_fd;             /* highest index used so far */
	uint32_t nconns;        /* as of the last sweep */

	/* rpc_tls.c */
	struct rpc_conn *tls_conns; /* max_connections entries; engine thread */
	_Atomic uint32_t tls_generation;
	uint32_t tls_loaded; /* only the core's handshaker calls us, under its own lock */
	int tls_port;
};

/* rpc_call.c */
void rpc_call_request(struct rpc *rpc);

/* rpc_read.c: nothing for methods without text. */
/* While the peer waits for its answer: a command line is gone when it has it. */
void rpc_read_begins(struct rpc_call *call, const ProtobufCMessage *request);
/* Once the request was let in: tells of reads that may never end. */
void rpc_read_started(struct rpc_call *call);
void rpc_read_ended(struct rpc_call *call);

/* rpc_listen.c */
int rpc_listen_open(struct rpc *rpc, struct err *err);
int rpc_listen_start(struct rpc *rpc, struct err *err);
void rpc_listen_close(struct rpc *rpc);
/* Unix connections that are still open. */
uint32_t rpc_listen_connections(struct rpc *rpc);

/* rpc_ident.c: engine thread. */
/* RPC_OK, or why this peer may not call at all; counts the call into *call->conn. */
enum rpc_code rpc_identify(struct rpc_call *call, const char **why);
void rpc_conn_release(struct rpc_call *call);

/* rpc_tls.c */
int rpc_tls_open(struct rpc *rpc, struct err *err);
enum rpc_code rpc_tls_identify(struct rpc_call *call, const char *peer, const char **why);

/* rpc_log.c */
void rpc_log_init(void);
