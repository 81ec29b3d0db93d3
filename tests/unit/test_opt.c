// SPDX-License-Identifier: Apache-2.0
/* Options: every type, bounds, precedence of origins, the environment, and what a wrong key or text is told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/opt.h"

static const char *const colours[] = {"red", "green", "blue", NULL};

static const struct opt table[] = {
	{.key = "store.max_bytes", .type = OPT_BYTES, .def = "4GiB", .min = "1MiB", .max = "1TiB", .help = "h"},
	{.key = "interval", .type = OPT_DURATION, .def = "10s", .min = "1s", .max = "1h", .env = "ENV_INPUT_X", .help = "h"},
	{.key = "loopback", .type = OPT_BOOL, .def = "false", .help = "h"},
	{.key = "depth", .type = OPT_INT, .def = "-3", .min = "-10", .max = "10", .help = "h"},
	{.key = "share", .type = OPT_DOUBLE, .def = "0.5", .min = "0", .max = "1", .help = "h"},
	{.key = "rate", .type = OPT_RATE, .def = "10MB/s", .help = "h"},
	{.key = "cpu", .type = OPT_CPU, .def = "150%", .max = "64", .help = "h"},
	{.key = "path", .type = OPT_STRING, .help = "h"},
	{.key = "colour", .type = OPT_ENUM, .def = "green", .choices = colours, .help = "h"},
	{.key = "ports", .type = OPT_LIST, .def = "80, 443", .restart = true, .help = "h"},
	{},
};

static struct opt_set *make(void)
{
	struct opt_set *set = NULL;

	assert_int_equal(opt_set_new(&set, table), 0);
	return set;
}

static void defaults(void **state)
{
	_cleanup_(opt_set_freep) struct opt_set *s = make(), *none = NULL;

	(void)state;
	assert_int_equal(opt_i64(s, "store.max_bytes"), 4ll << 30);
	assert_int_equal(opt_i64(s, "interval"), 10000000000);
	assert_false(opt_bool(s, "loopback"));
	assert_int_equal(opt_i64(s, "depth"), -3);
	assert_true(opt_f64(s, "share") == 0.5);
	assert_int_equal(opt_i64(s, "rate"), 10000000);
	assert_int_equal(opt_i64(s, "cpu"), 1500);
	assert_string_equal(opt_str(s, "path"), "");
	assert_false(opt_is_set(s, "path"));
	assert_true(opt_is_set(s, "depth"));
	assert_int_equal(opt_i64(s, "colour"), 1);
	assert_string_equal(opt_item(s, "ports", 0), "80");
	assert_string_equal(opt_item(s, "ports", 1), "443");
	assert_null(opt_item(s, "ports", 2));
	assert_null(opt_item(s, "ports", SIZE_MAX));
	assert_string_equal(opt_text(s, "cpu"), "150%");
	assert_int_equal(opt_origin(s, "cpu"), OPT_ORIGIN_DEFAULT);
	assert_null(opt_origin_detail(s, "cpu"));
	assert_ptr_equal(opt_set_table(s), table);
	assert_ptr_equal(opt_find(table, "depth"), &table[3]);
	assert_null(opt_find(table, "dept"));
	assert_null(opt_find(NULL, "depth"));

	/* A table without options, and one whose default is wrong. */
	assert_int_equal(opt_set_new(&none, NULL), 0);
	assert_int_equal(opt_set_assign(none, "x", "1", OPT_ORIGIN_RPC, NULL), -ENOENT);
	opt_set_free(TAKE_PTR(none));
	assert_int_equal(opt_set_new(&none, (const struct opt[]){{.key = "k", .type = OPT_INT, .def = "x"}, {}}),
			 -EINVAL);
	assert_null(none);
}

static void good_texts(void **state)
{
	static const struct {
		const char *key, *text;
		int64_t value;
	} good[] = {
		{"loopback", "ON", 1}, {"loopback", "yes", 1}, {"loopback", "True", 1}, {"loopback", "1", 1},
		{"loopback", "off", 0}, {"loopback", "no", 0}, {"loopback", "FALSE", 0}, {"loopback", "0", 0},
		{"depth", "10", 10}, {"depth", "-10", -10}, {"colour", "Blue", 2}, {"colour", "red", 0},
		{"interval", "1h", 3600000000000}, {"interval", "1000ms", 1000000000}, {"cpu", "64", 64000},
		{"rate", "5k", 5000}, {"store.max_bytes", "1TiB", 1ll << 40},
	};
	_cleanup_(opt_set_freep) struct opt_set *s = make();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(opt_set_assign(s, good[i].key, good[i].text, OPT_ORIGIN_RPC, NULL), 0);
		if (!strcmp(good[i].key, "loopback"))
			assert_int_equal(opt_bool(s, good[i].key), good[i].value);
		else
			assert_int_equal(opt_i64(s, good[i].key), good[i].value);
		assert_string_equal(opt_text(s, good[i].key), good[i].text);
	}
	assert_int_equal(opt_set_assign(s, "share", "1e-3", OPT_ORIGIN_RPC, NULL), 0);
	assert_true(opt_f64(s, "share") == 0.001);
	assert_int_equal(opt_set_assign(s, "ports", " a ,, b,c , ", OPT_ORIGIN_RPC, NULL), 0);
	assert_string_equal(opt_item(s, "ports", 0), "a");
	assert_string_equal(opt_item(s, "ports", 2), "c");
	assert_null(opt_item(s, "ports", 3));
	assert_int_equal(opt_set_assign(s, "ports", "", OPT_ORIGIN_RPC, NULL), 0);
	assert_null(opt_item(s, "ports", 0));
	assert_true(opt_is_set(s, "ports"));
	assert_int_equal(opt_set_assign(s, "path", "/x y", OPT_ORIGIN_RPC, NULL), 0);
	assert_string_equal(opt_str(s, "path"), "/x y");
}

