// SPDX-License-Identifier: Apache-2.0
/* Fuzzes the cleaning of kernel bytes: the result is always valid UTF-8, within its bound, and stable. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static char out[4096 * 3 + 1], again[sizeof(out)];
	size_t cap, n, m;

	if (len < 1 || len > 4096)
		return 0;
	cap = 1 + data[0] * 16u;
	n = utf8_sanitize(out, cap, (const char *)data + 1, len - 1);
	assert(n < cap && out[n] == '\0' && strlen(out) == n && utf8_valid(out, n));

	n = utf8_sanitize(out, sizeof(out), (const char *)data + 1, len - 1);
	assert(utf8_valid(out, n));
	m = utf8_sanitize(again, sizeof(again), out, n);
	assert(m == n && memcmp(out, again, n) == 0);
	return 0;
}
