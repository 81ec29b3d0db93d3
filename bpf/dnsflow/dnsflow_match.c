// SPDX-License-Identifier: Apache-2.0
/* Answers find their queries; what stays alone is counted for what it is; addresses get their
 * names. */
#include "bpf/dnsflow/dnsflow_priv.h"

#include <string.h>

#include "base/clock.h"

/* The key of the exchange that a message belongs to, seen from the end at hand. */
static void make_key(struct query_key *key, const struct payload_head *h,
		     const struct dns_message *m)
{
	memset(key, 0, sizeof(*key));
	if (!h->any_local)
		memcpy(key->local, h->local, sizeof(key->local));
	memcpy(key->remote, h->remote, sizeof(key->remote));
	key->local_port = h->local_port;
	key->remote_port = h->remote_port;
	key->netns = h->netns;
	key->id = m->id;
	key->family = h->family;
	key->transport = h->transport;
	key->server = m->response == (bool)h->out;
}

static struct owner owner_of(const struct payload_head *h)
{
	struct owner o = {.cgroup_id = h->cgroup_id, .pid = h->pid};

	/* The kernel doesn't clear what a longer name left behind. */
	memcpy(o.comm, h->comm, strnlen(h->comm, sizeof(o.comm) - 1));
	return o;
}

static void remember(struct dnsflow *d, uint64_t hash, enum recent_fate fate)
{
	d->recent[hash % RECENT] = (struct recent){.hash = hash, .fate = (uint8_t)fate};
}

static void give_up(struct instance *in, struct query *q)
{
	struct dnsflow *d = dnsflow(in);
	const struct outcome o = {.query = q, .owner = &q->owner};

	d->stats.timeouts++;
	remember(d, q->hash, RECENT_TIMED_OUT);
	dnsflow_account(in, &o);
	pending_del(&d->pending, q);
}

void dnsflow_expire(struct instance *in, uint64_t boot_ns)
{
	struct dnsflow *d = dnsflow(in);

	while (d->pending.oldest && boot_ns > d->pending.oldest->boot_ns &&
	       boot_ns - d->pending.oldest->boot_ns >= d->timeout_ns)
		give_up(in, d->pending.oldest);
}

static void on_query(struct instance *in, const struct payload_head *h, const struct query_key *key,
		     uint32_t size)
{
	struct dnsflow *d = dnsflow(in);
	const struct dns_message *m = &d->message;
	uint64_t hash = pending_hash(&d->pending, key);
	struct query *q =
		pending_find(&d->pending, hash, key, m->qtype, dns_qname(m), m->qname_len);

	d->stats.queries++;
	if (q) {
		/* Asked again: the answer's latency is the asker's, from the first time on. */
		d->stats.retries++;
		q->retries++;
		return;
	}
	if (d->pending.n >= d->pending.max) {
		d->stats.evicted++;
		pending_del(&d->pending, d->pending.oldest);
	}
	q = pending_add(&d->pending, hash, key, m->qtype, dns_qname(m), m->qname_len);
	if (!q) {
		d->stats.no_memory++;
		return;
	}
	q->boot_ns = h->boot_ns;
	q->owner = owner_of(h);
	q->size = size;
	memcpy(q->src, h->local, sizeof(q->src));
}

/* Only what was asked for, by the chain of CNAMEs: the name that was asked, not the one at the
 * chain's end. */
static void learn(struct instance *in, uint32_t netns, const struct dns_message *m)
{
	if (!in->enrich || m->rcode || !m->questions)
		return;
	for (unsigned int i = 0; i < m->nrecords; i++) {
		const struct dns_record *r = &m->records[i];

		if (r->addr.family && r->chained)
			in->enrich->domain_learn(in->enrich_ctx, netns, &r->addr, dns_qname(m),
						 DOMAIN_DNS, r->ttl * NSEC_PER_SEC);
	}
}

static void count_stray(struct dnsflow *d, uint64_t hash)
{
	const struct recent *r = &d->recent[hash % RECENT];

	if (r->fate && r->hash == hash && r->fate == RECENT_TIMED_OUT)
		d->stats.late++;
	else if (r->fate && r->hash == hash)
		d->stats.duplicate++;
	else
		d->stats.unsolicited++;
}

