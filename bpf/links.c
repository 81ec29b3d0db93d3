// SPDX-License-Identifier: Apache-2.0
/* Links that threads close: two queues, and threads that end with them. */
#include "bpf/links.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"

#define LOG_MODULE "links"
#include "base/log.h"

/* Each plugin that has such links a few times over, bash with all the shells that it knows; who is
 * faster than the kernel waits. */
#define LINKS_MAX 1024

/* One of both. */
struct ending {
	struct bpf_link *link;
	int fd;
};

/* Links that the kernel ends in the same way, and the threads that close them. All but the constant
 * threads_max under lock. */
struct lane {
	unsigned int threads_max;
	struct ending queue[LINKS_MAX];
	unsigned int queued;
	unsigned int left;    /* those, and what is being closed */
	unsigned int threads; /* that will look at the queue again */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t closed = PTHREAD_COND_INITIALIZER;
/* More threads would wait for the kernel's lock, and the loop behind them when it attaches. */
static struct lane by_perf = {.threads_max = 1};
/* 300 links are gone in a second or two; they do nothing but wait. */
static struct lane by_fd = {.threads_max = 16};

static void end(const struct ending *e)
{
	int r = e->link ? bpf_link__destroy(e->link) : close(e->fd) < 0 ? -errno : 0;

	if (r < 0)
		log_warn_errno(r, "cannot detach a program");
}

static void *work(void *arg)
{
	struct lane *l = arg;

	pthread_mutex_lock(&lock);
	while (l->queued) {
		struct ending e = l->queue[0];

		memmove(l->queue, l->queue + 1, --l->queued * sizeof(l->queue[0]));
		pthread_mutex_unlock(&lock);
		end(&e);
		pthread_mutex_lock(&lock);
		l->left--;
	}
	l->threads--;
	pthread_cond_signal(&closed);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static bool enqueue(struct lane *l, const struct ending *e, bool *start)
{
	bool room;

	pthread_mutex_lock(&lock);
	room = l->queued < LINKS_MAX;
	*start = room && l->threads < l->threads_max;
	if (room) {
		l->queue[l->queued++] = *e;
		l->left++;
		l->threads += *start;
	}
	pthread_mutex_unlock(&lock);
	return room;
}

static void close_later(struct lane *l, const struct ending *e)
{
	pthread_t thread;
	bool start;
	int r;

	if (!enqueue(l, e, &start)) {
		end(e);
		return;
	}
	if (!start)
		return;
	r = thread_start(&thread, "links", work, l);
	if (r == 0) {
		pthread_detach(thread);
	} else {
		log_warn_errno(r, "no thread detaches programs, the loop waits for it");
		work(l);
	}
}

void links_close_later(struct bpf_link *link)
{
	close_later(&by_perf, &(struct ending){.link = link, .fd = -1});
}

void links_close_fd_later(int fd)
{
	close_later(&by_fd, &(struct ending){.fd = fd});
}

unsigned int links_wait(uint64_t timeout_ns)
{
	uint64_t until = clock_mono_ns() + timeout_ns;
	const struct timespec ts = {.tv_sec = (time_t)(until / NSEC_PER_SEC),
				    .tv_nsec = (long)(until % NSEC_PER_SEC)};
	unsigned int n;
	int r = 0;

	pthread_mutex_lock(&lock);
	while (by_perf.threads + by_fd.threads && !r)
		r = pthread_cond_clockwait(&closed, &lock, CLOCK_MONOTONIC, &ts);
	n = by_perf.left + by_fd.left;
	pthread_mutex_unlock(&lock);
	return n;
}