/* Each refusal names key, text and mend; the old value stays. */
static void bad_texts(void **state)
{
	static const struct {
		const char *key, *text, *says;
	} bad[] = {
		{"loopback", "maybe", "true or false"}, {"loopback", "", "true or false"}, {"depth", "3.5", "whole number"},
		{"depth", "", "whole number"}, {"depth", "0x3", "whole number"}, {"depth", "11", "maximum 10"},
		{"depth", "-11", "minimum -10"}, {"depth", "99999999999999999999", "too large"},
		{"share", "1.01", "maximum 1"}, {"share", "-0.1", "minimum 0"}, {"share", "nan", "not a number"},
		{"share", "inf", "not a number"}, {"share", "0.5x", "not a number"}, {"interval", "999ms", "minimum 1s"},
		{"interval", "61m", "maximum 1h"}, {"interval", "10", "without unit"}, {"interval", "10 apples", "apples"},
		{"store.max_bytes", "4gigs", "unknown unit 'gigs'"}, {"store.max_bytes", "2T i", "unknown unit"},
		{"cpu", "65", "maximum 64"}, {"cpu", "many", "cores"}, {"rate", "fast", "/s"},
		{"colour", "mauve", "red, green, blue"},
	};
	_cleanup_(opt_set_freep) struct opt_set *s = make();
	char many[4096];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_free_ char *before = strdup(opt_text(s, bad[i].key));
		struct err e = {};
		int r = opt_set_assign(s, bad[i].key, bad[i].text, OPT_ORIGIN_RPC, &e);

		if (r != -EINVAL || e.code != -EINVAL || strncmp(e.msg, bad[i].key, strlen(bad[i].key)) ||
		    !strstr(e.msg, bad[i].text) || !strstr(e.msg, bad[i].says))
			fail_msg("%s = '%s' gave %d '%s'", bad[i].key, bad[i].text, r, e.msg);
		assert_string_equal(opt_text(s, bad[i].key), before);
		assert_int_equal(opt_set_assign(s, bad[i].key, bad[i].text, OPT_ORIGIN_RPC, NULL), -EINVAL);
	}
	memset(many, ',', sizeof(many));
	for (size_t i = 0; i < sizeof(many); i += 2)
		many[i] = 'x';
	many[sizeof(many) - 1] = 0;
	assert_int_equal(opt_set_assign(s, "ports", many, OPT_ORIGIN_RPC, NULL), -EINVAL);
	assert_string_equal(opt_item(s, "ports", 0), "80");
}

static void unknown_keys(void **state)
{
	_cleanup_(opt_set_freep) struct opt_set *s = make();
	struct err e = {};

	(void)state;
	assert_int_equal(opt_set_assign(s, "intervall", "1s", OPT_ORIGIN_RPC, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "did you mean 'interval'?"));
	assert_int_equal(opt_set_assign(s, "zzz", "1s", OPT_ORIGIN_RPC, &e), -ENOENT);
	assert_null(strstr(e.msg, "did you mean"));
	opt_set_assign(s, "max_bytes", "1s", OPT_ORIGIN_RPC, &e);
	assert_non_null(strstr(e.msg, "'store.max_bytes'"));
	opt_set_assign(s, "", "1s", OPT_ORIGIN_RPC, &e);
	assert_non_null(strstr(e.msg, "unknown option ''"));
}

