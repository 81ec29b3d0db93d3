/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses, ports and origins of sockets. */
#pragma once

#include "bpf/lib/kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* IPv4 in the first word of each, the others 0. */
struct sock_addrs {
	__u32 src[4]; /* the local side, network order */
	__u32 dst[4];
	__u8 family; /* 4 or 6; an IPv6 socket with v4-mapped addresses speaks IPv4 */
};

static __always_inline bool in6_is_mapped(const __u32 a[4])
{
	return !a[0] && !a[1] && a[2] == bpf_htonl(0xffff);
}

static __always_inline void addrs_unmap(struct sock_addrs *a)
{
	a->src[0] = in6_is_mapped(a->src) ? a->src[3] : 0;
	a->dst[0] = a->dst[3];
	a->src[1] = a->src[2] = a->src[3] = 0;
	a->dst[1] = a->dst[2] = a->dst[3] = 0;
	a->family = 4;
}

/* sk is a BTF pointer that the verifier trusts: plain loads. */
static __always_inline void sock_addrs(struct sock *sk, struct sock_addrs *a)
{
	struct in6_addr src, dst;

	if (sk->__sk_common.skc_family == K_AF_INET) {
		a->src[0] = sk->__sk_common.skc_rcv_saddr;
		a->dst[0] = sk->__sk_common.skc_daddr;
		a->src[1] = a->src[2] = a->src[3] = 0;
		a->dst[1] = a->dst[2] = a->dst[3] = 0;
		a->family = 4;
		return;
	}
	src = sk->__sk_common.skc_v6_rcv_saddr;
	dst = sk->__sk_common.skc_v6_daddr;
	__builtin_memcpy(a->src, &src, sizeof(a->src));
	__builtin_memcpy(a->dst, &dst, sizeof(a->dst));
	a->family = 6;
	if (in6_is_mapped(a->dst))
		addrs_unmap(a);
}

/* The same for a pointer that is only a number. */
static __always_inline void sock_addrs_probe(struct sock *sk, struct sock_addrs *a)
{
	__builtin_memset(a, 0, sizeof(*a));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == K_AF_INET) {
		a->src[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		a->dst[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		a->family = 4;
		return;
	}
	BPF_CORE_READ_INTO((struct in6_addr *)a->src, sk, __sk_common.skc_v6_rcv_saddr);
	BPF_CORE_READ_INTO((struct in6_addr *)a->dst, sk, __sk_common.skc_v6_daddr);
	a->family = 6;
	if (in6_is_mapped(a->dst))
		addrs_unmap(a);
}

static __always_inline bool addr_is_loopback(const __u32 a[4], __u8 family)
{
	if (family == 4)
		return (bpf_ntohl(a[0]) >> 24) == 127;
	return !a[0] && !a[1] && !a[2] && a[3] == bpf_htonl(1);
}

/* The socket of an open file, or NULL; only for reading with bpf_core_read(). */
static __always_inline struct sock *file_sock_probe(struct file *file)
{
	struct socket *so;

	/* bpf_sock_from_file(): 4f19cab76136 ("bpf: Add a bpf_sock_from_file helper"), 5.11. */
	if ((BPF_CORE_READ(file, f_inode, i_mode) & K_S_IFMT) != K_S_IFSOCK)
		return NULL;
	so = BPF_CORE_READ(file, private_data); /* NULL for O_PATH of a named unix socket */
	return so ? BPF_CORE_READ(so, sk) : NULL;
}

/* Number of the socket's inode, as in /proc/net/tcp; 0: no process has it open. */
static __always_inline __u64 sock_inode(struct sock *sk)
{
	struct socket *so = BPF_CORE_READ(sk, sk_socket);

	if (!so)
		return 0;
	return BPF_CORE_READ((struct socket_alloc *)so, vfs_inode.i_ino);
}
