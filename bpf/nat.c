// SPDX-License-Identifier: Apache-2.0
/* Translated connections by both of their tuples; bounded, with the dead kept for a while. */
#include "bpf/nat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

#define FIRST_CAP 256u
#define NONE	  UINT32_MAX
/*
 * A lookup that finds nothing reads again at most that often: less than any connection takes from
 * its first packet to its end, and a hundred times what reading the clock costs.
 */
#define REFILL_NS 20000u

enum {
	ORIG,
	REPLY,
	WAYS,
};

enum queue {
	LIVE,  /* by the time of their first put */
	ENDED, /* by the time of their end */
	QUEUES,
	FREE = QUEUES,
};

struct entry {
	struct nat_conn c;
	uint64_t since_ns, ended_ns;
	uint32_t pass;
	uint8_t kind;	     /* enum nat_kind */
	uint8_t queue;	     /* enum queue */
	uint32_t next[WAYS]; /* in the chains: node of the next, see node_of() */
	uint32_t older, newer;
};

struct nat_table {
	struct entry *all;
	uint32_t cap, max;
	uint32_t n[QUEUES];
	uint32_t oldest[QUEUES], newest[QUEUES];
	uint32_t free;	 /* first unused; linked by newer */
	uint32_t *heads; /* nodes; cap * 2 of them, a power of two */
	uint32_t nheads;
	uint64_t seed;
	uint32_t host_netns;
	uint64_t keep_ns;
	uint64_t evictions, no_memory;
	uint64_t refilled_ns;
	bool refilling;
	void (*refill)(void *arg);
	void *refill_arg;
};

static void reset(struct nat_table *t)
{
	free(t->all);
	free(t->heads);
	t->all = NULL;
	t->heads = NULL;
	t->cap = t->nheads = 0;
	t->free = NONE;
	for (int q = 0; q < QUEUES; q++) {
		t->n[q] = 0;
		t->oldest[q] = t->newest[q] = NONE;
	}
}

int nat_table_new(struct nat_table **ret)
{
	struct nat_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->seed = hash_seed();
	reset(t);
	*ret = t;
	return 0;
}

void nat_table_free(struct nat_table *t)
{
	if (!t)
		return;
	reset(t);
	free(t);
}

void nat_open(struct nat_table *t, uint32_t max, uint32_t host_netns, void (*refill)(void *arg),
	      void *arg)
{
	nat_close(t);
	t->max = max;
	t->host_netns = host_netns;
	t->refill = refill;
	t->refill_arg = arg;
	t->keep_ns = NAT_KEEP_NS;
	t->evictions = t->no_memory = 0;
}

void nat_close(struct nat_table *t)
{
	reset(t);
	t->refill = NULL;
	t->max = 0;
}

bool nat_is_open(const struct nat_table *t)
{
	return t->max != 0;
}

void nat_keep(struct nat_table *t, uint64_t ns)
{
	if (ns > t->keep_ns)
		t->keep_ns = ns;
}

enum nat_kind nat_kind(const struct nat_conn *c)
{
	const struct nat_tuple *o = &c->orig, *r = &c->reply;
	int kind = NAT_NONE;

	if (memcmp(o->dst, r->src, sizeof(o->dst)) != 0 || o->dport != r->sport)
		kind |= NAT_DNAT;
	if (memcmp(o->src, r->dst, sizeof(o->src)) != 0 || o->sport != r->dport)
		kind |= NAT_SNAT;
	return kind;
}

/* Chains link the two tuples of an entry, not entries. */
static uint32_t node_of(uint32_t idx, int way)
{
	return idx * WAYS + (uint32_t)way;
}

static const struct nat_tuple *tuple_of(const struct entry *e, int way)
{
	return way == ORIG ? &e->c.orig : &e->c.reply;
}

static uint32_t *head_of(const struct nat_table *t, const struct nat_tuple *tuple, uint8_t family,
			 uint8_t transport)
{
	uint64_t h = hash_bytes(t->seed ^ (uint64_t)family << 8 ^ transport, tuple, sizeof(*tuple));

	return &t->heads[h & (t->nheads - 1)];
}

/* Replies are looked up only by servers whose clients are translated; originals also to know an
 * entry again. */
static bool has_way(const struct entry *e, int way)
{
	return way == ORIG || e->kind & NAT_SNAT;
}

static void chain(struct nat_table *t, uint32_t idx)
{
	struct entry *e = &t->all[idx];

	for (int way = 0; way < WAYS; way++) {
		uint32_t *head;

		if (!has_way(e, way))
			continue;
		head = head_of(t, tuple_of(e, way), e->c.family, e->c.transport);
		e->next[way] = *head;
		*head = node_of(idx, way);
	}
}

