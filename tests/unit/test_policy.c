// SPDX-License-Identifier: Apache-2.0
/* The governor's rules, one table of samples a rule: no kernel, no clock. */
#include "governor/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/macro.h"

#define OK	GOVERNOR_OK
#define SAMPLE	GOVERNOR_SAMPLE
#define DISABLE GOVERNOR_DISABLE
#define EXIT	GOVERNOR_EXIT
#define CPU	RESOURCE_CPU
#define MEM	RESOURCE_MEM
#define NET	RESOURCE_NET
#define KERNEL	RESOURCE_KERNEL_CPU

#define MS	NSEC_PER_MSEC
#define BAD	UINT64_MAX /* could not be measured */

/* Repeats a sample `times` times, `step_ms` apart, and says what the last one must decide. */
struct step {
	unsigned int times, step_ms;
	uint64_t cpu, mem, net;
	double throttled;
	bool can_sample, can_disable, can_unsample, can_enable;
	enum governor_level level; /* after the last repetition */
	bool breach;
	int changes;		/* decisions with .changed in this step */
	enum resource resource; /* of the last change; checked if changes > 0 */
	enum policy_act act;	/* of the last change; checked if not NONE */
	uint64_t kernel;
};

struct scenario {
	const char *name;
	enum limit_action action;
	uint64_t limit[RESOURCE_X_MAX];
	uint64_t grace_ms;
	struct step steps[8];
};

static void scenario_run(const struct scenario *s)
{
	struct policy_limits limits = {
		.limit = {s->limit[CPU], s->limit[MEM], s->limit[NET], s->limit[KERNEL]},
		.action = s->action,
		.grace_ns = s->grace_ms * MS,
	};
	struct policy_state state = {0};
	uint64_t now = 5000 * MS;

	for (size_t i = 0; i < ARRAY_SIZE(s->steps) && s->steps[i].times; i++) {
		const struct step *st = &s->steps[i];
		struct policy_decision d = {0};
		enum resource changed_by = RESOURCE_X_MAX;
		enum policy_act acted = POLICY_ACT_NONE;
		int changes = 0;

		for (unsigned int n = 0; n < st->times; n++, now += st->step_ms * MS) {
			struct policy_sample sample = {
				.now_ns = now,
				.value = {st->cpu, st->mem, st->net, st->kernel},
				.valid = {st->cpu != BAD, st->mem != BAD, st->net != BAD, true},
				.throttled = st->throttled,
				.can_sample = st->can_sample,
				.can_disable = st->can_disable,
				.can_unsample = st->can_unsample,
				.can_enable = st->can_enable,
			};

			d = policy_step(&state, &limits, &sample);
			if (d.changed) {
				changes++;
				changed_by = d.resource;
				acted = d.act;
				assert_int_equal(d.value, sample.value[d.resource]);
				assert_int_equal(d.limit, limits.limit[d.resource]);
			}
		}
		if (d.level != st->level || d.breach != st->breach || changes != st->changes ||
		    (changes && changed_by != st->resource) || (st->act && st->act != acted))
			fail_msg("%s, step %zu: level %s breach %d changes %d by %s; wanted %s %d "
				 "%d %s",
				 s->name, i, governor_level_name(d.level), d.breach, changes,
				 resource_name(changed_by), governor_level_name(st->level),
				 st->breach, st->changes, resource_name(st->resource));
	}
}

