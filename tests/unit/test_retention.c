// SPDX-License-Identifier: Apache-2.0
/* When a segment is closed and when one goes, and the time that counts for it. */
#include "store/retention.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void test_retention_clock(void **state)
{
	const uint64_t year = 365 * 86400 * NSEC_PER_SEC, second = NSEC_PER_SEC;
	uint64_t real = 1700000000 * NSEC_PER_SEC, boot = 5 * second;
	struct retention_clock c = {};
	int64_t jump = 1;

	(void)state;
	assert_int_equal(retention_clock_now(&c, real, boot, &jump), real);
	assert_int_equal(jump, 0);
	/* Slewed, or set by half a minute: followed. */
	assert_int_equal(retention_clock_now(&c, real + 40 * second, boot + 10 * second, &jump),
			 real + 40 * second);
	assert_int_equal(jump, 0);
	real += 40 * second;
	boot += 10 * second;
	/* A year ahead: told once, not believed for an hour. */
	assert_int_equal(retention_clock_now(&c, real + year, boot, &jump), real);
	assert_int_equal(jump, (int64_t)year);
	assert_int_equal(retention_clock_now(&c, real + year + second, boot + second, &jump),
			 real + second);
	assert_int_equal(jump, 0);
	/* And back again. */
	assert_int_equal(retention_clock_now(&c, real + 2 * second, boot + 2 * second, &jump),
			 real + 2 * second);
	assert_int_equal(c.jumped_ns, 0);
	/* Back by a year: the earlier time counts at once. */
	assert_int_equal(retention_clock_now(&c, real - year, boot + 2 * second, &jump),
			 real - year);
	assert_int_equal(jump, -(int64_t)year - 2 * (int64_t)second);
	/* Ahead, and it stays so. */
	c = (struct retention_clock){};
	retention_clock_now(&c, real, boot, &jump);
	retention_clock_now(&c, real + year, boot, &jump);
	assert_int_equal(retention_clock_now(&c, real + year + RETENTION_SETTLE_NS,
					     boot + RETENTION_SETTLE_NS, &jump),
			 real + year + RETENTION_SETTLE_NS);
	assert_int_equal(c.jumped_ns, 0);
}

static void test_retention(void **state)
{
	struct ring_limits limits = {.max_bytes = 70 << 20, .max_rows = 7000, .max_age_ns = 700};
	struct retention_state st = {
		.now_ns = 10000, .files = 7, .max_bytes = 70 << 20, .segments = 1};

	(void)state;
	assert_int_equal(retention_max_bytes(100, 50, 1000, 10), 100);
	assert_int_equal(retention_max_bytes(100, 50, 30, 10), 70);
	assert_int_equal(retention_max_bytes(100, 50, 0, 10), 40);
	assert_int_equal(retention_max_bytes(100, 5, 0, 10), 0);
	assert_int_equal(retention_budget(70 << 20, 7), 10 << 20);
	assert_int_equal(retention_budget(0, 7), RETENTION_SEGMENT_MIN);

	assert_null(retention_rotate(&limits, &st)); /* empty */
	st.live_rows = 999;
	st.live_ts_min = 9950;
	assert_null(retention_rotate(&limits, &st));
	st.live_rows = 1000;
	assert_string_equal(retention_rotate(&limits, &st), "rows");
	st.live_rows = 1;
	st.live_ts_min = 9900;
	assert_string_equal(retention_rotate(&limits, &st), "age");
	st.live_ts_min = 9950;
	st.live_bytes = 7 << 20;
	assert_null(retention_rotate(&limits, &st));
	st.sealed_permille = 900; /* of a WAL it may be less */
	assert_null(retention_rotate(&limits, &st));
	st.sealed_permille = 1400; /* its indexes will want their part of the limit */
	assert_string_equal(retention_rotate(&limits, &st), "bytes");
	st.sealed_permille = 0;
	st.live_bytes = 9 << 20;
	assert_string_equal(retention_rotate(&limits, &st), "bytes");

	st.bytes = 80 << 20;
	assert_null(retention_evict(&limits, &st)); /* never the live one */
	st.segments = 2;
	assert_string_equal(retention_evict(&limits, &st), "bytes");
	st.bytes = 1;
	st.rows = 7001;
	assert_string_equal(retention_evict(&limits, &st), "rows");
	st.rows = 1;
	st.oldest_ts_max = 9300;
	assert_null(retention_evict(&limits, &st));
	st.oldest_ts_max = 9299;
	assert_string_equal(retention_evict(&limits, &st), "age");
	st.segments = 8;
	assert_string_equal(retention_evict(&limits, &st), "files");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_retention),
		cmocka_unit_test(test_retention_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
