// SPDX-License-Identifier: Apache-2.0
/* TOML as leaves in file order; bad TOML is refused with its place. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/toml.h"

/* Every leaf as "line key=text;". */
static int gather(void *arg, const char *key, const char *text, unsigned int line, struct err *err)
{
	(void)err;
	buf_printf(arg, "%u %s=%s;", line, key, text);
	return 0;
}

static void check(const char *text, const char *want)
{
	_cleanup_buf_ struct buf b = {};
	struct err e = {};

	buf_puts(&b, "");
	if (toml_read_text(text, "t", gather, &b, &e))
		fail_msg("refused: %s", e.msg);
	assert_string_equal(b.data, want);
}

static void leaves(void **state)
{
	(void)state;
	check("", "");
	check("# only a comment\n", "");
	check("z = 1\na = 2\n", "1 z=1;2 a=2;");
	check("[store]\nmax_bytes = \"4GiB\"\n[plugins.netflow]\ninterval = '5s'\nenabled = true\n",
	      "2 store.max_bytes=4GiB;4 plugins.netflow.interval=5s;5 plugins.netflow.enabled=true;");
	check("a.b.c = -7\nx = { y = 1, k = \"v\" }\n", "1 a.b.c=-7;2 x.y=1;2 x.k=v;");
	check("f = 0.5\ng = 1e3\nh = 1_000\ni = 0xff\nj = 0.1\n", "1 f=0.5;2 g=1000;3 h=1000;4 i=255;5 j=0.1;");
	check("l = [\"a\", 2, true]\nm = []\n", "1 l=a,2,true;2 m=;");
	check("l = [\n\"a\",\n\"b\"]\nz = 1\n", "1 l=a,b;4 z=1;");
	check("d = 2026-11-21\n", "1 d=2026-11-21;");
	check("s = \"caf\xc3\xa9 \\u20ac\"\n", "1 s=caf\xc3\xa9 \xe2\x82\xac;");
}

static void refused(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"a = \n", "t:1:"}, {"ok = 1\nb = = 2\n", "t:2:"}, {"a = 1\na = 2\n", "t:2:"}, {"[x\n", "t:1:"},
		{"a = \"open\n", "t:1:"}, {"a = 1e999999\n", "t:1"}, {"a = [1, [2]]\n", "plain values"},
		{"[[p]]\na = 1\n", "plain values"}, {"a = [\"x,y\"]\n", "comma"}, {"a = \"x\\u0000y\"\n", "NUL"},
		{"a = \"\xff\"\n", "t:1"}, {"a = 99999999999999999999\n", "t:1:"}, {"= 1\n", "t:1:"}, {"\x01", "t:1:"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		_cleanup_buf_ struct buf b = {};
		struct err e = {};
		int r = toml_read_text(bad[i].text, "t", gather, &b, &e);

		if (r != -EINVAL || e.code != -EINVAL || !strstr(e.msg, bad[i].says))
			fail_msg("text %zu gave %d '%s'", i, r, e.msg);
		assert_int_equal(toml_read_text(bad[i].text, "t", gather, &b, NULL), -EINVAL);
	}
}

static void deep_nesting(void **state)
{
	_cleanup_buf_ struct buf b = {}, out = {};

	(void)state;
	buf_puts(&b, "a = ");
	for (int i = 0; i < 100000; i++)
		buf_putc(&b, '[');
	assert_int_equal(toml_read_text(b.data, "t", gather, &out, NULL), -EINVAL);
}

static int stop_at_second(void *arg, const char *key, const char *text, unsigned int line, struct err *err)
{
	int *n = arg;

	(void)text;
	if (++*n == 2)
		return err_set(err, -ENOENT, "line %u: no '%s'", line, key);
	return 0;
}

static void walk_ends(void **state)
{
	struct err e = {};
	int n = 0;

	(void)state;
	assert_int_equal(toml_read_text("a=1\nb=2\nc=3\n", "t", stop_at_second, &n, &e), -ENOENT);
	assert_int_equal(n, 2);
	assert_string_equal(e.msg, "line 2: no 'b'");
}

static void files(void **state)
{
	char dir[] = "/tmp/ringside-toml-XXXXXX", path[64];
	_cleanup_buf_ struct buf b = {};
	struct err e = {};
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/x.toml", dir);
	assert_int_equal(toml_read_file(path, gather, &b, &e), -ENOENT);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(toml_read_file(dir, gather, &b, &e), -EISDIR);

	f = fopen(path, "w");
	assert_non_null(f);
	fputs("[a]\nb = 1\n", f);
	fclose(f);
	assert_int_equal(toml_read_file(path, gather, &b, &e), 0);
	assert_string_equal(b.data, "2 a.b=1;");

	f = fopen(path, "w");
	assert_non_null(f);
	fputs("[a]\nb = \n", f);
	fclose(f);
	assert_int_equal(toml_read_file(path, gather, &b, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "x.toml:2:"));

	assert_int_equal(truncate(path, 2 << 20), 0);
	assert_int_equal(toml_read_file(path, gather, &b, &e), -EFBIG);
	assert_int_equal(unlink(path), 0);
	/* A FIFO without writer must not hold anybody up. */
	assert_int_equal(mkfifo(path, 0600), 0);
	buf_reset(&b);
	assert_int_equal(toml_read_file(path, gather, &b, &e), 0);
	assert_int_equal(b.len, 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves), cmocka_unit_test(refused), cmocka_unit_test(deep_nesting),
		cmocka_unit_test(walk_ends), cmocka_unit_test(files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
