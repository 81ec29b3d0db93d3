// SPDX-License-Identifier: Apache-2.0
/* Unit tests of what sampling leaves out: the noisiest cgroup first, then all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/sampling.h"

#define NOISY 4711

/* A second of so many events of one cgroup and of ten others together. */
static void second(struct sampling *s, unsigned int noisy, unsigned int others)
{
	for (unsigned int i = 0; i < noisy; i++)
		sampling_count(s, NOISY, 1);
	for (unsigned int i = 0; i < others; i++)
		sampling_count(s, 100 + i % 10, 1);
}

static void is(const struct sampling *s, uint64_t cgroup, uint32_t cgroup_shift, uint32_t shift)
{
	assert_int_equal(sampling_now(s)->cgroup, cgroup);
	assert_int_equal(sampling_now(s)->cgroup_shift, cgroup_shift);
	assert_int_equal(sampling_now(s)->shift, shift);
}

static void test_nobody_known(void **state)
{
	struct sampling s = {0};

	(void)state;
	assert_int_equal(sampling_to(&s, 0), 6);
	is(&s, 0, 0, 0);
	for (unsigned int i = 1; i <= 6; i++) {
		assert_int_equal(sampling_to(&s, i), 6);
		is(&s, 0, i, i);
	}
	assert_int_equal(sampling_to(&s, 99), 6);
	is(&s, 0, 6, 6);
	sampling_to(&s, 1);
	is(&s, 0, 1, 1);
	sampling_to(&s, 0);
	is(&s, 0, 0, 0);
}

static void test_noisy_first(void **state)
{
	/* 990 and 10: of the first a half would leave 505, of 257 still half is too much with an
	 * eighth of it. */
	static const struct sampling_step want[] = {
		{NOISY, 0, 2}, {NOISY, 0, 4}, {NOISY, 0, 6}, {NOISY, 1, 6}, {NOISY, 2, 6},
		/* An eighth of the others in place of a quarter is next to nothing. */
		{NOISY, 4, 6}, {NOISY, 6, 6},
	};
	struct sampling s = {0};

	(void)state;
	second(&s, 990, 10);
	for (unsigned int i = 0; i < ARRAY_SIZE(want); i++) {
		unsigned int steps = sampling_to(&s, i + 1);

		is(&s, want[i].cgroup, want[i].cgroup_shift, want[i].shift);
		assert_int_equal(steps, i + 1 + 6 - want[i].shift);
	}
	assert_int_equal(sampling_to(&s, 20), 7);
	/* All are back before it is. */
	for (unsigned int i = ARRAY_SIZE(want); i-- > 1;) {
		sampling_to(&s, i);
		is(&s, want[i - 1].cgroup, want[i - 1].cgroup_shift, want[i - 1].shift);
	}
	sampling_to(&s, 0);
	is(&s, 0, 0, 0);
}

static void test_no_majority(void **state)
{
	struct sampling s = {0};

	(void)state;
	second(&s, 500, 510);
	sampling_to(&s, 1);
	is(&s, 0, 1, 1);
	/* A majority whose absence wouldn't halve it. */
	s = (struct sampling){0};
	second(&s, 5010, 4990);
	sampling_to(&s, 1);
	is(&s, 0, 1, 1);
	/* Too few to tell. */
	s = (struct sampling){0};
	second(&s, 60, 3);
	sampling_to(&s, 1);
	is(&s, 0, 1, 1);
}

/* Each step halves what is kept, whoever makes it. */
static void test_halves(void **state)
{
	(void)state;
	for (unsigned int noisy = 0; noisy <= 1000; noisy += 50) {
		struct sampling s = {0};
		double before = 1000;

		second(&s, noisy, 1000 - noisy);
		for (unsigned int i = 1; i <= 6; i++) {
			const struct sampling_step *step;
			double kept;

			sampling_to(&s, i);
			step = sampling_now(&s);
			kept = (double)noisy /
				       (double)(1u << (step->cgroup == NOISY ? step->cgroup_shift
									     : step->shift)) +
			       (double)(1000 - noisy) / (double)(1u << step->shift);
			/* As long as anything is left to leave out of the noisy one. */
			assert_true(kept <= before / 2 + 1e-9 ||
				    (step->cgroup && step->cgroup_shift == SAMPLING_SHIFT_MAX));
			before = kept;
		}
	}
}

/* Steps that were taken before anybody could tell give way to those that somebody earns. */
static void test_second_look(void **state)
{
	struct sampling s = {.at_ns = NSEC_PER_SEC};

	(void)state;
	sampling_to(&s, 3);
	is(&s, 0, 3, 3);
	assert_false(sampling_second(&s, 2 * NSEC_PER_SEC));
	/* 1 in 8, and each stands for eight. */
	for (unsigned int i = 0; i < 990; i++)
		sampling_count(&s, NOISY, 8);
	for (unsigned int i = 0; i < 10; i++)
		sampling_count(&s, 100 + i, 8);
	assert_true(sampling_second(&s, 3 * NSEC_PER_SEC));
	is(&s, NOISY, 6, 0);
	assert_int_equal(s.depth, 3);
	assert_false(sampling_second(&s, 4 * NSEC_PER_SEC));
	sampling_to(&s, 0);
	is(&s, 0, 0, 0);
}

/* Another one is noisier now: it takes the place if that is enough. */
static void test_another(void **state)
{
	struct sampling s = {.at_ns = NSEC_PER_SEC};

	(void)state;
	second(&s, 1000, 0);
	sampling_to(&s, 1);
	is(&s, NOISY, 1, 0);
	for (unsigned int k = 2; k < 12; k++)
		sampling_second(&s, k * NSEC_PER_SEC);
	for (unsigned int i = 0; i < 1000; i++)
		sampling_count(&s, 7, 1);
	sampling_to(&s, 2);
	assert_int_equal(sampling_now(&s)->cgroup, 7);
	assert_int_equal(sampling_now(&s)->shift, 0);
	sampling_to(&s, 1);
	is(&s, NOISY, 1, 0);
}

/* More cgroups than places: the one that makes most of it is found, and nobody is blamed for
 * others. */
static void test_many_cgroups(void **state)
{
	struct sampling s = {0};
	uint64_t now = NSEC_PER_SEC;

	(void)state;
	s.at_ns = now;
	for (unsigned int k = 0; k < 10; k++) {
		for (unsigned int i = 0; i < 3000; i++) {
			sampling_count(&s, 10000 + i % 997, 1);
			sampling_count(&s, NOISY, 3);
		}
		now += NSEC_PER_SEC;
		sampling_second(&s, now);
	}
	assert_true(sampling_rate(&s, now) > 11900 && sampling_rate(&s, now) < 12100);
	assert_true(sampling_rate_of(&s, NOISY, now) > 8500 &&
		    sampling_rate_of(&s, NOISY, now) < 9100);
	sampling_to(&s, 1);
	assert_int_equal(sampling_now(&s)->cgroup, NOISY);
	s = (struct sampling){0};
	for (unsigned int i = 0; i < 99700; i++)
		sampling_count(&s, 10000 + i % 997, 1);
	sampling_to(&s, 1);
	is(&s, 0, 1, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_known), cmocka_unit_test(test_noisy_first),
		cmocka_unit_test(test_no_majority),  cmocka_unit_test(test_halves),
		cmocka_unit_test(test_second_look),  cmocka_unit_test(test_another),
		cmocka_unit_test(test_many_cgroups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
