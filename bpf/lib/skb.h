/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Headers of packets as programs on control groups see them: from the network header on. */
#pragma once

#include "bpf/lib/kernel.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Offset of the transport header behind IPv6 extension headers, or -1. Hop-by-hop, routing,
 * fragment, destination options. */
static __always_inline int skb_ipv6_offset(struct __sk_buff *skb, __u8 next, __u8 proto)
{
	int off = 40;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u8 ext[2];

		if (next == proto)
			return off;
		if (next != 0 && next != 43 && next != 44 && next != 60)
			return -1;
		if (bpf_skb_load_bytes(skb, off, ext, sizeof(ext)))
			return -1;
		off += next == 44 ? 8 : (ext[1] + 1) * 8;
		next = ext[0];
	}
	return next == proto ? off : -1;
}

/*
 * Offset of the transport header, or -1; inner: its protocol. IPv6 extension headers are skipped as
 * far as the protocol asked for, else they are the transport. Fills family (4, 6) and the
 * addresses, which must be zeroed; out: the source of the packet is the local side.
 */
static __always_inline int skb_inner(struct __sk_buff *skb, __u8 proto, bool out, __u32 local[4],
				     __u32 remote[4], __u8 *family, __u8 *inner)
{
	__u8 h[40];
	int off;

	if (skb->protocol == bpf_htons(K_ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, h, 20))
			return -1;
		*family = 4;
		*inner = h[9];
		__builtin_memcpy(out ? local : remote, h + 12, 4);
		__builtin_memcpy(out ? remote : local, h + 16, 4);
		return (h[0] & 15) * 4;
	}
	if (bpf_skb_load_bytes(skb, 0, h, 40))
		return -1;
	*family = 6;
	__builtin_memcpy(out ? local : remote, h + 8, 16);
	__builtin_memcpy(out ? remote : local, h + 24, 16);
	off = skb_ipv6_offset(skb, h[6], proto);
	*inner = off < 0 ? h[6] : proto;
	return off < 0 ? 40 : off;
}

/* The same where the packet must be of that protocol: else -1. */
static __always_inline int skb_transport(struct __sk_buff *skb, __u8 proto, bool out,
					 __u32 local[4], __u32 remote[4], __u8 *family)
{
	__u8 inner;
	int off = skb_inner(skb, proto, out, local, remote, family, &inner);

	return off >= 0 && inner == proto ? off : -1;
}
