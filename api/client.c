// SPDX-License-Identifier: Apache-2.0
/* Blocking calls on the C core: one completion queue a call, no thread of our own. */
#include "api/client.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "api/pem.h"
#include "api/status.h"
#include "base/clock.h"

/* A row can carry a text of up to 1 MiB; the server sends at most one such row a message. */
#define MAX_RECEIVE (16 << 20)
/* How long a cancel from a signal handler may go unseen. */
#define CANCEL_POLL_NS (50 * NSEC_PER_MSEC)
#define TLS_CONNECT_NS (5 * NSEC_PER_SEC)

struct client {
	grpc_channel *channel;
	bool initialised;
};

enum { TAG_OPEN, TAG_STATUS, TAG_MESSAGE, TAG_X_MAX };

struct client_stream {
	grpc_completion_queue *cq;
	grpc_call *call;
	const ProtobufCMessageDescriptor *type;
	grpc_metadata_array initial, trailing;
	grpc_byte_buffer *message;
	grpc_status_code status;
	grpc_slice details;
	bool outstanding[TAG_X_MAX];
	bool cancelled; /* grpc_call_cancel was called */
	atomic_bool cancel;
};

static void quiet_log(gpr_log_func_args *args _unused_)
{
	/* Everything that matters comes back as the status of a call. */
}

static gpr_timespec deadline_after(uint64_t ns)
{
	if (!ns)
		return gpr_inf_future(GPR_CLOCK_MONOTONIC);
	return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
			    gpr_time_from_nanos((int64_t)(ns > INT64_MAX ? INT64_MAX : ns), GPR_TIMESPAN));
}

static grpc_arg arg_int(const char *key, int value)
{
	return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

static int connect_unix(const char *path, struct err *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, -EINVAL, "socket path '%s' is longer than %zu bytes", path,
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno == EACCES)
			return err_set(err, -EACCES, "no right to use '%s': be root or a member of its group", path);
		return err_set(err, -ECONNREFUSED, "cannot reach ringsided at '%s': %s", path, strerror(errno));
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return err_set(err, -errno, "cannot ask who listens on '%s': %s", path, strerror(errno));
	if (peer.uid != 0 && peer.uid != geteuid())
		return err_set(err, -EPERM, "'%s' belongs to a process of uid %u, not of root or ourselves, refusing",
			       path, peer.uid);
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_set(err, -errno, "cannot make the socket non-blocking: %s", strerror(errno));
	return TAKE_FD(fd);
}

/* The channel itself never fails; waiting for its first connection tells "not there" from "refused the call". */
static int wait_ready(grpc_channel *channel, const char *address, struct err *err)
{
	gpr_timespec deadline = deadline_after(TLS_CONNECT_NS);
	grpc_completion_queue *cq = grpc_completion_queue_create_for_next(NULL);
	grpc_connectivity_state state = grpc_channel_check_connectivity_state(channel, 1);

	while (state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_TRANSIENT_FAILURE) {
		grpc_event ev;

		grpc_channel_watch_connectivity_state(channel, state, deadline, cq, NULL);
		ev = grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
		if (ev.type != GRPC_OP_COMPLETE || !ev.success)
			break;
		state = grpc_channel_check_connectivity_state(channel, 1);
	}
	grpc_completion_queue_shutdown(cq);
	while (grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type != GRPC_QUEUE_SHUTDOWN)
		;
	grpc_completion_queue_destroy(cq);
	if (state == GRPC_CHANNEL_READY)
		return 0;
	return err_set(err, -ECONNREFUSED,
		       "cannot reach ringsided at '%s' with TLS: nobody listens there, or the certificates don't fit",
		       address);
}

static int open_tls(struct client *c, const struct client_options *o, const grpc_channel_args *args, struct err *err)
{
	_cleanup_pem_ struct pem pem = {};
	grpc_ssl_pem_key_cert_pair pair;
	grpc_channel_credentials *creds;
	int r;

	if (!o->tls_ca || !o->tls_cert || !o->tls_key)
		return err_set(err, -EINVAL, "address '%s' needs the files of CA, certificate and key", o->address);
	r = pem_load(&pem, o->tls_ca, o->tls_cert, o->tls_key, err);
	if (r < 0)
		return r;
	pair = (grpc_ssl_pem_key_cert_pair){pem.key, pem.cert};
	creds = grpc_ssl_credentials_create_ex(pem.ca, &pair, NULL, NULL);
	if (!creds)
		return err_set(err, -EINVAL, "cannot use the certificates '%s', '%s'", o->tls_ca, o->tls_cert);
	c->channel = grpc_channel_create(o->address, creds, args);
	grpc_channel_credentials_release(creds);
	return wait_ready(c->channel, o->address, err);
}

