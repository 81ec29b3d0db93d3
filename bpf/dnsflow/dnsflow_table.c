// SPDX-License-Identifier: Apache-2.0
/* The tables dnsflow, dnslog and dnsflow_stats, and their rows. */
#include "bpf/dnsflow/dnsflow_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "bpf/ends.h"

/* More addresses than that tell nobody more. */
#define ANSWERS_MAX	512
#define LOG_ANSWERS_MAX 2048

/* What both tables have. */
struct who {
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
	struct str query_name;
	char query_type[12];
	int32_t rcode;
	struct str answers;
};

struct flow_row {
	uint64_t ts;
	struct who w;
	uint64_t count, timeouts, retries;
	uint64_t latency, latency_max;
};

struct log_row {
	uint64_t ts;
	struct who w;
	uint64_t asked_at;
	uint64_t latency;
	uint16_t query_id;
	uint8_t authoritative, truncated;
	uint32_t query_size, answer_size;
	uint32_t retries;
	uint32_t sample_rate;
};

/* FIELD() of a member of the embedded struct who. */
#define WHO(st, m, r, t, h, ...)                                                                   \
	{                                                                                          \
		.name = #m, .type = COLUMN_##t, .repr = REPR_##r, .off = offsetof(struct st, w.m), \
		.size = sizeof(((struct st *)0)->w.m), .kind = KIND_TAG,                           \
		.sensitivity = SENSITIVITY_META, .unit = "", .help = (h), __VA_ARGS__              \
	}

#define WHOS(st, ports)                                                                           \
	WHO(st, pid, U32, INT64, "process that asked; incoming: that answered",                   \
	    .null = NULL_ZERO, .indexed = true),                                                  \
		WHO(st, process_name, CHARS, TEXT, "its name (comm of the thread-group leader)",  \
		    .null = NULL_ZERO, .dict = true),                                             \
		WHO(st, cgroup_id, U64, INT64, "its control group in the v2 hierarchy",           \
		    .null = NULL_ZERO),                                                           \
		WHO(st, container_id, STR, TEXT,                                                  \
		    "its container, by the name of the control group", .null = NULL_ZERO,         \
		    .dict = true),                                                                \
		WHO(st, netns, U32, INT64, "inode of the socket's network namespace",             \
		    .null = NULL_ZERO),                                                           \
		WHO(st, family, ENUM, TEXT, "IPv4 or IPv6", .names = family_names, .dict = true), \
		WHO(st, transport, ENUM, TEXT, "tcp or udp", .names = transport_names,            \
		    .dict = true),                                                                \
		WHO(st, direction, ENUM, TEXT, "outgoing: asked here; incoming: answered here",   \
		    .names = direction_names, .dict = true),                                      \
		WHO(st, src_ip, IP, IP, "local address", .null = NULL_ZERO, .dict = true),        \
		WHO(st, src_port, U16, INT64, "local port" ports, .null = NULL_ZERO),             \
		WHO(st, dst_ip, IP, IP, "remote address, before NAT", .null = NULL_ZERO,          \
		    .dict = true),                                                                \
		WHO(st, dst_port, U16, INT64, "remote port" ports, .null = NULL_ZERO),            \
		WHO(st, src_ip_type, ENUM, TEXT, "private, loopback, multicast or other",         \
		    .null = NULL_ZERO, .names = ip_type_names, .dict = true),                     \
		WHO(st, dst_ip_type, ENUM, TEXT, "private, loopback, multicast or other",         \
		    .null = NULL_ZERO, .names = ip_type_names, .dict = true),                     \
		WHO(st, query_name, STR, TEXT, "name that was asked for, in lower case",          \
		    .null = NULL_ZERO, .dict = true),                                             \
		WHO(st, query_type, CHARS, TEXT, "A, AAAA, HTTPS, ...; TYPE123 without a name",   \
		    .null = NULL_ZERO, .dict = true),                                             \
		WHO(st, rcode, I32, INT64,                                                        \
		    "0 no error, 2 server failure, 3 no such name, ...; -1: no answer came")

static const struct field flow_fields[] = {
	FIELD(flow_row, ts, U64, TIME, TAG, "ns", "end of the interval"),
	WHOS(flow_row, "; NULL: the client's"),
	WHO(flow_row, answers, STR, TEXT, "addresses in the last answer", .null = NULL_ZERO),
	FIELD(flow_row, count, U64, INT64, DELTA, "{query}",
	      "queries that were answered or timed out"),
	FIELD(flow_row, timeouts, U64, INT64, DELTA, "{query}",
	      "of these without an answer in time"),
	FIELD(flow_row, retries, U64, INT64, DELTA, "{query}",
	      "times that they were asked again before"),
	FIELD(flow_row, latency, U64, INT64, GAUGE, "ns",
	      "time from query to answer, mean; NULL: timed out", .null = NULL_MAX),
	FIELD(flow_row, latency_max, U64, INT64, GAUGE, "ns", "the longest; NULL: timed out",
	      .null = NULL_MAX),
};

