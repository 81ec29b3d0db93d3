// SPDX-License-Identifier: Apache-2.0
/* A line on the terminal's standard error for whatever takes more than two seconds. */
#include "clients/ringside/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"

#define QUIET_NS (2 * NSEC_PER_SEC)
#define STEP_NS	 (500 * NSEC_PER_MSEC)

static void draw(struct progress *p, uint64_t since)
{
	uint64_t rows = atomic_load_explicit(&p->rows, memory_order_relaxed);
	double seconds = (double)(clock_mono_ns() - since) / (double)NSEC_PER_SEC;

	if (rows)
		fprintf(stderr, "\r%s: %.0f s, %" PRIu64 " rows\033[K", p->what, seconds, rows);
	else
		fprintf(stderr, "\r%s: %.0f s\033[K", p->what, seconds);
	p->shown = true;
}

static void *progress_main(void *arg)
{
	struct progress *p = arg;
	uint64_t since = clock_mono_ns(), next = since + QUIET_NS;

	pthread_mutex_lock(&p->lock);
	while (!p->done) {
		struct timespec at = {.tv_sec = (time_t)(next / NSEC_PER_SEC),
				      .tv_nsec = (long)(next % NSEC_PER_SEC)};

		pthread_cond_clockwait(&p->wake, &p->lock, CLOCK_MONOTONIC, &at);
		if (!p->done && clock_mono_ns() >= next) {
			draw(p, since);
			next = clock_mono_ns() + STEP_NS;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void progress_begin(struct progress *p, bool show, const char *what)
{
	p->what = what;
	p->running = p->done = p->shown = false;
	atomic_init(&p->rows, 0);
	if (!show)
		return;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	/* Without the thread there is no line; the work goes on. */
	p->running = thread_start(&p->thread, "progress", progress_main, p) == 0;
}

void progress_end(struct progress *p)
{
	if (!p->running)
		return;
	pthread_mutex_lock(&p->lock);
	p->done = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	p->running = false;
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	if (p->shown)
		fputs("\r\033[K", stderr);
}
