// SPDX-License-Identifier: Apache-2.0
/* Fuzzes batch images from another process: refused, or every cell can be read. */
#include <assert.h>
#include <stdint.h>

#include "base/utf8.h"
#include "bpf/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct fuzz_row {
	uint64_t ts;
	struct str text;
	struct ip_addr ip;
	char comm[16];
	uint8_t state;
	uint32_t n;
};

static const char *const states[] = {"one", "two", NULL};

static const struct field fields[] = {
	FIELD(fuzz_row, ts, U64, TIME, TAG, "ns", "time"),
	FIELD(fuzz_row, text, STR, TEXT, TAG, "", "text"),
	FIELD(fuzz_row, ip, IP, IP, TAG, "", "address"),
	FIELD(fuzz_row, comm, CHARS, TEXT, TAG, "", "name"),
	FIELD(fuzz_row, state, ENUM, TEXT, TAG, "", "state", .names = states),
	FIELD(fuzz_row, n, U32, INT64, GAUGE, "", "number", .null = NULL_MAX),
};

static const struct table table = TABLE(fuzz_row, LIVE, "fuzz", "rows to read", fields);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct batch *b;
	struct value v;

	if (batch_from_image(&table, data, len, &b) < 0)
		return 0;
	for (uint32_t row = 0; row < b->nrows; row++)
		for (uint32_t col = 0; col < table.nfields; col++) {
			batch_get(b, row, col, &v);
			if (v.kind == VALUE_TEXT)
				assert(utf8_valid(v.text, v.len));
		}
	batch_unref(b);
	return 0;
}
