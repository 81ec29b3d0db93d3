// SPDX-License-Identifier: Apache-2.0
/* Links that a thread closes: a queue, and a thread that ends with it. */
#include "bpf/links.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/thread.h"

#define LOG_MODULE "links"
#include "base/log.h"

/* Each plugin that has such links a few times over, bash with a hundred shells; who is faster than
 * the kernel waits. */
#define LINKS_MAX 512

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bpf_link *queue[LINKS_MAX];
static unsigned int queued;
static bool working; /* the thread will look at the queue again */
static bool started; /* there is one to be joined; the loop's alone */
static pthread_t thread;

static void destroy(struct bpf_link *link)
{
	int r = bpf_link__destroy(link);

	if (r < 0)
		log_warn_errno(r, "cannot detach a program");
}

static void *work(void *arg)
{
	(void)arg;
	for (;;) {
		struct bpf_link *link;

		pthread_mutex_lock(&lock);
		working = queued > 0;
		link = queued ? queue[0] : NULL;
		if (queued)
			memmove(queue, queue + 1, --queued * sizeof(queue[0]));
		pthread_mutex_unlock(&lock);
		if (!link)
			return NULL;
		destroy(link);
	}
}

static bool enqueue(struct bpf_link *link, bool *start)
{
	bool room;

	pthread_mutex_lock(&lock);
	room = queued < LINKS_MAX;
	if (room)
		queue[queued++] = link;
	*start = room && !working;
	working |= room;
	pthread_mutex_unlock(&lock);
	return room;
}

void links_close_later(struct bpf_link *link)
{
	bool start;
	int r;

	if (!enqueue(link, &start)) {
		destroy(link);
		return;
	}
	if (!start)
		return;
	if (started)
		pthread_join(thread, NULL); /* it has found the queue empty */
	r = thread_start(&thread, "links", work, NULL);
	started = r == 0;
	if (r < 0) {
		log_warn_errno(r, "no thread detaches programs, the loop waits for it");
		work(NULL);
	}
}

void links_wait(void)
{
	if (started)
		pthread_join(thread, NULL);
	started = false;
}