static const struct field log_fields[] = {
	FIELD(log_row, ts, U64, TIME, TAG, "ns", "when the answer came or was given up"),
	WHOS(log_row, ""),
	WHO(log_row, answers, STR, TEXT, "all records of the answer: CNAMEs and addresses in order",
	    .null = NULL_ZERO),
	FIELD(log_row, asked_at, U64, TIME, TAG, "ns", "when it was asked first"),
	FIELD(log_row, latency, U64, INT64, GAUGE, "ns",
	      "time from query to answer; NULL: timed out", .null = NULL_MAX),
	FIELD(log_row, query_id, U16, INT64, TAG, "", "transaction id"),
	FIELD(log_row, authoritative, U8, BOOL, TAG, "",
	      "by a server that is in charge of the name (AA)"),
	FIELD(log_row, truncated, U8, BOOL, TAG, "", "the answer didn't fit: ask over TCP (TC)"),
	FIELD(log_row, query_size, U32, INT64, GAUGE, "By", "of the query"),
	FIELD(log_row, answer_size, U32, INT64, GAUGE, "By", "of the answer", .null = NULL_ZERO),
	FIELD(log_row, retries, U32, INT64, DELTA, "{query}", "times that it was asked again"),
	FIELD(log_row, sample_rate, U32, INT64, GAUGE, "{query}",
	      "queries that this row stands for: more than one while a limit makes it cost less"),
};

#define STAT(m, u, h) FIELD(dnsflow_stats, m, U64, INT64, COUNTER, u, h)

static const struct field stats_fields[] = {
	STAT(queries, "{message}", "queries seen; loopback shows each at both ends"),
	STAT(answers, "{message}", "answers seen"),
	STAT(paired, "{query}", "queries with their answer"),
	STAT(timeouts, "{query}", "queries given up"),
	STAT(retries, "{message}", "queries asked again before an answer came"),
	STAT(late, "{message}", "answers after the timeout"),
	STAT(duplicate, "{message}", "answers to what was answered"),
	STAT(unsolicited, "{message}", "answers that nobody asked for, as far as we know"),
	STAT(malformed, "{message}", "messages that are no DNS"),
	STAT(cut, "{message}",
	     "messages that end before they should, or were longer than a sample"),
	STAT(multicast, "{message}", "multicast DNS messages"),
	STAT(evicted, "{query}", "queries forgotten because max_pending was reached"),
	STAT(no_memory, "{message}", "messages lost because there was no memory"),
	STAT(tcp_messages, "{message}", "of the messages those over TCP"),
	STAT(tcp_lost, "{stream}", "times that a TCP stream could not be followed"),
	STAT(tcp_evicted, "{connection}",
	     "TCP connections forgotten because max_connections was reached"),
	STAT(log_left_out, "{query}",
	     "queries without a row in dnslog because a limit was reached"),
	FIELD(dnsflow_stats, pending, U64, INT64, GAUGE, "{query}", "queries that wait now"),
	FIELD(dnsflow_stats, connections, U64, INT64, GAUGE, "{connection}",
	      "TCP connections followed now"),
};

const struct table dnsflow_table =
	TABLE(flow_row, FLOW, "dnsflow",
	      "DNS queries by process, server and name, one row per interval", flow_fields);
const struct table dnslog_table =
	TABLE(log_row, FLOW, "dnslog", "every DNS query (option log)", log_fields);
const struct table dnsflow_stats_table =
	TABLE(dnsflow_stats, LIVE, "dnsflow_stats", "what the plugin dnsflow has seen and lost",
	      stats_fields);

static void put_who(struct instance *in, unsigned int table, struct who *w,
		    const struct exchange_key *k, const char *name, size_t name_len)
{
	const char *container = instance_container(in, k->cgroup_id, k->pid);

	w->pid = k->pid;
	memcpy(w->process_name, k->comm, sizeof(w->process_name));
	if (!k->comm[0] && k->pid && in->enrich)
		snprintf(w->process_name, sizeof(w->process_name), "%s",
			 in->enrich->process_name(in->enrich_ctx, k->pid));
	w->cgroup_id = k->cgroup_id;
	w->container_id = instance_str(in, table, container, strlen(container));
	w->netns = k->netns;
	w->family = k->family == 4 ? 1 : 2;
	w->transport = k->transport == IPPROTO_TCP ? 1 : 2;
	w->direction = k->direction;
	ip_addr_set(&w->src_ip, k->src, k->family);
	w->src_port = k->src_port;
	w->src_ip_type = ip_type(k->src, k->family);
	ip_addr_set(&w->dst_ip, k->dst, k->family);
	w->dst_port = k->dst_port;
	w->dst_ip_type = ip_type(k->dst, k->family);
	w->rcode = k->rcode;
	if (!name)
		return;
	w->query_name = instance_str(in, table, name, name_len);
	dns_type_text(w->query_type, k->type);
}

