// SPDX-License-Identifier: Apache-2.0
/* Lazily started threads over one list of jobs. */
#include "api/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/thread.h"

struct pool {
	pthread_mutex_t mu;
	pthread_cond_t work;
	struct pool_job *head, **tail;
	size_t queued, backlog;
	unsigned int started, running, max; /* threads, of them busy, at most */
	bool stopped;
	char name[14];
	pthread_t threads[];
};

int pool_new(struct pool **ret, const char *name, unsigned int max_threads, size_t backlog)
{
	struct pool *p = calloc(1, sizeof(*p) + max_threads * sizeof(p->threads[0]));

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->mu, NULL);
	pthread_cond_init(&p->work, NULL);
	p->tail = &p->head;
	p->max = max_threads;
	p->backlog = backlog;
	snprintf(p->name, sizeof(p->name), "%s", name);
	*ret = p;
	return 0;
}

static struct pool_job *take(struct pool *p)
{
	struct pool_job *job = p->head;

	if (job) {
		p->head = job->next;
		if (!p->head)
			p->tail = &p->head;
		p->queued--;
	}
	return job;
}

static void *worker(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->mu);
	for (;;) {
		struct pool_job *job = take(p);

		if (job) {
			p->running++;
			pthread_mutex_unlock(&p->mu);
			job->run(job);
			pthread_mutex_lock(&p->mu);
			p->running--;
			continue;
		}
		if (p->stopped)
			break;
		pthread_cond_wait(&p->work, &p->mu);
	}
	pthread_mutex_unlock(&p->mu);
	return NULL;
}

/* A thread for the job if all are busy. A failure matters only if there is none at all. */
static int add_thread(struct pool *p)
{
	char name[32];
	int r;

	snprintf(name, sizeof(name), "%s-%u", p->name, p->started % 10);
	r = thread_start(&p->threads[p->started], name, worker, p);
	if (r < 0)
		return p->started ? 0 : r;
	p->started++;
	return 0;
}

int pool_submit(struct pool *p, struct pool_job *job)
{
	int r = 0;

	pthread_mutex_lock(&p->mu);
	if (p->stopped)
		r = -ESHUTDOWN;
	else if (p->queued + p->running >= p->max + p->backlog)
		r = -ENOBUFS;
	else if (p->queued + p->running >= p->started && p->started < p->max)
		r = add_thread(p);
	if (r == 0) {
		job->next = NULL;
		*p->tail = job;
		p->tail = &job->next;
		p->queued++;
		pthread_cond_signal(&p->work);
	}
	pthread_mutex_unlock(&p->mu);
	return r;
}

void pool_stop(struct pool *p)
{
	pthread_mutex_lock(&p->mu);
	if (p->stopped) {
		pthread_mutex_unlock(&p->mu);
		return;
	}
	p->stopped = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->mu);
	for (unsigned int i = 0; i < p->started; i++)
		pthread_join(p->threads[i], NULL);
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pool_stop(p);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->mu);
	free(p);
}
