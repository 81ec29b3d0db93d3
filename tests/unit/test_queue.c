// SPDX-License-Identifier: Apache-2.0
/* The bounded queue between threads: order, refusals, closing, and nothing lost or doubled. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/macro.h"
#include "base/queue.h"
#include "base/thread.h"

static void *item(uintptr_t n)
{
	return (void *)n;
}

static void one_thread(void **state)
{
	struct queue *q = NULL;
	uint64_t before;

	(void)state;
	assert_int_equal(queue_new(&q, 0), -EINVAL);
	assert_int_equal(queue_new(&q, SIZE_MAX / 4), -EINVAL);
	assert_null(q);
	assert_int_equal(queue_new(&q, 3), 0);
	assert_int_equal(queue_cap(q), 3);
	assert_null(queue_pop(q, 0));
	for (int round = 0; round < 5; round++) {
		for (uintptr_t i = 1; i <= 3; i++)
			assert_int_equal(queue_push(q, item(i)), 0);
		assert_int_equal(queue_push(q, item(4)), -ENOBUFS);
		assert_int_equal(queue_len(q), 3);
		for (uintptr_t i = 1; i <= 3; i++)
			assert_ptr_equal(queue_pop(q, UINT64_MAX), item(i));
	}
	assert_int_equal(queue_refused(q), 5);

	before = clock_mono_ns();
	assert_null(queue_pop(q, 20 * NSEC_PER_MSEC));
	assert_true(clock_mono_ns() - before >= 20 * NSEC_PER_MSEC);

	queue_push(q, item(9));
	queue_close(q);
	assert_int_equal(queue_push(q, item(1)), -ESHUTDOWN);
	assert_int_equal(queue_refused(q), 5);
	assert_ptr_equal(queue_pop(q, UINT64_MAX), item(9));
	assert_null(queue_pop(q, UINT64_MAX));
	queue_free(q);
	queue_free(NULL);
}

#define PRODUCERS 3
#define ITEMS 20011 /* each; prime */

static struct queue *shared;
static _Atomic uint64_t sent_sum, refused;

static void *produce(void *arg)
{
	uintptr_t base = (uintptr_t)arg * ITEMS;

	for (uintptr_t i = 1; i <= ITEMS; i++) {
		if (queue_push(shared, item(base + i)))
			atomic_fetch_add(&refused, 1);
		else
			atomic_fetch_add(&sent_sum, base + i);
	}
	return NULL;
}

static void *consume(void *arg)
{
	uint64_t *got = arg; /* count, sum, order faults */
	uintptr_t last[PRODUCERS] = {};
	void *p;

	while ((p = queue_pop(shared, 10 * NSEC_PER_SEC))) {
		uintptr_t v = (uintptr_t)p, from = (v - 1) / ITEMS;

		got[0]++;
		got[1] += v;
		got[2] += v <= last[from];
		last[from] = v;
	}
	return NULL;
}

static void many_threads(void **state)
{
	pthread_t producers[PRODUCERS], consumer;
	uint64_t got[3] = {};

	(void)state;
	assert_int_equal(queue_new(&shared, 64), 0);
	assert_int_equal(thread_start(&consumer, "consume", consume, got), 0);
	for (uintptr_t i = 0; i < PRODUCERS; i++)
		assert_int_equal(thread_start(&producers[i], "produce", produce, (void *)i), 0);
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i], NULL);
	queue_close(shared);
	pthread_join(consumer, NULL);
	assert_int_equal(got[0] + refused, PRODUCERS * ITEMS);
	assert_int_equal(got[1], sent_sum);
	assert_int_equal(got[2], 0);
	assert_int_equal(queue_refused(shared), refused);
	queue_free(shared);
}

static void hearts(void **state)
{
	struct heartbeat a = {.name = "a", .max_gap_ns = 1000}, b = {.name = "b", .max_gap_ns = 5000};
	uint64_t now;

	(void)state;
	assert_null(heartbeat_late(UINT64_MAX));
	heartbeat_register(&a);
	heartbeat_register(&b);
	now = a.last_ns < b.last_ns ? b.last_ns : a.last_ns;
	assert_null(heartbeat_late(a.last_ns));
	a.last_ns = b.last_ns = now;
	assert_null(heartbeat_late(now + 1000));
	assert_ptr_equal(heartbeat_late(now + 1001), &a);
	heartbeat_park(&a);
	assert_null(heartbeat_late(now + 5000));
	assert_ptr_equal(heartbeat_late(now + 5001), &b);
	heartbeat_unregister(&b);
	assert_null(heartbeat_late(now + 5001));
	heartbeat_beat(&a);
	assert_ptr_equal(heartbeat_late(clock_mono_ns() + NSEC_PER_SEC), &a);
	heartbeat_beat_ahead(&a, 10 * NSEC_PER_SEC);
	assert_null(heartbeat_late(clock_mono_ns() + 9 * NSEC_PER_SEC));
	assert_ptr_equal(heartbeat_late(clock_mono_ns() + 11 * NSEC_PER_SEC), &a);
	heartbeat_beat(&a);
	assert_ptr_equal(heartbeat_late(clock_mono_ns() + NSEC_PER_SEC), &a);
	heartbeat_unregister(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_thread), cmocka_unit_test(many_threads), cmocka_unit_test(hearts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
