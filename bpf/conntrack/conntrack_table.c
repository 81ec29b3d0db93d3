// SPDX-License-Identifier: Apache-2.0
/* The tables nat and nat_namespaces: their fields and rows. */
#include <errno.h>
#include <netinet/in.h>

#include "bpf/conntrack/conntrack_priv.h"
#include "bpf/ends.h"

static const char *const nat_transport_names[] = {"other", "tcp",  "udp",     "sctp",
						  "icmp",  "dccp", "udplite", NULL};
static const char *const kind_names[] = {"", "dnat", "snat", "dnat+snat", NULL};

struct nat_row {
	uint32_t netns;
	uint8_t family, transport, kind;
	struct ip_addr src_ip, dst_ip, reply_src_ip, reply_dst_ip;
	uint16_t src_port, dst_port, reply_src_port, reply_dst_port;
	uint64_t first_seen;
};

struct source_row {
	uint32_t netns, entries;
	uint64_t events, overruns, resyncs, evictions;
	uint32_t left_out;
};

static const struct field nat_fields[] = {
	FIELD(nat_row, netns, U32, INT64, TAG, "",
	      "inode of the network namespace that translates"),
	FIELD(nat_row, family, ENUM, TEXT, TAG, "", "IPv4 or IPv6", .names = family_names),
	FIELD(nat_row, transport, ENUM, TEXT, TAG, "",
	      "tcp, udp, sctp, icmp, dccp, udplite or other", .names = nat_transport_names),
	FIELD(nat_row, kind, ENUM, TEXT, TAG, "",
	      "dnat: the destination was replaced; snat: the source was; dnat+snat",
	      .names = kind_names),
	FIELD(nat_row, src_ip, IP, IP, TAG, "", "who connected"),
	FIELD(nat_row, src_port, U16, INT64, TAG, "", "its port; ICMP: the identifier",
	      .null = NULL_ZERO),
	FIELD(nat_row, dst_ip, IP, IP, TAG, "", "whom it meant"),
	FIELD(nat_row, dst_port, U16, INT64, TAG, "", "the port that it meant", .null = NULL_ZERO),
	FIELD(nat_row, reply_src_ip, IP, IP, TAG, "", "who answers"),
	FIELD(nat_row, reply_src_port, U16, INT64, TAG, "", "the port that answers",
	      .null = NULL_ZERO),
	FIELD(nat_row, reply_dst_ip, IP, IP, TAG, "",
	      "whom it answers to: what the server sees as its client"),
	FIELD(nat_row, reply_dst_port, U16, INT64, TAG, "", "the port that it answers to",
	      .null = NULL_ZERO),
	FIELD(nat_row, first_seen, U64, TIME, TAG, "ns",
	      "when it was first translated; NULL: before the plugin started", .null = NULL_ZERO),
};

static const struct field source_fields[] = {
	FIELD(source_row, netns, U32, INT64, TAG, "", "inode of the network namespace"),
	FIELD(source_row, entries, U32, INT64, GAUGE, "{connection}", "translated connections now"),
	FIELD(source_row, events, U64, INT64, COUNTER, "{event}",
	      "translations that began or ended"),
	FIELD(source_row, overruns, U64, INT64, COUNTER, "{event}",
	      "times that events were lost because the buffer was full"),
	FIELD(source_row, resyncs, U64, INT64, COUNTER, "{resync}",
	      "times that the whole table was read: at the start, after losses"),
	FIELD(source_row, evictions, U64, INT64, COUNTER, "{connection}",
	      "entries given up early for want of room, in all namespaces"),
	FIELD(source_row, left_out, U32, INT64, GAUGE, "{namespace}",
	      "namespaces that aren't watched: max_namespaces"),
};

const struct table conntrack_nat_table = TABLE(
	nat_row, LIVE, "nat", "every connection whose addresses are translated now", nat_fields);
const struct table conntrack_source_table =
	TABLE(source_row, LIVE, "nat_namespaces",
	      "network namespaces whose translations are followed", source_fields);

static uint8_t transport_index(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return 1;
	case IPPROTO_UDP:
		return 2;
	case IPPROTO_SCTP:
		return 3;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 4;
	case IPPROTO_DCCP:
		return 5;
	case IPPROTO_UDPLITE:
		return 6;
	}
	return 0;
}

int conntrack_show_nat(struct instance *in, struct batch *batch)
{
	struct nat_view v;
	uint32_t pos = 0;

	while (nat_next(in->nat, &pos, &v)) {
		const struct nat_conn *c = v.conn;
		struct nat_row *row = batch_add(batch);

		if (!row)
			return -ENOBUFS;
		row->netns = c->netns;
		row->family = c->family == 4 ? 1 : 2;
		row->transport = transport_index(c->transport);
		row->kind = (uint8_t)nat_kind(c);
		ip_addr_set(&row->src_ip, c->orig.src, c->family);
		ip_addr_set(&row->dst_ip, c->orig.dst, c->family);
		ip_addr_set(&row->reply_src_ip, c->reply.src, c->family);
		ip_addr_set(&row->reply_dst_ip, c->reply.dst, c->family);
		row->src_port = c->orig.sport;
		row->dst_port = c->orig.dport;
		row->reply_src_port = c->reply.sport;
		row->reply_dst_port = c->reply.dport;
		row->first_seen = v.since_ns;
	}
	return 0;
}

int conntrack_show_sources(struct instance *in, struct batch *batch)
{
	struct conntrack *ct = conntrack(in);
	struct nat_stats st;

	nat_get_stats(in->nat, &st);
	for (uint32_t i = 0; i < ct->nsources; i++) {
		const struct source *s = &ct->sources[i];
		struct source_row *row = batch_add(batch);

		if (!row)
			return -ENOBUFS;
		row->netns = s->netns;
		row->entries = nat_live(in->nat, s->netns);
		row->events = s->events;
		row->overruns = s->overruns;
		row->resyncs = s->resyncs;
		row->evictions = st.evictions;
		row->left_out = ct->left_out;
	}
	return 0;
}
