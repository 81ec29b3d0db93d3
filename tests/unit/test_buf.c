// SPDX-License-Identifier: Apache-2.0
/* The growing buffer, the error text, the clock's text and the log levels. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

static void grows(void **state)
{
	_cleanup_buf_ struct buf b = {};
	char big[300];

	(void)state;
	assert_int_equal(buf_status(&b), 0);
	buf_puts(&b, "");
	assert_string_equal(b.data, "");
	for (int i = 0; i < 1000; i++) {
		buf_puts(&b, "ab");
		buf_putc(&b, 'c');
		buf_printf(&b, "%d", i % 10);
	}
	assert_int_equal(b.len, 4000);
	assert_int_equal(strlen(b.data), 4000);
	assert_memory_equal(b.data + 3996, "abc9", 4);

	/* One longer than the room that is left. */
	memset(big, 'z', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	buf_reset(&b);
	assert_int_equal(b.len, 0);
	assert_string_equal(b.data, "");
	for (int i = 0; i < 20; i++)
		buf_printf(&b, "<%s>", big);
	assert_int_equal(b.len, 20 * 301);
	buf_add(&b, "a\0b", 3);
	assert_memory_equal(b.data + b.len - 3, "a\0b", 3);
	assert_int_equal(buf_status(&b), 0);
	buf_free(&b);
	assert_null(b.data);
	buf_free(&b);
}

static void numbers(void **state)
{
	_cleanup_buf_ struct buf b = {};

	(void)state;
	buf_putu(&b, 0);
	buf_putu(&b, 10);
	buf_putu(&b, UINT64_MAX);
	assert_string_equal(b.data, "01018446744073709551615");
}

static void stays_failed(void **state)
{
	_cleanup_buf_ struct buf b = {};

	(void)state;
	buf_puts(&b, "kept");
	buf_add(&b, "x", SIZE_MAX - 2);
	assert_int_equal(buf_status(&b), -ENOMEM);
	buf_puts(&b, "lost");
	buf_printf(&b, "lost %d", 1);
	assert_string_equal(b.data, "kept");
	assert_int_equal(buf_status(&b), -ENOMEM);
	buf_reset(&b);
	buf_puts(&b, "again");
	assert_int_equal(buf_status(&b), 0);
	assert_string_equal(b.data, "again");
}

static void errors(void **state)
{
	struct err e = {};
	char longer[400];

	(void)state;
	assert_int_equal(err_set(&e, -EINVAL, "interval '%s': too short", "1ms"), -EINVAL);
	assert_int_equal(err_prefix(&e, "plugin %s", "netflow"), -EINVAL);
	assert_string_equal(e.msg, "plugin netflow: interval '1ms': too short");
	err_set(&e, -ENOENT, "x");
	err_prefix(&e, "a:");
	assert_string_equal(e.msg, "a: x");
	err_set(&e, -ENOENT, "x");
	err_prefix(&e, "a: ");
	assert_string_equal(e.msg, "a: x");
	assert_int_equal(err_set(NULL, -EPERM, "nobody listens"), -EPERM);
	assert_int_equal(err_prefix(NULL, "nobody"), 0);
	memset(longer, 'l', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	err_set(&e, -EIO, "%s", longer);
	err_prefix(&e, "%s", longer);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
}

static void clocks(void **state)
{
	uint64_t boot = clock_boot_ns(), real = clock_real_ns(), got = clock_boot_to_real(boot);
	char dst[40];

	(void)state;
	assert_true(got > real - NSEC_PER_SEC && got < real + NSEC_PER_SEC);
	assert_true(clock_mono_ns() <= clock_boot_ns());

	setenv("TZ", "XYZ-1", 1);
	tzset();
	assert_string_equal(clock_format_rfc3339(dst, 1795294263123456789), "2026-11-21T21:51:03.123+01:00");
	setenv("TZ", "XYZ+3:30", 1);
	tzset();
	assert_string_equal(clock_format_rfc3339(dst, 1795294263000000000), "2026-11-21T17:21:03.000-03:30");
	setenv("TZ", "UTC", 1);
	tzset();
	assert_string_equal(clock_format_rfc3339(dst, 0), "1970-01-01T00:00:00.000+00:00");
	assert_string_equal(clock_format_rfc3339(dst, UINT64_MAX), "2554-07-21T23:34:33.709+00:00");
}

static void levels(void **state)
{
	enum log_level level = LOG_LEVEL_X_MAX;
	struct err e = {};
	unsigned int passed = 0;

	(void)state;
	for (int i = 0; i < LOG_LEVEL_X_MAX; i++) {
		assert_int_equal(log_level_parse(log_level_name(i), &level, &e), 0);
		assert_int_equal(level, i);
	}
	assert_int_equal(log_level_parse("loud", &level, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "loud"));
	assert_non_null(strstr(e.msg, "warning"));
	assert_int_equal(log_level_parse("", &level, NULL), -EINVAL);

	for (int i = 0; i < 50; i++)
		passed += log_ratelimit("test", 7);
	assert_int_equal(passed, 7);
	assert_true(log_ratelimit("another", 1));
	assert_int_equal(log_err(-ENOENT, "cannot open '%s'", "/nowhere\nforged line"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows), cmocka_unit_test(numbers), cmocka_unit_test(stays_failed), cmocka_unit_test(errors),
		cmocka_unit_test(clocks), cmocka_unit_test(levels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
