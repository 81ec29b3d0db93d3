// SPDX-License-Identifier: Apache-2.0
/* Fuzzes what the command line prints: nothing that a terminal acts on gets through, and whatever
 * the text, it is measured and cut within its bounds. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "clients/ringside/sqltext.h"
#include "clients/ringside/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_safe(const char *s, size_t len)
{
	_cleanup_buf_ struct buf b = {0};

	text_add_safe(&b, s, len);
	assert(buf_status(&b) == 0 && (!len || b.len));
	assert(utf8_valid(b.data ? b.data : "", b.len));
	for (size_t i = 0; i < b.len; i++)
		assert((uint8_t)b.data[i] >= ' ' && b.data[i] != 0x7f);
}

static void check_machine(const char *s, size_t len)
{
	_cleanup_buf_ struct buf b = {0};

	text_add_json(&b, s, len);
	assert(b.len >= 2 && utf8_valid(b.data, b.len) && !memchr(b.data, '\n', b.len));
	buf_reset(&b);
	text_add_tsv(&b, s, len);
	assert(!memchr(b.data ? b.data : "", '\t', b.len) &&
	       !memchr(b.data ? b.data : "", '\n', b.len));
	text_add_csv(&b, s, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *s = (const char *)data;
	size_t width = text_width(s, len), took = 0, end;

	check_safe(s, len);
	check_machine(s, len);
	assert(text_prefix(s, len, width, &took) == len && took == width);
	assert(text_prefix(s, len, width / 2, &took) <= len && took <= width / 2);
	end = sql_statement_end(s, len);
	assert(end <= len && (!end || s[end - 1] == ';'));
	sql_is_blank(s, len);
	return 0;
}
