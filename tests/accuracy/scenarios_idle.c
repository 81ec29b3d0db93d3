// SPDX-License-Identifier: Apache-2.0
/* Scenarios of streams on which nothing happens for long: seconds with dense keep-alive probes,
 * hours with what services set, and a peer that falls silent meanwhile. */
#include "tests/accuracy/scenarios.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What goes up after the pause. */
#define REST 1000
/* What goes down before it, in the scenario of hours. */
#define DOWN_FIRST 20011
/* Seconds without a segment until the first probe; the rest is the kernel's: nine, 75 s apart. */
#define PROBE_AFTER 600
/* Connections whose peer falls silent. */
#define DYING 3

static void set(int fd, int level, int name, int value, const char *what)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)) < 0)
		die(what);
}

/* interval 0: as the kernel has it. */
static void keep_alive(int fd, int idle, int interval)
{
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle, "TCP_KEEPIDLE");
	if (interval)
		set(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval, "TCP_KEEPINTVL");
}

/* Nothing but keep-alives for extra seconds, with probes every second. */
static void call_idle(const struct args *a)
{
	int fds[CONNS];

	say_owner();
	for (int i = 0; i < CONNS; i++) {
		fds[i] = dialled(a);
		keep_alive(fds[i], 1, 1);
		put(fds[i], UP - REST);
	}
	sleep_ms(atol(a->extra) * 1000);
	for (int i = 0; i < CONNS; i++) {
		put(fds[i], REST);
		get(fds[i], DOWN);
		close(fds[i]);
	}
}

static void serve_idle_one(const struct args *a, int fd)
{
	(void)a;
	say_owner();
	get(fd, UP);
	put(fd, DOWN);
	get_all(fd);
}

static void serve_idle(const struct args *a)
{
	int s = listener(a);

	for (int i = 0; i < CONNS; i++) {
		int fd = accept_one(s);

		spawn(serve_idle_one, a, fd);
		close(fd);
	}
}

static double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* "NAME SECONDS" of the clock that timers and the kernel's programs go by, or of real time. */
static void say_time(const char *name, double seconds)
{
	dprintf(STDOUT_FILENO, "%s %.3f\n", name, seconds);
}

/* Every other connection probes; the others are as silent as can be, at both ends. */
static void may_probe(int fd, int i)
{
	if (i % 2 == 0)
		keep_alive(fd, PROBE_AFTER, 0);
}

/* Nothing but those probes for extra seconds, which may be hours. */
static void call_hours(const struct args *a)
{
	int fds[CONNS];
	long pause = atol(a->extra);
	double start;

	alarm((unsigned)pause + 600);
	say_owner();
	for (int i = 0; i < CONNS; i++) {
		say_time("opened", now(CLOCK_REALTIME));
		fds[i] = dialled(a);
		may_probe(fds[i], i);
		put(fds[i], UP - REST);
		get(fds[i], DOWN_FIRST);
	}
	start = now(CLOCK_MONOTONIC);
	dprintf(STDOUT_FILENO, "idle\n");
	sleep_ms(pause * 1000);
	say_time("slept", now(CLOCK_MONOTONIC) - start);
	for (int i = 0; i < CONNS; i++) {
		put(fds[i], REST);
		get(fds[i], DOWN - DOWN_FIRST);
		close(fds[i]);
		say_time("ended", now(CLOCK_REALTIME));
	}
}

static void serve_hours(const struct args *a)
{
	int s = listener(a), fds[CONNS];

	alarm((unsigned)atol(a->extra) + 600);
	say_owner();
	for (int i = 0; i < CONNS; i++) {
		fds[i] = accept_one(s);
		may_probe(fds[i], i);
		get(fds[i], UP - REST);
		put(fds[i], DOWN_FIRST);
	}
	for (int i = 0; i < CONNS; i++) {
		get(fds[i], REST);
		put(fds[i], DOWN - DOWN_FIRST);
		get_all(fds[i]);
		close(fds[i]);
		say_time("ended", now(CLOCK_REALTIME));
	}
}

/* Waits for what never comes, until the kernel gives the peer up. */
static void await_death(const int fds[DYING])
{
	double start = now(CLOCK_MONOTONIC);

	dprintf(STDOUT_FILENO, "idle\n");
	for (int i = 0; i < DYING; i++) {
		char c;

		if (recv(fds[i], &c, 1, 0) >= 0)
			die("a word from a dead peer");
		if (errno != ETIMEDOUT && errno != EHOSTUNREACH)
			die("not the end that was to come");
		say_time("died", now(CLOCK_MONOTONIC) - start);
		say_time("ended", now(CLOCK_REALTIME));
		close(fds[i]);
	}
}

/* The driver cuts the wire after "idle"; the keep-alive of each end finds out. */
static void call_dying(const struct args *a)
{
	int fds[DYING];

	alarm(3600);
	say_owner();
	for (int i = 0; i < DYING; i++) {
		say_time("opened", now(CLOCK_REALTIME));
		fds[i] = dialled(a);
		keep_alive(fds[i], PROBE_AFTER, 0);
		put(fds[i], UP);
		get(fds[i], DOWN);
	}
	await_death(fds);
}

static void serve_dying(const struct args *a)
{
	int s = listener(a), fds[DYING];

	alarm(3600);
	say_owner();
	for (int i = 0; i < DYING; i++) {
		fds[i] = accept_one(s);
		keep_alive(fds[i], PROBE_AFTER, 0);
		get(fds[i], UP);
		put(fds[i], DOWN);
	}
	await_death(fds);
}

const struct scenario idle_scenarios[] = {
	{"idle", serve_idle, call_idle},
	{"hours", serve_hours, call_hours},
	{"dying", serve_dying, call_dying},
	{},
};
