// SPDX-License-Identifier: Apache-2.0
/* Probes that are there for a moment, each time by a thread of its own: detaching waits for the
 * kernel. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/macro.h"
#include "base/thread.h"
#include "bpf/malloc/malloc_priv.h"
#include "bpf/uprobe.h"

/* Processes that are let go at the same time when the plugin stops. */
#define STOP_JOBS 32
/* How often a thread that works is looked after. */
#define POLL_NS (20 * NSEC_PER_MSEC)

uint64_t malloc_observed(struct malloc_process *p, uint64_t now)
{
	uint64_t ns;

	pthread_mutex_lock(&p->lock);
	ns = p->observed_ns;
	if (p->open_since && now > p->open_since)
		ns += now - p->open_since;
	pthread_mutex_unlock(&p->lock);
	return ns;
}

/* From now on calls count, or don't any more. number 0: closed. */
static int set_window(struct malloc_process *p, uint32_t number)
{
	uint64_t now;

	if (bpf_map_update_elem(bpf_map__fd(p->skel->maps.windows), &p->slot, &number, BPF_ANY) < 0)
		return -errno;
	now = clock_mono_ns();
	pthread_mutex_lock(&p->lock);
	if (number) {
		p->open_since = p->job.opened_ns = now;
	} else if (p->open_since) {
		p->observed_ns += now - p->open_since;
		p->open_since = 0;
	}
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int attach_multi(struct malloc_process *p)
{
	const struct malloc_library *l = &p->library;
	uint64_t enter[MALLOC_FUNCTIONS], leave[MALLOC_FUNCTIONS], cookies[MALLOC_FUNCTIONS];
	size_t n = 0;
	int fd;

	for (unsigned int i = 0; i < l->n; i++) {
		enter[i] = l->sites[i].enter;
		cookies[i] = l->sites[i].operation;
		if (l->sites[i].leave)
			leave[n++] = l->sites[i].leave;
	}
	fd = uprobe_multi_attach(p->skel->progs.multi_enter, false, p->pid, p->path, enter, cookies,
				 l->n);
	if (fd < 0)
		return fd;
	p->probes.fds[0] = fd;
	fd = uprobe_multi_attach(p->skel->progs.multi_leave, true, p->pid, p->path, leave, cookies,
				 n);
	if (fd < 0)
		return fd;
	p->probes.fds[1] = fd;
	return 0;
}

static struct bpf_program *program_of(struct malloc_bpf *skel, uint8_t operation)
{
	switch (operation) {
	case MALLOC_MALLOC:
		return skel->progs.enter_malloc;
	case MALLOC_FREE:
		return skel->progs.enter_freed;
	case MALLOC_CALLOC:
		return skel->progs.enter_calloc;
	case MALLOC_REALLOC:
		return skel->progs.enter_realloc;
	case MALLOC_POSIX_MEMALIGN:
		return skel->progs.enter_posix_memalign;
	case MALLOC_ALIGNED_ALLOC:
		return skel->progs.enter_aligned_alloc;
	case MALLOC_VALLOC:
		return skel->progs.enter_valloc;
	case MALLOC_MEMALIGN:
		return skel->progs.enter_memalign;
	default:
		return skel->progs.enter_pvalloc;
	}
}

static int attach_one(struct malloc_process *p, struct bpf_program *prog, bool at_return,
		      uint64_t offset)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = at_return);
	struct bpf_link *link =
		bpf_program__attach_uprobe_opts(prog, (pid_t)p->pid, p->path, offset, &opts);

	if (!link)
		return -errno;
	p->probes.links[p->probes.nlinks++] = link;
	return 0;
}

/* Returns first: a call whose return would be missed must not be seen. */
static int attach_each(struct malloc_process *p)
{
	const struct malloc_library *l = &p->library;
	int r = 0;

	for (unsigned int i = 0; i < l->n && !r; i++)
		if (l->sites[i].leave)
			r = attach_one(p, p->skel->progs.leave, true, l->sites[i].leave);
	for (unsigned int i = 0; i < l->n && !r; i++)
		r = attach_one(p, program_of(p->skel, l->sites[i].operation), false,
			       l->sites[i].enter);
	return r;
}

static void *close_link(void *arg)
{
	int *fd = arg;

	close(*fd);
	*fd = -1;
	return NULL;
}

/*
 * The breakpoints go when nobody wants them any more, and each close then waits for the kernel's
 * grace period (30 ms measured): both at once, so that processes don't trap while one waits.
 */
static void detach(struct malloc_process *p)
{
	struct malloc_probes *probes = &p->probes;
	pthread_t second;
	bool started = false;

	if (probes->fds[1] >= 0)
		started = !thread_start(&second, "malloc-close", close_link, &probes->fds[1]);
	if (probes->fds[0] >= 0)
		close_link(&probes->fds[0]);
	if (started)
		pthread_join(second, NULL);
	else if (probes->fds[1] >= 0)
		close_link(&probes->fds[1]);
	while (probes->nlinks)
		bpf_link__destroy(probes->links[--probes->nlinks]);
}

