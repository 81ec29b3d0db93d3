/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel half of dnsflow: DNS messages of all local sockets, at the root of the cgroup2 hierarchy.
 */
/*
 * Every packet of the host passes here, so that what isn't DNS must leave early: it is judged by
 * the ports of its socket; where that has no peer, by whether it ever sent to such a port.
 */
#include "bpf/plugin.bpf.h"

#include "bpf/dnsflow/dnsflow.h"
#include "bpf/lib/payload.bpf.h"

/* Set before load; 0 behind the last one. */
const volatile __u16 ports[DNSFLOW_PORTS_MAX];

/* Live option. */
bool opt_no_servers;

/* Only sockets that have to do with DNS have one. */
struct dns_sock {
	struct sock_owner owner;
	__u64 cookie; /* 0: nothing was sent from it to an address of the call */
};

/* F_CLONE: connections that are accepted begin as the listener's. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct dns_sock);
} dns_sockets SEC(".maps");

/*
 * Where the process sends this datagram, before NAT: its packet follows in the same call, on the
 * same CPU. Not in the socket's storage: threads that share a socket would see each other's.
 */
struct sent {
	__u64 cookie; /* of the socket; 0: taken */
	__u32 to[4];
	__u16 port;
	__u8 family;
	__u8 pad[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sent);
} last_sent SEC(".maps");

/* The verifier knows the ports: of what is behind the last one nothing is left in the kernel. */
static __always_inline bool port_wanted(__u16 port)
{
#pragma unroll
	for (int i = 0; i < DNSFLOW_PORTS_MAX; i++) {
		if (!ports[i])
			return false;
		if (ports[i] == port)
			return true;
	}
	return false;
}

/* In the context of the process: a later owner in place of an earlier one. NULL: not DNS, or no
 * room (counted). */
static __always_inline struct dns_sock *dns_owner(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct dns_sock *s;

	if (!sk || (ctx->protocol != K_IPPROTO_UDP && ctx->protocol != K_IPPROTO_TCP))
		return NULL;
	s = bpf_sk_storage_get(&dns_sockets, sk, NULL, 0);
	if (!s) {
		if (!port_wanted(bpf_ntohs((__be16)ctx->user_port)) && !port_wanted(sk->src_port))
			return NULL;
		s = bpf_sk_storage_get(&dns_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!s) {
			plugin_count(PLUGIN_STAT_MAP_FULL);
			return NULL;
		}
	}
	sock_owner_current(&s->owner);
	return s;
}

SEC("cgroup/bind4")
int dns_bind4(struct bpf_sock_addr *ctx)
{
	dns_owner(ctx);
	return 1;
}

SEC("cgroup/bind6")
int dns_bind6(struct bpf_sock_addr *ctx)
{
	dns_owner(ctx);
	return 1;
}

SEC("cgroup/connect4")
int dns_connect4(struct bpf_sock_addr *ctx)
{
	dns_owner(ctx);
	return 1;
}

SEC("cgroup/connect6")
int dns_connect6(struct bpf_sock_addr *ctx)
{
	dns_owner(ctx);
	return 1;
}

/*
 * Only where the iterator can't find the owners of sockets that are older than us. What is received
 * was seen before as a packet, and who answers it names itself by that: to others this hook would
 * be a lock of the socket and a call for each datagram that tell nothing new.
 */
SEC("cgroup/recvmsg4")
int dns_recvmsg4(struct bpf_sock_addr *ctx)
{
	dns_owner(ctx);
	return 1;
}

SEC("cgroup/recvmsg6")
int dns_recvmsg6(struct bpf_sock_addr *ctx)
{
	dns_owner(ctx);
	return 1;
}

static __always_inline struct sent *sent_slot(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&last_sent, &zero);
}

static __always_inline void note_sent(struct bpf_sock_addr *ctx, struct dns_sock *d, struct sent *s,
				      __u8 family)
{
	if (!d->cookie)
		d->cookie = bpf_get_socket_cookie(ctx);
	s->port = bpf_ntohs((__be16)ctx->user_port);
	s->family = family;
	s->cookie = d->cookie;
}

SEC("cgroup/sendmsg4")
int dns_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct dns_sock *d = dns_owner(ctx);
	struct sent *s;

	if (!d)
		return 1;
	s = sent_slot();
	if (s) {
		s->to[0] = ctx->user_ip4;
		s->to[1] = 0;
		s->to[2] = 0;
		s->to[3] = 0;
		note_sent(ctx, d, s, 4);
	}
	return 1;
}

SEC("cgroup/sendmsg6")
int dns_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct dns_sock *d = dns_owner(ctx);
	struct sent *s;

	if (!d)
		return 1;
	s = sent_slot();
	if (s) {
		s->to[0] = ctx->user_ip6[0];
		s->to[1] = ctx->user_ip6[1];
		s->to[2] = ctx->user_ip6[2];
		s->to[3] = ctx->user_ip6[3];
		note_sent(ctx, d, s, 6);
	}
	return 1;
}

/* Where the process itself sent it: packets on their way out have passed NAT already. "Any" as a
 * destination is this host, and only the packet says by which address. */
static __always_inline void before_nat(struct payload_head *h, struct dns_sock *d)
{
	struct sent *s = sent_slot();

	if (!s || !s->cookie || s->cookie != d->cookie)
		return;
	s->cookie = 0;
	if (s->family != h->family)
		return;
	h->remote_port = s->port;
	if (s->to[0] | s->to[1] | s->to[2] | s->to[3])
		__builtin_memcpy(h->remote, s->to, sizeof(h->remote));
}

