// SPDX-License-Identifier: Apache-2.0
/* What the rows of all network tables say of their two ends in the same way. */
#pragma once

#include <stdint.h>

#include "bpf/table.h"

enum ip_type {
	IP_TYPE_NONE,
	IP_TYPE_PRIVATE,
	IP_TYPE_LOOPBACK,
	IP_TYPE_MULTICAST,
	IP_TYPE_OTHER,
	IP_TYPE_X_MAX,
};

/* For REPR_ENUM fields; index 0 is "". */
extern const char *const ip_type_names[];   /* enum ip_type */
extern const char *const family_names[];    /* 1: IPv4, 2: IPv6 */
extern const char *const transport_names[]; /* as transport_enum() gives */
extern const char *const direction_names[]; /* 1: outgoing, 2: incoming */

/* RFC 1918 and 4193, then loopback, multicast, the rest: the order in which DataKit decides. family
 * 4 or 6; network order. */
uint8_t ip_type(const uint32_t addr[4], uint8_t family);
/* Of an IPPROTO_*; 0 for one that isn't named. */
uint8_t transport_enum(uint8_t protocol);
void ip_addr_set(struct ip_addr *dst, const uint32_t addr[4], uint8_t family);
