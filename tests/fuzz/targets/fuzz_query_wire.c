// SPDX-License-Identifier: Apache-2.0
/* Fuzzes the frames between query engine and worker, in both roles. */
#include <assert.h>
#include <stdint.h>

#include "base/utf8.h"
#include "store/query_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct wire w = {.p = data, .end = data + len};
	struct value v;

	/* Request frames come from the trusted side; values and strings from the untrusted one. */
	while (w.p < w.end && !w.bad) {
		if (wire_get_u8(&w) & 1) {
			const char *s = wire_get_str(&w, QUERY_MAX_NAME);

			assert(s);
		} else {
			wire_get_value(&w, &v);
			if (!w.bad && v.kind == VALUE_TEXT)
				assert(utf8_valid(v.text, v.len));
		}
	}
	return 0;
}
