// SPDX-License-Identifier: Apache-2.0
/* Calls that read rows, from their request to their end: who asked, what was sent, how it went. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "api/rpc_internal.h"
#include "base/clock.h"

static char *copy_text(struct rpc_call *call, const char *text, size_t len)
{
	char *copy = arena_alloc(&call->arena, len + 1);

	if (!copy)
		return "";
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

void rpc_read_begins(struct rpc_call *call, const ProtobufCMessage *request)
{
	char link[32], path[PATH_MAX];
	ssize_t n = -1;

	if (!call->method->text)
		return;
	call->request = request;
	call->began_ns = clock_mono_ns();
	call->exe = "";
	call->address = call->conn && call->conn->peer[0]
				? copy_text(call, call->conn->peer, strlen(call->conn->peer))
				: "";
	if (call->caller.pid > 0) {
		snprintf(link, sizeof(link), "/proc/%d/exe", call->caller.pid);
		n = readlink(link, path, sizeof(path));
	}
	if (n > 0)
		call->exe = copy_text(call, path, (size_t)n);
}

/* A peer that gives up at its deadline began to count a little before us. */
#define DEADLINE_SLACK_NS (100 * NSEC_PER_MSEC)

static enum rpc_code code_of(const struct rpc_call *call)
{
	if (call->finished && !call->cancelled)
		return call->code;
	return call->deadline_ns && clock_mono_ns() + DEADLINE_SLACK_NS >= call->deadline_ns
		       ? RPC_DEADLINE_EXCEEDED
		       : RPC_CANCELLED;
}

static void tell(struct rpc_call *call, bool begun)
{
	const struct rpc_options *o = &call->rpc->options;

	if (!call->request || !o->read)
		return;
	o->read(o->ctx, &(struct rpc_read){
				.begun = begun,
				.method = call->method,
				.caller = &call->caller,
				.exe = call->exe,
				.address = call->address,
				.request = call->request,
				.rows = begun ? 0 : atomic_load(&call->rows),
				.bytes = begun ? 0 : call->bytes,
				.duration_ns = begun ? 0 : clock_mono_ns() - call->began_ns,
				.code = begun ? RPC_OK : code_of(call),
			});
}

void rpc_read_started(struct rpc_call *call)
{
	if (call->method->endless && !call->finished)
		tell(call, true);
}

void rpc_read_ended(struct rpc_call *call)
{
	tell(call, false);
}
