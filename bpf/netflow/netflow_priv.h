// SPDX-License-Identifier: Apache-2.0
/* The user half of netflow among its own files: aggregation, sockets that ticks have seen, rows. */
#pragma once

#include "bpf/nat.h"
#include "bpf/netflow/netflow.h"
#include "bpf/netflow/netflow_match.h"
#include "bpf/plugin.h"

struct netflow_bpf;

/* What makes a row of its own. No padding: hashed and compared as bytes. */
struct flow_key {
	uint32_t src[4], dst[4];
	uint16_t sport, dport; /* 0: any (port aggregation) */
	uint32_t pid;
	uint32_t netns;
	uint8_t family;	   /* 4, 6 */
	uint8_t dir;	   /* enum netflow_dir */
	uint8_t transport; /* IPPROTO_* */
	uint8_t nat;	   /* dst is translated: to nat_dst */
	uint64_t cgroup_id;
	char comm[16]; /* zero behind its end */
	uint32_t nat_dst[4];
	uint16_t nat_dport;
	uint16_t pad[3];
};

struct flow {
	struct flow_key key;
	uint64_t hash;
	uint64_t rx, tx;
	uint64_t packets_in, packets_out;
	uint64_t rtt, rtt_var; /* sums over rtt_n connections */
	uint32_t rtt_n;
	uint32_t retransmits;
	uint32_t established, closed, failures;
};

/* The flows of the running interval: entries in a row, found by an index of open addressing. */
struct flows {
	struct flow *all;
	uint32_t n, cap, max;
	uint32_t *slots; /* index + 1; 0: free */
	uint32_t nslots; /* power of two, at least twice cap */
	uint64_t
		seed; /* remote peers choose ports and addresses: they must not choose collisions */
};

int flows_init(struct flows *f, uint32_t max);
void flows_free(struct flows *f);
/* The entry of that key, a new one zeroed. NULL: max reached, or out of memory; make room by
 * flows_clear. */
struct flow *flows_get(struct flows *f, const struct flow_key *key);
/* Forgets all; gives memory back that the last interval didn't need. */
void flows_clear(struct flows *f);

/* What was reported of a TCP connection so far. */
struct seen {
	uint64_t id; /* 0: free slot */
	uint64_t rx, tx;
	uint32_t segs_out, segs_in;
	uint32_t retrans;
	uint32_t pass; /* of the last full iteration that met it */
};

struct seen_table {
	struct seen *slots;
	uint32_t nslots, n, max;
};

int seen_init(struct seen_table *t, uint32_t max);
void seen_free(struct seen_table *t);
struct seen *seen_find(struct seen_table *t, uint64_t id);
/* NULL: max reached, or out of memory. The id must not be there. */
struct seen *seen_add(struct seen_table *t, uint64_t id);
void seen_del(struct seen_table *t, struct seen *s);
/* Removes what no full iteration met since pass; returns how many. */
uint32_t seen_expire(struct seen_table *t, uint32_t pass);

/* Two read()s of the eight pages that the kernel gathers for an iterator. */
#define NETFLOW_BUF (64 * 1024)

struct netflow {
	struct netflow_bpf *skel;
	struct flows flows;
	struct seen_table seen;
	bool hash; /* TCP sockets are keyed by address */
	bool udp, udp_plain;
	bool other; /* ICMP, raw and SCTP by the hooks of UDP */
	int cgroup_fd; /* root of the cgroup2 hierarchy while UDP is seen, or -1 */
	bool started;
	uint16_t ephemeral_port;
	bool loopback, ipv6;
	struct netflow_match *match; /* NULL: no lists */
	uint32_t ticks, pass;
	uint8_t *buf; /* NETFLOW_BUF bytes, of iterators and batches */
};

static inline struct netflow *netflow(struct instance *in)
{
	return in->state;
}

extern const struct table netflow_table, netflow_connections_table;

enum {
	NETFLOW_TABLE_FLOWS,
	NETFLOW_TABLE_CONNECTIONS,
};

/* Rows. Emits all flows of the interval that ends at ts, and forgets them. */
void netflow_flush(struct instance *in, uint64_t ts);
/* One row of connections; -ENOBUFS when the batch is full. */
int netflow_show(struct instance *in, const struct netflow_sock *s, struct batch *batch);

/* The flow of that key, a new one if need be; a full table is flushed first. NULL: out of memory
 * (counted). */
struct flow *netflow_flow(struct instance *in, const struct flow_key *key);
/* netflow_filter.c: the lists of the options. -EINVAL leaves all as it was. */
int netflow_filter_read(struct instance *in, struct err *err);
/* Counts what they leave out; before ports are. */
bool netflow_filter_drops(struct instance *in, const struct flow_key *key);

/* Looks up the peer behind a translation; before ports are left out. */
void netflow_find_peer(struct instance *in, struct flow_key *key);
/* The key of a connection, with both ports. */
void netflow_key(struct flow_key *key, const struct netflow_conn *c);
/* Ports that the kernel chose are left out: connections of one client to one service make one row.
 */
void netflow_aggregate_port(const struct netflow *nf, struct flow_key *key);

/* One branch for hosts where nobody follows translations. */
static inline void netflow_translate(struct instance *in, struct flow_key *key)
{
	if (in->nat && nat_is_open(in->nat))
		netflow_find_peer(in, key);
}
bool netflow_wanted(const struct netflow *nf, const struct flow_key *key);

/* TCP accounting. */
int netflow_tcp_end(struct instance *in, const struct netflow_conn *c);
int netflow_tcp_tick(struct instance *in);
/* What the connections that are open already have carried so far isn't ours: counts them as
 * established only. */
int netflow_tcp_baseline(struct instance *in);
/* Finds the owners of all sockets that are open. */
int netflow_seed(struct instance *in, struct err *err);
int netflow_show_all(struct instance *in, struct batch *batch);

/* UDP. */
int netflow_udp_attach(struct instance *in, struct err *err);
void netflow_udp_detach(struct instance *in);
int netflow_udp_tick(struct instance *in);
