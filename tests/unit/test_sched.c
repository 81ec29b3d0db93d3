// SPDX-License-Identifier: Apache-2.0
/* Buckets of waits and percentiles from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bpf/sched/sched_waits.h"

static void test_buckets(void **state)
{
	uint32_t last = 0;

	(void)state;
	for (uint64_t ns = 0; ns < 8; ns++)
		assert_int_equal(sched_bucket(ns), ns);
	/* In order, none left out, each middle in its own bucket. */
	for (uint64_t ns = 1; ns < 1ull << 42; ns += ns / 64 + 1) {
		uint32_t b = sched_bucket(ns);
		uint64_t middle = sched_bucket_ns(b), far = middle > ns ? middle - ns : ns - middle;

		assert_true(b == last || b == last + 1);
		assert_int_equal(sched_bucket(middle), b);
		assert_true(far <= ns / 16 + 1);
		last = b;
	}
	assert_int_equal(last, SCHED_BUCKETS - 1);
	assert_int_equal(sched_bucket(UINT64_MAX), SCHED_BUCKETS - 1);
}

static void test_percentiles(void **state)
{
	uint64_t waits[SCHED_BUCKETS] = {0};

	(void)state;
	assert_int_equal(sched_percentile(waits, 50), 0);
	waits[7] = 1;
	assert_int_equal(sched_percentile(waits, 1), 7);
	assert_int_equal(sched_percentile(waits, 100), 7);
	waits[5] = 98;
	waits[6] = 1;
	assert_int_equal(sched_percentile(waits, 50), 5);
	assert_int_equal(sched_percentile(waits, 98), 5);
	assert_int_equal(sched_percentile(waits, 99), 6);
	assert_int_equal(sched_percentile(waits, 100), 7);
	waits[5] = UINT64_MAX / 200; /* no overflow on the way */
	assert_int_equal(sched_percentile(waits, 99), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_percentiles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
