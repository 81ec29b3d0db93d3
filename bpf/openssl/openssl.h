/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the two halves of the openssl plugin share. */
#pragma once

#include "bpf/lib/process.h"

/* Functions that get probes. */
enum openssl_function {
	OPENSSL_HANDSHAKE, /* SSL_do_handshake */
	OPENSSL_CONNECT,
	OPENSSL_ACCEPT,
	OPENSSL_SET_CONNECT, /* SSL_set_connect_state */
	OPENSSL_SET_ACCEPT,
	OPENSSL_FREE,
	OPENSSL_ERROR,	   /* ERR_set_error, ERR_vset_error: 3.0 */
	OPENSSL_PUT_ERROR, /* ERR_put_error: 1.1 */
	OPENSSL_TRANSFER,  /* SSL_read, SSL_write and their likes, with the option transfers */
	OPENSSL_FUNCTION_X_MAX,
};

#define OPENSSL_LIBRARIES 64
/* Cookies of probes: function, and which library it is in. */
#define OPENSSL_COOKIE(library, function) ((__u64)(library) << 8 | (function))

enum openssl_role {
	OPENSSL_ROLE_UNKNOWN,
	OPENSSL_CLIENT,
	OPENSSL_SERVER,
	OPENSSL_ROLE_X_MAX,
};

enum openssl_result {
	OPENSSL_OK,
	OPENSSL_FAILED,
	OPENSSL_ABANDONED,	/* the connection was freed before it was over */
	OPENSSL_RESULT_UNKNOWN, /* or after that: the library doesn't show it */
	OPENSSL_RESULT_X_MAX,
};

/* Where this library keeps what is asked of it, read from its own functions; OPENSSL_UNKNOWN: not
 * known. */
#define OPENSSL_UNKNOWN 0xffffffffu
struct openssl_layout {
	__u32 version;		   /* in SSL */
	__u32 session, cipher, id; /* in SSL, in the session, in the cipher */
	__u32 in_init;		   /* in SSL: the handshake isn't over */
};

enum openssl_kind {
	OPENSSL_EVENT_HANDSHAKE = 1,
	OPENSSL_EVENT_EXEC,
};

struct openssl_handshake {
	__u32 kind; /* OPENSSL_EVENT_HANDSHAKE */
	__s32 ret;
	struct process_context p; /* at the end */
	__u64 ssl, begun_ns, ended_ns;
	__u32 calls;
	__u32 error_library, error_reason; /* 0: none */
	__u16 version, cipher;		   /* as in the protocol; 0: not known */
	__u8 role, result, pad[6];
};

struct openssl_exec {
	__u32 kind; /* OPENSSL_EVENT_EXEC */
	__u32 pid;
};