static const struct scenario scenarios_exit[] = {
	{"no limits, nothing ever",
	 LIMIT_ACTION_EXIT,
	 {0, 0, 0},
	 2000,
	 {{100, 1000, 99999, 1u << 30, 1u << 30, .throttled = 1.0, .level = OK}}},
	{"cpu twice in a row",
	 LIMIT_ACTION_EXIT,
	 {1000, 0, 0},
	 0,
	 {{1, 1000, 1001, 0, 0, .level = OK, .breach = true},
	  {1, 1000, 1001, 0, 0, .level = EXIT, .breach = true, .changes = 1, .resource = CPU}}},
	{"at the limit is within it",
	 LIMIT_ACTION_EXIT,
	 {1000, 0, 5},
	 0,
	 {{100, 1000, 1000, 0, 5, .level = OK}}},
	{"a break starts the count anew",
	 LIMIT_ACTION_EXIT,
	 {1000, 0, 0},
	 0,
	 {{1, 1000, 2000, 0, 0, .level = OK, .breach = true},
	  {1, 1000, 900, 0, 0, .level = OK},
	  {1, 1000, 2000, 0, 0, .level = OK, .breach = true},
	  {1, 1000, 2000, 0, 0, .level = EXIT, .breach = true, .changes = 1, .resource = CPU}}},
	{"samples of one second count once",
	 LIMIT_ACTION_EXIT,
	 {1000, 0, 0},
	 0,
	 {{4, 250, 2000, 0, 0, .level = OK, .breach = true},
	  {1, 250, 2000, 0, 0, .level = EXIT, .breach = true, .changes = 1, .resource = CPU}}},
	{"net",
	 LIMIT_ACTION_EXIT,
	 {0, 0, 1 << 20},
	 0,
	 {{2, 1000, 9, 9, (1 << 20) + 1, .level = EXIT, .breach = true, .changes = 1,
	   .resource = NET}}},
	{"mem once, and at the limit",
	 LIMIT_ACTION_EXIT,
	 {0, 1 << 20, 0},
	 0,
	 {{5, 1000, 0, (1 << 20) - 1, 0, .level = OK},
	  {1, 1000, 0, 1 << 20, 0, .level = EXIT, .breach = true, .changes = 1, .resource = MEM}}},
	{"grace: start-up work is not held against us",
	 LIMIT_ACTION_EXIT,
	 {1000, 1 << 20, 1000},
	 2000,
	 {{2, 1000, 9999, 2 << 20, 9999, .level = OK, .breach = true},
	  {10, 1000, 100, 1000, 100, .level = OK}}},
	{"over since the grace: counted from its end",
	 LIMIT_ACTION_EXIT,
	 {1000, 0, 0},
	 2000,
	 {{3, 1000, 9999, 0, 0, .level = OK, .breach = true},
	  {1, 1000, 9999, 0, 0, .level = EXIT, .breach = true, .changes = 1, .resource = CPU}}},
	{"mem right after the grace",
	 LIMIT_ACTION_EXIT,
	 {0, 1 << 20, 0},
	 2000,
	 {{2, 1000, 0, 2 << 20, 0, .level = OK, .breach = true},
	  {1, 1000, 0, 2 << 20, 0, .level = EXIT, .breach = true, .changes = 1, .resource = MEM}}},
	{"what can't be measured is never exceeded",
	 LIMIT_ACTION_EXIT,
	 {1, 1, 1},
	 0,
	 {{100, 1000, BAD, BAD, BAD, .throttled = -1, .level = OK}}},
	{"an unknown between two breaches proves nothing",
	 LIMIT_ACTION_EXIT,
	 {1000, 0, 0},
	 0,
	 {{1, 1000, 2000, 0, 0, .level = OK, .breach = true},
	  {1, 1000, BAD, 0, 0, .level = OK},
	  {1, 1000, 2000, 0, 0, .level = OK, .breach = true}}},
	{"held by the quota for 15 s is exceeded",
	 LIMIT_ACTION_EXIT,
	 {1000, 0, 0},
	 0,
	 {{15, 1000, 990, 0, 0, .throttled = 0.9, .level = OK},
	  {1, 1000, 990, 0, 0, .throttled = 0.9, .level = OK, .breach = true},
	  {1, 1000, 990, 0, 0, .throttled = 0.9, .level = EXIT, .breach = true, .changes = 1,
	   .resource = CPU}}},
	{"held for 14 s, then free, is not",
	 LIMIT_ACTION_EXIT,
	 {1000, 0, 0},
	 0,
	 {{14, 1000, 990, 0, 0, .throttled = 0.9, .level = OK},
	  {1, 1000, 990, 0, 0, .throttled = 0.5, .level = OK},
	  {14, 1000, 990, 0, 0, .throttled = 0.9, .level = OK}}},
	{"somebody else's quota without a limit of ours",
	 LIMIT_ACTION_EXIT,
	 {0, 1 << 20, 0},
	 0,
	 {{60, 1000, 990, 10, 0, .throttled = 1.0, .level = OK}}},
	{"exit is final",
	 LIMIT_ACTION_EXIT,
	 {1000, 0, 0},
	 0,
	 {{2, 1000, 2000, 0, 0, .level = EXIT, .breach = true, .changes = 1, .resource = CPU},
	  {500, 1000, 0, 0, 0, .level = EXIT}}},
	{"no ladder between ok and exit",
	 LIMIT_ACTION_EXIT,
	 {1000, 1 << 20, 1000},
	 0,
	 {{60, 1000, 999, (1 << 20) - 1, 999, .level = OK}}},
};

