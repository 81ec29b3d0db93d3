// SPDX-License-Identifier: Apache-2.0
/* The tables netflow and connections, and their rows. */
#include "bpf/netflow/netflow_priv.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/clock.h"
#include "bpf/ends.h"

/* include/net/tcp_states.h in its order, then ours. */
static const char *const state_names[] = {
	"",	     "ESTABLISHED", "SYN_SENT",	    "SYN_RECV",	      "FIN_WAIT1",
	"FIN_WAIT2", "TIME_WAIT",   "CLOSE",	    "CLOSE_WAIT",     "LAST_ACK",
	"LISTEN",    "CLOSING",	    "NEW_SYN_RECV", "BOUND_INACTIVE", "UNCONN",
	NULL};
static const char *const owner_names[] = {"none", "listener", "fd",	"creator", "closer",
					  "bind", "connect",  "sender", "reader",  NULL};

#define STATE_UNCONN 14

static_assert(sizeof(owner_names) / sizeof(owner_names[0]) == NETFLOW_OWNER_X_MAX + 1,
	      "a name for each");
static_assert(sizeof(state_names) / sizeof(state_names[0]) == STATE_UNCONN + 2, "a name for each");

/* What both tables have; the order is the contract's. */
struct ends {
	uint32_t pid;
	char process_name[16];
	uint64_t cgroup_id;
	struct str container_id;
	uint32_t netns;
	uint8_t family, transport, direction;
	struct ip_addr src_ip;
	uint16_t src_port;
	struct ip_addr dst_ip;
	uint16_t dst_port;
	uint8_t src_ip_type, dst_ip_type;
	struct str dst_domain;
	struct ip_addr dst_nat_ip;
	uint16_t dst_nat_port;
};

struct flow_row {
	uint64_t ts;
	struct ends e;
	uint64_t bytes_read, bytes_written;
	uint64_t packets_read, packets_written;
	uint32_t retransmits;
	uint32_t rtt, rtt_var;
	uint32_t tcp_established, tcp_closed, connect_failures;
	uint8_t dst_domain_origin;
};

struct connection_row {
	struct ends e;
	uint64_t bytes_read, bytes_written;
	uint64_t packets_read, packets_written;
	uint32_t retransmits;
	uint32_t rtt, rtt_var;
	uint8_t state;
	uint64_t inode;
	uint8_t owner_confidence;
	uint64_t opened_at;
	uint8_t dst_domain_origin;
};

/* FIELD() of a member of the embedded struct ends. */
#define END(st, m, r, t, h, ...)                                                                   \
	{                                                                                          \
		.name = #m, .type = COLUMN_##t, .repr = REPR_##r, .off = offsetof(struct st, e.m), \
		.size = sizeof(((struct st *)0)->e.m), .kind = KIND_TAG,                           \
		.sensitivity = SENSITIVITY_META, .unit = "", .help = (h), __VA_ARGS__              \
	}

#define ENDS(st)                                                                                   \
	END(st, pid, U32, INT64, "process that owns the socket", .null = NULL_ZERO,                \
	    .indexed = true),                                                                      \
		END(st, process_name, CHARS, TEXT, "its name (comm of the thread-group leader)",   \
		    .null = NULL_ZERO, .dict = true),                                              \
		END(st, cgroup_id, U64, INT64, "its control group in the v2 hierarchy",            \
		    .null = NULL_ZERO),                                                            \
		END(st, container_id, STR, TEXT,                                                   \
		    "its container, by the name of the control group", .null = NULL_ZERO,          \
		    .dict = true),                                                                 \
		END(st, netns, U32, INT64, "inode of the socket's network namespace",              \
		    .null = NULL_ZERO),                                                            \
		END(st, family, ENUM, TEXT, "IPv4 or IPv6; v4-mapped addresses are IPv4",          \
		    .names = family_names, .dict = true),                                          \
		END(st, transport, ENUM, TEXT, "tcp, udp, icmp, icmp6, raw or sctp",               \
		    .names = transport_names, .dict = true),                                       \
		END(st, direction, ENUM, TEXT,                                                     \
		    "incoming: accepted, or the local port was bound explicitly (UDP); else "      \
		    "outgoing",                                                                    \
		    .names = direction_names, .dict = true),                                       \
		END(st, src_ip, IP, IP, "local address", .null = NULL_ZERO, .dict = true),         \
		END(st, src_port, U16, INT64, "local port; NULL where ephemeral_port aggregates",  \
		    .null = NULL_ZERO),                                                            \
		END(st, dst_ip, IP, IP, "remote address", .null = NULL_ZERO, .dict = true,         \
		    .indexed = true),                                                              \
		END(st, dst_port, U16, INT64, "remote port; NULL where ephemeral_port aggregates", \
		    .null = NULL_ZERO),                                                            \
		END(st, src_ip_type, ENUM, TEXT, "private, loopback, multicast or other",          \
		    .null = NULL_ZERO, .names = ip_type_names, .dict = true),                      \
		END(st, dst_ip_type, ENUM, TEXT, "private, loopback, multicast or other",          \
		    .null = NULL_ZERO, .names = ip_type_names, .dict = true),                      \
		END(st, dst_domain, STR, TEXT, "name that dst_ip was resolved from",               \
		    .null = NULL_ZERO, .dict = true),                                              \
		END(st, dst_nat_ip, IP, IP,                                                        \
		    "the true remote address where the host translates it (plugin conntrack)",     \
		    .null = NULL_ZERO, .dict = true),                                              \
		END(st, dst_nat_port, U16, INT64,                                                  \
		    "the true remote port; NULL where ephemeral_port aggregates",                  \
		    .null = NULL_ZERO)

