// SPDX-License-Identifier: Apache-2.0
/* Reading ring buffers in bounded passes and ticking plugins at aligned times. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/clock.h"
#include "daemon/host_internal.h"

#define LOG_MODULE "host"
#include "base/log.h"

/* Events are at most that old when they are read; a ring that is half full wakes us before. */
#define DRAIN_INTERVAL_NS (100 * NSEC_PER_MSEC)
/* While a ring would be full within four of those it is read sooner: it holds ten times as much. */
#define DRAIN_BUSY_NS	 (10 * NSEC_PER_MSEC)
#define DRAIN_BUSY_SHARE 4
/*
 * What is read in one turn runs on a CPU that others may want at once: a turn that took longer than
 * this is followed by shorter ones, sooner.
 */
#define DRAIN_TURN_NS (500 * NSEC_PER_USEC)
/* One pass may not keep signals, timers and RPCs waiting for long; what is left is read in the next
 * turn of the loop. */
#define PASS_SAMPLES 8192
#define PASS_NS	     (20 * NSEC_PER_MSEC)
/* Reading the clock for every sample would cost more than the sample. */
#define PASS_CLOCK_EVERY 64
/* At unload the programs are detached, so the ring only holds what it had: samples are at least 8
 * bytes and a header of 8. */
#define SAMPLE_MIN    16
#define SAMPLE_HEADER 8

