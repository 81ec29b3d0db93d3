// SPDX-License-Identifier: Apache-2.0
/* Fuzzes the filter in front of the redaction rules: it never keeps one from a text that it would
 * match. */
#include <assert.h>
#include <stdint.h>

#include "base/regex.h"
#include "daemon/redact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct regex *patterns[REGEX_FILTER_MAX];
static struct regex_filter *filter;
static unsigned int npatterns;

/* Once: for each input it would be all that the fuzzer does. */
static void compile(void)
{
	struct err err = {0};

	for (const struct redact_builtin *b = redact_builtins; b->name; b++)
		for (size_t i = 0; b->patterns[i]; i++)
			assert(regex_new(&patterns[npatterns++], b->patterns[i], &err) == 0);
	assert(regex_filter_new(&filter, (const struct regex *const *)patterns, npatterns, &err) ==
	       0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;
	struct regex_match m;
	uint64_t possible;

	if (!filter)
		compile();
	possible = regex_filter_find(filter, text, len);
	for (unsigned int i = 0; i < npatterns; i++)
		assert(possible >> i & 1 || !regex_find(patterns[i], text, len, 0, &m));
	return 0;
}
