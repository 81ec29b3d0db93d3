// SPDX-License-Identifier: Apache-2.0
/* A blocking gRPC client over a unix socket or mTLS, for the command line. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "base/err.h"

struct client;
struct client_stream;

struct client_options {
	const char *socket_path; /* must belong to root or ourselves (SO_PEERCRED), or -EPERM */
	const char *address;     /* "host:port" with the three PEM files instead of the socket */
	const char *tls_ca, *tls_cert, *tls_key;
};

/* -ECONNREFUSED with a sentence that names the socket when the daemon isn't there. */
int client_new(struct client **ret, const struct client_options *options, struct err *err);
void client_free(struct client *c);
/* method: "/ringside.v1.PluginService/ListPlugins". *ret: protobuf_c_message_free_unpacked(). timeout_ns 0: none. */
int client_call(struct client *c, const char *method, const ProtobufCMessage *request,
		const ProtobufCMessageDescriptor *type, uint64_t timeout_ns, ProtobufCMessage **ret, struct err *err);
int client_stream_open(struct client *c, const char *method, const ProtobufCMessage *request,
		       const ProtobufCMessageDescriptor *type, uint64_t timeout_ns, struct client_stream **ret,
		       struct err *err);
/* 1 and a message, 0 at the end (status OK), negative with *err; -EAGAIN after wait_ns without one (0: wait for ever). */
int client_stream_next(struct client_stream *s, uint64_t wait_ns, ProtobufCMessage **ret, struct err *err);
/* Any thread and signal-safe enough for a handler's flag loop: ends the call; the next client_stream_next says -ECANCELED. */
void client_stream_cancel(struct client_stream *s);
void client_stream_free(struct client_stream *s);
