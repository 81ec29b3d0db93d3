// SPDX-License-Identifier: Apache-2.0
/* The words that patterns need: a text without them is spared, one that matches never. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "base/regex.h"
#include "daemon/redact.h"

/* Built-in ones, and others that are hard to find words in. */
static unsigned int all_patterns(struct regex *ret[static REGEX_FILTER_MAX])
{
	static const char *const others[] = {
		"EMP-[0-9]{6}",	     "[0-9]{9}",	"x*",	       "^$",
		"(?i)stra\303\237e", "(?i)\\x{212a}ey", "\\x{130}tem", "(?i)so(ap|up)",
		"(?s)ab.*yz",	     "\\bfoo\\b|bar",	"[A-C]{3}",    "(?:one|two)(?:three|four)+",
	};
	struct err err = {0};
	unsigned int n = 0;

	for (const struct redact_builtin *b = redact_builtins; b->name; b++)
		for (size_t i = 0; b->patterns[i]; i++)
			assert_int_equal(regex_new(&ret[n++], b->patterns[i], &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_int_equal(regex_new(&ret[n++], others[i], &err), 0);
	return n;
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* Pieces of what patterns look for, in any case, cut, doubled, between what they don't. */
static size_t random_text(char *dst, size_t cap, uint32_t *seed)
{
	/* clang-format off */
	static const char *const pieces[] = {
		"password", "passwd", "PASS", "db_pwd", "passphrase", "token", "secret", "api_key",
		"api-key", "private", "_key", "credentials", "authorization", "proxy-", "x-api-key",
		"set-cookie", "bearer ", "basic ", "ghp_0123456789abcdefghijklmn", "glpat-",
		"xoxb-0123456789", "sk-01234567890123456789", "eyJhbGciOiJI.", "AKIA",
		"IOSFODNN7EXAMPLE", "://", "bob:", "@host", "-u ", "--user", "mysql ", "-psecret",
		"sshpass ", "-p ", "-----BEGIN ", "RSA PRIVATE KEY-----", "-----END", "=", ":",
		"=\"", "'", "\"", "\\", " ", " ", "--", "/", "x", "EMP-12", "123456", "stra",
		"\303\237", "\341\272\236", "ss", "\342\204\252ey", "key", "\304\260tem",
		"item", "\305\277oap", "soup", "ab", "yz", "foo", "bar", "ABC", "one", "three",
		"\n", "\xff", "ls -la /usr/lib", "http", "curl ",
	};
	/* clang-format on */
	unsigned int n = 1 + next_random(seed) % 7;
	size_t len = 0;

	while (n--) {
		const char *piece = pieces[next_random(seed) % ARRAY_SIZE(pieces)];
		uint32_t how = next_random(seed) % 8;

		for (size_t i = how == 0; piece[i] && len < cap; i++)
			dst[len++] = (char)(how == 1   ? toupper((unsigned char)piece[i])
					    : how == 2 ? tolower((unsigned char)piece[i])
						       : piece[i]);
	}
	return len;
}

/* No pattern is kept from a text that it has something for, and most are from those without. */
static void test_filter(void **state)
{
	struct regex *patterns[REGEX_FILTER_MAX];
	unsigned int n = all_patterns(patterns), found = 0, spared = 0;
	_cleanup_(regex_filter_freep) struct regex_filter *f = NULL;
	uint32_t seed = 1;
	struct err err = {0};

	(void)state;
	assert_int_equal(regex_filter_new(&f, (const struct regex *const *)patterns, n, &err), 0);
	for (int i = 0; i < 20000; i++) {
		char text[256];
		size_t len = random_text(text, sizeof(text), &seed);
		uint64_t possible = regex_filter_find(f, text, len);
		struct regex_match m;

		for (unsigned int k = 0; k < n; k++) {
			bool match = regex_find(patterns[k], text, len, 0, &m);

			if (match && !(possible >> k & 1))
				fail_msg("pattern %u was kept from \"%.*s\"", k, (int)len, text);
			found += match;
			spared += !(possible >> k & 1);
		}
	}
	assert_true(found > 20000);
	assert_true(spared > 20000 * n / 2);
	for (unsigned int k = 0; k < n; k++)
		regex_free(patterns[k]);
}

static void test_filter_plain(void **state)
{
	static const char *const plain[] = {"ls -la /usr/lib", "rs-bench-true one two",
					    "/usr/bin/python3 -m http.server", ""};
	struct regex *patterns[REGEX_FILTER_MAX];
	_cleanup_(regex_filter_freep) struct regex_filter *f = NULL;
	struct err err = {0};
	unsigned int n = 0;

	(void)state;
	for (const struct redact_builtin *b = redact_builtins; b->name; b++)
		for (size_t i = 0; b->patterns[i]; i++)
			assert_int_equal(regex_new(&patterns[n++], b->patterns[i], &err), 0);
	assert_int_equal(regex_filter_new(&f, (const struct regex *const *)patterns, n, &err), 0);
	/* Each of ours has a word. */
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		assert_int_equal(regex_filter_find(f, plain[i], strlen(plain[i])), 0);
	assert_int_not_equal(regex_filter_find(f, "caf\xc3\xa9", 5), 0);
	for (unsigned int k = 0; k < n; k++)
		regex_free(patterns[k]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_filter_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
