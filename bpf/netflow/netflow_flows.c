// SPDX-License-Identifier: Apache-2.0
/* Aggregation of connections into the flows of one interval. */
#include "bpf/netflow/netflow_priv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define FLOWS_FIRST 256u

static_assert(sizeof(struct flow_key) == 96, "no padding: keys are hashed and compared as bytes");

int flows_init(struct flows *f, uint32_t max)
{
	memset(f, 0, sizeof(*f));
	f->max = max;
	if (getrandom(&f->seed, sizeof(f->seed), GRND_NONBLOCK) != sizeof(f->seed))
		return -errno;
	return 0;
}

void flows_free(struct flows *f)
{
	free(f->all);
	free(f->slots);
	memset(f, 0, sizeof(*f));
}

/* Multiply and fold, as wyhash does: twelve words. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	__uint128_t m = (__uint128_t)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t key_hash(uint64_t seed, const struct flow_key *key)
{
	uint64_t w[sizeof(*key) / 8], h = seed;

	memcpy(w, key, sizeof(w));
	for (size_t i = 0; i < sizeof(w) / sizeof(w[0]); i++)
		h = mix(h ^ w[i], 0xa0761d6478bd642full + i * 2);
	return h;
}

static void index_put(struct flows *f, uint32_t idx)
{
	uint32_t i = (uint32_t)f->all[idx].hash & (f->nslots - 1);

	while (f->slots[i])
		i = (i + 1) & (f->nslots - 1);
	f->slots[i] = idx + 1;
}

/* Room for cap flows; -ENOMEM leaves all as it is. */
static int flows_resize(struct flows *f, uint32_t cap)
{
	uint32_t nslots = 2, *slots;
	struct flow *all;

	while (nslots < cap * 2)
		nslots *= 2;
	slots = calloc(nslots, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	all = reallocarray(f->all, cap, sizeof(*all));
	if (!all) {
		free(slots);
		return -ENOMEM;
	}
	free(f->slots);
	f->slots = slots;
	f->nslots = nslots;
	f->all = all;
	f->cap = cap;
	for (uint32_t i = 0; i < f->n; i++)
		index_put(f, i);
	return 0;
}

static int flows_grow(struct flows *f)
{
	uint32_t cap = f->cap ? f->cap * 2 : FLOWS_FIRST;

	if (f->n >= f->max)
		return -ENOBUFS;
	return flows_resize(f, cap < f->max ? cap : f->max);
}

struct flow *flows_get(struct flows *f, const struct flow_key *key)
{
	uint64_t hash = key_hash(f->seed, key);
	struct flow *e;

	if (f->nslots)
		for (uint32_t i = (uint32_t)hash & (f->nslots - 1); f->slots[i];
		     i = (i + 1) & (f->nslots - 1)) {
			e = &f->all[f->slots[i] - 1];
			if (e->hash == hash && memcmp(&e->key, key, sizeof(*key)) == 0)
				return e;
		}
	if (f->n == f->cap && flows_grow(f) < 0)
		return NULL;
	e = &f->all[f->n];
	memset(e, 0, sizeof(*e));
	e->key = *key;
	e->hash = hash;
	index_put(f, f->n++);
	return e;
}

void flows_clear(struct flows *f)
{
	uint32_t n = f->n;

	f->n = 0;
	if (f->cap > FLOWS_FIRST && n < f->cap / 8 && flows_resize(f, f->cap / 2) == 0)
		return;
	if (f->slots)
		memset(f->slots, 0, f->nslots * sizeof(*f->slots));
}
