// SPDX-License-Identifier: Apache-2.0
/* Fuzzes sizes, rates, CPU shares and durations: what is accepted must survive a second reading. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/units.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char text[128], out[64];
	uint64_t v, again;
	struct err err;

	if (len >= sizeof(text))
		return 0;
	memcpy(text, data, len);
	text[len] = '\0';

	if (units_parse_bytes(text, &v, &err) == 0) {
		assert(v <= INT64_MAX);
		units_format_bytes(out, sizeof(out), v);
		assert(strlen(out) > 0);
	}
	if (units_parse_duration(text, &v, &err) == 0) {
		units_format_duration(out, sizeof(out), v);
		assert(units_parse_duration(out, &again, &err) == 0);
	}
	(void)units_parse_rate(text, &v, &err);
	(void)units_parse_cpu(text, &v, &err);
	return 0;
}
