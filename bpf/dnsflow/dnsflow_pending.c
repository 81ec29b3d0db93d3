// SPDX-License-Identifier: Apache-2.0
/* Queries that wait for their answer: a bounded hash, and a list in the order in which they were
 * asked. */
#include "bpf/dnsflow/dnsflow_priv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/hash.h"

/* It grows with what waits, and stays in the cache: nearly always that are a few. */
#define FIRST 64u

static_assert(sizeof(struct query_key) == 48, "no padding: keys are hashed and compared as bytes");

int pending_init(struct pending *p, uint32_t max)
{
	memset(p, 0, sizeof(*p));
	p->max = max;
	p->seed = hash_seed();
	p->nbuckets = FIRST;
	p->buckets = calloc(p->nbuckets, sizeof(*p->buckets));
	return p->buckets ? 0 : -ENOMEM;
}

void pending_free(struct pending *p)
{
	for (struct query *q = p->oldest, *newer; q; q = newer) {
		newer = q->newer;
		free(q);
	}
	free(p->buckets);
	memset(p, 0, sizeof(*p));
}

uint64_t pending_hash(const struct pending *p, const struct query_key *key)
{
	return hash_bytes(p->seed, key, sizeof(*key));
}

static struct query **bucket(const struct pending *p, uint64_t hash)
{
	return &p->buckets[hash & (p->nbuckets - 1)];
}

/* Without memory the chains get longer. */
static void grow(struct pending *p)
{
	struct query **buckets = calloc(p->nbuckets * 2, sizeof(*buckets));

	if (!buckets)
		return;
	free(p->buckets);
	p->buckets = buckets;
	p->nbuckets *= 2;
	for (struct query *q = p->oldest; q; q = q->newer) {
		q->next = *bucket(p, q->hash);
		*bucket(p, q->hash) = q;
	}
}

struct query *pending_find(const struct pending *p, uint64_t hash, const struct query_key *key,
			   uint16_t type, const char *name, size_t name_len)
{
	for (struct query *q = *bucket(p, hash); q; q = q->next) {
		if (q->hash != hash || memcmp(&q->key, key, sizeof(*key)) != 0)
			continue;
		if (!name || (q->type == type && q->name_len == name_len &&
			      memcmp(q->name, name, name_len) == 0))
			return q;
	}
	return NULL;
}

struct query *pending_add(struct pending *p, uint64_t hash, const struct query_key *key,
			  uint16_t type, const char *name, size_t name_len)
{
	struct query *q;

	if (p->n >= p->max)
		return NULL;
	if (p->n >= p->nbuckets)
		grow(p);
	q = malloc(sizeof(*q) + name_len + 1);
	if (!q)
		return NULL;
	memset(q, 0, sizeof(*q));
	q->hash = hash;
	q->key = *key;
	q->type = type;
	q->name_len = (uint16_t)name_len;
	memcpy(q->name, name, name_len);
	q->name[name_len] = '\0';
	q->next = *bucket(p, hash);
	*bucket(p, hash) = q;
	q->older = p->newest;
	if (p->newest)
		p->newest->newer = q;
	else
		p->oldest = q;
	p->newest = q;
	p->n++;
	return q;
}

void pending_del(struct pending *p, struct query *q)
{
	struct query **at = bucket(p, q->hash);

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	*(q->older ? &q->older->newer : &p->oldest) = q->newer;
	*(q->newer ? &q->newer->older : &p->newest) = q->older;
	p->n--;
	free(q);
}
