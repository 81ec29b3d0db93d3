// SPDX-License-Identifier: Apache-2.0
/* The governor's thread: events, the reason left behind, and the two hard ends when nobody obeys.
 */
#include "governor/governor.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "base/thread.h"
#include "governor/cgroup.h"
#include "governor/last_exit.h"

struct seen {
	char dir[32];
	_Atomic int events, exits, code;
	_Atomic bool reason_was_there;
	char text[200];
	struct policy_decision decision;
};

/* A directory, a place and a governor that samples fast. */
struct rig {
	struct seen seen;
	struct cgroup_place *place;
	struct governor *g;
	bool unmeasured; /* BPF run time */
	enum governor_level start_level;
};

static void on_event(void *ctx, const struct governor_event *event)
{
	struct seen *s = &((struct rig *)ctx)->seen;

	memcpy(s->text, event->text, sizeof(s->text));
	s->decision = event->decision;
	atomic_fetch_add(&s->events, 1);
}

static void on_exit_seen(void *ctx, int code, const struct governor_event *event)
{
	struct seen *s = &((struct rig *)ctx)->seen;
	char line[300];

	(void)event;
	atomic_store(&s->reason_was_there, last_exit_read(s->dir, line, sizeof(line)) == 0);
	atomic_store(&s->code, code);
	atomic_fetch_add(&s->exits, 1);
}

static void bpf_cost(void *ctx, uint64_t *ret_run_ns, uint64_t *ret_map_bytes)
{
	/* A quarter of a core. */
	*ret_run_ns = ((struct rig *)ctx)->unmeasured ? UINT64_MAX : clock_mono_ns() / 4;
	*ret_map_bytes = 12345;
}

static void rig_start(struct rig *r, struct policy_limits limits)
{
	struct governor_options options = {.limits = limits,
					   .state_dir = r->seen.dir,
					   .interval_ns = 50 * NSEC_PER_MSEC,
					   .bpf_cost = bpf_cost,
					   .on_event = on_event,
					   .on_exit = on_exit_seen,
					   .start_level = r->start_level,
					   .start_reason = "so it was",
					   .ctx = r};
	struct err err = {0};

	strcpy(r->seen.dir, "/tmp/rs-gov-XXXXXX");
	assert_non_null(mkdtemp(r->seen.dir));
	assert_int_equal(cgroup_enter(&r->place, "ringside-test", false), 0);
	options.place = r->place;
	assert_int_equal(governor_new(&r->g, &options, &err), 0);
	assert_int_equal(governor_start(r->g, &err), 0);
}

static void dir_remove(const char *dir)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/" LAST_EXIT_FILE, dir);
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

static void rig_stop(struct rig *r)
{
	governor_free(r->g);
	cgroup_leave(r->place);
	dir_remove(r->seen.dir);
}

static bool wait_for(_Atomic int *n, int wanted, int ms)
{
	for (; atomic_load(n) < wanted && ms > 0; ms -= 10)
		usleep(10000);
	return atomic_load(n) >= wanted;
}

static void test_mem_exit(void **state)
{
	struct rig r = {0};
	struct policy_limits limits;
	struct governor_usage usage;
	enum governor_level level;
	char line[300];

	(void)state;
	rig_start(&r,
		  (struct policy_limits){.limit[RESOURCE_MEM] = 4096, .action = LIMIT_ACTION_SHED});
	assert_true(wait_for(&r.seen.exits, 1, 2000));
	assert_int_equal(r.seen.code, 82);
	assert_true(r.seen.reason_was_there);
	assert_int_equal(r.seen.events, 1);
	assert_non_null(strstr(r.seen.text, "mem "));
	assert_non_null(strstr(r.seen.text, "exceeds mem_limit 4KiB: exit 82"));
	assert_int_equal(last_exit_read(r.seen.dir, line, sizeof(line)), 0);
	assert_non_null(strstr(line, " exit 82: mem "));
	/* One exit is enough. */
	assert_false(wait_for(&r.seen.exits, 2, 300));
	governor_get(r.g, &limits, &usage, &level);
	assert_int_equal(level, GOVERNOR_EXIT);
	assert_int_equal(limits.limit[RESOURCE_MEM], 4096);
	assert_int_equal(usage.bpf_map_bytes, 12345);
	rig_stop(&r);
}

