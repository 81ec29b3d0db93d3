// SPDX-License-Identifier: Apache-2.0
/* Windows in which the kernel measures its BPF programs. */
#include "daemon/meter.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"

#define LOG_MODULE "meter"
#include "base/log.h"

#define WINDOW_NS (250 * NSEC_PER_MSEC)
#define PERIOD_NS (4 * NSEC_PER_SEC)
/* A plugin that is new has no rate yet, and whoever switched it on looks at its cost. */
#define ATTEND_NS (5 * NSEC_PER_SEC)

struct meter {
	meter_read_fn read;
	void *arg;
	sd_event_source *timer;
	int fd;		/* measuring while open */
	bool sysctl_on; /* kernel.bpf_stats_enabled: all is measured anyway */
	bool known, always;
	uint64_t attend_until;
	uint64_t window; /* number of the present one */
};

static bool sysctl_on(void)
{
	_cleanup_close_ int fd = open("/proc/sys/kernel/bpf_stats_enabled", O_RDONLY | O_CLOEXEC);
	char c = '0';

	return fd >= 0 && read(fd, &c, 1) == 1 && c == '1';
}

static bool measuring(const struct meter *m)
{
	return m->fd >= 0 || m->sysctl_on;
}

static void arm(struct meter *m, uint64_t now)
{
	uint64_t next = now + (m->fd >= 0 ? WINDOW_NS : PERIOD_NS - WINDOW_NS);

	if (!m->timer)
		return;
	sd_event_source_set_time(m->timer, next / 1000);
	sd_event_source_set_enabled(m->timer, SD_EVENT_ONESHOT);
}

static void window_open(struct meter *m)
{
	if (!m->known || measuring(m))
		return;
	m->read(m->arg); /* where the window starts */
	m->fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (m->fd < 0) {
		log_warn_errno(-errno, "BPF programs can't be measured any more, ignoring");
		m->known = false;
		return;
	}
	m->window++;
}

static void window_close(struct meter *m)
{
	if (m->fd < 0)
		return;
	m->read(m->arg);
	closep(&m->fd);
	m->fd = -1;
}

static bool wants_all(const struct meter *m, uint64_t now)
{
	return m->always || now < m->attend_until;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	struct meter *m = arg;
	uint64_t now = clock_mono_ns();

	(void)source;
	(void)usec;
	if (m->fd < 0)
		window_open(m);
	else if (!wants_all(m, now))
		window_close(m);
	else {
		/* One long window would make its rate an old one. */
		m->read(m->arg);
		m->window++;
	}
	arm(m, now);
	return 0;
}

int meter_new(struct meter **ret, sd_event *loop, meter_read_fn read, void *arg)
{
	struct meter *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->fd = -1;
	m->read = read;
	m->arg = arg;
	m->sysctl_on = sysctl_on();
	m->known = m->sysctl_on;
	if (!m->known) {
		m->fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
		m->known = m->fd >= 0;
		if (!m->known)
			log_warn("the run time of BPF programs isn't measured (%s): cpu usage "
				 "leaves it out",
				 strerror(errno));
	}
	if (m->fd >= 0 && loop) {
		r = sd_event_add_time(loop, &m->timer, CLOCK_MONOTONIC, 0, 0, on_timer, m);
		if (r < 0) {
			meter_free(m);
			return r;
		}
		arm(m, clock_mono_ns());
	}
	*ret = m;
	return 0;
}

void meter_free(struct meter *m)
{
	if (!m)
		return;
	sd_event_source_disable_unref(m->timer);
	closep(&m->fd);
	free(m);
}

bool meter_known(const struct meter *m)
{
	return m->known;
}

void meter_set_always(struct meter *m, bool always)
{
	uint64_t now = clock_mono_ns();

	if (m->always == always)
		return;
	m->always = always;
	if (always && m->fd < 0) {
		window_open(m);
		arm(m, now);
	}
}

void meter_attend(struct meter *m)
{
	uint64_t now = clock_mono_ns();

	m->attend_until = now + ATTEND_NS;
	if (m->fd < 0) {
		window_open(m);
		arm(m, now);
	}
}

/* Below that a window says little of a program that runs now and then. */
#define RATE_MIN_NS (50 * NSEC_PER_MSEC)

static void take_measured(const struct meter *m, struct meter_prog *p, uint64_t ns, uint64_t runs,
			  uint64_t now_ns)
{
	uint64_t elapsed;

	if (p->window != m->window) {
		p->window = m->window;
		p->window_at = p->at_ns;
		p->window_ns = p->window_runs = 0;
	}
	p->window_ns += ns;
	p->window_runs += runs;
	elapsed = now_ns - p->window_at;
	if (elapsed < RATE_MIN_NS)
		return;
	p->ns_rate = (double)p->window_ns / (double)elapsed;
	p->runs_rate = (double)p->window_runs / (double)elapsed;
}

/* Adds a rate's share of a pause; what is below one is kept for the next. */
static void carry_on(uint64_t *sum, double *part, double rate, uint64_t elapsed)
{
	double more = *part + rate * (double)elapsed;
	uint64_t whole = (uint64_t)more;

	*sum += whole;
	*part = more - (double)whole;
}

void meter_take(const struct meter *m, struct meter_prog *p, uint64_t raw_ns, uint64_t raw_runs,
		uint64_t now_ns)
{
	uint64_t ns = raw_ns - p->raw_ns, runs = raw_runs - p->raw_runs;

	p->raw_ns = raw_ns;
	p->raw_runs = raw_runs;
	/* Of the first look all counts, and in a pause what somebody else had measured. */
	if (!p->at_ns || measuring(m) || runs) {
		p->ns += ns;
		p->runs += runs;
	} else {
		carry_on(&p->ns, &p->part_ns, p->ns_rate, now_ns - p->at_ns);
		carry_on(&p->runs, &p->part_runs, p->runs_rate, now_ns - p->at_ns);
	}
	if (p->at_ns && measuring(m))
		take_measured(m, p, ns, runs, now_ns);
	p->at_ns = now_ns;
}
