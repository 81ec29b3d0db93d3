// SPDX-License-Identifier: Apache-2.0
/* The governor's rules while limits change and for any history; the names it goes by. */
#include "governor/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#define OK     GOVERNOR_OK
#define SAMPLE GOVERNOR_SAMPLE
#define EXIT   GOVERNOR_EXIT
#define CPU    RESOURCE_CPU

#define MS NSEC_PER_MSEC

/* Limits and actions change while we run. */
static void test_live_change(void **state)
{
	struct policy_limits limits = {.limit = {1000, 0, 0}, .action = LIMIT_ACTION_SHED};
	struct policy_sample sample = {
		.now_ns = 1, .value = {2000}, .valid = {true}, .throttled = -1};
	struct policy_state st = {0};
	struct policy_decision d = policy_step(&st, &limits, &sample);

	(void)state;
	assert_int_equal(d.level, SAMPLE);
	/* Turning the ladder off gives everything back at once. */
	limits.action = LIMIT_ACTION_REPORT;
	sample.now_ns += 100 * MS;
	d = policy_step(&st, &limits, &sample);
	assert_int_equal(d.level, OK);
	assert_true(d.changed && d.breach);
	/* A raised limit is in force with the next sample. */
	limits.action = LIMIT_ACTION_EXIT;
	limits.limit[CPU] = 4000;
	sample.now_ns += 1000 * MS;
	d = policy_step(&st, &limits, &sample);
	assert_false(d.breach || d.changed);
	assert_int_equal(st.over[CPU], 0);
	/* A lowered one too. */
	limits.limit[CPU] = 10;
	for (int i = 0; i < 2; i++, sample.now_ns += 1000 * MS)
		d = policy_step(&st, &limits, &sample);
	assert_int_equal(d.level, EXIT);
}

/* Without any limit nothing stays away, and a start one step down ends by itself. */
static void test_last_limit_gone(void **state)
{
	struct policy_limits limits = {.limit = {1000}, .action = LIMIT_ACTION_SHED};
	struct policy_sample sample = {.now_ns = 1,
				       .value = {100},
				       .valid = {true},
				       .throttled = -1,
				       .can_unsample = true,
				       .can_enable = true};
	struct policy_state st = {.level = SAMPLE};
	struct policy_decision d = policy_step(&st, &limits, &sample);

	(void)state;
	assert_int_equal(d.level, SAMPLE);
	assert_false(d.changed);
	limits.limit[CPU] = 0;
	sample.now_ns += 100 * MS;
	d = policy_step(&st, &limits, &sample);
	assert_int_equal(d.level, OK);
	assert_int_equal(d.act, POLICY_ACT_RESTORE);
	d = policy_step(&st, &limits, &sample);
	assert_false(d.changed);
	/* A shorter recovery: a tenth of it for a step. */
	limits = (struct policy_limits){.limit = {1000}, .recovery_ns = 10000 * MS};
	st = (struct policy_state){.level = SAMPLE};
	for (int i = 0; i < 2; i++, sample.now_ns += 1000 * MS)
		d = policy_step(&st, &limits, &sample);
	assert_int_equal(d.act, POLICY_ACT_UNSAMPLE);
}

static void test_names(void **state)
{
	(void)state;
	assert_int_equal(policy_exit_code(RESOURCE_CPU), 81);
	assert_int_equal(policy_exit_code(RESOURCE_MEM), 82);
	assert_int_equal(policy_exit_code(RESOURCE_NET), 83);
	assert_int_equal(policy_exit_code(RESOURCE_KERNEL_CPU), 81);
	assert_string_equal(resource_name(RESOURCE_NET), "net");
	assert_string_equal(resource_name(RESOURCE_KERNEL_CPU), "kernel_cpu");
	assert_string_equal(policy_act_name(POLICY_ACT_UNSAMPLE), "unsample");
	assert_string_equal(policy_act_name(POLICY_ACT_X_MAX), "unknown");
	assert_string_equal(governor_level_name(GOVERNOR_DISABLE), "disable");
	assert_string_equal(governor_level_name(GOVERNOR_X_MAX), "unknown");
	assert_string_equal(limit_action_names[LIMIT_ACTION_REPORT], "report");
	assert_null(limit_action_names[LIMIT_ACTION_X_MAX]);
	assert_string_equal(net_scope_names[NET_SCOPE_NIC], "nic");
	assert_null(net_scope_names[NET_SCOPE_X_MAX]);
}

/* The two rules that hold for any history whatever: unknown or unlimited never ends us, and no exit
 * in the grace. */
static void test_any_history(void **state)
{
	uint64_t x = 88172645463325252ull;

	(void)state;
	for (int run = 0; run < 300; run++) {
		struct policy_limits limits = {.limit = {1000, 1000, 1000, 1000},
					       .grace_ns = 2000 * MS};
		struct policy_state st = {0};
		uint64_t now = 1, start = now;
		int blind = run % RESOURCE_X_MAX;

		limits.action = (enum limit_action)(run / 3 % LIMIT_ACTION_X_MAX);
		limits.limit[(blind + 1) % RESOURCE_X_MAX] = 0;
		for (int i = 0; i < 200; i++) {
			struct policy_sample s = {
				.now_ns = now, .valid = {true, true, true, true}, .throttled = -1};
			struct policy_decision d;

			for (int r = 0; r < RESOURCE_X_MAX; r++) {
				x ^= x << 13, x ^= x >> 7, x ^= x << 17;
				s.value[r] = x % 2000;
			}
			s.valid[blind] = false;
			d = policy_step(&st, &limits, &s);
			if (d.level == EXIT) {
				assert_true(now - start >= limits.grace_ns);
				assert_int_not_equal(limits.action, LIMIT_ACTION_REPORT);
				if (d.changed) {
					assert_int_not_equal((int)d.resource, blind);
					assert_int_not_equal((int)d.resource,
							     (blind + 1) % RESOURCE_X_MAX);
					assert_true(d.value >= d.limit && d.limit);
				}
			}
			now += (250 + x % 750) * MS;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_live_change),
		cmocka_unit_test(test_last_limit_gone),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_any_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
