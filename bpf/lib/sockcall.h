/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* System calls on sockets as the plugins bind and tcp see them; shared by both halves. */
#pragma once

#include "bpf/lib/process.h"

enum sockcall_kind {
	SOCKCALL_BIND,
	SOCKCALL_LISTEN,
	SOCKCALL_ACCEPT,
	SOCKCALL_CONNECT,
	SOCKCALL_CONNECTED,	 /* a connection that connect() left in progress is there */
	SOCKCALL_CONNECT_FAILED, /* ... has come to nothing */
	SOCKCALL_X_MAX,
};

#define SOCKCALL_NAME_SIZE 128 /* sizeof(struct sockaddr_storage) */

enum sockcall_flags {
	SOCKCALL_PORT_ASKED = 1, /* the local port was asked for, not chosen by the kernel */
	SOCKCALL_TIMED = 2,	 /* duration_ns is known */
};

struct sock_facts {
	__u32 local[4], remote[4]; /* network order; IPv4 in the first word */
	__u32 netns;
	__u32 bound_dev_if;
	__u16 local_port, remote_port; /* host order */
	__u16 family;		       /* AF_*; 0: not a socket */
	__u16 type;
	__u16 protocol;
	__u16 pad[3];
};

struct sockcall_event {
	struct process_context p;
	__u64 duration_ns;
	__u32 kind;
	__s32 fd;    /* -1: no system call of its own */
	__s32 arg;   /* backlog of listen, new descriptor of accept */
	__s32 error; /* errno, or 0 */
	__u32 flags;
	__u32 name_len;
	struct sock_facts s;
	__u8 name[SOCKCALL_NAME_SIZE]; /* struct sockaddr, the first name_len bytes */
};
