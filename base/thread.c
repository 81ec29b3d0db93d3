// SPDX-License-Identifier: Apache-2.0
/* Named threads and the heartbeats by which a stuck one is noticed. */
#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"

/* Faults of the thread itself: they must reach whoever handles crashes. */
static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};

/* Longer than the kernel's own slices, which are 3 ms at most. */
#define BULK_SLICE_NS (10 * NSEC_PER_MSEC)

/* The kernel's struct sched_attr as of its first version; C libraries have it since 2025 only. */
struct k_sched_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

static pthread_mutex_t hearts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct heartbeat *hearts;

int thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg)
{
	sigset_t block, old;
	pthread_t thread;
	int r;

	sigfillset(&block);
	for (size_t i = 0; i < ARRAY_SIZE(fault_signals); i++)
		sigdelset(&block, fault_signals[i]);
	r = pthread_sigmask(SIG_SETMASK, &block, &old);
	if (r)
		return -r;
	r = pthread_create(&thread, NULL, fn, arg);
	if (!r) {
		*ret = thread;
		pthread_setname_np(thread, name); /* for people; too long a name changes nothing else */
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

int thread_bulk(void)
{
	struct k_sched_attr attr = {0};

	if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0)
		return -errno;
	if (attr.policy != SCHED_OTHER && attr.policy != SCHED_BATCH)
		return 0; /* somebody gave it another class: that has a meaning */
	attr.runtime_ns = BULK_SLICE_NS;
	return syscall(SYS_sched_setattr, 0, &attr, 0) < 0 ? -errno : 0;
}

void heartbeat_register(struct heartbeat *hb)
{
	heartbeat_beat(hb);
	pthread_mutex_lock(&hearts_lock);
	hb->next = hearts;
	hearts = hb;
	pthread_mutex_unlock(&hearts_lock);
}

void heartbeat_unregister(struct heartbeat *hb)
{
	pthread_mutex_lock(&hearts_lock);
	for (struct heartbeat **p = &hearts; *p; p = &(*p)->next) {
		if (*p == hb) {
			*p = hb->next;
			hb->next = NULL;
			break;
		}
	}
	pthread_mutex_unlock(&hearts_lock);
}

void heartbeat_beat(struct heartbeat *hb)
{
	atomic_store_explicit(&hb->last_ns, clock_mono_ns(), memory_order_relaxed);
}

void heartbeat_beat_ahead(struct heartbeat *hb, uint64_t extra_ns)
{
	/* A beat of the future is not late before it comes to pass. */
	atomic_store_explicit(&hb->last_ns, clock_mono_ns() + extra_ns, memory_order_relaxed);
}

void heartbeat_park(struct heartbeat *hb)
{
	atomic_store_explicit(&hb->last_ns, 0, memory_order_relaxed);
}

const struct heartbeat *heartbeat_late(uint64_t now_ns)
{
	const struct heartbeat *late = NULL;

	pthread_mutex_lock(&hearts_lock);
	for (struct heartbeat *hb = hearts; hb && !late; hb = hb->next) {
		uint64_t last = atomic_load_explicit(&hb->last_ns, memory_order_relaxed);

		/* A beat newer than now_ns is not late. */
		if (last && now_ns > last && now_ns - last > hb->max_gap_ns)
			late = hb;
	}
	pthread_mutex_unlock(&hearts_lock);
	return late;
}
