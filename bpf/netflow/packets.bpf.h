/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The programs that see every packet of a local socket, and the iterator on the sockets they
 * counted. */
#pragma once

#include "bpf/netflow/other.bpf.h"

static __always_inline int udp_skb(struct __sk_buff *skb, struct bpf_sock *sk, bool out)
{
	struct udp_packet p;
	struct nf_udp *u;

	u = bpf_sk_storage_get(&udp_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!u) {
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return 1;
	}
	if (u->pid == self_tgid && self_tgid)
		return 1;
	if (!u->netns && !udp_plain)
		udp_learn(u, sk);
	if (!udp_parse(skb, out, &p)) {
		plugin_count(PLUGIN_STAT_ERROR);
		return 1;
	}
	p.key.pid = u->pid;
	p.key.netns = u->netns;
	p.key.dir = u->dir ? u->dir : NETFLOW_DIR_OUTGOING;
	udp_count(u, &p, skb->gso_segs ? skb->gso_segs : 1, out);
	return 1;
}

static __always_inline int on_skb(struct __sk_buff *skb, bool out)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	/* First of all: TCP pays for this hook too. Raw sockets may have any protocol. */
	if (sk->protocol == K_IPPROTO_TCP && sk->type == K_SOCK_STREAM)
		return 1;
	if (sk->protocol == K_IPPROTO_UDP && sk->type == K_SOCK_DGRAM)
		return udp_skb(skb, sk, out);
	return use_other ? other_skb(skb, sk, out) : 1;
}

SEC("cgroup_skb/egress")
int udp_out(struct __sk_buff *skb)
{
	return on_skb(skb, true);
}

SEC("cgroup_skb/ingress")
int udp_in(struct __sk_buff *skb)
{
	return on_skb(skb, false);
}

/* As the packets' rows name it, as far as the socket tells. */
static __always_inline __u8 sock_transport(struct sock *sk)
{
	__u16 protocol = sk->sk_protocol;

	if (sk->sk_type != K_SOCK_RAW)
		return protocol;
	return protocol == K_IPPROTO_ICMP || protocol == K_IPPROTO_ICMPV6 ? protocol
									  : K_IPPROTO_RAW;
}

static __always_inline __u8 direction_now(struct sock *sk, __u8 transport)
{
	if (transport == K_IPPROTO_UDP)
		return udp_direction(sk);
	return sk->__sk_common.skc_state == K_TCP_LISTEN ? NETFLOW_DIR_INCOMING
							 : NETFLOW_DIR_OUTGOING;
}

/* Every socket that was seen but TCP's, as it is now. Counted in the socket itself, of all its
 * peers. */
SEC("iter/bpf_sk_storage_map")
int udp_sockets_show(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct nf_udp *u = ctx->value;
	struct netflow_sock s = {};
	struct sock_addrs a;

	if (!sk || !u || (u->pid == self_tgid && self_tgid))
		return 0;
	sock_addrs(sk, &a);
	s.conn.family = a.family;
	__builtin_memcpy(s.conn.src, a.src, sizeof(s.conn.src));
	__builtin_memcpy(s.conn.dst, a.dst, sizeof(s.conn.dst));
	s.conn.transport = sock_transport(sk);
	if (s.conn.transport == K_IPPROTO_UDP || s.conn.transport == K_IPPROTO_SCTP) {
		s.conn.sport = sk->__sk_common.skc_num;
		s.conn.dport = bpf_ntohs(sk->__sk_common.skc_dport);
	}
	s.conn.netns = sk->__sk_common.skc_net.net->ns.inum;
	s.conn.dir = u->dir ? u->dir : direction_now(sk, s.conn.transport);
	s.conn.tx = u->tx;
	s.conn.rx = u->rx;
	s.conn.segs_out = u->packets_out;
	s.conn.segs_in = u->packets_in;
	s.conn.cgroup_id = u->cgroup_id;
	s.conn.pid = u->pid;
	s.conn.owner = u->how;
	s.conn.state = sk->__sk_common.skc_state;
	__builtin_memcpy(s.conn.comm, u->comm, sizeof(s.conn.comm));
	s.opened_ns = u->opened_ns;
	s.inode = sock_inode(sk);
	bpf_seq_write(ctx->meta->seq, &s, sizeof(s));
	return 0;
}