/* Both ports are there. */
static void make_key(struct exchange_key *k, const struct outcome *o)
{
	const struct query *q = o->query;

	memset(k, 0, sizeof(*k));
	memcpy(k->src, q->src, sizeof(k->src));
	memcpy(k->dst, q->key.remote, sizeof(k->dst));
	k->cgroup_id = o->owner->cgroup_id;
	memcpy(k->comm, o->owner->comm, sizeof(k->comm));
	k->pid = o->owner->pid;
	k->netns = q->key.netns;
	k->src_port = q->key.local_port;
	k->dst_port = q->key.remote_port;
	k->rcode = o->m ? (int16_t)o->m->rcode : -1;
	k->type = q->type;
	k->family = q->key.family;
	k->transport = q->key.transport;
	k->direction = q->key.server ? 2 : 1;
}

/* By chance, because what is asked in turns (A and AAAA) would else be one of its kinds alone. An
 * exchange as a whole: never a query without its answer. */
static bool log_wanted(struct dnsflow *d)
{
	if (!d->log_shift || !(hash_u64(d->log_seed, d->log_asked++) & ((1u << d->log_shift) - 1)))
		return true;
	d->stats.log_left_out++;
	return false;
}

static void log_row(struct instance *in, const struct outcome *o, const struct exchange_key *k)
{
	const struct query *q = o->query;
	struct log_row *row = instance_row(in, DNSFLOW_TABLE_LOG);
	char answers[LOG_ANSWERS_MAX];

	if (!row)
		return; /* counted */
	row->ts = clock_boot_to_real(o->m ? q->boot_ns + o->latency
					  : q->boot_ns + dnsflow(in)->timeout_ns);
	put_who(in, DNSFLOW_TABLE_LOG, &row->w, k, q->name, q->name_len);
	row->asked_at = clock_boot_to_real(q->boot_ns);
	row->latency = o->m ? o->latency : UINT64_MAX;
	row->query_id = q->key.id;
	row->query_size = q->size;
	row->answer_size = o->answer_size;
	row->retries = q->retries;
	row->sample_rate = 1u << dnsflow(in)->log_shift;
	if (!o->m)
		return;
	row->authoritative = o->m->authoritative;
	row->truncated = o->m->truncated;
	row->w.answers =
		instance_str(in, DNSFLOW_TABLE_LOG, answers,
			     dns_answers_text(o->m, DNS_ANSWERS_ALL, answers, sizeof(answers)));
}

/* The last answer's; without memory the one before stays. */
static void keep_answers(struct exchange *e, const struct dns_message *m)
{
	char text[ANSWERS_MAX], *copy;
	size_t len = dns_answers_text(m, DNS_ANSWERS_ADDRESSES, text, sizeof(text));

	if (!len || (e->answers && strcmp(e->answers, text) == 0))
		return;
	copy = strndup(text, len);
	if (!copy)
		return;
	free(e->answers);
	e->answers = copy;
}

void dnsflow_account(struct instance *in, const struct outcome *o)
{
	struct dnsflow *d = dnsflow(in);
	const struct query *q = o->query;
	const char *name = d->query_names ? q->name : NULL;
	struct exchange_key k;
	struct exchange *e;

	make_key(&k, o);
	if (d->log && log_wanted(d))
		log_row(in, o, &k);
	*(q->key.server ? &k.dst_port : &k.src_port) = 0;
	if (!name)
		k.type = 0;
	e = exchanges_get(&d->exchanges, &k, name, q->name_len);
	if (!e) {
		/* Full, or no memory to grow: what is there becomes rows now, with sums still
		 * exact. */
		in->count.early_flushes++;
		dnsflow_flush(in, clock_real_ns());
		e = exchanges_get(&d->exchanges, &k, name, q->name_len);
	}
	if (!e) {
		in->count.rows_lost++;
		return;
	}
	e->count++;
	e->retries += q->retries;
	if (!o->m)
		return;
	e->latency_sum += o->latency;
	if (e->latency_max < o->latency)
		e->latency_max = o->latency;
	if (name)
		keep_answers(e, o->m);
}

static void put_flow(struct instance *in, const struct exchange *e, uint64_t ts)
{
	struct flow_row *row = instance_row(in, DNSFLOW_TABLE_FLOWS);
	bool answered = e->key.rcode >= 0;

	if (!row)
		return; /* counted */
	row->ts = ts;
	put_who(in, DNSFLOW_TABLE_FLOWS, &row->w, &e->key, e->name, e->name_len);
	if (e->answers)
		row->w.answers =
			instance_str(in, DNSFLOW_TABLE_FLOWS, e->answers, strlen(e->answers));
	row->count = e->count;
	row->timeouts = answered ? 0 : e->count;
	row->retries = e->retries;
	row->latency = answered ? e->latency_sum / e->count : UINT64_MAX;
	row->latency_max = answered ? e->latency_max : UINT64_MAX;
}

void dnsflow_flush(struct instance *in, uint64_t ts)
{
	struct exchanges *t = &dnsflow(in)->exchanges;

	for (uint32_t i = 0; i < t->n; i++)
		put_flow(in, &t->all[i], ts);
	exchanges_clear(t);
}

int dnsflow_show_stats(struct instance *in, struct batch *batch)
{
	struct dnsflow *d = dnsflow(in);
	struct dnsflow_stats *row = batch_add(batch);

	if (!row)
		return -ENOBUFS;
	*row = d->stats;
	row->pending = d->pending.n;
	row->connections = d->tcp.n;
	return 0;
}
