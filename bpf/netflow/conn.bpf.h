/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is told of a TCP connection, when it ends and while it lasts. */
#pragma once

#include "bpf/netflow/owner.bpf.h"

static __always_inline __u32 sock_netns(struct sock *sk)
{
	return sk->__sk_common.skc_net.net->ns.inum;
}

/*
 * Payload that was sent once. bytes_sent counts a segment again that a local firewall refused: the
 * kernel then sends it anew without calling it a retransmission. The sequence space doesn't, but it
 * has SYN (in bytes_acked of who connected) and FIN, once that is sent. The smaller of both is
 * right.
 */
static __always_inline __u64 tcp_sent(__u64 once, __u64 acked, __u32 una, __u32 nxt, __u32 end,
				      __u8 dir, int state)
{
	__u64 seq = acked + (__u32)(nxt - una);

	if (dir == NETFLOW_DIR_OUTGOING)
		seq--;
	if (nxt == end && state != K_TCP_ESTABLISHED && state != K_TCP_CLOSE_WAIT)
		seq--;
	return once < seq ? once : seq;
}

static __always_inline void conn_counters(struct netflow_conn *c, struct sock *sk,
					  struct tcp_sock *tp, int state)
{
	__u64 rx = tp->bytes_received;

	if (rx && sk->__sk_common.skc_flags & (1UL << K_SOCK_DONE))
		rx--; /* the FIN */
	c->rx = rx;
	c->tx = tcp_sent(tp->bytes_sent - tp->bytes_retrans, tp->bytes_acked, tp->snd_una,
			 tp->snd_nxt, tp->write_seq, c->dir, state);
	c->srtt_us = tp->srtt_us >> 3;
	c->mdev_us = tp->mdev_us >> 2;
	c->retrans = tp->total_retrans;
	c->segs_out = tp->segs_out;
	c->segs_in = tp->segs_in;
	/* At TCP_CLOSE skc_num is 0 already (inet_put_port); inet_sport still stands. */
	c->sport = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	c->dport = bpf_ntohs(sk->__sk_common.skc_dport);
	c->netns = sock_netns(sk);
}

static __always_inline void conn_addrs(struct netflow_conn *c, const struct sock_addrs *a)
{
	c->family = a->family;
	__builtin_memcpy(c->src, a->src, sizeof(c->src));
	__builtin_memcpy(c->dst, a->dst, sizeof(c->dst));
}

static __always_inline void conn_owner(struct netflow_conn *c, const struct nf_owner *o)
{
	c->id = *(volatile __u64 *)&o->id;
	c->cgroup_id = o->cgroup_id;
	c->pid = o->pid;
	c->owner = o->how;
	c->dir = o->dir;
	__builtin_memcpy(c->comm, o->comm, sizeof(c->comm));
}

static __always_inline bool flow_wanted(const struct sock_addrs *a)
{
	if (a->family == 6 && !opt_ipv6)
		return false;
	return opt_loopback ||
	       !(addr_is_loopback(a->src, a->family) || addr_is_loopback(a->dst, a->family));
}

/* A connection that nobody told us of: older than the plugin and not found by its file (still to be
 * accepted). */
static __always_inline __u8 old_direction(__u32 netns, __u16 port)
{
	return port_has_listener(netns, port) ? NETFLOW_DIR_INCOMING : NETFLOW_DIR_OUTGOING;
}

static __always_inline bool was_connected(int state)
{
	return state != K_TCP_SYN_SENT && state != K_TCP_SYN_RECV && state != K_TCP_LISTEN;
}
