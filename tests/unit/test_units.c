// SPDX-License-Identifier: Apache-2.0
/* Sizes, rates, CPU shares and durations: every accepted form, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "base/units.h"

typedef int (*parse_fn)(const char *text, uint64_t *ret, struct err *err);

struct good {
	const char *text;
	uint64_t value;
};

static void check_good(parse_fn parse, const struct good *g, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct err err = {};
		uint64_t v = 0;

		if (parse(g[i].text, &v, &err) || v != g[i].value)
			fail_msg("'%s' gave %llu: %s", g[i].text, (unsigned long long)v, err.msg);
	}
}

/* The value stays untouched and the text says what was given. */
static void check_bad(parse_fn parse, const char *const *bad, size_t n, int code)
{
	for (size_t i = 0; i < n; i++) {
		struct err err = {};
		uint64_t v = 77;
		int r = parse(bad[i], &v, &err);

		if (r != code || err.code != code || v != 77 || !strstr(err.msg, bad[i]))
			fail_msg("'%s' gave %d, %llu, '%s'", bad[i], r, (unsigned long long)v, err.msg);
		assert_int_equal(parse(bad[i], &v, NULL), code);
	}
}

static void bytes(void **state)
{
	static const struct good good[] = {
		{"0", 0}, {"1048576", 1048576}, {"4GiB", 4ull << 30}, {"4G", 4000000000}, {"100MB", 100000000},
		{"512k", 512000}, {"1.5GiB", 3ull << 29}, {"1KiB", 1024}, {"1kib", 1024}, {"2T", 2000000000000},
		{"2TB", 2000000000000}, {"1TiB", 1ull << 40}, {"12b", 12}, {" 3 MiB ", 3 << 20}, {"0.5K", 500},
		{"9223372036854775807", INT64_MAX}, {"0.1234567890123456789T", 123456789012},
	};
	static const char *const bad[] = {"", " ", "GiB", "-1", "+1", "1..5M", "1.", ".5M", "4gigs", "1MiBs", "1 2",
					  "0x10", "1e3", "nan", "inf", "4G/s", "1M\n"};
	static const char *const range[] = {"9223372036854775808", "99999999999999999999999", "8388608TiB",
					    "18446744073709551616"};
	struct err err = {};
	uint64_t v;

	(void)state;
	check_good(units_parse_bytes, good, ARRAY_SIZE(good));
	check_bad(units_parse_bytes, bad, ARRAY_SIZE(bad), -EINVAL);
	check_bad(units_parse_bytes, range, ARRAY_SIZE(range), -ERANGE);
	units_parse_bytes("4gigs", &v, &err);
	assert_non_null(strstr(err.msg, "unknown unit 'gigs'"));
	assert_non_null(strstr(err.msg, "GiB"));
}

static void rate(void **state)
{
	static const struct good good[] = {
		{"10MB/s", 10000000}, {"10MB", 10000000}, {"1MiB/S", 1 << 20}, {"0", 0}, {"5 k /s", 5000}, {"7", 7},
	};
	static const char *const bad[] = {"/s", "", "10MB/m", "10MB/s/s", "MB/s"};

	(void)state;
	check_good(units_parse_rate, good, ARRAY_SIZE(good));
	check_bad(units_parse_rate, bad, ARRAY_SIZE(bad), -EINVAL);
}

static void cpu(void **state)
{
	static const struct good good[] = {
		{"2.0", 2000}, {"0.5", 500}, {"150%", 1500}, {"1", 1000}, {"0.001", 1}, {"0.1%", 1}, {"0", 0},
		{"12.5 %", 125}, {"1000000", 1000000000},
	};
	static const char *const bad[] = {"", "%", "two", "-1", "1%%", "1.5x", "500m", "1,5"};
	static const char *const range[] = {"1000001", "99999999999999999999", "9223372036854775807"};

	(void)state;
	check_good(units_parse_cpu, good, ARRAY_SIZE(good));
	check_bad(units_parse_cpu, bad, ARRAY_SIZE(bad), -EINVAL);
	check_bad(units_parse_cpu, range, ARRAY_SIZE(range), -ERANGE);
}

static void duration(void **state)
{
	static const struct good good[] = {
		{"10s", 10000000000}, {"500ms", 500000000}, {"1h30m", 5400000000000}, {"2d", 172800000000000},
		{"250us", 250000}, {"1w", 604800000000000}, {"0", 0}, {"0s", 0}, {"7ns", 7}, {"1.5s", 1500000000},
		{" 1m 30s ", 90000000000}, {"1H", 3600000000000}, {"0.000000001s", 1},
	};
	static const char *const bad[] = {"", "10", "s", "10 apples", "1h30", "-1s", "1s-", "10s5", "1.s", "00010",
					  "1h 30", "1sm"};
	static const char *const range[] = {"9223372036854775808ns", "99999999999999999999s", "106752d",
					    "15000w15000w"};

	(void)state;
	check_good(units_parse_duration, good, ARRAY_SIZE(good));
	check_bad(units_parse_duration, bad, ARRAY_SIZE(bad), -EINVAL);
	check_bad(units_parse_duration, range, ARRAY_SIZE(range), -ERANGE);
}

static void formats(void **state)
{
	static const struct {
		uint64_t v;
		const char *text;
	} sizes[] = {
		{0, "0B"}, {1, "1B"}, {1023, "1023B"}, {1024, "1KiB"}, {1536, "1.5KiB"}, {1048575, "1MiB"},
		{3ull << 29, "1.5GiB"}, {1ull << 40, "1TiB"}, {UINT64_MAX, "16384PiB"}, {12900000, "12.3MiB"},
	}, times[] = {
		{0, "0s"}, {1, "1ns"}, {1500, "1.5us"}, {250000, "250us"}, {500000000, "500ms"}, {10000000000, "10s"},
		{1234567890, "1.235s"}, {60000000000, "1m"}, {90000000000, "1m30s"}, {5400000000000, "1h30m"},
		{172800000000000, "2d"}, {129600000000000, "1d12h"}, {604800000000000, "7d"},
	};
	char dst[32], tiny[4];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_string_equal(units_format_bytes(dst, sizeof(dst), sizes[i].v), sizes[i].text);
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		assert_string_equal(units_format_duration(dst, sizeof(dst), times[i].v), times[i].text);
	assert_string_equal(units_format_bytes(tiny, sizeof(tiny), 123456), "120");
	assert_string_equal(units_format_duration(tiny, sizeof(tiny), 5400000000000), "1h3");
}

/* What we print we can read. */
static void round_trip(void **state)
{
	char dst[32];
	uint64_t v;

	(void)state;
	for (unsigned int shift = 0; shift < 50; shift++) {
		assert_int_equal(units_parse_bytes(units_format_bytes(dst, sizeof(dst), 1ull << shift), &v, NULL), 0);
		assert_int_equal(v, 1ull << shift);
		assert_int_equal(units_parse_duration(units_format_duration(dst, sizeof(dst), 1ull << shift), &v,
						      NULL), 0);
		assert_true(v <= (1ull << shift) * 1.02 && v >= (1ull << shift) * 0.95);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes), cmocka_unit_test(rate), cmocka_unit_test(cpu),
		cmocka_unit_test(duration), cmocka_unit_test(formats), cmocka_unit_test(round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
