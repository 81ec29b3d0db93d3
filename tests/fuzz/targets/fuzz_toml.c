// SPDX-License-Identifier: Apache-2.0
/* Fuzzes configuration text: leaves or a clear error, nothing else. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int leaf(void *arg, const char *key, const char *text, unsigned int line, struct err *err)
{
	(void)arg;
	(void)err;
	assert(key && text && line > 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct err err = {};
	char *text;
	int r;

	if (len > 4096)
		return 0;
	text = malloc(len + 1);
	if (!text)
		return 0;
	memcpy(text, data, len);
	text[len] = '\0';
	r = toml_read_text(text, "fuzz.toml", leaf, NULL, &err);
	assert(r == 0 || (r < 0 && err.msg[0]));
	free(text);
	return 0;
}
