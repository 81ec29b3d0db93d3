// SPDX-License-Identifier: Apache-2.0
/* One call from its arrival to its end: at most one receive and one send under way, freed when no tag is left. */
#define LOG_MODULE "api"
#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/rpc_internal.h"
#include "api/wire.h"
#include "base/clock.h"
#include "base/log.h"

static void on_new(struct rpc_tag *tag, bool ok);
static void on_close(struct rpc_tag *tag, bool ok);
static void on_recv(struct rpc_tag *tag, bool ok);
static void on_send(struct rpc_tag *tag, bool ok);
static void on_fin(struct rpc_tag *tag, bool ok);

static void (*const tag_fns[CALL_TAG_X_MAX])(struct rpc_tag *tag, bool ok) = {
	[CALL_TAG_NEW] = on_new,   [CALL_TAG_CLOSE] = on_close, [CALL_TAG_RECV] = on_recv,
	[CALL_TAG_SEND] = on_send, [CALL_TAG_FIN] = on_fin,
};

static struct rpc_call *tag_call(struct rpc_tag *tag)
{
	return container_of(tag, struct rpc_call_tag, tag)->call;
}

static void call_free(struct rpc_call *call)
{
	struct rpc *rpc = call->rpc;
	bool counted = call->call != NULL;

	rpc_conn_release(call);
	if (call->in)
		grpc_byte_buffer_destroy(call->in);
	grpc_call_details_destroy(&call->details);
	grpc_metadata_array_destroy(&call->metadata);
	if (call->call)
		grpc_call_unref(call->call);
	arena_free(&call->arena);
	free(call);
	if (!counted)
		return;
	pthread_mutex_lock(&rpc->state_mu);
	if (atomic_fetch_sub(&rpc->calls_live, 1) == 1)
		pthread_cond_broadcast(&rpc->state_cv);
	pthread_mutex_unlock(&rpc->state_mu);
}

struct rpc_call *rpc_call_ref(struct rpc_call *call)
{
	atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
	return call;
}

void rpc_call_unref(struct rpc_call *call)
{
	if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) == 1)
		call_free(call);
}

/* A refused batch is a mistake of ours (two sends at once): the call can only be ended. */
static bool start(struct rpc_call *call, const grpc_op *ops, size_t n, unsigned int tag)
{
	grpc_call_error e;

	rpc_call_ref(call);
	e = grpc_call_start_batch(call->call, ops, n, &call->tags[tag], NULL);
	if (e == GRPC_CALL_OK)
		return true;
	if (log_ratelimit("api-batch", 10))
		log_error("call %s: %s, cancelling it", call->method ? call->method->path : "?",
			  grpc_call_error_to_string(e));
	grpc_call_cancel(call->call, NULL);
	rpc_call_unref(call);
	return false;
}

void rpc_call_request(struct rpc *rpc)
{
	struct rpc_call *call = calloc(1, sizeof(*call));
	grpc_call_error e;

	if (!call) {
		/* One of RPC_PENDING slots is lost; the others go on. */
		log_error("no memory for a gRPC call, ignoring");
		return;
	}
	for (unsigned int i = 0; i < CALL_TAG_X_MAX; i++)
		call->tags[i] = (struct rpc_call_tag){.tag.fn = tag_fns[i], .call = call};
	call->rpc = rpc;
	call->arena = (struct arena){.limit = RPC_CALL_ARENA, .budget = &rpc->arena_budget};
	atomic_init(&call->refs, 1);
	grpc_call_details_init(&call->details);
	grpc_metadata_array_init(&call->metadata);
	e = grpc_server_request_call(rpc->server, &call->call, &call->details, &call->metadata, rpc->cq, rpc->cq,
				     &call->tags[CALL_TAG_NEW]);
	if (e != GRPC_CALL_OK) {
		log_error("cannot accept gRPC calls: %s", grpc_call_error_to_string(e));
		rpc_call_unref(call);
	}
}

/* In the order of strcmp(); grpc_slice_str_cmp() puts shorter texts first. */
static int compare_path(grpc_slice path, const char *other)
{
	size_t len = GRPC_SLICE_LENGTH(path), other_len = strlen(other);
	int c = memcmp(GRPC_SLICE_START_PTR(path), other, len < other_len ? len : other_len);

	return c ? c : (len > other_len) - (len < other_len);
}

