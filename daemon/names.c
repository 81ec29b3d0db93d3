// SPDX-License-Identifier: Apache-2.0
/* A hash of (namespace, address) with a list by last use. */
#include "daemon/names.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

/*
 * A connection outlives the ttl of the answer that it was made with, and its rows come at the end
 * of an interval: a name stays as long as somebody asks for it in time, though not for ever, since
 * addresses change hands.
 */
#define HOLD_NS	    (10 * 60 * NSEC_PER_SEC)
#define HOLD_MAX_NS (24 * 3600 * NSEC_PER_SEC)
#define SWEEPS	    60

struct name_key {
	struct ip_addr ip;
	uint32_t netns;
};

struct name {
	struct name *next; /* of its bucket */
	struct name *older, *newer;
	uint64_t hash;
	struct name_key key;
	uint64_t learned_ns, expires_ns, hits;
	uint8_t origin;
	char *text;
};

struct names {
	struct name **buckets;
	uint32_t nbuckets, n, max;
	uint32_t swept; /* bucket at which the sweep goes on */
	uint64_t seed;
	struct name *oldest, *newest;
	struct names_stats stats;
};

int names_new(struct names **ret, uint32_t max)
{
	struct names *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->max = max;
	n->seed = hash_seed();
	n->nbuckets = 64;
	while (n->nbuckets < max)
		n->nbuckets *= 2;
	n->buckets = calloc(n->nbuckets, sizeof(struct name *));
	if (!n->buckets) {
		free(n);
		return -ENOMEM;
	}
	*ret = n;
	return 0;
}

static void unlink_name(struct names *n, struct name *e)
{
	*(e->older ? &e->older->newer : &n->oldest) = e->newer;
	*(e->newer ? &e->newer->older : &n->newest) = e->older;
}

static void link_name(struct names *n, struct name *e)
{
	e->older = n->newest;
	e->newer = NULL;
	*(n->newest ? &n->newest->newer : &n->oldest) = e;
	n->newest = e;
}

static void drop(struct names *n, struct name *e)
{
	struct name **at = &n->buckets[e->hash & (n->nbuckets - 1)];

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	unlink_name(n, e);
	free(e->text);
	free(e);
	n->n--;
}

void names_free(struct names *n)
{
	if (!n)
		return;
	while (n->oldest)
		drop(n, n->oldest);
	free(n->buckets);
	free(n);
}

static struct name_key key_of(uint32_t netns, const struct ip_addr *ip)
{
	struct name_key key = {.netns = netns};

	key.ip.family = ip->family;
	memcpy(key.ip.addr, ip->addr, ip->family == 4 ? 4 : 16);
	return key;
}

static struct name *find(const struct names *n, const struct name_key *key, uint64_t hash)
{
	for (struct name *e = n->buckets[hash & (n->nbuckets - 1)]; e; e = e->next)
		if (e->hash == hash && memcmp(&e->key, key, sizeof(*key)) == 0)
			return e;
	return NULL;
}

static struct name *add(struct names *n, const struct name_key *key, uint64_t hash, char *text)
{
	struct name *e, **at = &n->buckets[hash & (n->nbuckets - 1)];

	if (n->n >= n->max) {
		n->stats.evicted++;
		drop(n, n->oldest);
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->key = *key;
	e->hash = hash;
	e->text = text;
	e->next = *at;
	*at = e;
	link_name(n, e);
	n->n++;
	return e;
}

static uint64_t hold(uint64_t ttl_ns)
{
	if (ttl_ns < HOLD_NS)
		return HOLD_NS;
	return ttl_ns < HOLD_MAX_NS ? ttl_ns : HOLD_MAX_NS;
}

/* "0.0.0.0" and "::" are how block lists answer; they are nobody's address. */
static bool is_address(const struct ip_addr *ip)
{
	static const uint8_t none[16];

	return (ip->family == 4 || ip->family == 6) &&
	       memcmp(ip->addr, none, ip->family == 4 ? 4 : 16) != 0;
}

/* The entry with that text, or NULL (counted). */
static struct name *put_text(struct names *n, const struct name_key *key, uint64_t hash,
			     const char *text)
{
	struct name *e = find(n, key, hash);
	char *copy;

	if (e && strcmp(e->text, text) == 0) {
		n->stats.renewed++;
		unlink_name(n, e);
		link_name(n, e);
		return e;
	}
	copy = strdup(text);
	if (!copy) {
		n->stats.no_memory++;
		return NULL;
	}
	if (e) {
		n->stats.replaced++;
		free(e->text);
		e->text = copy;
		unlink_name(n, e);
		link_name(n, e);
		return e;
	}
	e = add(n, key, hash, copy);
	if (e) {
		n->stats.learned++;
	} else {
		n->stats.no_memory++;
		free(copy);
	}
	return e;
}

void names_learn(struct names *n, uint32_t netns, const struct ip_addr *ip, const char *name,
		 enum domain_origin origin, uint64_t ttl_ns, uint64_t now_ns)
{
	struct name_key key;
	struct name *e;

	if (!is_address(ip) || !*name || strlen(name) > NAMES_TEXT_MAX) {
		n->stats.refused++;
		return;
	}
	key = key_of(netns, ip);
	e = put_text(n, &key, hash_bytes(n->seed, &key, sizeof(key)), name);
	if (!e)
		return;
	e->origin = (uint8_t)origin;
	e->learned_ns = now_ns;
	e->expires_ns = now_ns + hold(ttl_ns);
}

const char *names_find(struct names *n, uint32_t netns, const struct ip_addr *ip,
		       enum domain_origin *origin, uint64_t now_ns)
{
	struct name_key key = key_of(netns, ip);
	struct name *e = find(n, &key, hash_bytes(n->seed, &key, sizeof(key)));

	*origin = DOMAIN_NONE;
	if (e && e->expires_ns <= now_ns) {
		n->stats.expired++;
		drop(n, e);
		e = NULL;
	}
	if (!e) {
		n->stats.misses++;
		return "";
	}
	n->stats.hits++;
	e->hits++;
	if (e->expires_ns < now_ns + HOLD_NS && now_ns + HOLD_NS <= e->learned_ns + HOLD_MAX_NS)
		e->expires_ns = now_ns + HOLD_NS;
	unlink_name(n, e);
	link_name(n, e);
	*origin = e->origin;
	return e->text;
}

void names_second(struct names *n, uint64_t now_ns)
{
	uint32_t part = n->nbuckets / SWEEPS + 1;

	for (uint32_t i = 0; i < part && n->n; i++) {
		struct name *next;

		for (struct name *e = n->buckets[n->swept]; e; e = next) {
			next = e->next;
			if (e->expires_ns <= now_ns) {
				n->stats.expired++;
				drop(n, e);
			}
		}
		n->swept = (n->swept + 1) & (n->nbuckets - 1);
	}
}

void names_get_stats(const struct names *n, struct names_stats *ret)
{
	*ret = n->stats;
	ret->entries = n->n;
}

int names_each(const struct names *n, uint64_t now_ns,
	       int (*fn)(void *arg, const struct name_view *v), void *arg)
{
	for (const struct name *e = n->newest; e; e = e->older) {
		const struct name_view v = {
			.ip = e->key.ip,
			.name = e->text,
			.learned_ns = e->learned_ns,
			.expires_ns = e->expires_ns,
			.hits = e->hits,
			.netns = e->key.netns,
			.origin = e->origin,
		};
		int r;

		if (e->expires_ns <= now_ns)
			continue;
		r = fn(arg, &v);
		if (r < 0)
			return r;
	}
	return 0;
}
