// SPDX-License-Identifier: Apache-2.0
/* Commands for an owning thread: replies, order, refusals, and closing while callers wait. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macro.h"
#include "base/mailbox.h"
#include "base/thread.h"

static bool readable(const struct mailbox *mb)
{
	struct pollfd p = {.fd = mailbox_fd(mb), .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static int count(void *arg)
{
	int *n = arg;

	return ++*n;
}

static void posts(void **state)
{
	struct mailbox *mb = NULL;
	int n = 0;

	(void)state;
	assert_int_equal(mailbox_new(&mb, 0), -EINVAL);
	assert_int_equal(mailbox_new(&mb, 3), 0);
	assert_false(readable(mb));
	for (int i = 0; i < 3; i++)
		assert_int_equal(mailbox_post(mb, count, &n), 0);
	assert_int_equal(mailbox_post(mb, count, &n), -ENOBUFS);
	assert_int_equal(n, 0);
	assert_true(readable(mb));
	assert_int_equal(mailbox_run(mb, 2), 2);
	assert_true(readable(mb));
	assert_int_equal(mailbox_run(mb, 10), 1);
	assert_false(readable(mb));
	assert_int_equal(n, 3);

	/* What waits at close is run, so that its owner can let go of it. */
	mailbox_post(mb, count, &n);
	mailbox_close(mb);
	assert_int_equal(n, 4);
	assert_int_equal(mailbox_post(mb, count, &n), -ESHUTDOWN);
	assert_int_equal(mailbox_call(mb, count, &n), -ESHUTDOWN);
	assert_int_equal(n, 4);
	mailbox_free(mb);
	mailbox_free(NULL);
}

#define CALLERS 4
#define CALLS 997

struct shared {
	struct mailbox *mb;
	int value; /* touched by the owner only: a race is a bug that TSan sees */
	_Atomic int faults, refused, finished;
};

struct add {
	struct shared *s;
	int by, after;
};

static int add(void *arg)
{
	struct add *a = arg;

	a->s->value += a->by;
	a->after = a->s->value;
	return a->by;
}

static void *caller(void *arg)
{
	struct shared *s = arg;

	for (int i = 1; i <= CALLS; i++) {
		struct add a = {.s = s, .by = i};
		int r = mailbox_call(s->mb, add, &a);

		if (r != i || a.after < i)
			s->faults++;
	}
	s->finished++;
	return NULL;
}

static void calls(void **state)
{
	pthread_t threads[CALLERS];
	struct shared s = {};

	(void)state;
	assert_int_equal(mailbox_new(&s.mb, CALLERS), 0);
	for (int i = 0; i < CALLERS; i++)
		assert_int_equal(thread_start(&threads[i], "caller", caller, &s), 0);
	while (s.finished < CALLERS) {
		struct pollfd p = {.fd = mailbox_fd(s.mb), .events = POLLIN};

		if (poll(&p, 1, 100) == 1)
			mailbox_run(s.mb, 2);
	}
	for (int i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(s.faults, 0);
	assert_int_equal(s.value, CALLERS * CALLS * (CALLS + 1) / 2);
	assert_false(readable(s.mb));
	mailbox_free(s.mb);
}

static void *stranded(void *arg)
{
	struct shared *s = arg;
	struct add a = {.s = s, .by = 1};

	if (mailbox_call(s->mb, add, &a) == -ESHUTDOWN)
		s->refused++;
	return NULL;
}

static void closed_under_callers(void **state)
{
	pthread_t threads[CALLERS];
	struct shared s = {};

	(void)state;
	assert_int_equal(mailbox_new(&s.mb, CALLERS), 0);
	for (int i = 0; i < CALLERS; i++)
		assert_int_equal(thread_start(&threads[i], "stranded", stranded, &s), 0);
	usleep(20000);
	mailbox_close(s.mb);
	for (int i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(s.refused, CALLERS);
	assert_int_equal(s.value, 0);
	mailbox_free(s.mb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(posts), cmocka_unit_test(calls), cmocka_unit_test(closed_under_callers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
