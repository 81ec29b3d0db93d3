/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel half of payload samples: owners of sockets, addresses of packets, octets into the ring
 * buffer. */
#pragma once

#include "bpf/lib/payload.h"
#include "bpf/lib/skb.h"
#include "bpf/lib/sock.h"
#include "bpf/lib/task.h"

/* Set before load: programs on control groups may not read kernel memory here; no names, no
 * namespaces. */
const volatile bool plain;

/* Kept in the socket's storage, and only written in the context of the process. */
struct sock_owner {
	__u64 cgroup_id;
	__u64 addr; /* of the struct sock, as a number */
	__u32 pid;
	__u32 netns; /* 0: not looked up yet */
	char comm[16];
};

static __always_inline void sock_owner_current(struct sock_owner *o)
{
	__u32 pid = current_tgid();

	if (o->pid == pid)
		return;
	o->pid = pid;
	o->cgroup_id = bpf_get_current_cgroup_id();
	if (!plain)
		current_leader_comm(o->comm);
}

/* The verifier lets a pointer to a struct bpf_sock be stored, and what is read back is a number: it
 * can be read through. */
static __always_inline void sock_owner_netns(struct sock_owner *o, struct bpf_sock *bsk)
{
	struct sock *sk;

	if (o->netns || plain)
		return;
	*(volatile __u64 *)&o->addr = (__u64)bsk;
	sk = (struct sock *)*(volatile __u64 *)&o->addr;
	o->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

static __always_inline void payload_owner(struct payload_head *h, const struct sock_owner *o)
{
	h->pid = o->pid;
	h->netns = o->netns;
	h->cgroup_id = o->cgroup_id;
	__builtin_memcpy(h->comm, o->comm, sizeof(h->comm));
}

/*
 * The same number, of which the verifier knows nothing: it doesn't see that a field of the packet
 * is the same twice. Each way through headers and comparisons is a state of its own for it, and the
 * loop over chunks multiplies them beyond its limit; so they are one.
 */
static __always_inline int payload_opaque(const struct __sk_buff *skb, int off)
{
	const volatile __u32 *len = &skb->len;
	__u32 a = *len, b = *len;

	return off ^ a ^ b;
}

/*
 * Where a connected socket believes its peer is: packets on their way out have passed NAT already,
 * those on their way in have it undone.
 */
static __always_inline void payload_connected(struct __sk_buff *skb, struct payload_head *h,
					      struct bpf_sock *sk)
{
	h->remote_port = payload_opaque(skb, bpf_ntohs((__be16)sk->dst_port));
	h->local_port = payload_opaque(skb, sk->src_port);
	if (h->family == 4) {
		h->remote[0] = sk->dst_ip4;
		if (sk->src_ip4)
			h->local[0] = sk->src_ip4;
		return;
	}
	h->remote[0] = sk->dst_ip6[0];
	h->remote[1] = sk->dst_ip6[1];
	h->remote[2] = sk->dst_ip6[2];
	h->remote[3] = sk->dst_ip6[3];
	if (!(sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3]))
		return;
	h->local[0] = sk->src_ip6[0];
	h->local[1] = sk->src_ip6[1];
	h->local[2] = sk->src_ip6[2];
	h->local[3] = sk->src_ip6[3];
}

/* Fills family, addresses, ports, seq, flags and size of *h (zeroed) from the packet. Offset of the
 * payload, or -1. */
static __always_inline int payload_parse(struct __sk_buff *skb, __u8 proto, bool out,
					 struct payload_head *h)
{
	__u8 t[20];
	__u16 sport, dport;
	int off = skb_transport(skb, proto, out, h->local, h->remote, &h->family);

	if (off < 0)
		return -1;
	off = payload_opaque(skb, off);
	if (proto == K_IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, off, t, 20))
			return -1;
		h->seq = bpf_ntohl(*(__u32 *)(t + 4));
		h->tcp_flags = t[13];
		off += (t[12] >> 4) * 4;
	} else {
		if (bpf_skb_load_bytes(skb, off, t, 8))
			return -1;
		off += 8;
	}
	sport = bpf_ntohs(*(__u16 *)t);
	dport = bpf_ntohs(*(__u16 *)(t + 2));
	h->local_port = out ? sport : dport;
	h->remote_port = out ? dport : sport;
	h->transport = proto;
	h->out = out;
	h->size = skb->len - off;
	return (int)h->size < 0 ? -1 : off;
}

/*
 * The same without a call, for UDP packets as nearly all are: no IP options, headers in one piece.
 * -1, and *h as it was: payload_parse() does the others.
 */
static __always_inline int payload_parse_plain(struct __sk_buff *skb, bool out,
					       struct payload_head *h)
{
	__u8 *p = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u16 sport, dport;
	int off;

