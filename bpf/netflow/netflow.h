/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) OR Apache-2.0 */
/* What both halves of netflow share: samples, iterator records, map keys. */
#pragma once

#include <linux/types.h>

enum netflow_dir {
	NETFLOW_DIR_NONE, /* not known yet */
	NETFLOW_DIR_OUTGOING,
	NETFLOW_DIR_INCOMING,
	NETFLOW_DIR_LISTEN, /* a listener, and what it cloned into a child that isn't established
			       yet */
	NETFLOW_DIR_SELF,   /* the daemon's own */
	NETFLOW_DIR_CLOSED, /* reported; the socket itself may live on */
};

/* How the owner is known; a better one replaces a worse one. */
enum netflow_owner {
	NETFLOW_OWNER_NONE,
	NETFLOW_OWNER_LISTENER, /* who listens */
	NETFLOW_OWNER_FD,	/* who had it open when the plugin started */
	NETFLOW_OWNER_CREATOR,	/* who made it (ICMP, raw, SCTP) */
	NETFLOW_OWNER_CLOSER,	/* who closed it */
	NETFLOW_OWNER_BIND,
	NETFLOW_OWNER_CONNECT,
	NETFLOW_OWNER_SENDER,
	NETFLOW_OWNER_READER,
	NETFLOW_OWNER_X_MAX,
};

enum netflow_flag {
	NETFLOW_FAILED = 1, /* a connect that never was established */
};

enum netflow_iter {
	NETFLOW_ITER_TICK, /* TCP sockets that moved since the last tick */
	NETFLOW_ITER_FULL, /* all TCP connections, as a tick */
	NETFLOW_ITER_SHOW, /* all sockets, changing nothing */
};

enum netflow_seed {
	NETFLOW_SEED_LISTENERS,
	NETFLOW_SEED_OTHERS,
};

/* A TCP connection that ended (ring buffer), or as it is now (iterator). Counters since it was
 * opened. */
struct netflow_conn {
	__u64 id; /* given by the first tick that saw it; 0: none did */
	__u64 tx, rx;
	__u64 cgroup_id;
	__u32 pid;
	__u32 netns;
	__u32 srtt_us, mdev_us;
	__u32 retrans;
	__u32 segs_out, segs_in;
	__u16 sport, dport; /* host order */
	__u8 family;	    /* 4, 6 */
	__u8 dir;	    /* enum netflow_dir */
	__u8 owner;	    /* enum netflow_owner */
	__u8 flags;	    /* enum netflow_flag */
	__u8 state;	    /* the kernel's TCP_* */
	__u8 transport;	    /* IPPROTO_*; RAW for raw sockets */
	__u8 pad[2];
	__u32 src[4], dst[4]; /* network order; IPv4 in the first word */
	char comm[16];
};

/* One socket, from an iterator. */
struct netflow_sock {
	struct netflow_conn conn;
	__u64 opened_ns; /* boot time; 0: before the plugin started */
	__u64 inode;
};

struct netflow_listener {
	__u32 netns;
	__u32 port;
};

/* UDP and the others without a connection of TCP's kind: one flow of one process in one interval.
 */
struct netflow_udp_key {
	__u32 src[4], dst[4];
	__u16 sport, dport; /* host order */
	__u32 pid;
	__u32 netns;
	__u8 family;	/* 4, 6 */
	__u8 dir;	/* enum netflow_dir */
	__u8 transport; /* as in netflow_conn */
	__u8 pad;
};

struct netflow_udp_flow {
	__u64 tx, rx; /* payload */
	__u64 packets_out, packets_in;
	__u64 cgroup_id;
	char comm[16];
};