/* What the loop spends on a plugin, the kernel's part of its system calls included. */
static uint64_t thread_ns(void)
{
	struct timespec ts = {0};

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static int on_sample(void *ctx, void *data, size_t len)
{
	struct slot *s = ctx;

	s->in.count.events++;
	if (!s->plugin->event || s->plugin->event(&s->in, data, len) < 0)
		s->in.count.decode_errors++;
	s->pass++;
	s->pass_bytes += len + SAMPLE_HEADER;
	if (s->pass_end && (s->pass >= PASS_SAMPLES ||
			    (s->pass % PASS_CLOCK_EVERY == 0 && clock_mono_ns() >= s->pass_end)))
		return -EAGAIN; /* libbpf has moved on behind this sample */
	return 0;
}

bool slot_drain(struct slot *s, bool bounded)
{
	uint64_t most = s->ring_bytes / SAMPLE_MIN, start;
	int r;

	if (!s->ring)
		return false;
	start = thread_ns();
	s->pass = 0;
	s->pass_bytes = 0;
	s->pass_end = bounded ? clock_mono_ns() + PASS_NS : 0;
	do {
		r = ring_buffer__consume(s->ring);
	} while (!bounded && r > 0 && s->pass < most);
	s->user_ns += thread_ns() - start;
	if (r < 0 && r != -EAGAIN && log_ratelimit("ring", 3))
		log_warn_errno(r, "plugin %s: cannot read its ring buffer", s->plugin->name);
	return r == -EAGAIN;
}

/* By what came since the last reading; after a long time without one it is no measure. */
static bool fills_fast(const struct slot *s, uint64_t now)
{
	uint64_t elapsed = now - s->drained_ns;

	return s->ring && s->pass_bytes && elapsed < NSEC_PER_SEC &&
	       s->pass_bytes * DRAIN_BUSY_SHARE >= s->ring_bytes * elapsed / DRAIN_INTERVAL_NS;
}

/* As much comes in an interval as is read in a turn: half as long for twice as much. */
static uint64_t interval_for(uint64_t interval, uint64_t turn)
{
	uint64_t want = interval;

	if (turn)
		want = interval * DRAIN_TURN_NS / turn;
	/* Not more than doubled at a time: a turn may have been short by chance. */
	if (want > 2 * interval)
		want = 2 * interval;
	if (want > DRAIN_INTERVAL_NS)
		return DRAIN_INTERVAL_NS;
	return want < DRAIN_BUSY_NS ? DRAIN_BUSY_NS : want;
}

static int on_drain(sd_event_source *source, uint64_t usec, void *arg)
{
	struct host *h = arg;
	uint64_t now = clock_mono_ns(), next, spent = thread_ns();
	bool more = false, left, fast = false;

	(void)usec;
	for (unsigned int i = 0; i < h->nslots; i++) {
		struct slot *s = &h->slots[i];

		if (!s->loaded)
			continue;
		left = slot_drain(s, true);
		/* Only a ring that was more than half full can have been full. */
		if (s->ring && (left || s->pass_bytes * 2 >= s->ring_bytes) &&
		    now - s->looked_ns >= DRAIN_INTERVAL_NS) {
			s->looked_ns = now;
			slot_read_counters(s);
			slot_ring_look(s);
		}
		fast |= fills_fast(s, now);
		s->drained_ns = now;
		more |= left;
		instance_flush(&s->in);
	}
	h->drain_ns = fast ? DRAIN_BUSY_NS : interval_for(h->drain_ns, thread_ns() - spent);
	next = now + h->drain_ns;
	return sd_event_source_set_time(source, more ? 0 : next / NSEC_PER_USEC);
}

static int on_half_full(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct slot *s = arg;

	(void)source;
	(void)fd;
	(void)revents;
	return s->loaded ? on_drain(s->host->drain, 0, s->host) : 0;
}

int slot_ring_open(struct slot *s, struct err *err)
{
	int fd = bpf_object__find_map_fd_by_name(s->in.obj, "events"), r;

	if (fd < 0)
		return err_set(err, fd, "its BPF object has no map 'events'");
	s->ring = ring_buffer__new(fd, on_sample, s, NULL);
	if (!s->ring)
		return err_set(err, -errno, "cannot map its ring buffer: %s", strerror(errno));
	/* Only what the programs ask for: as a level, each sample that is there would wake us. */
	r = sd_event_add_io(s->host->o.loop, &s->half_full, fd, EPOLLIN | EPOLLET, on_half_full, s);
	return r < 0 ? err_set(err, r, "cannot watch its ring buffer: %s", strerror(-r)) : 0;
}

int host_drain_start(struct host *h)
{
	int r;

	h->drain_ns = DRAIN_INTERVAL_NS;
	/* A tenth of the interval as slack lets the kernel join our wake-up with others'. */
	r = sd_event_add_time(h->o.loop, &h->drain, CLOCK_MONOTONIC, 0,
			      DRAIN_INTERVAL_NS / 10 / NSEC_PER_USEC, on_drain, h);
	if (r < 0)
		return r;
	sd_event_source_set_description(h->drain, "drain");
	return sd_event_source_set_enabled(h->drain, SD_EVENT_OFF);
}

/* Nothing to read, nothing to wake for. */
void host_drain_update(struct host *h)
{
	int enabled = SD_EVENT_OFF, r;

	for (unsigned int i = 0; i < h->nslots; i++)
		if (h->slots[i].loaded && h->slots[i].ring)
			enabled = SD_EVENT_ON;
	r = sd_event_source_set_enabled(h->drain, enabled);
	if (r < 0 && r != -ESTALE) /* a loop that has ended takes its timers along */
		log_warn_errno(r, "cannot switch the timer that reads ring buffers");
}

/*
 * Delay until the next multiple of the interval since the epoch. A timer of the real-time clock
 * would sleep through a step back; this one is aimed anew each time. Waking a little early must not
 * give two ticks for one boundary, hence the half.
 */
static uint64_t tick_delay(uint64_t interval)
{
	uint64_t delay = interval - clock_real_ns() % interval;

	return delay < interval / 2 && delay < 50 * NSEC_PER_MSEC ? delay + interval : delay;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *arg)
{
	struct slot *s = arg;
	int r;

	(void)usec;
	slot_drain(s, true); /* closed connections of this interval belong into it */
	slot_tick_run(s);
	r = sd_event_source_set_time_relative(source,
					      tick_delay(s->in.interval_ns) / NSEC_PER_USEC);
	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int slot_tick_start(struct slot *s, struct err *err)
{
	uint64_t delay = tick_delay(s->in.interval_ns);
	int r;

	s->tick = sd_event_source_disable_unref(s->tick);
	if (!s->plugin->tick)
		return 0;
	r = sd_event_add_time_relative(s->host->o.loop, &s->tick, CLOCK_BOOTTIME,
				       delay / NSEC_PER_USEC, 1000, on_tick, s);
	if (r < 0)
		return err_set(err, r, "cannot set its timer: %s", strerror(-r));
	sd_event_source_set_description(s->tick, s->plugin->name);
	return 0;
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct slot *s = arg;
	uint64_t start = thread_ns();
	int r = s->watch_ready(&s->in);

	s->user_ns += thread_ns() - start;
	(void)source;
	(void)fd;
	(void)revents;
	if (r < 0 && log_ratelimit("watch", 3))
		log_warn_errno(r, "plugin %s: cannot read what it watches", s->plugin->name);
	return 0; /* an error would end the watch */
}

int slot_watch_fd(struct instance *in, int fd, int (*ready)(struct instance *in))
{
	struct slot *s = in->host;
	int r;

	s->watch = sd_event_source_disable_unref(s->watch);
	s->watch_ready = ready;
	r = sd_event_add_io(s->host->o.loop, &s->watch, fd, EPOLLIN, on_readable, s);
	return r < 0 ? r : 0;
}

void slot_tick_run(struct slot *s)
{
	uint64_t start = thread_ns();
	int r;

	if (s->plugin->tick) {
		r = s->plugin->tick(&s->in, clock_real_ns());
		if (r < 0 && log_ratelimit("tick", 3))
			log_warn_errno(r, "plugin %s: its interval failed", s->plugin->name);
	}
	instance_flush(&s->in);
	s->user_ns += thread_ns() - start;
}