static const struct scenario scenarios_shed[] = {
	{"80 % for 3 s",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{3, 1000, 850, 0, 0, .can_sample = true, .level = OK},
	  {1, 1000, 850, 0, 0, .can_sample = true, .level = SAMPLE, .changes = 1,
	   .resource = CPU}}},
	{"80 % with a dip",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{3, 1000, 850, 0, 0, .level = OK},
	  {1, 1000, 790, 0, 0, .level = OK},
	  {3, 1000, 850, 0, 0, .level = OK}}},
	{"a step of sampling has its 5 s",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{4, 1000, 850, 0, 0, .can_sample = true, .level = SAMPLE, .changes = 1, .resource = CPU,
	   .act = POLICY_ACT_SAMPLE},
	  {4, 1000, 850, 0, 0, .can_sample = true, .level = SAMPLE},
	  {1, 1000, 850, 0, 0, .can_sample = true, .level = SAMPLE, .changes = 1, .resource = CPU,
	   .act = POLICY_ACT_SAMPLE}}},
	{"kernel time has a budget of its own",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0, 100},
	 0,
	 {{1, 1000, 110, 0, 0, .kernel = 101, .can_disable = true, .level = SAMPLE, .breach = true,
	   .changes = 1, .resource = KERNEL},
	  {1, 1000, 110, 0, 0, .kernel = 101, .can_disable = true, .level = DISABLE, .breach = true,
	   .changes = 1, .resource = KERNEL, .act = POLICY_ACT_DISABLE}}},
	{"memory is not sampled",
	 LIMIT_ACTION_SHED,
	 {0, 1000, 0},
	 0,
	 {{4, 1000, 0, 950, 0, .can_sample = true, .can_disable = true, .level = SAMPLE,
	   .changes = 1, .resource = MEM, .act = POLICY_ACT_SAMPLE},
	  {7, 1000, 0, 950, 0, .can_sample = true, .can_disable = true, .level = DISABLE,
	   .changes = 1, .resource = MEM, .act = POLICY_ACT_DISABLE}}},
	{"all the way back, each step in its time",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{2, 1000, 2000, 0, 0, .can_disable = true, .level = DISABLE, .breach = true, .changes = 2,
	   .resource = CPU, .act = POLICY_ACT_DISABLE},
	  {300, 1000, 100, 0, 0, .can_enable = true, .can_unsample = true, .level = DISABLE},
	  {1, 1000, 100, 0, 0, .can_enable = true, .can_unsample = true, .level = DISABLE,
	   .changes = 1, .resource = CPU, .act = POLICY_ACT_ENABLE},
	  {60, 1000, 100, 0, 0, .can_enable = true, .can_unsample = true, .level = DISABLE,
	   .changes = 1, .resource = CPU, .act = POLICY_ACT_ENABLE},
	  {60, 1000, 100, 0, 0, .can_unsample = true, .level = SAMPLE, .changes = 1,
	   .resource = CPU},
	  {30, 1000, 100, 0, 0, .can_unsample = true, .level = SAMPLE, .changes = 1,
	   .resource = CPU, .act = POLICY_ACT_UNSAMPLE},
	  {30, 1000, 100, 0, 0, .level = OK, .changes = 1, .resource = CPU,
	   .act = POLICY_ACT_RESTORE}}},
	{"85 % never disables",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{600, 1000, 850, 0, 0, .level = SAMPLE, .changes = 1, .resource = CPU}}},
	{"95 % waits for the sampling floor",
	 LIMIT_ACTION_SHED,
	 {0, 0, 1000},
	 0,
	 {{60, 1000, 0, 0, 950, .can_sample = true, .can_disable = true, .level = SAMPLE,
	   .changes = 12, .resource = NET, .act = POLICY_ACT_SAMPLE},
	  {5, 1000, 0, 0, 950, .can_disable = true, .level = SAMPLE},
	  {1, 1000, 0, 0, 950, .can_disable = true, .level = DISABLE, .changes = 1,
	   .resource = NET, .act = POLICY_ACT_DISABLE}}},
	{"a step up gets its 5 s",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{4, 1000, 950, 0, 0, .level = SAMPLE, .changes = 1, .resource = CPU},
	  {4, 1000, 950, 0, 0, .level = SAMPLE},
	  {1, 1000, 950, 0, 0, .level = DISABLE, .changes = 1, .resource = CPU},
	  {600, 1000, 950, 0, 0, .level = DISABLE}}},
	{"over with nothing to shed: out after three",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{1, 1000, 2000, 0, 0, .level = SAMPLE, .breach = true, .changes = 1, .resource = CPU},
	  {1, 1000, 2000, 0, 0, .level = DISABLE, .breach = true, .changes = 1, .resource = CPU},
	  {1, 1000, 2000, 0, 0, .level = EXIT, .breach = true, .changes = 1, .resource = CPU}}},
	{"over: a step of sampling each two seconds, a plugin each three, then out",
	 LIMIT_ACTION_SHED,
	 {0, 0, 1000},
	 0,
	 {{9, 1000, 0, 0, 2000, .can_sample = true, .can_disable = true, .level = SAMPLE,
	   .breach = true, .changes = 5, .resource = NET, .act = POLICY_ACT_SAMPLE},
	  {6, 1000, 0, 0, 2000, .can_disable = true, .level = DISABLE, .breach = true,
	   .changes = 2, .resource = NET, .act = POLICY_ACT_DISABLE},
	  {3, 1000, 0, 0, 2000, .level = DISABLE, .breach = true},
	  {1, 1000, 0, 0, 2000, .level = EXIT, .breach = true, .changes = 1, .resource = NET}}},
	{"shedding that helps",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{2, 1000, 2000, 0, 0, .can_disable = true, .level = DISABLE, .breach = true, .changes = 2,
	   .resource = CPU},
	  {1000, 1000, 750, 0, 0, .level = DISABLE},
	  {300, 1000, 600, 0, 0, .level = DISABLE},
	  {1, 1000, 600, 0, 0, .level = SAMPLE, .changes = 1, .resource = CPU},
	  {29, 1000, 600, 0, 0, .level = SAMPLE},
	  {1, 1000, 600, 0, 0, .level = OK, .changes = 1, .resource = CPU},
	  {600, 1000, 600, 0, 0, .level = OK}}},
	{"calm must last",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{4, 1000, 850, 0, 0, .level = SAMPLE, .changes = 1, .resource = CPU},
	  {29, 1000, 600, 0, 0, .level = SAMPLE},
	  {1, 1000, 700, 0, 0, .level = SAMPLE},
	  {30, 1000, 600, 0, 0, .level = SAMPLE},
	  {1, 1000, 600, 0, 0, .level = OK, .changes = 1, .resource = CPU}}},
	{"one full metric holds the level of another",
	 LIMIT_ACTION_SHED,
	 {1000, 1000, 0},
	 0,
	 {{4, 1000, 850, 100, 0, .level = SAMPLE, .changes = 1, .resource = CPU},
	  {600, 1000, 100, 750, 0, .level = SAMPLE}}},
	{"mem at its limit doesn't wait for the ladder",
	 LIMIT_ACTION_SHED,
	 {0, 1000, 0},
	 0,
	 {{1, 1000, 0, 1000, 0, .can_sample = true, .can_disable = true, .level = EXIT,
	   .breach = true, .changes = 1, .resource = MEM}}},
	{"nothing in the grace",
	 LIMIT_ACTION_SHED,
	 {1000, 1000, 1000},
	 5000,
	 {{5, 1000, 9999, 9999, 9999, .level = OK, .breach = true},
	  {1, 1000, 9999, 999, 9999, .level = SAMPLE, .breach = true, .changes = 1,
	   .resource = CPU}}},
	{"unknown is neither full nor in the way",
	 LIMIT_ACTION_SHED,
	 {1000, 1000, 0},
	 0,
	 {{4, 1000, 850, BAD, 0, .level = SAMPLE, .changes = 1, .resource = CPU},
	  {31, 1000, BAD, BAD, 0, .level = OK, .changes = 1, .resource = CPU}}},
	{"held by the quota climbs the ladder",
	 LIMIT_ACTION_SHED,
	 {1000, 0, 0},
	 0,
	 {{15, 1000, 500, 0, 0, .throttled = 0.6, .level = OK},
	  {3, 1000, 500, 0, 0, .throttled = 0.6, .level = EXIT, .breach = true, .changes = 3,
	   .resource = CPU}}},
};

