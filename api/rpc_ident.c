// SPDX-License-Identifier: Apache-2.0
/* Who is calling: the core's peer text leads to the credentials taken when the connection was accepted. */
#define LOG_MODULE "api"
#include <grpc/support/alloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/rpc_internal.h"
#include "api/rpc_peer.h"
#include "base/log.h"

/* A peer that keeps asking over its cap is not confused but hostile. */
#define MAX_REFUSED 1000

int rpc_peer_fd(const char *peer)
{
	int fd = 0;

	if (!peer || strncmp(peer, "fd:", 3) || !peer[3])
		return -1;
	if (peer[3] == '0' && peer[4])
		return -1;
	for (const char *p = peer + 3; *p; p++) {
		if (*p < '0' || *p > '9')
			return -1;
		fd = fd * 10 + (*p - '0');
		if (fd >= RPC_MAX_FD)
			return -1;
	}
	return fd;
}

static enum rpc_code count_call(struct rpc_call *call, struct rpc_conn *conn, int fd, const char **why)
{
	uint32_t live = atomic_fetch_add(&conn->calls, 1) + 1;

	call->conn = conn;
	if (live <= call->rpc->options.max_calls_per_connection)
		return RPC_OK;
	if (++conn->refused == MAX_REFUSED && fd >= 0) {
		if (log_ratelimit("api-abuse", 5))
			log_warn("pid %d of uid %u opens too many calls, closing its connection", conn->pid, conn->uid);
		shutdown(fd, SHUT_RDWR); /* alive: the call holds the transport, which holds the fd */
	}
	*why = "too many calls at once on this connection; end some or raise api.max_calls_per_connection";
	return RPC_RESOURCE_EXHAUSTED;
}

static enum rpc_code identify_unix(struct rpc_call *call, int fd, const char **why)
{
	struct rpc *rpc = call->rpc;
	struct rpc_conn *conn = &rpc->conns[fd];
	bool known;

	pthread_mutex_lock(&rpc->conn_mu);
	known = conn->used;
	call->caller = (struct rpc_caller){.transport = "unix",
					   .role = conn->role,
					   .uid = conn->uid,
					   .gid = conn->gid,
					   .pid = conn->pid};
	pthread_mutex_unlock(&rpc->conn_mu);
	if (!known || call->caller.role == RPC_NOBODY) {
		*why = "cannot tell who is calling";
		return RPC_UNAUTHENTICATED;
	}
	return count_call(call, conn, fd, why);
}

static struct rpc_conn *tls_conn(struct rpc *rpc, const char *peer)
{
	struct rpc_conn *free_slot = NULL;

	for (uint32_t i = 0; i < rpc->options.max_connections; i++) {
		struct rpc_conn *c = &rpc->tls_conns[i];

		if (c->used && strcmp(c->peer, peer) == 0)
			return c;
		if (!free_slot && (!c->used || atomic_load(&c->calls) == 0))
			free_slot = c;
	}
	if (free_slot) {
		*free_slot = (struct rpc_conn){.used = true};
		memcpy(free_slot->peer, peer, strlen(peer) + 1); /* rpc_identify() has looked at its length */
	}
	return free_slot;
}

enum rpc_code rpc_identify(struct rpc_call *call, const char **why)
{
	char *peer = grpc_call_get_peer(call->call);
	int fd = rpc_peer_fd(peer);
	enum rpc_code code;

	*why = "cannot tell who is calling";
	if (fd >= 0) {
		code = identify_unix(call, fd, why);
	} else if (!peer || strlen(peer) >= sizeof(((struct rpc_conn *)0)->peer) || !call->rpc->options.listen) {
		code = RPC_UNAUTHENTICATED;
	} else {
		code = rpc_tls_identify(call, peer, why);
		if (code == RPC_OK) {
			struct rpc_conn *conn = tls_conn(call->rpc, peer);

			*why = "too many connections; close some or raise api.max_connections";
			code = conn ? count_call(call, conn, -1, why) : RPC_RESOURCE_EXHAUSTED;
		}
	}
	gpr_free(peer);
	return code;
}

void rpc_conn_release(struct rpc_call *call)
{
	if (call->conn)
		atomic_fetch_sub(&call->conn->calls, 1);
	call->conn = NULL;
}
