// SPDX-License-Identifier: Apache-2.0
/* Texts of exec rows: paths, quoting, characters cut in half, variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "bpf/exec/exec_text.h"

/* The bytes of a literal without the NUL that the compiler adds. */
#define BYTES(s) s, sizeof(s) - 1

static void path(const char *want, const char *from, size_t len, bool cut)
{
	_cleanup_buf_ struct buf b = {0};

	exec_path_add(&b, from, len, cut);
	assert_string_equal(b.data, want);
}

static void args(const char *want, const char *from, size_t len, bool cut)
{
	_cleanup_buf_ struct buf b = {0};

	exec_args_add(&b, from, len, cut);
	assert_string_equal(b.data ? b.data : "", want);
}

static void env(const char *want, const char *from, size_t len, const char *name)
{
	_cleanup_buf_ struct buf b = {0};

	exec_env_add(&b, from, len, name);
	assert_string_equal(b.data ? b.data : "", want);
}

static void test_paths(void **state)
{
	(void)state;
	path("/usr/bin/ls", BYTES("ls\0bin\0usr\0"), false);
	path("/", "", 0, false);
	path("/memfd:x", BYTES("memfd:x\0"), false);
	path(".../bin/ls", BYTES("ls\0bin\0"), true);
	path(".../", "", 0, true);
	path("/a b\n", BYTES("a b\n\0"), false);
	path("//", BYTES("\0\0"), false);
}

static void test_quoting(void **state)
{
	(void)state;
	args("", "", 0, false);
	args("ls -la /tmp", BYTES("ls\0-la\0/tmp\0"), false);
	args("sh -c 'echo '\\''a'\\'' | wc'", BYTES("sh\0-c\0echo 'a' | wc\0"), false);
	args("x '' '' end", BYTES("x\0\0\0end\0"), false);
	args("a=b '$HOME' '*' '~' 'a\nb'", BYTES("a=b\0$HOME\0*\0~\0a\nb\0"), false);
	args("caf\xc3\xa9 \xff\xfe", BYTES("caf\xc3\xa9\0\xff\xfe\0"), false);
	args("no-nul", BYTES("no-nul"), false);
}

static void test_cut(void **state)
{
	(void)state;
	args("x ab", BYTES("x\0ab\xc3"), true);
	args("x ab\xc3\xa9", BYTES("x\0ab\xc3\xa9"), true);
	args("x ab", BYTES("x\0ab\xf0\x9f\x98"), true);
	args("x \xbf\xbf\xbf\xbf\xbf", BYTES("x\0\xbf\xbf\xbf\xbf\xbf"), true);
	args("x ''", BYTES("x\0\xe2\x82"), true);
	/* Whole, though others are cut off behind it. */
	args("x \xe2\x82", BYTES("x\0\xe2\x82\0"), true);
}

static void test_env(void **state)
{
	(void)state;
	env("LANG=C", BYTES("HOME=/root\0LANG=C\0"), "LANG");
	env("'A=b c'", BYTES("A=b c\0"), "A");
	env("A=1", BYTES("A=1\0A=2\0"), "A");
	env("A=", BYTES("A=\0"), "A");
	env("", BYTES("LANGUAGE=de\0LAN=x\0"), "LANG");
	env("", BYTES("LANG\0"), "LANG");
	env("", BYTES("LANG=cut o"), "LANG");
	env("", "", 0, "LANG");
}

static void test_ancestry(void **state)
{
	struct exec_ancestor chain[EXEC_ANCESTORS] = {
		{1204, "bash"}, {811, "sshd"}, {1, "systemd"}};
	_cleanup_buf_ struct buf b = {0};

	(void)state;
	exec_ancestry_add(&b, chain, 0);
	assert_int_equal(b.len, 0);
	exec_ancestry_add(&b, chain, 3);
	assert_string_equal(b.data, "systemd(1)/sshd(811)/bash(1204)");
	buf_reset(&b);
	/* As many as are told of: there may be more, unless the last is the first process. */
	for (size_t i = 0; i < EXEC_ANCESTORS; i++)
		chain[i] = (struct exec_ancestor){(unsigned int)(20 - i), "sixteen bytes! x"};
	exec_ancestry_add(&b, chain, EXEC_ANCESTORS);
	assert_memory_equal(b.data, ".../sixteen bytes! x(11)/", 25);
	buf_reset(&b);
	chain[EXEC_ANCESTORS - 1].pid = 1;
	exec_ancestry_add(&b, chain, EXEC_ANCESTORS);
	assert_memory_equal(b.data, "sixteen bytes! x(1)/", 20);
}

static void test_capabilities(void **state)
{
	static const struct {
		uint64_t caps;
		const char *text;
	} cases[] = {
		{0, ""},
		{1, "cap_chown"},
		{1ull << 40 | 1 << 21 | 1 << 5, "cap_kill,cap_sys_admin,cap_checkpoint_restore"},
		{1ull << 41, "cap_41"},
		{1ull << 63, "cap_63"},
		{(1ull << 38) - 1, "all"}, /* Linux 5.8 */
		{(1ull << 41) - 1, "all"}, /* since 5.9 */
		{(1ull << 42) - 1, "all"}, /* one that isn't known yet */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf b = {0};

		exec_caps_add(&b, cases[i].caps);
		assert_string_equal(b.data ? b.data : "", cases[i].text);
	}
	/* One of the newer ones is missing: each is named. */
	for (int gone = 0; gone < 40; gone++) {
		_cleanup_buf_ struct buf b = {0};

		exec_caps_add(&b, ((1ull << 41) - 1) & ~(1ull << gone));
		assert_memory_equal(b.data, "cap_", 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),	 cmocka_unit_test(test_quoting),
		cmocka_unit_test(test_ancestry), cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_cut),	 cmocka_unit_test(test_env),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
