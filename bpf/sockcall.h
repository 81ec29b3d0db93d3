// SPDX-License-Identifier: Apache-2.0
/* What the rows of bind and tcp say of a socket, its addresses and how a call on it ended. */
#pragma once

#include <stdint.h>

#include "bpf/ends.h"
#include "bpf/lib/sockcall.h"
#include "bpf/process.h"

/* After PROCESS_COLUMNS. */
#define SOCKET_COLUMNS                   \
	int32_t fd;                      \
	uint32_t netns, bound_dev_if;    \
	uint16_t protocol;               \
	uint8_t family, type, transport; \
	uint32_t error_raw;              \
	uint64_t duration;               \
	struct str error, path

/* clang-format off */
#define SOCKET_FIELDS(st)                                                                         \
	FIELD(st, fd, I32, INT64, TAG, "", "descriptor that the call was given", .null = NULL_MAX),\
	FIELD(st, family, ENUM, TEXT, TAG, "",                                                    \
	      "of the socket: inet, inet6, unix, netlink...; NULL: the descriptor isn't a socket",\
	      .null = NULL_ZERO, .names = socket_family_names, .dict = true),                     \
	FIELD(st, type, ENUM, TEXT, TAG, "", "of the socket: stream, dgram, raw...",              \
	      .null = NULL_ZERO, .names = socket_type_names, .dict = true),                       \
	FIELD(st, transport, ENUM, TEXT, TAG, "",                                                 \
	      "over IP: tcp, udp, icmp, icmp6, raw or sctp", .null = NULL_ZERO,                   \
	      .names = transport_names, .dict = true),                                            \
	FIELD(st, protocol, U16, INT64, TAG, "", "of the socket, as a number of its family"),     \
	FIELD(st, path, STR, TEXT, TAG, "",                                                       \
	      "unix: the path, or @ and the abstract name; other families than IP: their address "\
	      "in words", .null = NULL_ZERO, .dict = true),                                       \
	FIELD(st, netns, U32, INT64, TAG, "", "inode of the socket's network namespace",          \
	      .null = NULL_ZERO),                                                                 \
	FIELD(st, bound_dev_if, U32, INT64, TAG, "", "interface that it is bound to; 0: any"),    \
	FIELD(st, error_raw, U32, INT64, TAG, "", "errno; 0: it succeeded"),                      \
	FIELD(st, error, STR, TEXT, TAG, "", "its name", .null = NULL_ZERO, .dict = true),        \
	FIELD(st, duration, U64, INT64, GAUGE, "ns", "of the call", .null = NULL_MAX)
/* clang-format on */

/* The part that both tables have, as sockcall_fill() sees it. */
struct socket_row {
	PROCESS_COLUMNS;
	SOCKET_COLUMNS;
};

#define SOCKET_ROW_CHECK(st)                                                              \
	static_assert(offsetof(struct st, path) == offsetof(struct socket_row, path) &&   \
			      offsetof(struct st, fd) == offsetof(struct socket_row, fd), \
		      "PROCESS_COLUMNS and SOCKET_COLUMNS come first")

extern const char *const socket_family_names[]; /* by AF_*, then one for all others */
extern const char *const socket_type_names[];	/* by SOCK_*, then one for all others */

/* One end of a socket. */
struct sock_end {
	struct ip_addr addr;
	int32_t port;	/* -1: raw sockets have none */
	bool ip;	/* the two above are known */
	char text[400]; /* for the column path; "" for IP */
};

/* A struct sockaddr of len bytes, as a process or the kernel wrote it. What is cut off is left out;
 * addresses that map IPv4 are IPv4. */
void sock_end_parse(struct sock_end *e, const uint8_t *name, size_t len);
/* An end of an inet or inet6 socket; none of another's. */
void sock_end_set(struct sock_end *e, const struct sock_facts *s, const uint32_t addr[4],
		  uint16_t port);

/*
 * The columns that both tables have. 0, or -EBADMSG if the sample isn't one. *name (never NULL)
 * gets what e->name says.
 */
int sockcall_check(const struct sockcall_event *e, size_t len, struct sock_end *name);
void sockcall_fill(struct instance *in, unsigned int table, void *row,
		   const struct sockcall_event *e, const struct sock_end *name);