static int open_unix(struct client *c, const struct client_options *o, const grpc_channel_args *args, struct err *err)
{
	grpc_channel_credentials *creds;
	int fd = connect_unix(o->socket_path, err);

	if (fd < 0)
		return fd;
	creds = grpc_insecure_credentials_create();
	c->channel = grpc_channel_create_from_fd("localhost", fd, creds, args);
	grpc_channel_credentials_release(creds);
	return 0;
}

int client_new(struct client **ret, const struct client_options *o, struct err *err)
{
	grpc_arg list[] = {
		arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, MAX_RECEIVE),
		arg_int(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
		arg_int(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10),
	};
	grpc_channel_args args = {ARRAY_SIZE(list), list};
	struct client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "no memory for a client");
	gpr_set_log_function(quiet_log);
	grpc_init();
	c->initialised = true;
	if (o->address)
		r = open_tls(c, o, &args, err);
	else if (o->socket_path)
		r = open_unix(c, o, &args, err);
	else
		r = err_set(err, -EINVAL, "neither a socket nor an address given");
	if (r < 0) {
		client_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	if (c->channel)
		grpc_channel_destroy(c->channel);
	if (c->initialised)
		grpc_shutdown();
	free(c);
}

static grpc_byte_buffer *pack(const ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	grpc_slice s = grpc_slice_malloc(len);
	grpc_byte_buffer *b;

	protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(s));
	b = grpc_raw_byte_buffer_create(&s, 1);
	grpc_slice_unref(s);
	return b;
}

static int unpack(grpc_byte_buffer *b, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret, struct err *err)
{
	grpc_byte_buffer_reader reader;
	grpc_slice s;

	if (!grpc_byte_buffer_reader_init(&reader, b))
		return err_set(err, -EIO, "the answer cannot be decompressed");
	s = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	*ret = protobuf_c_message_unpack(type, NULL, GRPC_SLICE_LENGTH(s), GRPC_SLICE_START_PTR(s));
	grpc_slice_unref(s);
	if (!*ret)
		return err_set(err, -EIO, "the answer is not a valid %s", type->name);
	return 0;
}

static int status_error(grpc_status_code status, grpc_slice details, struct err *err)
{
	int r = rpc_code_to_errno((int)status);

	if (GRPC_SLICE_LENGTH(details))
		return err_set(err, r, "%.*s", (int)GRPC_SLICE_LENGTH(details),
			       (const char *)GRPC_SLICE_START_PTR(details));
	return err_set(err, r, "the call ended with status %d: %s", (int)status, strerror(-r));
}

static grpc_event wait_event(struct client_stream *s, gpr_timespec deadline)
{
	grpc_event ev = grpc_completion_queue_next(s->cq, deadline, NULL);

	if (ev.type == GRPC_OP_COMPLETE)
		s->outstanding[(size_t)ev.tag] = false;
	return ev;
}

static int start(struct client_stream *s, const grpc_op *ops, size_t n, size_t tag, struct err *err)
{
	grpc_call_error e = grpc_call_start_batch(s->call, ops, n, (void *)tag, NULL);

	if (e != GRPC_CALL_OK)
		return err_set(err, -EIO, "cannot start the call: %s", grpc_call_error_to_string(e));
	s->outstanding[tag] = true;
	return 0;
}

static int send_request(struct client_stream *s, const ProtobufCMessage *request, struct err *err)
{
	grpc_byte_buffer *out = pack(request);
	grpc_op ops[4] = {
		{.op = GRPC_OP_SEND_INITIAL_METADATA},
		{.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = out},
		{.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
		{.op = GRPC_OP_RECV_INITIAL_METADATA,
		 .data.recv_initial_metadata.recv_initial_metadata = &s->initial},
	};
	grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
			  .data.recv_status_on_client = {.trailing_metadata = &s->trailing,
							 .status = &s->status,
							 .status_details = &s->details}};
	int r = start(s, ops, ARRAY_SIZE(ops), TAG_OPEN, err);

	grpc_byte_buffer_destroy(out); /* the batch holds its own reference on the slices */
	if (r < 0)
		return r;
	return start(s, &status, 1, TAG_STATUS, err);
}

