// SPDX-License-Identifier: Apache-2.0
/* Fuzzes the ClientHello decoder: names stay in their bounds and printable; more octets never turn
 * a hello into none. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "bpf/decode/tls_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct tls_hello h, part;
	int r = tls_hello_parse(data, len, &h), q;

	if (r == -EINVAL)
		return 0;
	assert(r == 0 || r == -EAGAIN);
	assert(memchr(h.server_name, 0, sizeof(h.server_name)) &&
	       memchr(h.alpn, 0, sizeof(h.alpn)));
	for (const char *p = h.server_name; *p; p++)
		assert(*p > ' ' && *p < 0x7f);
	q = tls_hello_parse(data, len / 2, &part);
	assert(q == 0 || q == -EAGAIN);
	return 0;
}
