// SPDX-License-Identifier: Apache-2.0
/* Paths of vfs rows: what means nothing is left out, what means something stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "bpf/vfs/vfs_text.h"

static const struct {
	const char *given, *clean;
	bool cut;
} paths[] = {
	{"/", "/", false},
	{"//", "/", false},
	{"/.", "/", false},
	{"/./", "/", false},
	{"/a", "/a", false},
	{"/a/b", "/a/b", false},
	{"/a/", "/a", false},
	{"/a//b", "/a/b", false},
	{"/a/./b", "/a/b", false},
	{"/a/b/.", "/a/b", false},
	{"///a////b///", "/a/b", false},
	{"/a/../b", "/a/../b", false},
	{"/a/..", "/a/..", false},
	{"/a/..b/.c/d.", "/a/..b/.c/d.", false},
	{"/...", "/...", false},
	{"/a b/\xff", "/a b/\xff", false},
	{"/a/b", ".../a/b", true},
	{"/a//b/", ".../a/b", true},
};

static void test_clean(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		_cleanup_buf_ struct buf b = {0};
		size_t len = strlen(paths[i].given);

		vfs_path_clean(&b, paths[i].given, len, paths[i].cut);
		assert_int_equal(buf_status(&b), 0);
		assert_string_equal(b.data, paths[i].clean);
		/* What is called clean is what cleaning leaves as it was. */
		if (!paths[i].cut)
			assert_int_equal(vfs_path_is_clean(paths[i].given, len),
					 strcmp(paths[i].given, paths[i].clean) == 0);
	}
}

/* Every text of up to seven of these bytes, without a NUL behind it. */
static void test_all(void **state)
{
	static const char bytes[] = "/.a";

	(void)state;
	for (uint32_t n = 0; n < 2187; n++) {
		_cleanup_buf_ struct buf once = {0}, twice = {0};
		char text[8] = "/";

		for (uint32_t i = 1, rest = n; i < sizeof(text); i++, rest /= 3)
			text[i] = bytes[rest % 3];
		vfs_path_clean(&once, text, sizeof(text), false);
		vfs_path_clean(&twice, once.data, once.len, false);
		assert_string_equal(once.data, twice.data);
		assert_true(vfs_path_is_clean(once.data, once.len));
		assert_int_equal(vfs_path_is_clean(text, sizeof(text)),
				 once.len == sizeof(text) && !memcmp(once.data, text, once.len));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
