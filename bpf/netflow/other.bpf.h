/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP, raw and SCTP sockets: owners from their creation on, packets by the programs that count
 * UDP. */
#pragma once

#include "bpf/netflow/udp.bpf.h"

static __always_inline bool other_is_sctp(__u32 type, __u32 protocol)
{
	return type != K_SOCK_RAW && protocol == K_IPPROTO_SCTP;
}

static __always_inline bool other_is_ours(__u32 type, __u32 protocol)
{
	if (type == K_SOCK_DGRAM) /* ping sockets */
		return protocol == K_IPPROTO_ICMP || protocol == K_IPPROTO_ICMPV6;
	return type == K_SOCK_RAW || other_is_sctp(type, protocol);
}

/*
 * The kernel's own raw sockets, from which it answers pings and sends resets, don't come here: what
 * has no record is theirs, and isn't counted.
 */
SEC("cgroup/sock_create")
int other_create(struct bpf_sock *ctx)
{
	struct nf_udp *u;

	if (ctx->family != K_AF_INET && ctx->family != K_AF_INET6)
		return 1;
	if (!other_is_ours(ctx->type, ctx->protocol))
		return 1;
	u = bpf_sk_storage_get(&udp_sockets, ctx, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!u) {
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return 1;
	}
	u->opened_ns = bpf_ktime_get_boot_ns();
	u->how = NETFLOW_OWNER_CREATOR;
	u->cgroup_id = bpf_get_current_cgroup_id();
	if (!udp_plain)
		current_leader_comm(u->comm);
	u->pid = current_tgid();
	return 1;
}

/*
 * Raw and ping sockets send in the context of who calls send(), up to this hook: a daemon that went
 * to the background after it made its socket is told from its parent so. (SCTP sends from timers
 * and interrupts too.)
 */
static __always_inline void other_sender(struct nf_udp *u)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 pid = BPF_CORE_READ(task, tgid);

	if (u->pid == pid) {
		if (u->how < NETFLOW_OWNER_SENDER)
			u->how = NETFLOW_OWNER_SENDER;
		return;
	}
	if (!pid || current_is_kthread())
		return;
	u->how = NETFLOW_OWNER_SENDER;
	u->cgroup_id = task_cgroup_id(task);
	current_leader_comm(u->comm);
	u->pid = pid;
}

/* The row's name is the packet's: a raw socket may carry ICMP under any protocol of its own. */
static __always_inline __u8 other_transport(__u8 protocol, bool sctp)
{
	if (sctp)
		return K_IPPROTO_SCTP;
	return protocol == K_IPPROTO_ICMP || protocol == K_IPPROTO_ICMPV6 ? protocol
									  : K_IPPROTO_RAW;
}

/* What a transport's header takes before that what counts as payload. */
static __always_inline __u32 other_header(__u8 transport)
{
	switch (transport) {
	case K_IPPROTO_SCTP:
		return 12;
	case K_IPPROTO_ICMP:
	case K_IPPROTO_ICMPV6:
		return 8;
	}
	return 0;
}

static __always_inline bool other_parse(struct __sk_buff *skb, __u8 protocol, bool sctp, bool out,
					struct udp_packet *p)
{
	__u32 header;
	__u8 inner;
	int off;

	__builtin_memset(p, 0, sizeof(*p));
	off = skb_inner(skb, protocol, out, p->key.src, p->key.dst, &p->key.family, &inner);
	if (off < 0)
		return false;
	p->key.transport = other_transport(inner, sctp);
	header = other_header(p->key.transport);
	p->payload = skb->len > off + header ? skb->len - off - header : 0;
	if (sctp) {
		__u16 ports[2];

		if (bpf_skb_load_bytes(skb, off, ports, sizeof(ports)))
			return false;
		p->key.sport = bpf_ntohs(out ? ports[0] : ports[1]);
		p->key.dport = bpf_ntohs(out ? ports[1] : ports[0]);
	}
	return true;
}

/*
 * SCTP doesn't lock a port that was chosen, but the first packet of a server finds it listening.
 * What no hook has met by then was accepted: other_accepted() isn't there where storage can't be
 * used.
 */
static __always_inline void other_learn(struct nf_udp *u, struct bpf_sock *sk)
{
	__u8 dir = u->dir;

	udp_learn(u, sk);
	if (!dir)
		dir = sk->state == BPF_TCP_LISTEN || !u->pid ? NETFLOW_DIR_INCOMING
							     : NETFLOW_DIR_OUTGOING;
	u->dir = dir;
}

/* A socket that isn't plain TCP or UDP. */
static __always_inline int other_skb(struct __sk_buff *skb, struct bpf_sock *sk, bool out)
{
	bool sctp = other_is_sctp(sk->type, sk->protocol);
	struct udp_packet p;
	struct nf_udp *u;

	/* An accepted association's socket is made without a hook, and may speak before accept() is
	 * through. */
	u = bpf_sk_storage_get(&udp_sockets, sk, NULL, sctp ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (!u)
		return 1;
	if (u->pid == self_tgid && self_tgid)
		return 1;
	if (!udp_plain) {
		if (!u->netns)
			other_learn(u, sk);
		if (out && !sctp)
			other_sender(u);
	}
	if (!other_parse(skb, sk->protocol, sctp, out, &p)) {
		plugin_count(PLUGIN_STAT_ERROR);
		return 1;
	}
	p.key.pid = u->pid;
	p.key.netns = u->netns;
	p.key.dir = sctp && u->dir ? u->dir : NETFLOW_DIR_OUTGOING;
	udp_count(u, &p, sctp && skb->gso_segs ? skb->gso_segs : 1, out);
	return 1;
}

/* accept() and peel-off give the new socket its state in the context of who calls them. */
static __always_inline void other_accepted(struct sock *sk)
{
	struct nf_udp *u;

	u = bpf_sk_storage_get(&udp_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!u) {
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return;
	}
	if (u->pid)
		return; /* a client whose handshake is complete */
	u->dir = NETFLOW_DIR_INCOMING;
	u->opened_ns = bpf_ktime_get_boot_ns();
	u->how = NETFLOW_OWNER_CREATOR;
	u->cgroup_id = bpf_get_current_cgroup_id();
	current_leader_comm(u->comm);
	u->pid = current_tgid();
}