#define TRAFFIC(st, k)                                                                           \
	FIELD(st, bytes_read, U64, INT64, k, "By",                                               \
	      "payload received, without what was sent twice"),                                  \
		FIELD(st, bytes_written, U64, INT64, k, "By",                                    \
		      "payload sent, without what was sent twice"),                              \
		FIELD(st, packets_read, U64, INT64, k, "{packet}",                               \
		      "segments or datagrams received"),                                         \
		FIELD(st, packets_written, U64, INT64, k, "{packet}",                            \
		      "segments or datagrams sent"),                                             \
		FIELD(st, retransmits, U32, INT64, k, "{packet}",                                \
		      "TCP segments sent again, SYN included"),                                  \
		FIELD(st, rtt, U32, INT64, GAUGE, "us",                                          \
		      "smoothed round-trip time; mean over the connections", .null = NULL_ZERO), \
		FIELD(st, rtt_var, U32, INT64, GAUGE, "us",                                      \
		      "mean deviation of the round-trip time", .null = NULL_ZERO)

/* The last column, so that the order of the others stays. */
#define DOMAIN_ORIGIN(st)                                                                \
	FIELD(st, dst_domain_origin, ENUM, TEXT, TAG, "",                                \
	      "how dst_domain is known: dns, sni or host", .names = domain_origin_names, \
	      .null = NULL_ZERO, .dict = true)

static const struct field flow_fields[] = {
	FIELD(flow_row, ts, U64, TIME, TAG, "ns", "end of the interval"),
	ENDS(flow_row),
	TRAFFIC(flow_row, DELTA),
	FIELD(flow_row, tcp_established, U32, INT64, DELTA, "{connection}",
	      "connections established; those older than the plugin count when first seen"),
	FIELD(flow_row, tcp_closed, U32, INT64, DELTA, "{connection}", "connections that ended"),
	FIELD(flow_row, connect_failures, U32, INT64, DELTA, "{connection}",
	      "connects that were refused, timed out or were given up"),
	DOMAIN_ORIGIN(flow_row),
};

static const struct field connection_fields[] = {
	ENDS(connection_row),
	TRAFFIC(connection_row, COUNTER),
	FIELD(connection_row, state, ENUM, TEXT, TAG, "", "TCP state; else UNCONN or ESTABLISHED",
	      .names = state_names, .null = NULL_ZERO),
	FIELD(connection_row, inode, U64, INT64, TAG, "",
	      "of the socket, as in /proc/PID/fd; NULL: no process has it open", .null = NULL_ZERO),
	FIELD(connection_row, owner_confidence, ENUM, TEXT, TAG, "",
	      "how the process is known: none, listener, fd (open when the plugin started), "
	      "creator, closer, bind, connect, sender, reader",
	      .names = owner_names),
	FIELD(connection_row, opened_at, U64, TIME, TAG, "ns",
	      "when it was connected, accepted or first seen; NULL: before the plugin started",
	      .null = NULL_ZERO),
	DOMAIN_ORIGIN(connection_row),
};

const struct table netflow_table = TABLE(
	flow_row, FLOW, "netflow", "flows by process, one row per flow and interval", flow_fields);
const struct table netflow_connections_table = TABLE(
	connection_row, LIVE, "connections", "every open network socket now", connection_fields);

/* All but the strings. */
static void put_ends(struct instance *in, struct ends *e, const struct flow_key *k)
{
	e->pid = k->pid;
	memcpy(e->process_name, k->comm, sizeof(e->process_name));
	if (!k->comm[0] && k->pid && in->enrich)
		strncpy(e->process_name, in->enrich->process_name(in->enrich_ctx, k->pid),
			sizeof(e->process_name) - 1);
	e->cgroup_id = k->cgroup_id;
	e->netns = k->netns;
	e->family = k->family == 4 ? 1 : 2;
	e->transport = transport_enum(k->transport);
	e->direction = k->dir;
	ip_addr_set(&e->src_ip, k->src, k->family);
	e->src_port = k->sport;
	e->src_ip_type = ip_type(k->src, k->family);
	ip_addr_set(&e->dst_ip, k->dst, k->family);
	e->dst_port = k->dport;
	e->dst_ip_type = ip_type(k->dst, k->family);
	if (k->nat) {
		ip_addr_set(&e->dst_nat_ip, k->nat_dst, k->family);
		e->dst_nat_port = k->nat_dport;
	}
}

