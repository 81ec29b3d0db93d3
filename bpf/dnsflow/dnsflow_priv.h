// SPDX-License-Identifier: Apache-2.0
/* The user half of dnsflow among its own files: pairing, TCP streams, aggregation, rows. */
#pragma once

#include "bpf/decode/dns.h"
#include "bpf/dnsflow/dnsflow.h"
#include "bpf/plugin.h"

struct dnsflow_bpf;

/* What ties an answer to its query, apart from the question. No padding: hashed as bytes. */
struct query_key {
	uint32_t local[4], remote[4];
	uint16_t local_port, remote_port;
	uint32_t netns;
	uint16_t id;
	uint8_t family;	   /* 4, 6 */
	uint8_t transport; /* IPPROTO_* */
	uint8_t server;	   /* seen at the end that was asked */
	uint8_t pad[3];
};

struct owner {
	uint64_t cgroup_id;
	uint32_t pid;
	char comm[16]; /* zero behind its end */
};

/* A question without answer so far. */
struct query {
	struct query *next; /* of its bucket */
	struct query *older, *newer;
	uint64_t hash;
	uint64_t boot_ns; /* when it was asked first */
	struct query_key key;
	struct owner owner;
	uint32_t src[4]; /* of the packet: the key of a multicast query has none */
	uint32_t size;	 /* of the message */
	uint32_t retries;
	uint16_t type;
	uint16_t name_len;
	char name[];
};

/* All queries that wait, oldest first, found by hash. */
struct pending {
	struct query **buckets;
	uint32_t nbuckets; /* power of two */
	uint32_t n, max;
	uint64_t seed;
	struct query *oldest, *newest;
};

int pending_init(struct pending *p, uint32_t max);
void pending_free(struct pending *p);
uint64_t pending_hash(const struct pending *p, const struct query_key *key);
/* name NULL: any question (answers to what the server couldn't read repeat none). */
struct query *pending_find(const struct pending *p, uint64_t hash, const struct query_key *key,
			   uint16_t type, const char *name, size_t name_len);
/* Zeroed but for key, question and hash, at the new end. NULL: max reached, or out of memory. */
struct query *pending_add(struct pending *p, uint64_t hash, const struct query_key *key,
			  uint16_t type, const char *name, size_t name_len);
/* Takes it out and frees it. */
void pending_del(struct pending *p, struct query *q);

/* What became of queries lately, so that answers without one can be told apart. Fixed size: the
 * newest overwrites. */
#define RECENT 4096

enum recent_fate {
	RECENT_ANSWERED = 1,
	RECENT_TIMED_OUT,
};

struct recent {
	uint64_t hash;
	uint8_t fate;
};

/* What makes a row of its own. No padding: hashed and compared as bytes. */
struct exchange_key {
	uint32_t src[4], dst[4];
	uint64_t cgroup_id;
	char comm[16];
	uint32_t pid, netns;
	uint16_t src_port, dst_port; /* 0: any */
	int16_t rcode;		     /* -1: timed out */
	uint16_t type;
	uint8_t family, transport;
	uint8_t direction; /* 1: outgoing, 2: incoming */
	uint8_t pad[5];
};

struct exchange {
	struct exchange_key key;
	uint64_t hash;
	uint64_t count, retries;
	uint64_t latency_sum, latency_max;
	char *name;    /* NULL without query_names */
	char *answers; /* of the last answer; NULL: none */
	uint16_t name_len;
};

/* The exchanges of the running interval. */
struct exchanges {
	struct exchange *all;
	uint32_t n, cap, max;
	uint32_t *slots; /* index + 1; 0: free */
	uint32_t nslots;
	uint64_t seed;
};

void exchanges_init(struct exchanges *t, uint32_t max);
void exchanges_free(struct exchanges *t);
/* The one of that key and name (NULL: none), a new one zeroed. NULL: max reached, or out of memory.
 */
struct exchange *exchanges_get(struct exchanges *t, const struct exchange_key *key,
			       const char *name, size_t name_len);
/* Forgets all; gives memory back that the last interval didn't need. */
void exchanges_clear(struct exchanges *t);

/* Since the plugin started; one row of dnsflow_stats. */
struct dnsflow_stats {
	uint64_t queries, answers, paired, timeouts, retries;
	uint64_t late, duplicate, unsolicited;
	uint64_t malformed, cut, multicast;
	uint64_t evicted, no_memory;
	uint64_t tcp_messages, tcp_lost, tcp_evicted;
	uint64_t log_left_out;
	uint64_t pending, connections; /* now */
};

struct tcp_conn;

/* TCP connections with DNS, least recently used first. */
struct tcp_conns {
	struct tcp_conn **buckets;
	uint32_t nbuckets, n, max;
	uint64_t seed;
	struct tcp_conn *oldest, *newest;
};

struct dnsflow {
	struct dnsflow_bpf *skel;
	int cgroup_fd;
	bool seed;
	bool query_names, log, mdns;
	uint32_t log_shift; /* one exchange in 2^log_shift gets its row in dnslog */
	uint64_t log_seed, log_asked;
	uint64_t timeout_ns;
	struct pending pending;
	struct recent recent[RECENT];
	struct exchanges exchanges;
	struct tcp_conns tcp;
	struct dnsflow_stats stats;
	struct dns_message message; /* of the sample at hand */
};

static inline struct dnsflow *dnsflow(struct instance *in)
{
	return in->state;
}

extern const struct table dnsflow_table, dnslog_table, dnsflow_stats_table;

enum {
	DNSFLOW_TABLE_FLOWS,
	DNSFLOW_TABLE_LOG,
	DNSFLOW_TABLE_STATS,
};

/* A whole message, or its beginning; size: of all of it. */
void dnsflow_message(struct instance *in, const struct payload_head *h, const uint8_t *data,
		     size_t len, uint32_t size);
/* Gives up what waits too long. */
void dnsflow_expire(struct instance *in, uint64_t boot_ns);

int tcp_conns_init(struct tcp_conns *t, uint32_t max);
void tcp_conns_free(struct tcp_conns *t);
/* One sample of a segment: whole messages go to dnsflow_message(). */
void dnsflow_tcp(struct instance *in, const struct payload_head *h, const uint8_t *data);
void dnsflow_tcp_expire(struct instance *in, uint64_t boot_ns);

/* The end of an exchange. m NULL: it timed out. */
struct outcome {
	const struct query *query;
	const struct dns_message *m;
	const struct owner *owner;
	uint64_t latency;
	uint32_t answer_size;
};

/* Adds it to the interval's rows and, if asked for, to the log. */
void dnsflow_account(struct instance *in, const struct outcome *o);
/* Emits the rows of the interval that ends at ts. */
void dnsflow_flush(struct instance *in, uint64_t ts);
int dnsflow_show_stats(struct instance *in, struct batch *batch);
