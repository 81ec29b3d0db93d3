/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel half of dnsflow: DNS messages of all local sockets, at the root of the cgroup2 hierarchy.
 */
/*
 * Every packet of the host passes here, so that what isn't DNS must leave early: TCP is judged by
 * the ports of its socket alone, UDP by those of its packet only when the socket isn't connected.
 */
#include "bpf/plugin.bpf.h"

#include "bpf/dnsflow/dnsflow.h"
#include "bpf/lib/payload.bpf.h"

/* Set before load; 0: unused. */
const volatile __u16 ports[DNSFLOW_PORTS_MAX];

/* Live option. */
bool opt_no_servers;

/* Only sockets that have to do with DNS have one. */
struct dns_sock {
	struct sock_owner owner;
	__u32 to[4]; /* where an unconnected socket sent last, before NAT */
	__u16 to_port;
	__u8 to_family;
	__u8 pad;
};

/* F_CLONE: connections that are accepted begin as the listener's. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct dns_sock);
} dns_sockets SEC(".maps");

static __always_inline bool port_wanted(__u16 port)
{
#pragma unroll
	for (int i = 0; i < DNSFLOW_PORTS_MAX; i++)
		if (ports[i] && ports[i] == port)
			return true;
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

SEC("cgroup/sendmsg4")
int dns_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct dns_sock *s = dns_owner(ctx);

	if (s) {
		s->to[0] = ctx->user_ip4;
		s->to_port = bpf_ntohs((__be16)ctx->user_port);
		s->to_family = 4;
	}
	return 1;
}

SEC("cgroup/sendmsg6")
int dns_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct dns_sock *s = dns_owner(ctx);

	if (s) {
		s->to[0] = ctx->user_ip6[0];
		s->to[1] = ctx->user_ip6[1];
		s->to[2] = ctx->user_ip6[2];
		s->to[3] = ctx->user_ip6[3];
		s->to_port = bpf_ntohs((__be16)ctx->user_port);
		s->to_family = 6;
	}
	return 1;
}

/* The owner into *h; false: the daemon's own, or no room (counted). */
static __always_inline bool take_owner(struct payload_head *h, struct bpf_sock *sk)
{
	struct dns_sock *s =
		bpf_sk_storage_get(&dns_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!s) {
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return false;
	}
	if (s->owner.pid == self_tgid && self_tgid)
		return false;
	sock_owner_netns(&s->owner, sk);
	payload_owner(h, &s->owner);
	return true;
}

/* A query of an unconnected socket whose packet NAT sends elsewhere: known by what the process
 * asked for. */
static __always_inline bool before_nat(struct payload_head *h, struct bpf_sock *sk)
{
	struct dns_sock *s = bpf_sk_storage_get(&dns_sockets, sk, NULL, 0);

	if (!s || !h->out || s->to_family != h->family || !port_wanted(s->to_port))
		return false;
	h->remote_port = s->to_port;
	__builtin_memcpy(h->remote, s->to, sizeof(h->remote));
	return true;
}

/* One way for both transports: the verifier walks it once. */
static __always_inline int dns_packet(struct __sk_buff *skb, struct bpf_sock *sk, bool tcp,
				      bool out)
{
	bool server = port_wanted(sk->src_port),
	     client = port_wanted(bpf_ntohs((__be16)sk->dst_port));
	struct payload_head h;
	bool to_server;
	int off;

	if (!client && !server && (tcp || sk->dst_port))
		return 1;
	__builtin_memset(&h, 0, sizeof(h));
	off = payload_parse(skb, tcp ? K_IPPROTO_TCP : K_IPPROTO_UDP, out, &h);
	if (off < 0) {
		plugin_count(PLUGIN_STAT_ERROR);
		return 1;
	}
	if (!h.size && !(h.tcp_flags & (PAYLOAD_SYN | PAYLOAD_FIN | PAYLOAD_RST)))
		return 1;
	if (sk->dst_port)
		payload_connected(&h, sk);
	to_server = port_wanted(payload_opaque(h.remote_port));
	if (!sk->dst_port && !server && !to_server && !before_nat(&h, sk))
		return 1;
	if (opt_no_servers && server && !to_server) {
		plugin_count(PLUGIN_STAT_FILTERED);
		return 1;
	}
	if (take_owner(&h, sk))
		payload_emit(skb, off, &h, tcp ? PAYLOAD_CHUNKS_MAX : 1);
	return 1;
}

static __always_inline int dns_skb(struct __sk_buff *skb, bool out)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || (sk->protocol != K_IPPROTO_TCP && sk->protocol != K_IPPROTO_UDP))
		return 1;
	return dns_packet(skb, sk, sk->protocol == K_IPPROTO_TCP, out);
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