static void on_answer(struct instance *in, const struct payload_head *h,
		      const struct query_key *key, uint32_t size)
{
	struct dnsflow *d = dnsflow(in);
	const struct dns_message *m = &d->message;
	uint64_t hash = pending_hash(&d->pending, key);
	struct owner answerer = owner_of(h);
	struct outcome o = {.m = m, .answer_size = size};
	struct query *q;

	d->stats.answers++;
	q = pending_find(&d->pending, hash, key, m->qtype, m->questions ? dns_qname(m) : NULL,
			 m->qname_len);
	if (!q) {
		count_stray(d, hash);
		return;
	}
	d->stats.paired++;
	o.query = q;
	/* Who asked is known from the query; who answers, from the answer: the worker that took it.
	 */
	o.owner = key->server && answerer.pid ? &answerer : &q->owner;
	o.latency = h->boot_ns > q->boot_ns ? h->boot_ns - q->boot_ns : 0;
	if (!key->server)
		learn(in, key->netns, m);
	remember(d, hash, RECENT_ANSWERED);
	dnsflow_account(in, &o);
	pending_del(&d->pending, q);
}

/* An answer is for everybody on the link, and repeats no question: it is any of its records'. */
static void on_multicast_answer(struct instance *in, const struct payload_head *h,
				struct query_key *key, uint32_t size)
{
	struct dnsflow *d = dnsflow(in);
	struct dns_message *m = &d->message;
	struct outcome o = {.m = m, .answer_size = size};
	uint64_t hash;

	for (unsigned int i = 0; i < m->nrecords; i++) {
		const struct dns_record *r = &m->records[i];
		const char *name = m->text + r->owner;
		struct query *q;

		hash = pending_hash(&d->pending, key);
		q = pending_find(&d->pending, hash, key, r->type, name, strlen(name));
		if (!q)
			continue;
		d->stats.paired++;
		o.query = q;
		o.owner = &q->owner;
		o.latency = h->boot_ns > q->boot_ns ? h->boot_ns - q->boot_ns : 0;
		dnsflow_account(in, &o);
		pending_del(&d->pending, q);
		if (r->addr.family && in->enrich)
			in->enrich->domain_learn(in->enrich_ctx, h->netns, &r->addr, name,
						 DOMAIN_DNS, r->ttl * NSEC_PER_SEC);
	}
}

/* RFC 6762: asked by this host to the group and answered by anybody; what others ask isn't for us
 * to time. */
static void on_multicast(struct instance *in, const struct payload_head *h, struct query_key *key,
			 uint32_t size)
{
	static const uint8_t group4[16] = {224, 0, 0, 251};
	static const uint8_t group6[16] = {0xff, 0x02, [15] = 0xfb};
	struct dnsflow *d = dnsflow(in);

	d->stats.multicast++;
	key->id = 0;
	key->server = 0;
	memset(key->local, 0, sizeof(key->local));
	memcpy(key->remote, h->family == 4 ? group4 : group6, sizeof(key->remote));
	key->remote_port = DNSFLOW_MDNS_PORT;
	if (h->out && !d->message.response && d->message.questions)
		on_query(in, h, key, size);
	else if (!h->out && d->message.response)
		on_multicast_answer(in, h, key, size);
}

void dnsflow_message(struct instance *in, const struct payload_head *h, const uint8_t *data,
		     size_t len, uint32_t size)
{
	struct dnsflow *d = dnsflow(in);
	struct dns_message *m = &d->message;
	struct query_key key;

	dnsflow_expire(in, h->boot_ns);
	if (dns_parse(data, len, m) < 0) {
		d->stats.malformed++;
		return;
	}
	if (m->cut)
		d->stats.cut++;
	make_key(&key, h, m);
	if (d->mdns && (h->remote_port == DNSFLOW_MDNS_PORT || h->local_port == DNSFLOW_MDNS_PORT))
		on_multicast(in, h, &key, size);
	else if (!m->response)
		on_query(in, h, &key, size);
	else
		on_answer(in, h, &key, size);
}
