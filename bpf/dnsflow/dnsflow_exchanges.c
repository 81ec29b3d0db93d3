// SPDX-License-Identifier: Apache-2.0
/* Aggregation of exchanges into the rows of one interval: entries in a row, found by an index of
 * open addressing. */
#include "bpf/dnsflow/dnsflow_priv.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"

#define FIRST 128u

static_assert(sizeof(struct exchange_key) == 80,
	      "no padding: keys are hashed and compared as bytes");

void exchanges_init(struct exchanges *t, uint32_t max)
{
	memset(t, 0, sizeof(*t));
	t->max = max;
	t->seed = hash_seed();
}

static void forget(struct exchanges *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		free(t->all[i].name);
		free(t->all[i].answers);
	}
	t->n = 0;
}

void exchanges_free(struct exchanges *t)
{
	forget(t);
	free(t->all);
	free(t->slots);
	memset(t, 0, sizeof(*t));
}

static void place(struct exchanges *t, uint32_t idx)
{
	uint32_t i = (uint32_t)t->all[idx].hash & (t->nslots - 1);

	while (t->slots[i])
		i = (i + 1) & (t->nslots - 1);
	t->slots[i] = idx + 1;
}

static bool resize(struct exchanges *t, uint32_t cap)
{
	uint32_t nslots = 2, *slots;
	struct exchange *all;

	while (nslots < cap * 2)
		nslots *= 2;
	slots = calloc(nslots, sizeof(*slots));
	if (!slots)
		return false;
	all = reallocarray(t->all, cap, sizeof(*all));
	if (!all) {
		free(slots);
		return false;
	}
	free(t->slots);
	t->slots = slots;
	t->nslots = nslots;
	t->all = all;
	t->cap = cap;
	for (uint32_t i = 0; i < t->n; i++)
		place(t, i);
	return true;
}

static bool is(const struct exchange *e, uint64_t hash, const struct exchange_key *key,
	       const char *name, size_t name_len)
{
	return e->hash == hash && memcmp(&e->key, key, sizeof(*key)) == 0 && !e->name == !name &&
	       (!name || (e->name_len == name_len && memcmp(e->name, name, name_len) == 0));
}

static struct exchange *add(struct exchanges *t, uint64_t hash, const struct exchange_key *key,
			    const char *name, size_t name_len)
{
	uint32_t cap = t->cap ? t->cap * 2 : FIRST;
	struct exchange *e;

	if (t->n >= t->max)
		return NULL;
	if (t->n == t->cap && !resize(t, cap < t->max ? cap : t->max))
		return NULL;
	e = &t->all[t->n];
	memset(e, 0, sizeof(*e));
	if (name) {
		e->name = strndup(name, name_len);
		if (!e->name)
			return NULL;
		e->name_len = (uint16_t)name_len;
	}
	e->key = *key;
	e->hash = hash;
	place(t, t->n++);
	return e;
}

struct exchange *exchanges_get(struct exchanges *t, const struct exchange_key *key,
			       const char *name, size_t name_len)
{
	uint64_t hash = hash_bytes(t->seed, key, sizeof(*key));

	if (name)
		hash = hash_bytes(hash, name, name_len);
	if (t->nslots)
		for (uint32_t i = (uint32_t)hash & (t->nslots - 1); t->slots[i];
		     i = (i + 1) & (t->nslots - 1))
			if (is(&t->all[t->slots[i] - 1], hash, key, name, name_len))
				return &t->all[t->slots[i] - 1];
	return add(t, hash, key, name, name_len);
}

void exchanges_clear(struct exchanges *t)
{
	uint32_t n = t->n;

	forget(t);
	if (t->cap > FIRST && n < t->cap / 8 && resize(t, t->cap / 2))
		return;
	if (t->slots)
		memset(t->slots, 0, t->nslots * sizeof(*t->slots));
}
