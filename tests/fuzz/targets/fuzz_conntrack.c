// SPDX-License-Identifier: Apache-2.0
/* ctnetlink messages: any octets behind a header with a true length. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/conntrack/conntrack_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nlmsghdr *h;
	struct nat_conn c;
	uint32_t status;

	if (size < sizeof(*h) || size > 65536)
		return 0;
	h = malloc(size);
	if (!h)
		abort();
	memcpy(h, data, size);
	h->nlmsg_len = (uint32_t)size;
	if (conntrack_parse(h, &c, &status) > CONNTRACK_NONE && nat_kind(&c) == NAT_NONE)
		abort();
	free(h);
	return 0;
}