static void unchain(struct nat_table *t, uint32_t idx)
{
	struct entry *e = &t->all[idx];

	for (int way = 0; way < WAYS; way++) {
		uint32_t *link, node = node_of(idx, way);

		if (!has_way(e, way))
			continue;
		link = head_of(t, tuple_of(e, way), e->c.family, e->c.transport);
		while (*link != node)
			link = &t->all[*link / WAYS].next[*link % WAYS];
		*link = e->next[way];
	}
}

static void enqueue(struct nat_table *t, uint32_t idx, enum queue q)
{
	struct entry *e = &t->all[idx];

	e->queue = q;
	e->newer = NONE;
	e->older = t->newest[q];
	if (t->newest[q] == NONE)
		t->oldest[q] = idx;
	else
		t->all[t->newest[q]].newer = idx;
	t->newest[q] = idx;
	t->n[q]++;
}

static void dequeue(struct nat_table *t, uint32_t idx)
{
	struct entry *e = &t->all[idx];

	if (e->older == NONE)
		t->oldest[e->queue] = e->newer;
	else
		t->all[e->older].newer = e->newer;
	if (e->newer == NONE)
		t->newest[e->queue] = e->older;
	else
		t->all[e->newer].older = e->older;
	t->n[e->queue]--;
}

static void drop(struct nat_table *t, uint32_t idx)
{
	unchain(t, idx);
	dequeue(t, idx);
	t->all[idx].queue = FREE;
	t->all[idx].newer = t->free;
	t->free = idx;
}

static int grow(struct nat_table *t)
{
	uint32_t cap = t->cap ? t->cap * 2 : FIRST_CAP, nheads = 2, *heads;
	struct entry *all;

	if (cap > t->max)
		cap = t->max;
	while (nheads < cap * 2)
		nheads *= 2;
	heads = malloc(nheads * sizeof(*heads));
	if (!heads)
		return -ENOMEM;
	all = reallocarray(t->all, cap, sizeof(*all));
	if (!all) {
		free(heads);
		return -ENOMEM;
	}
	memset(heads, 0xff, nheads * sizeof(*heads));
	free(t->heads);
	t->heads = heads;
	t->nheads = nheads;
	t->all = all;
	for (uint32_t i = 0; i < t->cap; i++)
		if (all[i].queue != FREE)
			chain(t, i);
	for (uint32_t i = cap; i-- > t->cap;) {
		all[i].queue = FREE;
		all[i].newer = t->free;
		t->free = i;
	}
	t->cap = cap;
	return 0;
}

/* An unused entry, or NONE. */
static uint32_t take(struct nat_table *t)
{
	uint32_t idx;

	if (t->free == NONE && t->cap < t->max && grow(t) < 0) {
		t->no_memory++;
		return NONE;
	}
	if (t->free == NONE) {
		t->evictions++;
		drop(t, t->oldest[t->n[ENDED] ? ENDED : LIVE]);
	}
	idx = t->free;
	t->free = t->all[idx].newer;
	return idx;
}

static uint32_t find(const struct nat_table *t, const struct nat_conn *c)
{
	uint32_t node;

	if (!t->nheads)
		return NONE;
	for (node = *head_of(t, &c->orig, c->family, c->transport); node != NONE;
	     node = t->all[node / WAYS].next[node % WAYS]) {
		const struct entry *e = &t->all[node / WAYS];

		if (node % WAYS == ORIG && e->c.netns == c->netns && e->c.family == c->family &&
		    e->c.transport == c->transport &&
		    memcmp(&e->c.orig, &c->orig, sizeof(c->orig)) == 0)
			return node / WAYS;
	}
	return NONE;
}

static void end(struct nat_table *t, uint32_t idx, uint64_t now_ns)
{
	struct entry *e = &t->all[idx];

	if (e->queue != LIVE)
		return;
	dequeue(t, idx);
	e->ended_ns = now_ns;
	enqueue(t, idx, ENDED);
}

int nat_put(struct nat_table *t, const struct nat_conn *c, uint64_t since_ns, uint32_t pass)
{
	enum nat_kind kind = nat_kind(c);
	uint32_t idx = find(t, c);
	struct entry *e;

	if (idx != NONE && t->all[idx].queue == LIVE &&
	    memcmp(&t->all[idx].c.reply, &c->reply, sizeof(c->reply)) == 0) {
		t->all[idx].pass = pass;
		if (since_ns) /* its end was missed */
			t->all[idx].since_ns = since_ns;
		return 0;
	}
	if (idx != NONE)
		drop(t, idx); /* another connection with the same ends */
	if (kind == NAT_NONE)
		return 0;
	idx = take(t);
	if (idx == NONE)
		return -ENOMEM;
	e = &t->all[idx];
	*e = (struct entry){.c = *c, .since_ns = since_ns, .pass = pass, .kind = kind};
	chain(t, idx);
	enqueue(t, idx, LIVE);
	return 0;
}

