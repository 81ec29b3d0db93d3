// SPDX-License-Identifier: Apache-2.0
/* Threads that work in bulk, and heartbeats. */
#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/macro.h"

/* As sched_getattr() has given it since its first version. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

static struct attr attr_now(void)
{
	struct attr a = {0};

	assert_int_equal(syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0), 0);
	return a;
}

static bool kernel_has_slices(void)
{
	struct utsname u;
	int major = 0, minor = 0;

	assert_int_equal(uname(&u), 0);
	assert_int_equal(sscanf(u.release, "%d.%d", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 12);
}

static void *bulk(void *arg)
{
	struct attr *got = arg;

	assert_int_equal(setpriority(PRIO_PROCESS, (id_t)gettid(), 3), 0);
	assert_int_equal(thread_bulk(), 0);
	*got = attr_now();
	return NULL;
}

static void test_bulk_keeps_class_and_nice(void **state)
{
	struct attr before = attr_now(), got = {0}, after;
	pthread_t thread;

	(void)state;
	assert_int_equal(thread_start(&thread, "bulk", bulk, &got), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(got.policy, SCHED_OTHER);
	assert_int_equal(got.nice, 3);
	if (kernel_has_slices())
		assert_int_equal(got.runtime_ns, 10 * NSEC_PER_MSEC);
	after = attr_now();
	assert_int_equal(after.runtime_ns, before.runtime_ns); /* of that thread alone */
}

static void *batch_and_idle(void *arg)
{
	struct sched_param none = {0};
	struct attr *got = arg;

	assert_int_equal(sched_setscheduler(0, SCHED_BATCH, &none), 0);
	assert_int_equal(thread_bulk(), 0);
	got[0] = attr_now();
	assert_int_equal(sched_setscheduler(0, SCHED_IDLE, &none), 0);
	assert_int_equal(thread_bulk(), 0);
	got[1] = attr_now();
	return NULL;
}

static void test_bulk_leaves_other_classes(void **state)
{
	struct attr got[2] = {0};
	pthread_t thread;

	(void)state;
	assert_int_equal(thread_start(&thread, "classes", batch_and_idle, got), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(got[0].policy, SCHED_BATCH);
	assert_int_equal(got[1].policy, SCHED_IDLE);
}

static void test_heartbeats(void **state)
{
	static struct heartbeat hb = {.name = "test", .max_gap_ns = NSEC_PER_SEC};
	uint64_t now;

	(void)state;
	heartbeat_register(&hb);
	now = clock_mono_ns();
	assert_null(heartbeat_late(now));
	assert_ptr_equal(heartbeat_late(now + 2 * NSEC_PER_SEC), &hb);
	heartbeat_beat_ahead(&hb, 5 * NSEC_PER_SEC);
	assert_null(heartbeat_late(now + 2 * NSEC_PER_SEC));
	heartbeat_park(&hb);
	assert_null(heartbeat_late(now + 100 * NSEC_PER_SEC));
	heartbeat_unregister(&hb);
	heartbeat_beat(&hb);
	assert_null(heartbeat_late(now + 100 * NSEC_PER_SEC));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bulk_keeps_class_and_nice),
		cmocka_unit_test(test_bulk_leaves_other_classes),
		cmocka_unit_test(test_heartbeats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
