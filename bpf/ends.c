// SPDX-License-Identifier: Apache-2.0
/* Names and kinds of addresses, families, transports and directions. */
#include "bpf/ends.h"

#include <assert.h>
#include <netinet/in.h>
#include <string.h>

const char *const ip_type_names[] = {"", "private", "loopback", "multicast", "other", NULL};
const char *const family_names[] = {"", "IPv4", "IPv6", NULL};
const char *const transport_names[] = {"", "tcp", "udp", "icmp", "icmp6", "raw", "sctp", NULL};
const char *const direction_names[] = {"", "outgoing", "incoming", NULL};

static_assert(sizeof(ip_type_names) / sizeof(ip_type_names[0]) == IP_TYPE_X_MAX + 1,
	      "a name for each");

uint8_t ip_type(const uint32_t addr[4], uint8_t family)
{
	const uint8_t *a = (const uint8_t *)addr;

	if (family == 6) {
		static const uint8_t one[16] = {[15] = 1};

		if ((a[0] & 0xfe) == 0xfc)
			return IP_TYPE_PRIVATE;
		if (memcmp(a, one, sizeof(one)) == 0)
			return IP_TYPE_LOOPBACK;
		return a[0] == 0xff ? IP_TYPE_MULTICAST : IP_TYPE_OTHER;
	}
	if (a[0] == 10 || (a[0] == 172 && (a[1] & 0xf0) == 16) || (a[0] == 192 && a[1] == 168))
		return IP_TYPE_PRIVATE;
	if (a[0] == 127)
		return IP_TYPE_LOOPBACK;
	return (a[0] & 0xf0) == 0xe0 ? IP_TYPE_MULTICAST : IP_TYPE_OTHER;
}

uint8_t transport_enum(uint8_t protocol)
{
	static const uint8_t protocols[] = {
		0,	     IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6,
		IPPROTO_RAW, IPPROTO_SCTP};

	static_assert(sizeof(transport_names) / sizeof(transport_names[0]) == sizeof(protocols) + 1,
		      "a protocol for each name");
	for (uint8_t i = 1; i < sizeof(protocols); i++) {
		if (protocols[i] == protocol)
			return i;
	}
	return 0;
}

void ip_addr_set(struct ip_addr *dst, const uint32_t addr[4], uint8_t family)
{
	dst->family = family;
	memcpy(dst->addr, addr, family == 4 ? 4 : 16);
}
