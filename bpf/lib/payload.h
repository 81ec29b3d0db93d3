/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) OR Apache-2.0 */
/* Samples of what sockets send and receive: shared by both halves of the plugins that decode it. */
#pragma once

#include <linux/types.h>

/* A part of the payload of one datagram, or of one TCP segment (before the kernel cuts it, after it
 * has joined it). */
struct payload_head {
	__u64 boot_ns;
	__u64 cgroup_id;
	__u32 local[4], remote[4]; /* network order; IPv4 in the first word */
	__u32 pid;
	__u32 netns;
	__u32 seq;		       /* TCP: of the segment */
	__u32 size;		       /* of the whole payload */
	__u32 off;		       /* of data in it */
	__u16 local_port, remote_port; /* host order */
	__u16 cap;		       /* octets of data */
	__u8 family;		       /* 4, 6 */
	__u8 transport;		       /* 6, 17 */
	__u8 out;
	__u8 tcp_flags; /* as in the header: PAYLOAD_FIN, ... */
	__u8 any_local; /* its socket has no local address of its own: NAT may show another one */
	__u8 sample_shift; /* sni: it is one of 2^sample_shift */
	char comm[16];
};

#define PAYLOAD_FIN 1
#define PAYLOAD_SYN 2
#define PAYLOAD_RST 4

/* Room for data: sizes of ring buffer reservations are constants, so there are three; powers
 * of two, because the copy is bounded by a mask. */
#define PAYLOAD_SMALL  128  /* nearly every DNS query and short answer */
#define PAYLOAD_MEDIUM 512  /* DNS without EDNS */
#define PAYLOAD_LARGE  4096 /* EDNS as resolvers offer it at the most */

struct payload_small {
	struct payload_head h;
	__u8 data[PAYLOAD_SMALL];
};

struct payload_medium {
	struct payload_head h;
	__u8 data[PAYLOAD_MEDIUM];
};

struct payload_large {
	struct payload_head h;
	__u8 data[PAYLOAD_LARGE];
};