int client_stream_open(struct client *c, const char *method, const ProtobufCMessage *request,
		       const ProtobufCMessageDescriptor *type, uint64_t timeout_ns, struct client_stream **ret,
		       struct err *err)
{
	struct client_stream *s = calloc(1, sizeof(*s));
	grpc_slice path = grpc_slice_from_copied_string(method);
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "no memory for a call");
	s->type = type;
	s->details = grpc_empty_slice();
	grpc_metadata_array_init(&s->initial);
	grpc_metadata_array_init(&s->trailing);
	s->cq = grpc_completion_queue_create_for_next(NULL);
	s->call = grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, s->cq,
					   path, NULL, deadline_after(timeout_ns), NULL);
	grpc_slice_unref(path);
	r = send_request(s, request, err);
	if (r < 0) {
		client_stream_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void look_for_cancel(struct client_stream *s)
{
	if (atomic_load(&s->cancel) && !s->cancelled) {
		s->cancelled = true;
		grpc_call_cancel(s->call, NULL);
	}
}

/* Waits for one tag; -EAGAIN after wait_ns. */
static int wait_tag(struct client_stream *s, size_t tag, uint64_t wait_ns)
{
	uint64_t end = wait_ns ? clock_mono_ns() + wait_ns : UINT64_MAX;

	while (s->outstanding[tag]) {
		uint64_t now = clock_mono_ns();
		uint64_t slice = CANCEL_POLL_NS;

		look_for_cancel(s);
		if (now >= end)
			return -EAGAIN;
		if (end - now < slice)
			slice = end - now;
		wait_event(s, deadline_after(slice));
	}
	return 0;
}

static int finish(struct client_stream *s, struct err *err)
{
	int r = wait_tag(s, TAG_STATUS, 0);

	if (r < 0)
		return r;
	if (atomic_load(&s->cancel))
		return err_set(err, -ECANCELED, "cancelled");
	if (s->status == GRPC_STATUS_OK)
		return 0;
	return status_error(s->status, s->details, err);
}

int client_stream_next(struct client_stream *s, uint64_t wait_ns, ProtobufCMessage **ret, struct err *err)
{
	grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &s->message};
	int r;

	/* A receive that timed out for the caller is still under way. The status may overtake the last messages. */
	if (!s->outstanding[TAG_MESSAGE]) {
		r = start(s, &op, 1, TAG_MESSAGE, err);
		if (r < 0)
			return r;
	}
	r = wait_tag(s, TAG_MESSAGE, wait_ns);
	if (r < 0)
		return err_set(err, r, "no message yet");
	if (!s->message)
		return finish(s, err);
	r = unpack(s->message, s->type, ret, err);
	grpc_byte_buffer_destroy(s->message);
	s->message = NULL;
	return r < 0 ? r : 1;
}

void client_stream_cancel(struct client_stream *s)
{
	atomic_store(&s->cancel, true);
}

void client_stream_free(struct client_stream *s)
{
	if (!s)
		return;
	if (s->call) {
		grpc_call_cancel(s->call, NULL);
		for (size_t tag = 0; tag < TAG_X_MAX; tag++)
			while (s->outstanding[tag])
				wait_event(s, gpr_inf_future(GPR_CLOCK_MONOTONIC));
		grpc_call_unref(s->call);
	}
	grpc_completion_queue_shutdown(s->cq);
	while (grpc_completion_queue_next(s->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
	       GRPC_QUEUE_SHUTDOWN)
		;
	grpc_completion_queue_destroy(s->cq);
	if (s->message)
		grpc_byte_buffer_destroy(s->message);
	grpc_metadata_array_destroy(&s->initial);
	grpc_metadata_array_destroy(&s->trailing);
	grpc_slice_unref(s->details);
	free(s);
}

int client_call(struct client *c, const char *method, const ProtobufCMessage *request,
		const ProtobufCMessageDescriptor *type, uint64_t timeout_ns, ProtobufCMessage **ret, struct err *err)
{
	struct client_stream *s = NULL;
	ProtobufCMessage *answer = NULL;
	int r = client_stream_open(c, method, request, type, timeout_ns, &s, err);

	if (r < 0)
		return r;
	r = client_stream_next(s, 0, &answer, err);
	if (r == 1)
		r = finish(s, err);
	else if (r == 0)
		r = err_set(err, -EIO, "%s ended without an answer", method);
	client_stream_free(s);
	if (r < 0) {
		if (answer)
			protobuf_c_message_free_unpacked(answer, NULL);
		return r;
	}
	*ret = answer;
	return 0;
}