/* The name of the remote end, or "". */
static const char *domain_of(struct instance *in, const struct ends *e, uint8_t *origin)
{
	enum domain_origin known = DOMAIN_NONE;
	const char *name = "";

	if (in->enrich && e->dst_ip.family)
		name = in->enrich->domain(in->enrich_ctx, e->netns, &e->dst_ip, &known);
	*origin = (uint8_t)known;
	return name;
}

static void put_flow(struct instance *in, const struct flow *f, uint64_t ts)
{
	struct flow_row *row = instance_row(in, NETFLOW_TABLE_FLOWS);
	const char *container, *domain;

	if (!row)
		return; /* counted */
	row->ts = ts;
	put_ends(in, &row->e, &f->key);
	container = instance_container(in, f->key.cgroup_id, f->key.pid);
	row->e.container_id = instance_str(in, NETFLOW_TABLE_FLOWS, container, strlen(container));
	domain = domain_of(in, &row->e, &row->dst_domain_origin);
	row->e.dst_domain = instance_str(in, NETFLOW_TABLE_FLOWS, domain, strlen(domain));
	row->bytes_read = f->rx;
	row->bytes_written = f->tx;
	row->packets_read = f->packets_in;
	row->packets_written = f->packets_out;
	row->retransmits = f->retransmits;
	if (f->rtt_n) {
		row->rtt = (uint32_t)(f->rtt / f->rtt_n);
		row->rtt_var = (uint32_t)(f->rtt_var / f->rtt_n);
	}
	row->tcp_established = f->established;
	row->tcp_closed = f->closed;
	row->connect_failures = f->failures;
}

void netflow_flush(struct instance *in, uint64_t ts)
{
	struct flows *f = &netflow(in)->flows;

	for (uint32_t i = 0; i < f->n; i++)
		put_flow(in, &f->all[i], ts);
	flows_clear(f);
}

int netflow_show(struct instance *in, const struct netflow_sock *s, struct batch *batch)
{
	const struct netflow_conn *c = &s->conn;
	struct connection_row *row = batch_add(batch);
	bool ports = c->transport != IPPROTO_ICMP && c->transport != IPPROTO_ICMPV6 &&
		     c->transport != IPPROTO_RAW;
	bool tcp = c->transport == IPPROTO_TCP;
	bool peer = ports ? c->dport != 0 : (c->dst[0] | c->dst[1] | c->dst[2] | c->dst[3]) != 0;
	struct flow_key key;
	const char *container, *domain;
	bool lost;

	if (!row)
		return -ENOBUFS;
	netflow_key(&key, c);
	if (peer)
		netflow_translate(in, &key);
	if (c->dir == NETFLOW_DIR_LISTEN)
		key.dir = NETFLOW_DIR_INCOMING;
	put_ends(in, &row->e, &key);
	if (!peer) {
		memset(&row->e.dst_ip, 0, sizeof(row->e.dst_ip));
		row->e.dst_ip_type = IP_TYPE_NONE;
	}
	container = instance_container(in, c->cgroup_id, c->pid);
	row->e.container_id = batch_str(batch, container, strlen(container));
	lost = *container && !row->e.container_id.len;
	domain = domain_of(in, &row->e, &row->dst_domain_origin);
	row->e.dst_domain = batch_str(batch, domain, strlen(domain));
	lost |= *domain && !row->e.dst_domain.len;
	row->bytes_read = c->rx;
	row->bytes_written = c->tx;
	row->packets_read = c->segs_in;
	row->packets_written = c->segs_out;
	row->retransmits = c->retrans;
	row->rtt = c->srtt_us;
	row->rtt_var = c->srtt_us ? c->mdev_us : 0;
	if (tcp)
		row->state = c->state < STATE_UNCONN ? c->state : 0;
	else
		row->state = peer ? 1 : STATE_UNCONN;
	row->inode = s->inode;
	row->owner_confidence = c->owner < NETFLOW_OWNER_X_MAX ? c->owner : NETFLOW_OWNER_NONE;
	row->opened_at = s->opened_ns ? clock_boot_to_real(s->opened_ns) : 0;
	if (lost) {
		batch_drop_last(batch);
		return -ENOBUFS;
	}
	return 0;
}
