// SPDX-License-Identifier: Apache-2.0
/* Names that led to addresses, by network namespace: learned from DNS answers and TLS handshakes,
 * never guessed. Loop thread only. */
#pragma once

#include <stdint.h>

#include "bpf/plugin.h"

/*
 * Addresses held at a time; the least recently used goes. A host talks to thousands of addresses,
 * crawlers and resolvers to more: these keep what they use. About 160 bytes each.
 */
#define NAMES_MAX 16384
/* Longer ones are legal only with escapes in them, and nobody's host name. */
#define NAMES_TEXT_MAX 255

struct names;

int names_new(struct names **ret, uint32_t max);
void names_free(struct names *n);

/* now_ns: boot time, here and below. The newest name of an address takes the place of the one
 * before. */
void names_learn(struct names *n, uint32_t netns, const struct ip_addr *ip, const char *name,
		 enum domain_origin origin, uint64_t ttl_ns, uint64_t now_ns);
/* "" if there is none; else valid until the next names_learn(). */
const char *names_find(struct names *n, uint32_t netns, const struct ip_addr *ip,
		       enum domain_origin *origin, uint64_t now_ns);
/* Drops a part of what has expired: called each second, it sees everything once a minute. */
void names_second(struct names *n, uint64_t now_ns);

struct names_stats {
	uint64_t entries;
	uint64_t learned, renewed, replaced;
	uint64_t evicted, expired, refused, no_memory;
	uint64_t hits, misses;
};

void names_get_stats(const struct names *n, struct names_stats *ret);

/* Each name once, the most recently used first; stops at the first negative result and returns it.
 */
struct name_view {
	struct ip_addr ip;
	const char *name;
	uint64_t learned_ns, expires_ns, hits;
	uint32_t netns;
	uint8_t origin;
};

int names_each(const struct names *n, uint64_t now_ns,
	       int (*fn)(void *arg, const struct name_view *v), void *arg);