void nat_end(struct nat_table *t, const struct nat_conn *c, uint64_t now_ns)
{
	uint32_t idx = find(t, c);

	if (idx != NONE)
		end(t, idx, now_ns);
}

uint32_t nat_sweep(struct nat_table *t, uint32_t netns, uint32_t pass, uint64_t now_ns)
{
	uint32_t gone = 0, next;

	for (uint32_t idx = t->oldest[LIVE]; idx != NONE; idx = next) {
		const struct entry *e = &t->all[idx];

		next = e->newer;
		if (e->c.netns != netns || (int32_t)(e->pass - pass) >= 0)
			continue;
		end(t, idx, now_ns);
		gone++;
	}
	return gone;
}

uint32_t nat_old(const struct nat_table *t, uint32_t netns)
{
	uint32_t n = 0;

	for (uint32_t idx = t->oldest[LIVE]; idx != NONE; idx = t->all[idx].newer)
		n += t->all[idx].c.netns == netns && !t->all[idx].since_ns;
	return n;
}

uint32_t nat_live(const struct nat_table *t, uint32_t netns)
{
	uint32_t n = 0;

	for (uint32_t idx = t->oldest[LIVE]; idx != NONE; idx = t->all[idx].newer)
		n += t->all[idx].c.netns == netns;
	return n;
}

void nat_expire(struct nat_table *t, uint64_t now_ns)
{
	while (t->n[ENDED] && now_ns - t->all[t->oldest[ENDED]].ended_ns >= t->keep_ns)
		drop(t, t->oldest[ENDED]);
	if (t->n[ENDED] + t->n[LIVE] == 0)
		reset(t); /* gives back what a burst took */
}

void nat_get_stats(const struct nat_table *t, struct nat_stats *ret)
{
	*ret = (struct nat_stats){
		.entries = t->n[LIVE] + t->n[ENDED],
		.ended = t->n[ENDED],
		.evictions = t->evictions,
		.no_memory = t->no_memory,
	};
}

bool nat_next(const struct nat_table *t, uint32_t *pos, struct nat_view *ret)
{
	while (*pos < t->cap) {
		const struct entry *e = &t->all[(*pos)++];

		if (e->queue != LIVE)
			continue;
		*ret = (struct nat_view){.conn = &e->c, .since_ns = e->since_ns};
		return true;
	}
	return false;
}

/* 0: no answer; else the better the higher. */
static unsigned int rank(const struct nat_table *t, const struct entry *e, int way, uint32_t netns)
{
	unsigned int r = 0;

	if (!(e->kind & (way == ORIG ? NAT_DNAT : NAT_SNAT)))
		return 0;
	if (e->c.netns == netns)
		r = 4;
	else if (e->c.netns == t->host_netns)
		r = 2;
	return 1 + r + (e->queue == LIVE);
}

static const struct entry *best(const struct nat_table *t, const struct nat_tuple *socket,
				uint32_t netns, uint8_t family, uint8_t transport, int *ret_way)
{
	const struct entry *found = NULL;
	unsigned int high = 0;

	if (!t->nheads)
		return NULL;
	for (uint32_t node = *head_of(t, socket, family, transport); node != NONE;
	     node = t->all[node / WAYS].next[node % WAYS]) {
		const struct entry *e = &t->all[node / WAYS];
		int way = node % WAYS;
		unsigned int r = rank(t, e, way, netns);

		if (r <= high || e->c.family != family || e->c.transport != transport ||
		    memcmp(tuple_of(e, way), socket, sizeof(*socket)) != 0)
			continue;
		high = r;
		found = e;
		*ret_way = way;
	}
	return found;
}

/* True when something may be new since. */
static bool refill(struct nat_table *t)
{
	uint64_t now;

	if (!t->refill || t->refilling)
		return false;
	now = clock_mono_ns();
	if (now - t->refilled_ns < REFILL_NS)
		return false;
	t->refilling = true;
	t->refill(t->refill_arg);
	t->refilling = false;
	t->refilled_ns = clock_mono_ns();
	return true;
}

bool nat_lookup(struct nat_table *t, const struct nat_tuple *socket, uint32_t netns, uint8_t family,
		uint8_t transport, struct nat_peer *ret)
{
	const struct entry *e;
	int way = ORIG;

	e = best(t, socket, netns, family, transport, &way);
	/* An ended one may belong to a predecessor with the same ends. */
	if ((!e || e->queue == ENDED) && refill(t))
		e = best(t, socket, netns, family, transport, &way);
	if (!e)
		return false;
	memcpy(ret->addr, way == ORIG ? e->c.reply.src : e->c.orig.src, sizeof(ret->addr));
	ret->port = way == ORIG ? e->c.reply.sport : e->c.orig.sport;
	return true;
}
