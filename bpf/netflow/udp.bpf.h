/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* UDP: datagrams counted at the root of the cgroup2 tree, owners by the cgroup hooks of bind,
 * connect, send and receive. */
#pragma once

#include "bpf/lib/skb.h"

/* Kept in the socket's storage. */
struct nf_udp {
	__u64 tx, rx, packets_out, packets_in;
	__u64 cgroup_id;
	__u64 opened_ns;
	__u64 addr; /* of the struct sock, as a number */
	__u32 pid;
	__u32 netns; /* 0: not looked up yet */
	__u8 how;    /* enum netflow_owner */
	__u8 dir;    /* enum netflow_dir */
	__u8 pad[6];
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct nf_udp);
} udp_sockets SEC(".maps");

/*
 * Two, used in turn: the tick turns udp_turn over, waits until no program can hold the old one any
 * more, and empties it; so no datagram is lost between a read and a delete. max_entries: option
 * max_flows.
 */
struct udp_flow_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct netflow_udp_key);
	__type(value, struct netflow_udp_flow);
};

struct udp_flow_map udp_flows_0 SEC(".maps");
struct udp_flow_map udp_flows_1 SEC(".maps");

volatile __u8 udp_turn;

/* Set before load. plain: where programs of this kind may not read kernel memory; no names, no
 * netns, no explicit binds. */
const volatile bool udp_plain;
const volatile bool use_udp;
const volatile bool use_other; /* ICMP, raw, SCTP */

static __always_inline bool addrs_wanted(const __u32 src[4], const __u32 dst[4], __u8 family)
{
	if (family == 6 && !opt_ipv6)
		return false;
	return opt_loopback || !(addr_is_loopback(src, family) || addr_is_loopback(dst, family));
}

/* bind() to a port of one's choice is what a server does; everybody else gets a port from the
 * kernel. */
static __always_inline __u8 udp_direction(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & K_SOCK_BINDPORT_LOCK
		       ? NETFLOW_DIR_INCOMING
		       : NETFLOW_DIR_OUTGOING;
}

/* The verifier lets a pointer to a struct bpf_sock be stored, and what is read back is a number: it
 * can be read through. */