static void *run_job(void *arg)
{
	struct malloc_process *p = arg;
	struct malloc_job *j = &p->job;
	const struct timespec window = {.tv_nsec = MALLOC_WINDOW_NS};

	j->begun_ns = clock_mono_ns();
	if (j->attach) {
		j->error = p->multi ? attach_multi(p) : attach_each(p);
		if (!j->error)
			j->error = set_window(p, (uint32_t)(j->begun_ns / NSEC_PER_MSEC) | 1);
		if (j->error)
			j->detach = true;
		else if (j->detach)
			clock_nanosleep(CLOCK_MONOTONIC, 0, &window, NULL);
	}
	if (j->detach) {
		int r = set_window(p, 0);

		if (!j->error)
			j->error = r;
		j->closed_ns = clock_mono_ns();
		detach(p);
	}
	atomic_store_explicit(&j->done, true, memory_order_release);
	return NULL;
}

static int start_job(struct malloc_process *p, bool attach, bool and_detach)
{
	struct malloc_job *j = &p->job;
	int r;

	*j = (struct malloc_job){.attach = attach, .detach = and_detach};
	r = thread_start(&j->thread, "malloc-window", run_job, p);
	if (r < 0)
		return r;
	j->running = true;
	p->attached = true;
	return 0;
}

/* A little earlier or later each time, so that what a program does in step isn't seen always or
 * never. */
static uint64_t pause_of(const struct malloc_state *st, uint64_t cost)
{
	uint64_t pause = (uint64_t)((double)cost * (1 / st->duty - 1));
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		return pause; /* in step, then */
	return (uint64_t)((double)pause * (0.75 + 0.5 * random / UINT32_MAX));
}

static void end_job(const struct malloc_state *st, struct malloc_process *p, uint64_t now)
{
	struct malloc_job *j = &p->job;

	pthread_join(j->thread, NULL);
	j->running = false;
	if (!j->detach)
		return;
	p->attached = false;
	/* Gone, or with another program: the next scan finds out which. */
	p->lost |= j->error == -ENOENT || j->error == -ESRCH;
	p->error = p->lost ? 0 : j->error;
	/* It traps from the first probe on. */
	p->next_ns = now;
	if (j->attach)
		p->next_ns = j->closed_ns + pause_of(st, j->closed_ns - j->begun_ns);
	if (j->error)
		p->next_ns = now + NSEC_PER_SEC;
}

/* What this process needs now: 1 when a thread began it. */
static int step(const struct malloc_state *st, struct malloc_process *p, uint64_t now,
		uint64_t *next)
{
	bool always = st->duty >= 1, over = p->ended || p->unwanted || p->moved;

	if (p->job.running && atomic_load_explicit(&p->job.done, memory_order_acquire))
		end_job(st, p, now);
	if (p->job.running)
		return 0;
	if (p->attached) /* for good, until somebody wants less */
		return (!always || over) && !start_job(p, false, true);
	if (over)
		return 0;
	if (p->next_ns > now) {
		*next = p->next_ns < *next ? p->next_ns : *next;
		return 0;
	}
	return !start_job(p, true, !always);
}

uint64_t malloc_windows_run(struct instance *in, uint64_t now)
{
	struct malloc_state *st = in->state;
	uint64_t next = UINT64_MAX;
	unsigned int running = 0;

	for (struct malloc_process *p = st->processes; p; p = p->next)
		running += p->job.running;
	for (struct malloc_process *p = st->processes; p; p = p->next) {
		bool was = p->job.running;

		if (!was && running >= MALLOC_JOBS) {
			if (p->next_ns < now + POLL_NS)
				next = now + POLL_NS < next ? now + POLL_NS : next;
			continue;
		}
		step(st, p, now, &next);
		running = running - was + p->job.running;
	}
	return running && now + POLL_NS < next ? now + POLL_NS : next;
}

static void join(struct malloc_process *p)
{
	if (!p->job.running)
		return;
	pthread_join(p->job.thread, NULL);
	p->job.running = false;
	p->attached = !p->job.detach;
}

void malloc_windows_stop(struct instance *in)
{
	struct malloc_state *st = in->state;
	struct malloc_process *p, *last = st->processes;
	unsigned int running = 0;

	for (p = st->processes; p; p = p->next)
		join(p);
	/* Many at once: each waits for the kernel. */
	for (p = st->processes; p; p = p->next) {
		if (p->attached && start_job(p, false, true) < 0) {
			(void)set_window(p, 0);
			detach(p);
			p->attached = false;
		}
		running += p->job.running;
		for (; running >= STOP_JOBS && last != p; last = last->next) {
			running -= last->job.running;
			join(last);
		}
	}
	for (; last; last = last->next)
		join(last);
}
