// SPDX-License-Identifier: Apache-2.0
/* Unit tests of the sampling that a full ring buffer asks for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "daemon/ring_watch.h"

#define MOST 6
#define TICK (100 * NSEC_PER_MSEC)

struct play {
	struct ring_watch w;
	uint64_t submitted, full, now;
};

/* A look after 100 ms in which so many samples went in and so many were lost. */
static int look(struct play *p, uint64_t submitted, uint64_t lost)
{
	p->submitted += submitted;
	p->full += lost;
	p->now += TICK;
	return ring_watch_look(&p->w, p->submitted, p->full, p->now, MOST);
}

/* Looks without loss until sampling changes; returns how many. */
static unsigned int calm(struct play *p, unsigned int most)
{
	for (unsigned int i = 1; i <= most; i++)
		if (look(p, 10, 0))
			return i;
	return 0;
}

static void test_quiet(void **state)
{
	struct play p = {.now = 1000 * NSEC_PER_SEC};

	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(look(&p, 1000, 0), 0);
	assert_int_equal(p.w.step, 0);
}

static void test_bursts(void **state)
{
	struct play p = {.now = 1000 * NSEC_PER_SEC};

	(void)state;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(look(&p, 1000, 500), 0);
		assert_int_equal(look(&p, 1000, 500), 0);
		for (int k = 0; k < 25; k++)
			assert_int_equal(look(&p, 1000, 0), 0);
	}
	assert_int_equal(p.w.step, 0);
	assert_int_equal(p.w.lost, 20 * 2 * 500);
}

static void test_overload(void **state)
{
	struct play p = {.now = 1000 * NSEC_PER_SEC};

	(void)state;
	assert_int_equal(look(&p, 1000, 1), 0);
	assert_int_equal(look(&p, 1000, 1), 0);
	assert_int_equal(look(&p, 1000, 1), 1); /* a little too much: one step */
	assert_int_equal(look(&p, 1000, 6000), 0);
	assert_int_equal(look(&p, 1000, 6000), 0);
	assert_int_equal(look(&p, 1000, 6000), 3); /* seven times: three at once */
	assert_int_equal(p.w.step, 4);
	for (int i = 0; i < 2; i++)
		assert_int_equal(look(&p, 0, 100000), 0);
	assert_int_equal(look(&p, 0, 100000), MOST - 4);
	assert_int_equal(p.w.step, MOST);
	for (int i = 0; i < 100; i++)
		assert_int_equal(look(&p, 10, 100000), 0); /* there is no more */
}

static void overload(struct play *p)
{
	look(p, 1000, 100);
	look(p, 1000, 100);
	assert_int_equal(look(p, 1000, 100), 1);
}

static void test_recovery(void **state)
{
	struct play p = {.now = 1000 * NSEC_PER_SEC};

	(void)state;
	overload(&p);
	overload(&p);
	assert_int_equal(p.w.step, 2);
	assert_int_equal(calm(&p, 200), 100); /* ten seconds a step */
	assert_int_equal(calm(&p, 200), 100);
	assert_int_equal(p.w.step, 0);
	assert_int_equal(calm(&p, 1000), 0);
}

/* A load that stays doesn't make sampling swing every ten seconds. */
static void test_swing(void **state)
{
	struct play p = {.now = 1000 * NSEC_PER_SEC};
	unsigned int want = 100;

	(void)state;
	overload(&p);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(calm(&p, 4000), want);
		assert_int_equal(p.w.step, 0);
		overload(&p);
		want = want < 3200 ? want * 2 : want;
	}
	assert_int_equal(calm(&p, 4000), 3200);
	assert_int_equal(calm(&p, 4000), 0); /* long calm: as at first */
	overload(&p);
	assert_int_equal(calm(&p, 4000), 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quiet),	 cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_overload), cmocka_unit_test(test_recovery),
		cmocka_unit_test(test_swing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