static __always_inline void udp_learn(struct nf_udp *u, struct bpf_sock *bsk)
{
	struct sock *sk;

	*(volatile __u64 *)&u->addr = (__u64)bsk;
	sk = (struct sock *)*(volatile __u64 *)&u->addr;
	u->dir = udp_direction(sk);
	u->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

/*
 * Only a hook in the context of the process may name an owner: a later one in place of an earlier
 * one, so that a socket handed to a child is the child's as soon as that uses it.
 */
static __always_inline int udp_owner(struct bpf_sock_addr *ctx, enum netflow_owner how)
{
	struct bpf_sock *sk;
	struct nf_udp *u;
	__u32 pid;

	if (ctx->protocol != K_IPPROTO_UDP)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	u = bpf_sk_storage_get(&udp_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!u) {
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return 1;
	}
	pid = current_tgid();
	if (u->pid == pid) {
		if (u->how < how)
			u->how = how;
		return 1;
	}
	if (!u->pid)
		u->opened_ns = bpf_ktime_get_boot_ns();
	u->pid = pid;
	u->how = how;
	u->cgroup_id = bpf_get_current_cgroup_id();
	if (!udp_plain)
		current_leader_comm(u->comm);
	return 1;
}

SEC("cgroup/bind4")
int udp_bind4(struct bpf_sock_addr *ctx)
{
	return udp_owner(ctx, NETFLOW_OWNER_BIND);
}

SEC("cgroup/bind6")
int udp_bind6(struct bpf_sock_addr *ctx)
{
	return udp_owner(ctx, NETFLOW_OWNER_BIND);
}

SEC("cgroup/connect4")
int udp_connect4(struct bpf_sock_addr *ctx)
{
	return udp_owner(ctx, NETFLOW_OWNER_CONNECT);
}

SEC("cgroup/connect6")
int udp_connect6(struct bpf_sock_addr *ctx)
{
	return udp_owner(ctx, NETFLOW_OWNER_CONNECT);
}

SEC("cgroup/sendmsg4")
int udp_sendmsg4(struct bpf_sock_addr *ctx)
{
	return udp_owner(ctx, NETFLOW_OWNER_SENDER);
}

SEC("cgroup/sendmsg6")
int udp_sendmsg6(struct bpf_sock_addr *ctx)
{
	return udp_owner(ctx, NETFLOW_OWNER_SENDER);
}

SEC("cgroup/recvmsg4")
int udp_recvmsg4(struct bpf_sock_addr *ctx)
{
	return udp_owner(ctx, NETFLOW_OWNER_READER);
}

SEC("cgroup/recvmsg6")
int udp_recvmsg6(struct bpf_sock_addr *ctx)
{
	return udp_owner(ctx, NETFLOW_OWNER_READER);
}

struct udp_packet {
	struct netflow_udp_key key;
	__u32 payload;
};

/* The headers' addresses, ports and payload length; out: the local side is the source. */
static __always_inline bool udp_parse(struct __sk_buff *skb, bool out, struct udp_packet *p)
{
	__u16 ports[2];
	int off;

	__builtin_memset(p, 0, sizeof(*p));
	off = skb_transport(skb, K_IPPROTO_UDP, out, p->key.src, p->key.dst, &p->key.family);
	if (off < 0 || bpf_skb_load_bytes(skb, off, ports, sizeof(ports)))
		return false;
	p->key.sport = bpf_ntohs(out ? ports[0] : ports[1]);
	p->key.dport = bpf_ntohs(out ? ports[1] : ports[0]);
	p->key.transport = K_IPPROTO_UDP;
	p->payload = skb->len - off - 8;
	return true;
}

/* turn: read once a datagram, so that a flow is made and found in the same map. */
static __always_inline struct netflow_udp_flow *udp_flow_find(__u8 turn,
							      const struct netflow_udp_key *key)
{
	return turn ? bpf_map_lookup_elem(&udp_flows_1, key)
		    : bpf_map_lookup_elem(&udp_flows_0, key);
}

static __always_inline struct netflow_udp_flow *udp_flow_make(const struct netflow_udp_key *key,
							      const struct nf_udp *u)
{
	struct netflow_udp_flow *f, new = {};
	__u8 turn = udp_turn;

	f = udp_flow_find(turn, key);
	if (f)
		return f;
	new.cgroup_id = u->cgroup_id;
	__builtin_memcpy(new.comm, u->comm, sizeof(new.comm));
	/* Another CPU may be first: then its entry is taken. */
	if (turn)
		bpf_map_update_elem(&udp_flows_1, key, &new, BPF_NOEXIST);
	else
		bpf_map_update_elem(&udp_flows_0, key, &new, BPF_NOEXIST);
	return udp_flow_find(turn, key);
}

static __always_inline void udp_count(struct nf_udp *u, struct udp_packet *p, __u32 segs, bool out)
{
	struct netflow_udp_flow *f;

	if (out) {
		__sync_fetch_and_add(&u->tx, p->payload);
		__sync_fetch_and_add(&u->packets_out, segs);
	} else {
		__sync_fetch_and_add(&u->rx, p->payload);
		__sync_fetch_and_add(&u->packets_in, segs);
	}
	if (!addrs_wanted(p->key.src, p->key.dst, p->key.family)) {
		plugin_count(PLUGIN_STAT_FILTERED);
		return;
	}
	f = udp_flow_make(&p->key, u);
	if (!f) {
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return;
	}
	if (out) {
		__sync_fetch_and_add(&f->tx, p->payload);
		__sync_fetch_and_add(&f->packets_out, segs);
	} else {
		__sync_fetch_and_add(&f->rx, p->payload);
		__sync_fetch_and_add(&f->packets_in, segs);
	}
}

static __always_inline void seed_udp(struct sock *sk, struct task_struct *task)
{
	struct nf_udp *u = bpf_sk_storage_get(&udp_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!u) {
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return;
	}
	if (u->how != NETFLOW_OWNER_NONE)
		return;
	u->how = NETFLOW_OWNER_FD;
	u->cgroup_id = task_cgroup_id(task);
	task_leader_comm(task, u->comm);
	u->pid = BPF_CORE_READ(task, tgid);
}