static const struct rpc_method *find_method(const struct rpc_options *o, grpc_slice path)
{
	size_t lo = 0, hi = o->nmethods;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = compare_path(path, o->methods[mid].path);

		if (c == 0)
			return &o->methods[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

static uint64_t deadline_of(const grpc_call_details *details)
{
	gpr_timespec left = gpr_time_sub(details->deadline, gpr_now(details->deadline.clock_type));

	if (gpr_time_cmp(details->deadline, gpr_inf_future(details->deadline.clock_type)) == 0)
		return 0;
	if (left.tv_sec < 0)
		return clock_mono_ns();
	return clock_mono_ns() + (uint64_t)left.tv_sec * NSEC_PER_SEC + (uint64_t)left.tv_nsec;
}

static void refuse(struct rpc_call *call, enum rpc_code code, const char *text)
{
	atomic_fetch_add(&call->rpc->refused, 1);
	rpc_finish(call, code, "%s", text);
}

/* Who calls, and whether that is allowed: before a byte of the request is read. */
static bool admit(struct rpc_call *call)
{
	struct rpc *rpc = call->rpc;
	const char *why = NULL;
	enum rpc_code code = rpc_identify(call, &why);

	if (code != RPC_OK) {
		refuse(call, code, why);
		return false;
	}
	if (atomic_load(&rpc->draining)) {
		refuse(call, RPC_UNAVAILABLE, "ringsided is shutting down");
		return false;
	}
	if (atomic_load(&rpc->calls_live) > rpc->options.max_calls) {
		refuse(call, RPC_RESOURCE_EXHAUSTED, "too many calls at once in all; end some or raise api.max_calls");
		return false;
	}
	call->method = find_method(&rpc->options, call->details.method);
	if (!call->method) {
		char path[160];
		int len = (int)GRPC_SLICE_LENGTH(call->details.method);

		snprintf(path, sizeof(path), "unknown method %.*s; server reflection lists them", len > 100 ? 100 : len,
			 (const char *)GRPC_SLICE_START_PTR(call->details.method));
		refuse(call, RPC_UNIMPLEMENTED, path);
		return false;
	}
	if (call->caller.role < call->method->role) {
		refuse(call, RPC_PERMISSION_DENIED,
		       "this method needs the admin role: the unix socket, or a certificate named in api.tls_admins");
		return false;
	}
	return true;
}

static void receive(struct rpc_call *call)
{
	grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->in};

	start(call, &op, 1, CALL_TAG_RECV);
}

static void on_new(struct rpc_tag *tag, bool ok)
{
	struct rpc_call *call = tag_call(tag);
	grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
		      .data.recv_close_on_server.cancelled = &call->cancelled};

	if (!ok) { /* the server is going down */
		rpc_call_unref(call);
		return;
	}
	rpc_call_request(call->rpc);
	atomic_fetch_add(&call->rpc->calls_live, 1);
	atomic_fetch_add(&call->rpc->calls_total, 1);
	call->deadline_ns = deadline_of(&call->details);
	start(call, &op, 1, CALL_TAG_CLOSE);
	if (admit(call))
		receive(call);
	rpc_call_unref(call);
}

/* Fires once for every call: answered, cancelled, past its deadline or disconnected. */
static void on_close(struct rpc_tag *tag, bool ok _unused_)
{
	struct rpc_call *call = tag_call(tag);

	atomic_store(&call->closed, true);
	rpc_read_ended(call);
	if (call->method && call->method->closed)
		call->method->closed(call);
	rpc_call_unref(call);
}

static ProtobufCMessage *unpack(struct rpc_call *call, grpc_slice data)
{
	const ProtobufCMessageDescriptor *type = call->method->input;
	const uint8_t *p = GRPC_SLICE_START_PTR(data);
	size_t len = GRPC_SLICE_LENGTH(data);
	ProtobufCAllocator allocator = arena_allocator(&call->arena);
	ProtobufCMessage *m;
	const char *field;

	if (wire_check(type, p, len, &field) < 0) {
		if (field)
			rpc_finish(call, RPC_INVALID_ARGUMENT, "field '%s' of %s is not valid UTF-8 text without NUL",
				   field, type->name);
		else
			rpc_finish(call, RPC_INVALID_ARGUMENT, "the request is not a valid %s message", type->name);
		return NULL;
	}
	m = protobuf_c_message_unpack(type, &allocator, len, p);
	if (!m)
		rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "the %s message needs more than %zu KiB of memory, or we are "
			   "short of it", type->name, call->arena.limit >> 10);
	return m;
}

static void send_initial(struct rpc_call *call)
{
	grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};

	call->initial_sent = call->sending = true;
	if (!start(call, &op, 1, CALL_TAG_SEND))
		call->sending = false;
}

static void handle(struct rpc_call *call)
{
	grpc_byte_buffer_reader reader;
	ProtobufCMessage *request;
	grpc_slice data;

	grpc_byte_buffer_reader_init(&reader, call->in);
	data = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	grpc_byte_buffer_destroy(call->in);
	call->in = NULL;
	request = unpack(call, data);
	grpc_slice_unref(data);
	if (!request)
		return;
	rpc_read_begins(call, request);
	call->method->message(call, request);
	rpc_read_started(call);
	/* The client of a stream learns at once that it was let in. */
	if (call->method->kind == RPC_STREAM && !call->initial_sent && !call->finished && !call->closed)
		send_initial(call);
}

static void on_recv(struct rpc_tag *tag, bool ok)
{
	struct rpc_call *call = tag_call(tag);

	if (!ok || call->closed || call->finished)
		goto out;
	if (call->in)
		handle(call);
	else if (call->method->kind == RPC_BIDI)
		rpc_finish(call, RPC_OK, NULL);
	else
		rpc_finish(call, RPC_INTERNAL, "%s wants one request message, none came", call->method->path);
out:
	rpc_call_unref(call);
}

