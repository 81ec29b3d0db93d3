/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counts the network bytes of one cgroup: IP headers included, every packet let through. */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "governor/net_bytes.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct net_bytes);
} governor_net SEC(".maps");

SEC("cgroup_skb/ingress")
int net_ingress(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct net_bytes *n = bpf_map_lookup_elem(&governor_net, &key);

	if (n)
		n->rx += skb->len;
	return 1;
}

SEC("cgroup_skb/egress")
int net_egress(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct net_bytes *n = bpf_map_lookup_elem(&governor_net, &key);

	if (n)
		n->tx += skb->len;
	return 1;
}