static void nearest(void **state)
{
	static const char *const names[] = {"netflow", "bash", "dnsflow", "httpflow"};
	char longer[200];

	(void)state;
	assert_string_equal(opt_nearest("netflwo", names, 4), "netflow");
	assert_string_equal(opt_nearest("NETFLOW", names, 4), "netflow");
	assert_string_equal(opt_nearest("bsah", names, 4), "bash");
	assert_string_equal(opt_nearest("dnsflo", names, 4), "dnsflow");
	assert_null(opt_nearest("x", names, 4));
	assert_null(opt_nearest("", names, 4));
	assert_null(opt_nearest("netflow", names, 0));
	memset(longer, 'n', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	assert_null(opt_nearest(longer, names, 4));
}

static void origins(void **state)
{
	_cleanup_(opt_set_freep) struct opt_set *s = make(), *copy = NULL;
	struct err e = {};

	(void)state;
	assert_int_equal(opt_set_assign_detail(s, "depth", "1", OPT_ORIGIN_FILE, "line 12 of a.toml", &e), 0);
	assert_string_equal(opt_origin_detail(s, "depth"), "line 12 of a.toml");
	assert_int_equal(opt_set_assign(s, "depth", "2", OPT_ORIGIN_FLAG, &e), 0);
	assert_null(opt_origin_detail(s, "depth"));
	/* Lower origins change nothing, but a bad text of theirs is still told. */
	assert_int_equal(opt_set_assign(s, "depth", "3", OPT_ORIGIN_ENV, &e), 0);
	assert_int_equal(opt_set_assign(s, "depth", "x", OPT_ORIGIN_FILE, &e), -EINVAL);
	assert_int_equal(opt_i64(s, "depth"), 2);
	assert_int_equal(opt_origin(s, "depth"), OPT_ORIGIN_FLAG);
	assert_string_equal(opt_origin_name(opt_origin(s, "depth")), "flag");
	assert_int_equal(opt_set_assign(s, "depth", "4", OPT_ORIGIN_RPC, &e), 0);
	assert_int_equal(opt_set_assign(s, "depth", "5", OPT_ORIGIN_RPC, &e), 0);

	opt_set_assign_detail(s, "ports", "1,2", OPT_ORIGIN_FILE, "line 3", NULL);
	assert_int_equal(opt_set_copy(&copy, s), 0);
	opt_set_assign(s, "depth", "6", OPT_ORIGIN_RPC, NULL);
	assert_int_equal(opt_i64(copy, "depth"), 5);
	assert_int_equal(opt_origin(copy, "depth"), OPT_ORIGIN_RPC);
	assert_string_equal(opt_item(copy, "ports", 1), "2");
	assert_string_equal(opt_origin_detail(copy, "ports"), "line 3");
	assert_false(opt_is_set(copy, "path"));
	for (int i = 0; i < OPT_ORIGIN_X_MAX; i++)
		assert_string_not_equal(opt_origin_name(i), "?");
	for (int i = 0; i < OPT_X_MAX; i++)
		assert_string_not_equal(opt_type_name(i), "?");
	assert_string_equal(opt_origin_name(OPT_ORIGIN_X_MAX), "?");
	assert_string_equal(opt_type_name(-1), "?");
}

static void environment(void **state)
{
	_cleanup_(opt_set_freep) struct opt_set *s = make(), *t = make();
	char name[64], small[8];
	struct err e = {};

	(void)state;
	assert_string_equal(opt_env_name(name, sizeof(name), NULL, "store.max_bytes"), "RINGSIDE_STORE_MAX_BYTES");
	assert_string_equal(opt_env_name(name, sizeof(name), "plugins.netflow.", "ring-size"),
			    "RINGSIDE_PLUGINS_NETFLOW_RING_SIZE");
	assert_string_equal(opt_env_name(small, sizeof(small), NULL, "key"), "RINGSID");

	setenv("ENV_INPUT_X", "20s", 1);
	setenv("RINGSIDE_T_DEPTH", "7", 1);
	assert_int_equal(opt_set_assign_env(s, "t.", &e), 0);
	assert_int_equal(opt_i64(s, "depth"), 7);
	assert_string_equal(opt_origin_detail(s, "depth"), "RINGSIDE_T_DEPTH");
	assert_int_equal(opt_i64(s, "interval"), 20000000000);
	assert_string_equal(opt_origin_detail(s, "interval"), "ENV_INPUT_X");
	/* Our own name wins over the alias. */
	setenv("RINGSIDE_T_INTERVAL", "30s", 1);
	assert_int_equal(opt_set_assign_env(s, "t.", &e), 0);
	assert_int_equal(opt_i64(s, "interval"), 30000000000);
	setenv("RINGSIDE_T_INTERVAL", "soon", 1);
	assert_int_equal(opt_set_assign_env(t, "t.", &e), -EINVAL);
	assert_non_null(strstr(e.msg, "RINGSIDE_T_INTERVAL"));
	assert_non_null(strstr(e.msg, "soon"));
	unsetenv("RINGSIDE_T_INTERVAL");
	unsetenv("RINGSIDE_T_DEPTH");
	unsetenv("ENV_INPUT_X");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults), cmocka_unit_test(good_texts), cmocka_unit_test(bad_texts),
		cmocka_unit_test(unknown_keys), cmocka_unit_test(nearest), cmocka_unit_test(origins),
		cmocka_unit_test(environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