static void on_send(struct rpc_tag *tag, bool ok)
{
	struct rpc_call *call = tag_call(tag);

	call->sending = false;
	if (ok && !call->closed && !call->finished) {
		if (call->method->kind == RPC_BIDI) {
			arena_free(&call->arena);
			receive(call);
		} else if (call->method->ready) {
			call->method->ready(call);
		}
	}
	rpc_call_unref(call);
}

static void on_fin(struct rpc_tag *tag, bool ok _unused_)
{
	rpc_call_unref(tag_call(tag));
}

static grpc_byte_buffer *pack(const ProtobufCMessage *m)
{
	grpc_slice s = grpc_slice_malloc(protobuf_c_message_get_packed_size(m));
	grpc_byte_buffer *b;

	protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(s));
	b = grpc_raw_byte_buffer_create(&s, 1);
	grpc_slice_unref(s);
	return b;
}

static grpc_byte_buffer *copy(const void *data, size_t len)
{
	grpc_slice s = grpc_slice_from_copied_buffer(data, len);
	grpc_byte_buffer *b = grpc_raw_byte_buffer_create(&s, 1);

	grpc_slice_unref(s);
	return b;
}

static void send_buffer(struct rpc_call *call, grpc_byte_buffer *out)
{
	grpc_op ops[2] = {};
	size_t n = 0;

	if (!call->initial_sent)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[n].op = GRPC_OP_SEND_MESSAGE;
	ops[n++].data.send_message.send_message = out;
	call->initial_sent = call->sending = true;
	if (!start(call, ops, n, CALL_TAG_SEND))
		call->sending = false;
	grpc_byte_buffer_destroy(out); /* the core has taken the slices */
}

void rpc_send(struct rpc_call *call, const ProtobufCMessage *message)
{
	if (!rpc_call_ended(call))
		send_buffer(call, pack(message));
}

void rpc_send_bytes(struct rpc_call *call, const void *data, size_t len)
{
	if (rpc_call_ended(call))
		return;
	call->bytes += len;
	send_buffer(call, copy(data, len));
}

/* Headers, the answer if there is one, and trailers in one batch: one write. Takes out. */
static void finish(struct rpc_call *call, enum rpc_code code, const char *text, grpc_byte_buffer *out)
{
	grpc_slice details = grpc_empty_slice();
	grpc_op ops[3] = {};
	size_t n = 0;

	call->finished = true;
	call->code = code;
	if (!call->initial_sent)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	call->initial_sent = true;
	if (out) {
		ops[n].op = GRPC_OP_SEND_MESSAGE;
		ops[n++].data.send_message.send_message = out;
	}
	ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	ops[n].data.send_status_from_server.status = (grpc_status_code)code;
	if (text && *text) {
		details = grpc_slice_from_copied_string(text);
		ops[n].data.send_status_from_server.status_details = &details;
	}
	n++;
	start(call, ops, n, CALL_TAG_FIN);
	if (out)
		grpc_byte_buffer_destroy(out);
	grpc_slice_unref(details);
}

void rpc_reply(struct rpc_call *call, const ProtobufCMessage *message)
{
	if (!rpc_call_ended(call))
		finish(call, RPC_OK, NULL, pack(message));
}

void rpc_reply_bytes(struct rpc_call *call, const void *data, size_t len)
{
	if (!rpc_call_ended(call))
		finish(call, RPC_OK, NULL, copy(data, len));
}

void rpc_finish(struct rpc_call *call, enum rpc_code code, const char *fmt, ...)
{
	char text[512] = "";

	if (rpc_call_ended(call))
		return;
	if (fmt) {
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
	}
	finish(call, code, text, NULL);
}

void rpc_finish_err(struct rpc_call *call, int r, const struct err *err)
{
	if (err && err->msg[0])
		rpc_finish(call, rpc_code_from_errno(r), "%s", err->msg);
	else
		rpc_finish(call, rpc_code_from_errno(r), "%s", strerror(-r));
}

bool rpc_call_gone(const struct rpc_call *call)
{
	return atomic_load(&call->closed);
}

void rpc_call_add_rows(struct rpc_call *call, uint64_t n)
{
	atomic_fetch_add_explicit(&call->rows, n, memory_order_relaxed);
}

bool rpc_call_ended(const struct rpc_call *call)
{
	return call->closed || call->finished;
}

bool rpc_call_writable(const struct rpc_call *call)
{
	return !call->sending && !rpc_call_ended(call);
}

void *rpc_call_ctx(const struct rpc_call *call)
{
	return call->rpc->options.ctx;
}

const struct rpc_method *rpc_call_method(const struct rpc_call *call)
{
	return call->method;
}

const struct rpc_caller *rpc_call_caller(const struct rpc_call *call)
{
	return &call->caller;
}

uint64_t rpc_call_deadline_ns(const struct rpc_call *call)
{
	return call->deadline_ns;
}

struct arena *rpc_call_arena(struct rpc_call *call)
{
	return &call->arena;
}

void rpc_call_set_state(struct rpc_call *call, void *state)
{
	call->state = state;
}

void *rpc_call_state(const struct rpc_call *call)
{
	return call->state;
}