/* The kernel's part of the bill alone breaks the budget: this process sleeps. */
static void test_bpf_time_counts(void **state)
{
	struct rig r = {0};
	struct governor_usage usage;

	(void)state;
	rig_start(&r,
		  (struct policy_limits){.limit[RESOURCE_CPU] = 200, .action = LIMIT_ACTION_EXIT});
	assert_true(wait_for(&r.seen.exits, 1, 8000));
	assert_int_equal(r.seen.code, 81);
	governor_get(r.g, NULL, &usage, NULL);
	assert_in_range(usage.cpu_bpf_millicores, 230, 270);
	rig_stop(&r);
}

/* A budget for that part alone, and what is not measured is not exceeded. */
static void test_kernel_budget(void **state)
{
	struct rig r = {0};
	struct policy_limits limits = {.limit = {[RESOURCE_KERNEL_CPU] = 200},
				       .action = LIMIT_ACTION_EXIT};

	(void)state;
	rig_start(&r, limits);
	assert_true(wait_for(&r.seen.exits, 1, 8000));
	assert_int_equal(r.seen.code, 81);
	assert_non_null(strstr(r.seen.text, " exceeds kernel_cpu_limit 0.200: exit 81"));
	rig_stop(&r);
	r = (struct rig){.unmeasured = true};
	rig_start(&r, limits);
	assert_false(wait_for(&r.seen.events, 1, 4000));
	rig_stop(&r);
}

/* The first event says where we begin and why; with plenty of room it is left again. */
static void test_start_down(void **state)
{
	struct rig r = {.start_level = GOVERNOR_SAMPLE};
	enum governor_level level;

	(void)state;
	rig_start(&r, (struct policy_limits){.limit = {[RESOURCE_CPU] = 100000},
					     .recovery_ns = 20 * NSEC_PER_SEC});
	assert_true(wait_for(&r.seen.events, 1, 1000));
	assert_non_null(strstr(r.seen.text, "starting one step down, at level sample: so it was"));
	assert_int_equal(r.seen.decision.act, POLICY_ACT_SAMPLE);
	governor_get(r.g, NULL, NULL, &level);
	assert_int_equal(level, GOVERNOR_SAMPLE);
	assert_true(wait_for(&r.seen.events, 2, 4000));
	governor_get(r.g, NULL, NULL, &level);
	assert_int_equal(level, GOVERNOR_OK);
	rig_stop(&r);
}

static void test_last_exit_recent(void **state)
{
	char dir[] = "/tmp/rs-gov-XXXXXX", path[64];
	const uint64_t ts = 1000 * NSEC_PER_SEC, ten = 600 * NSEC_PER_SEC;
	const struct {
		int code;
		uint64_t now;
		bool recent;
	} cases[] = {
		{81, ts, true},	      {83, ts + ten - 1, true},
		{81, ts + ten, false}, {1, ts, false},
		{84, ts, false},      {82, ts - 1, false},
	};

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_false(last_exit_recent(dir, ts, ten));
	snprintf(path, sizeof(path), "%s/" LAST_EXIT_FILE, dir);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		FILE *f = fopen(path, "w");

		assert_non_null(f);
		fprintf(f, "{\"ts\": %llu, \"exit_code\": %d}", (unsigned long long)ts,
			cases[i].code);
		assert_int_equal(fclose(f), 0);
		assert_int_equal(last_exit_recent(dir, cases[i].now, ten), cases[i].recent);
	}
	dir_remove(dir);
}