static const struct scenario scenarios_report[] = {
	{"told once when it begins, once when it ends",
	 LIMIT_ACTION_REPORT,
	 {1000, 0, 0},
	 0,
	 {{1, 1000, 2000, 0, 0, .level = OK, .breach = true},
	  {1, 1000, 2000, 0, 0, .level = OK, .breach = true, .changes = 1, .resource = CPU},
	  {600, 1000, 2000, 0, 0, .level = OK, .breach = true},
	  {1, 1000, 950, 0, 0, .level = OK},
	  {5, 1000, 2000, 0, 0, .level = OK, .breach = true},
	  {1, 1000, 890, 0, 0, .level = OK, .changes = 1, .resource = CPU},
	  {2, 1000, 2000, 0, 0, .level = OK, .breach = true, .changes = 1, .resource = CPU}}},
	{"mem is only told, too",
	 LIMIT_ACTION_REPORT,
	 {0, 1000, 0},
	 0,
	 {{60, 1000, 0, 5000, 0, .level = OK, .breach = true, .changes = 1, .resource = MEM}}},
	{"each resource tells for itself",
	 LIMIT_ACTION_REPORT,
	 {1000, 0, 1000},
	 0,
	 {{2, 1000, 2000, 0, 0, .level = OK, .breach = true, .changes = 1, .resource = CPU},
	  {2, 1000, 2000, 0, 2000, .level = OK, .breach = true, .changes = 1, .resource = NET}}},
	{"an unknown doesn't end a breach",
	 LIMIT_ACTION_REPORT,
	 {1000, 0, 0},
	 0,
	 {{2, 1000, 2000, 0, 0, .level = OK, .breach = true, .changes = 1, .resource = CPU},
	  {60, 1000, BAD, 0, 0, .level = OK},
	  {60, 1000, 2000, 0, 0, .level = OK, .breach = true}}},
};

static void test_exit(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scenarios_exit); i++)
		scenario_run(&scenarios_exit[i]);
}

static void test_shed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scenarios_shed); i++)
		scenario_run(&scenarios_shed[i]);
}

static void test_report(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scenarios_report); i++)
		scenario_run(&scenarios_report[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit),
		cmocka_unit_test(test_shed),
		cmocka_unit_test(test_report),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
