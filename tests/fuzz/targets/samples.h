// SPDX-License-Identifier: Apache-2.0
/* A fuzzer's octets as samples of payload, in the form in which the kernel half would send them. */
#pragma once

#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/lib/payload.h"

/*
 * Two octets of flags, two of sequence number, one of length, then the payload. Few connections and
 * small numbers, so that what belongs together meets.
 */
static inline struct payload_head *samples_next(const uint8_t **data, size_t *len, uint64_t boot_ns,
						size_t *ret_size)
{
	const uint8_t *d = *data;
	struct payload_head *h;
	size_t cap;

	if (*len < 5)
		return NULL;
	cap = d[4] < *len - 5 ? d[4] : *len - 5;
	*ret_size = sizeof(*h) + cap;
	/* To the octet, so that one read too many is seen. */
	h = calloc(1, *ret_size);
	assert(h);
	h->boot_ns = boot_ns;
	h->pid = 7;
	h->netns = 1;
	h->out = d[0] & 1;
	h->transport = d[0] & 2 ? IPPROTO_TCP : IPPROTO_UDP;
	h->family = d[0] & 4 ? 6 : 4;
	h->any_local = d[0] & 8 && !(d[0] & 2);
	h->local[0] = 1 + (d[0] >> 6);
	h->remote[0] = 9;
	h->local_port = d[0] & 16 ? 53 : 4000;
	h->remote_port = d[0] & 32 ? 5353 : 53;
	h->tcp_flags = d[1] & 7;
	h->seq = (uint32_t)(d[2] << 8 | d[3]);
	h->cap = (uint16_t)cap;
	/* More of it than the sample has, and a sample from its midst. */
	h->size = (uint32_t)cap + (d[1] & 8 ? 5000 : 0);
	h->off = d[1] & 16 ? 4096 : 0;
	memcpy(h->comm, "hostile comm ...", sizeof(h->comm));
	memcpy(h + 1, d + 5, cap);
	*data += 5 + cap;
	*len -= 5 + cap;
	return h;
}