static void test_report_and_live_limits(void **state)
{
	struct rig r = {0};
	struct policy_limits limits = {.limit[RESOURCE_MEM] = 1ull << 40,
				       .action = LIMIT_ACTION_REPORT};

	(void)state;
	rig_start(&r, limits);
	assert_false(wait_for(&r.seen.events, 1, 300));
	limits.limit[RESOURCE_MEM] = 4096;
	governor_set_limits(r.g, &limits);
	/* Twice over the limit, a second apart. */
	assert_true(wait_for(&r.seen.events, 1, 3000));
	assert_true(r.seen.decision.breach);
	assert_non_null(strstr(r.seen.text, "reported only"));
	limits.limit[RESOURCE_MEM] = 1ull << 40;
	governor_set_limits(r.g, &limits);
	assert_true(wait_for(&r.seen.events, 2, 1000));
	assert_false(r.seen.decision.breach);
	assert_non_null(strstr(r.seen.text, "is within mem_limit 1TiB"));
	assert_int_equal(r.seen.exits, 0);
	rig_stop(&r);
}

static void test_no_state_dir(void **state)
{
	struct governor_options options = {.state_dir = "/nonexistent/rs"};
	struct governor *g = NULL;
	struct err err = {0};

	(void)state;
	assert_true(governor_new(&g, &options, &err) < 0);
	assert_null(g);
	assert_non_null(strstr(err.msg, "/nonexistent/rs"));
}

/* Runs fn in a process of its own; returns its wait status, *ret_ms how long it lived. */
static int in_child(void (*fn)(struct rig *r), char *ret_dir, int *ret_ms)
{
	uint64_t start = clock_mono_ns();
	struct rig *r = calloc(1, sizeof(*r));
	int fds[2], status;
	pid_t pid;

	assert_non_null(r);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		fn(r);
		if (write(fds[1], r->seen.dir, sizeof(r->seen.dir)) < 0)
			_exit(99);
		sleep(40);
		_exit(98);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], ret_dir, sizeof(r->seen.dir)), sizeof(r->seen.dir));
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	*ret_ms = (int)((clock_mono_ns() - start) / NSEC_PER_MSEC);
	free(r);
	return status;
}

static void child_deaf(struct rig *r)
{
	rig_start(r,
		  (struct policy_limits){.limit[RESOURCE_MEM] = 4096, .action = LIMIT_ACTION_EXIT});
}

/* on_exit was called and nothing came of it. */
static void test_hard_stop(void **state)
{
	char dir[32], line[300];
	int ms, status = in_child(child_deaf, dir, &ms);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 82);
	assert_in_range(ms, 4900, 9000);
	assert_int_equal(last_exit_read(dir, line, sizeof(line)), 0);
	dir_remove(dir);
}

static void child_stuck(struct rig *r)
{
	static struct heartbeat other = {.name = "store", .max_gap_ns = 50 * NSEC_PER_MSEC};
	static struct heartbeat loop = {.name = "loop", .max_gap_ns = 100 * NSEC_PER_MSEC};

	heartbeat_register(&loop);
	heartbeat_register(&other);
	heartbeat_beat(&loop);
	heartbeat_beat(&other);
	rig_start(r, (struct policy_limits){0});
}

static void test_stuck_loop(void **state)
{
	char dir[32], line[300];
	int ms, status = in_child(child_stuck, dir, &ms);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
	assert_in_range(ms, 10000, 15000);
	assert_int_equal(last_exit_read(dir, line, sizeof(line)), 0);
	assert_non_null(strstr(line, "the event loop has stood still for 10"));
	dir_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First those that fork, while there is one thread. */
		cmocka_unit_test(test_hard_stop),
		cmocka_unit_test(test_stuck_loop),
		cmocka_unit_test(test_no_state_dir),
		cmocka_unit_test(test_mem_exit),
		cmocka_unit_test(test_bpf_time_counts),
		cmocka_unit_test(test_kernel_budget),
		cmocka_unit_test(test_start_down),
		cmocka_unit_test(test_last_exit_recent),
		cmocka_unit_test(test_report_and_live_limits),
	};

	log_init(LOG_LEVEL_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