	if (skb->protocol == bpf_htons(K_ETH_P_IP)) {
		off = 28;
		if (p + 28 > end || p[0] != 0x45 || p[9] != K_IPPROTO_UDP)
			return -1;
		h->family = 4;
		h->local[0] = *(__u32 *)(p + (out ? 12 : 16));
		h->remote[0] = *(__u32 *)(p + (out ? 16 : 12));
		sport = *(__u16 *)(p + 20);
		dport = *(__u16 *)(p + 22);
	} else {
		off = 48;
		if (p + 48 > end || p[6] != K_IPPROTO_UDP)
			return -1;
		h->family = 6;
		__builtin_memcpy(h->local, p + (out ? 8 : 24), 16);
		__builtin_memcpy(h->remote, p + (out ? 24 : 8), 16);
		sport = *(__u16 *)(p + 40);
		dport = *(__u16 *)(p + 42);
	}
	h->local_port = bpf_ntohs(out ? sport : dport);
	h->remote_port = bpf_ntohs(out ? dport : sport);
	h->transport = K_IPPROTO_UDP;
	h->out = out;
	h->size = skb->len - off;
	return off;
}

/*
 * One sample with h->cap octets from off on. 0, or -1: lost (counted). Kernels before 6.13 lose the
 * bounds of a length that was only compared, so it is masked: 1 to `most`, a power of two.
 */
#define PAYLOAD_SUBMIT(skb, from, head, type, most)                                   \
	({                                                                            \
		struct type *_e = event_reserve(sizeof(*_e));                         \
		__u32 _n = (head)->cap;                                               \
		int _r = -1;                                                          \
		if (_e) {                                                             \
			_e->h = *(head);                                              \
			if (_n) {                                                     \
				_n = (_n - 1) & ((most)-1);                           \
				asm volatile("" : "+r"(_n)); /* both masks stay */    \
				_n &= (most)-1;                                       \
				_r = bpf_skb_load_bytes(skb, from, _e->data, _n + 1); \
			} else {                                                      \
				_r = 0;                                               \
			}                                                             \
			if (_r) {                                                     \
				bpf_ringbuf_discard(_e, BPF_RB_NO_WAKEUP);            \
				plugin_count(PLUGIN_STAT_ERROR);                      \
			} else {                                                      \
				event_submit(_e);                                     \
			}                                                             \
		}                                                                     \
		_r;                                                                   \
	})

/*
 * One sample of a small payload, all of it, no longer than it must be: put together on the stack,
 * whose lines are in the cache, where those of the ring buffer aren't. waiting: of event_waiting(),
 * asked early. False: it isn't small, or there is none.
 */
static __always_inline bool payload_emit_small(struct __sk_buff *skb, int off,
					       struct payload_small *e, __u64 waiting)
{
	__u32 n = e->h.size - 1;

	if (n >= PAYLOAD_SMALL)
		return false;
	asm volatile("" : "+r"(n)); /* the mask stays: see PAYLOAD_SUBMIT() */
	n = (n & (PAYLOAD_SMALL - 1)) + 1;
	e->h.cap = n;
	if (bpf_skb_load_bytes(skb, off, e->data, n))
		plugin_count(PLUGIN_STAT_ERROR);
	else
		event_output_at(e, sizeof(e->h) + n, waiting);
	return true;
}

/* A segment of 64 KiB, as the kernel gives it to the device and takes it from there. */
#define PAYLOAD_CHUNKS_MAX 16

/* False: it was the last, or is lost (counted). */
static __always_inline bool payload_chunk(struct __sk_buff *skb, int off, struct payload_head *h,
					  __u32 at)
{
	__u32 left = h->size - at;

	if (at >= h->size)
		return false;
	h->off = at;
	h->cap = payload_opaque(skb, left < PAYLOAD_LARGE ? left : PAYLOAD_LARGE);
	return PAYLOAD_SUBMIT(skb, off + at, h, payload_large, PAYLOAD_LARGE) == 0;
}

/*
 * The payload at off, which came at h->boot_ns, in at most `chunks` samples: what is beyond isn't
 * taken, and h->size says so. Written out, with nothing carried from one to the next: what the
 * verifier walks grows with their number (11,000 instructions); as a loop it grew exponentially,
 * beyond its limit.
 */
static __always_inline void payload_emit(struct __sk_buff *skb, int off, struct payload_head *h,
					 int chunks)
{
	h->off = 0;
	h->cap = h->size < PAYLOAD_LARGE ? h->size : PAYLOAD_LARGE;
	if (h->cap <= PAYLOAD_SMALL) {
		PAYLOAD_SUBMIT(skb, off, h, payload_small, PAYLOAD_SMALL);
		return;
	}
	if (h->cap <= PAYLOAD_MEDIUM) {
		PAYLOAD_SUBMIT(skb, off, h, payload_medium, PAYLOAD_MEDIUM);
		return;
	}
#define CHUNK(i)                                                                     \
	do {                                                                         \
		if ((i) >= chunks || !payload_chunk(skb, off, h, (i)*PAYLOAD_LARGE)) \
			return;                                                      \
	} while (0)
#define FOUR_CHUNKS(i) \
	CHUNK(i);      \
	CHUNK(i + 1);  \
	CHUNK(i + 2);  \
	CHUNK(i + 3)
	FOUR_CHUNKS(0);
	FOUR_CHUNKS(4);
	FOUR_CHUNKS(8);
	FOUR_CHUNKS(12);
#undef FOUR_CHUNKS
#undef CHUNK
}
