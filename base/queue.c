// SPDX-License-Identifier: Apache-2.0
/* A bounded queue of pointers between threads. */
#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t ready;
	bool closed;
	size_t cap, head;
	_Atomic size_t len; /* written under the lock, read without */
	_Atomic uint64_t refused;
	void *items[];
};

int queue_new(struct queue **ret, size_t cap)
{
	pthread_condattr_t attr;
	struct queue *q;
	size_t size;

	if (!cap || __builtin_mul_overflow(cap, sizeof(void *), &size) ||
	    __builtin_add_overflow(size, sizeof(*q), &size))
		return -EINVAL;
	q = calloc(1, size);
	if (!q)
		return -ENOMEM;
	q->cap = cap;
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->ready, &attr);
	pthread_condattr_destroy(&attr);
	*ret = q;
	return 0;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	pthread_cond_destroy(&q->ready);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

int queue_push(struct queue *q, void *item)
{
	size_t len;
	int r = 0;

	pthread_mutex_lock(&q->lock);
	len = atomic_load(&q->len);
	if (q->closed) {
		r = -ESHUTDOWN;
	} else if (len == q->cap) {
		atomic_fetch_add(&q->refused, 1);
		r = -ENOBUFS;
	} else {
		q->items[(q->head + len) % q->cap] = item;
		atomic_store(&q->len, len + 1);
		pthread_cond_signal(&q->ready);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

void *queue_pop(struct queue *q, uint64_t timeout_ns)
{
	uint64_t now = clock_mono_ns(), end;
	struct timespec until;
	void *item = NULL;

	if (__builtin_add_overflow(now, timeout_ns, &end) || end > INT64_MAX)
		end = INT64_MAX;
	until.tv_sec = end / NSEC_PER_SEC;
	until.tv_nsec = end % NSEC_PER_SEC;

	pthread_mutex_lock(&q->lock);
	while (!q->len && !q->closed && timeout_ns)
		if (pthread_cond_timedwait(&q->ready, &q->lock, &until) == ETIMEDOUT)
			break;
	if (q->len) {
		item = q->items[q->head];
		q->head = (q->head + 1) % q->cap;
		atomic_fetch_sub(&q->len, 1);
	}
	pthread_mutex_unlock(&q->lock);
	return item;
}

void queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->ready);
	pthread_mutex_unlock(&q->lock);
}

size_t queue_len(const struct queue *q)
{
	return atomic_load(&q->len);
}

size_t queue_cap(const struct queue *q)
{
	return q->cap;
}

uint64_t queue_refused(const struct queue *q)
{
	return atomic_load(&q->refused);
}
