// SPDX-License-Identifier: Apache-2.0
/* Open addressing over keys in one byte arena; grows by doubling up to its bounds. */
#include "store/dict.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "bpf/batch.h"

static_assert(DICT_MAX_LEN <= UINT16_MAX, "the length of a key");

static uint64_t mix(uint64_t h, uint64_t v)
{
	/* The odd constant of splitmix64; folding the high half back keeps low bits good for the
	 * mask. */
	__uint128_t m = (__uint128_t)(h ^ v) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint32_t key_hash(uint64_t seed, enum dict_kind kind, const void *p, uint32_t len)
{
	const char *s = p;
	uint64_t h = mix(seed, (uint64_t)len << 8 | kind), v;

	for (; len >= 8; len -= 8, s += 8) {
		memcpy(&v, s, 8);
		h = mix(h, v);
	}
	if (len) {
		v = 0;
		memcpy(&v, s, len);
		h = mix(h, v);
	}
	return (uint32_t)(h ^ h >> 32);
}

void dict_free(struct dict *d)
{
	free(d->keys);
	free(d->slots);
	free(d->bytes);
	*d = (struct dict){};
}

void dict_reset(struct dict *d)
{
	d->nkeys = d->nbytes = d->saved = d->last_id = 0;
	d->generation++;
	if (d->slots)
		memset(d->slots, 0, d->slots_cap * sizeof(*d->slots));
	memset(d->seen, 0, sizeof(d->seen));
	/* Without entropy at early boot the clock has to do: only speed is at stake. */
	if (getrandom(&d->seed, sizeof(d->seed), GRND_NONBLOCK) != (ssize_t)sizeof(d->seed))
		d->seed = clock_mono_ns() * UINT64_C(0x9e3779b97f4a7c15);
}

static void slot_put(struct dict_slot *slots, uint32_t cap, uint32_t hash, uint32_t key)
{
	uint32_t i = hash & (cap - 1);

	while (slots[i].key)
		i = (i + 1) & (cap - 1);
	slots[i] = (struct dict_slot){hash, key};
}

static int grow_slots(struct dict *d)
{
	uint32_t cap = d->slots_cap ? d->slots_cap * 2 : 2048;
	struct dict_slot *slots = calloc(cap, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->slots_cap; i++)
		if (d->slots[i].key)
			slot_put(slots, cap, d->slots[i].hash, d->slots[i].key);
	free(d->slots);
	d->slots = slots;
	d->slots_cap = cap;
	return 0;
}

static int grow(void **p, uint32_t *cap, uint32_t need, uint32_t first, size_t size)
{
	uint32_t more = *cap ? *cap : first;
	void *q;

	if (need <= *cap)
		return 0;
	while (more < need)
		more *= 2;
	q = realloc(*p, more * size);
	if (!q)
		return -ENOMEM;
	*p = q;
	*cap = more;
	return 0;
}

static int dict_add(struct dict *d, enum dict_kind kind, const void *key, uint32_t len,
		    uint32_t hash, uint32_t id)
{
	if (d->nkeys == DICT_MAX_STRINGS || len > DICT_MAX_LEN || d->nbytes + len > DICT_MAX_BYTES)
		return -ENOSPC;
	if (grow((void **)&d->keys, &d->keys_cap, d->nkeys + 1, 1024, sizeof(*d->keys)) < 0 ||
	    grow((void **)&d->bytes, &d->bytes_cap, d->nbytes + len, 16384, 1) < 0)
		return -ENOMEM;
	if ((d->nkeys + 1) * 2 > d->slots_cap && grow_slots(d) < 0)
		return -ENOMEM;
	if (len)
		memcpy(d->bytes + d->nbytes, key, len);
	d->keys[d->nkeys++] =
		(struct dict_key){.id = id, .off = d->nbytes, .len = (uint16_t)len, .kind = kind};
	d->nbytes += len;
	slot_put(d->slots, d->slots_cap, hash, d->nkeys);
	return 0;
}

static bool came_before(struct dict *d, uint32_t hash)
{
	uint32_t *seen = &d->seen[hash & (DICT_SEEN - 1)];
	bool yes = *seen == hash;

	*seen = hash;
	return yes;
}

static uint32_t dict_id(struct dict *d, enum dict_kind kind, const void *key, uint32_t len)
{
	uint32_t hash = key_hash(d->seed, kind, key, len);

	for (uint32_t i = hash; d->slots_cap; i++) {
		const struct dict_slot *slot = &d->slots[i & (d->slots_cap - 1)];
		const struct dict_key *k;

		if (!slot->key)
			break;
		if (slot->hash != hash)
			continue;
		k = &d->keys[slot->key - 1];
		if (k->len == len && k->kind == kind &&
		    (!len || !memcmp(d->bytes + k->off, key, len)))
			return k->id;
	}
	if (len > DICT_ONCE_LEN && !came_before(d, hash))
		return 0;
	if (dict_add(d, kind, key, len, hash, d->last_id + 1) < 0) {
		d->full++;
		return 0;
	}
	return ++d->last_id;
}

uint32_t dict_text(struct dict *d, const char *s, uint32_t len)
{
	if (len > DICT_MAX_LEN)
		return 0;
	return dict_id(d, DICT_TEXT, s, len);
}

uint32_t dict_ip(struct dict *d, const struct ip_addr *ip)
{
	return ip->family == 4 ? dict_id(d, DICT_IP4, ip->addr, 4)
			       : dict_id(d, DICT_IP6, ip->addr, 16);
}

int dict_load(struct dict *d, uint32_t id, const char *s, uint32_t len)
{
	enum dict_kind kind = DICT_TEXT;
	char text[INET6_ADDRSTRLEN];
	uint8_t addr[16];
	const void *key = s;

	if (id <= d->last_id || len > DICT_MAX_LEN)
		return -EINVAL;
	if (len < sizeof(text)) {
		memcpy(text, s, len);
		text[len] = '\0';
		if (inet_pton(AF_INET, text, addr) == 1) {
			kind = DICT_IP4;
			key = addr;
			len = 4;
		} else if (inet_pton(AF_INET6, text, addr) == 1) {
			kind = DICT_IP6;
			key = addr;
			len = 16;
		}
	}
	int r = dict_add(d, kind, key, len, key_hash(d->seed, kind, key, len), id);

	if (r < 0)
		return r;
	d->last_id = id;
	d->saved = d->nkeys;
	return 0;
}

const char *dict_key_text(const struct dict *d, uint32_t idx, char *scratch, uint32_t cap,
			  uint32_t *ret_len)
{
	const struct dict_key *k = &d->keys[idx];
	const char *s = d->bytes + k->off;
	struct ip_addr ip = {.family = k->kind == DICT_IP4 ? 4 : 6};

	if (k->kind != DICT_TEXT) {
		memcpy(ip.addr, s, k->len);
		ip_addr_format(scratch, &ip);
		*ret_len = (uint32_t)strlen(scratch);
		return scratch;
	}
	if (utf8_valid(s, k->len)) {
		*ret_len = k->len;
		return s;
	}
	*ret_len = (uint32_t)utf8_sanitize(scratch, cap, s, k->len);
	return scratch;
}