/* Both ends of a datagram as the process knows them, on a socket that has no peer. */
static __always_inline void unconnected(struct __sk_buff *skb, struct payload_head *h,
					struct bpf_sock *sk)
{
	h->local_port = payload_opaque(skb, sk->src_port);
	if (h->family == 4) {
		if (sk->src_ip4)
			h->local[0] = sk->src_ip4;
		else
			h->any_local = 1;
		return;
	}
	if (!(sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3])) {
		h->any_local = 1;
		return;
	}
	h->local[0] = sk->src_ip6[0];
	h->local[1] = sk->src_ip6[1];
	h->local[2] = sk->src_ip6[2];
	h->local[3] = sk->src_ip6[3];
}

/* The ends of a parsed packet as the process knows them, and its owner; false: it isn't wanted. */
static __always_inline bool dns_complete(struct __sk_buff *skb, struct payload_head *h,
					 struct bpf_sock *sk, struct dns_sock *d, bool server)
{
	bool to_server;

	if (sk->dst_port)
		payload_connected(skb, h, sk);
	else
		unconnected(skb, h, sk);
	if (h->out && h->transport == K_IPPROTO_UDP)
		before_nat(h, d);
	to_server = port_wanted(payload_opaque(skb, h->remote_port));
	if (!server && !to_server)
		return false;
	if (opt_no_servers && server && !to_server) {
		plugin_count(PLUGIN_STAT_FILTERED);
		return false;
	}
	sock_owner_netns(&d->owner, sk);
	payload_owner(h, &d->owner);
	return true;
}

/* One way for both transports: the verifier walks it once. */
static __always_inline int dns_packet(struct __sk_buff *skb, struct bpf_sock *sk,
				      struct dns_sock *d, bool server, bool out)
{
	bool tcp = sk->protocol == K_IPPROTO_TCP;
	struct payload_small e;
	__u64 waiting;
	int off;

	__builtin_memset(&e, 0, sizeof(e));
	e.h.boot_ns = bpf_ktime_get_boot_ns();
	waiting = event_waiting();
	off = tcp ? -1 : payload_parse_plain(skb, out, &e.h);
	if (off < 0)
		off = payload_parse(skb, tcp ? K_IPPROTO_TCP : K_IPPROTO_UDP, out, &e.h);
	if (off < 0) {
		plugin_count(PLUGIN_STAT_ERROR);
		return 1;
	}
	if (!e.h.size && !(e.h.tcp_flags & (PAYLOAD_SYN | PAYLOAD_FIN | PAYLOAD_RST)))
		return 1;
	if (!dns_complete(skb, &e.h, sk, d, server))
		return 1;
	off = payload_opaque(skb, off);
	if (!payload_emit_small(skb, off, &e, waiting))
		payload_emit(skb, off, &e.h, tcp ? PAYLOAD_CHUNKS_MAX : 1);
	return 1;
}

static __always_inline int dns_skb(struct __sk_buff *skb, bool out)
{
	struct bpf_sock *sk = skb->sk;
	struct dns_sock *d;
	bool server, ours;

	/* Nearly all packets end here, and what comes next are calls. */
	if (!sk)
		return 1;
	server = port_wanted(sk->src_port);
	ours = server || port_wanted(bpf_ntohs((__be16)sk->dst_port));
	if (!ours && sk->dst_port)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || (sk->protocol != K_IPPROTO_UDP && (!ours || sk->protocol != K_IPPROTO_TCP)))
		return 1;
	/* Sockets without a peer that never sent to such a port have no storage. */
	d = bpf_sk_storage_get(&dns_sockets, sk, NULL, ours ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (!d) {
		if (ours)
			plugin_count(PLUGIN_STAT_MAP_FULL);
		return 1;
	}
	if (d->owner.pid == self_tgid && self_tgid)
		return 1;
	return dns_packet(skb, sk, d, server, out);
}

SEC("cgroup_skb/egress")
int dns_out(struct __sk_buff *skb)
{
	return dns_skb(skb, true);
}

SEC("cgroup_skb/ingress")
int dns_in(struct __sk_buff *skb)
{
	return dns_skb(skb, false);
}

/* Owners of the sockets that are older than us. */
SEC("iter/task_file")
int dns_seed(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct dns_sock *s;
	struct socket *so;
	struct sock *sk;
	__u16 family, proto;

	if (!task || !file)
		return 0;
	so = bpf_sock_from_file(file);
	sk = so ? so->sk : NULL;
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	proto = BPF_CORE_READ(sk, sk_protocol);
	if ((family != K_AF_INET && family != K_AF_INET6) ||
	    (proto != K_IPPROTO_UDP && proto != K_IPPROTO_TCP))
		return 0;
	if (!port_wanted(BPF_CORE_READ(sk, __sk_common.skc_num)) &&
	    !port_wanted(bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport))))
		return 0;
	s = bpf_sk_storage_get(&dns_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s) {
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return 0;
	}
	if (s->owner.pid)
		return 0;
	s->owner.cgroup_id = task_cgroup_id(task);
	task_leader_comm(task, s->owner.comm);
	s->owner.pid = BPF_CORE_READ(task, tgid);
	return 0;
}
