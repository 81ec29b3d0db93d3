// SPDX-License-Identifier: Apache-2.0
/* Valid stays as it is, everything else becomes valid, and nothing is split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "base/utf8.h"

#define BAD "\xef\xbf\xbd"

static void valid(void **state)
{
	static const char *const yes[] = {
		"", "a", "plain ASCII longer than a word", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xc2\x80",
		"\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf",
		"12345678\xc3\xa9zzzzzzzz",
	};
	static const char *const no[] = {
		"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe2\x82", "\xe2(\x82", "\xe0\x9f\xbf",
		"\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
		"\xfe", "\xf0\x9f\x98", "12345678\xffzzzzzzzz", "1234567\xc3",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (!utf8_valid(yes[i], strlen(yes[i])))
			fail_msg("valid text %zu was refused", i);
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		if (utf8_valid(no[i], strlen(no[i])))
			fail_msg("invalid text %zu was taken", i);
	assert_true(utf8_valid("a\0b", 3));
}

static void check(const char *src, size_t len, size_t cap, const char *want)
{
	char dst[64];
	size_t n;

	memset(dst, 'x', sizeof(dst));
	n = utf8_sanitize(dst, cap, src, len);
	assert_int_equal(n, strlen(want));
	assert_string_equal(dst, want);
	if (cap < sizeof(dst))
		assert_int_equal(dst[cap], 'x');
}

static void sanitize(void **state)
{
	(void)state;
	check("abc", 3, 64, "abc");
	check("a\xff" "b", 3, 64, "a" BAD "b");
	check("a\0b", 3, 64, "a\xe2\x90\x80" "b");
	check("\xe2\x82", 2, 64, BAD BAD);
	check("\xed\xa0\x80", 3, 64, BAD BAD BAD);
	check("\xe2\x82\xac", 3, 64, "\xe2\x82\xac");
	/* No character is split at the end of dst. */
	check("ab\xe2\x82\xac", 5, 5, "ab");
	check("ab\xe2\x82\xac", 5, 6, "ab\xe2\x82\xac");
	check("a\xff", 2, 4, "a");
	check("abc", 3, 1, "");
	check("", 0, 1, "");
}

/* Whatever comes in, what goes out is valid and fits; len * 3 + 1 always suffices. */
static void any_bytes(void **state)
{
	char src[41], dst[41 * 3 + 1];
	uint32_t x = 12345;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		size_t cap, n;

		for (size_t i = 0; i < sizeof(src); i++) {
			x = x * 1664525 + 1013904223;
			src[i] = x >> 24;
			if (x & 0x100)
				src[i] &= 0x7f;
		}
		n = utf8_sanitize(dst, sizeof(dst), src, sizeof(src));
		assert_true(n >= sizeof(src) / 4 && n < sizeof(dst));
		assert_true(utf8_valid(dst, n));
		assert_null(memchr(dst, 0, n));
		cap = 1 + x % 60;
		n = utf8_sanitize(dst, cap, src, sizeof(src));
		assert_true(n < cap && utf8_valid(dst, n));
		if (utf8_valid(src, sizeof(src)) && !memchr(src, 0, sizeof(src)))
			assert_int_equal(utf8_sanitize(dst, sizeof(dst), src, sizeof(src)), sizeof(src));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid), cmocka_unit_test(sanitize), cmocka_unit_test(any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
