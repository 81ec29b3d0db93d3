// SPDX-License-Identifier: Apache-2.0
/* Hashing of keys that strangers choose: multiply and fold, as wyhash does, from a seed that they
 * don't know. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

/* Without entropy yet (early boot) the address of a stack variable must do. */
static inline uint64_t hash_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = (uint64_t)(uintptr_t)&seed;
	return seed;
}

static inline uint64_t hash_u64(uint64_t seed, uint64_t v)
{
	__uint128_t m = (__uint128_t)(seed ^ v ^ 0xe7037ed1a0b428dbull) * 0xa0761d6478bd642full;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t hash_bytes(uint64_t seed, const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = hash_u64(seed, len), w;

	for (; len >= sizeof(w); p += sizeof(w), len -= sizeof(w)) {
		memcpy(&w, p, sizeof(w));
		h = hash_u64(h, w);
	}
	w = 0;
	memcpy(&w, p, len);
	return hash_u64(h, w);
}
