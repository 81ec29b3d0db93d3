// SPDX-License-Identifier: Apache-2.0
/* Makes known numbers of events at a given rate, on command, in one process that stays. */
/*
 * eventload KIND [PATH]: open, exec, connect, bind, signal or malloc; PATH is what is opened or
 * run. Each line "COUNT [RATE]" on standard input makes COUNT events, RATE a second (0 or none: as
 * fast as it can), and is answered by "COUNT ELAPSED_NS CPU_NS". It says "ready PID PORT" first;
 * PORT is where connect goes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT_MAX 50000000ull
/* At a rate, events are made in groups of a millisecond: sleeping for each would be the bottleneck.
 */
#define GROUPS_A_SECOND 1000

extern char **environ;

static char *path;
static int listener = -1;
static struct sockaddr_in address = {.sin_family = AF_INET};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "eventload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Its own and that of children that were waited for. */
static uint64_t cpu_ns(void)
{
	static const int whose[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
	uint64_t us = 0;

	for (int i = 0; i < 2; i++) {
		struct rusage u;

		getrusage(whose[i], &u);
		us += (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000;
		us += (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
	}
	return us * 1000;
}

static void make_open(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(path);
	close(fd);
}

static void make_exec(void)
{
	char *argv[] = {path, "one", "two", NULL};
	pid_t pid;

	errno = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
	if (errno || waitpid(pid, NULL, 0) != pid)
		die(argv[0]);
}

static void make_connect(void)
{
	const struct linger reset = {.l_onoff = 1};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), other;

	/* A reset leaves no port in TIME_WAIT. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (other < 0)
		die("accept");
	close(fd);
	close(other);
}

static void make_bind(void)
{
	const struct sockaddr_in any = {.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		die("bind");
	close(fd);
}

static void make_signal(void)
{
	if (kill(getpid(), SIGUSR1) < 0)
		die("kill");
}

static void make_malloc(void)
{
	void *volatile p = malloc(100);

	if (!p)
		die("malloc");
	free(p);
}

static const struct kind {
	const char *name;
	void (*make)(void);
	char *path;
} kinds[] = {
	{"open", make_open, "/etc/passwd"}, {"exec", make_exec, "/bin/true"},
	{"connect", make_connect, ""},	    {"signal", make_signal, ""},
	{"malloc", make_malloc, ""},	    {"bind", make_bind, ""},
};

static void make_listener(void)
{
	socklen_t len = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 16) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &len) < 0)
		die("listen");
}

static void sleep_until(uint64_t ns)
{
	const struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000),
				    .tv_nsec = (long)(ns % 1000000000)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void run(const struct kind *kind, uint64_t count, uint64_t rate)
{
	uint64_t start = now_ns(), cpu = cpu_ns();
	uint64_t group = rate > GROUPS_A_SECOND ? rate / GROUPS_A_SECOND : 1;

	for (uint64_t i = 0; i < count; i++) {
		if (rate && i % group == 0)
			sleep_until(start + (uint64_t)((double)i * 1e9 / (double)rate));
		kind->make();
	}
	printf("%llu %llu %llu\n", (unsigned long long)count,
	       (unsigned long long)(now_ns() - start), (unsigned long long)(cpu_ns() - cpu));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const struct kind *kind = NULL;
	unsigned long long count, rate;
	char line[64];

	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, argv[1]) == 0)
			kind = &kinds[i];
	if (!kind) {
		fprintf(stderr, "usage: eventload open|exec|connect|bind|signal|malloc [PATH]\n");
		return 2;
	}
	path = argc > 2 ? argv[2] : kind->path;
	if (kind->make == make_connect)
		make_listener();
	signal(SIGUSR1, SIG_IGN);
	printf("ready %d %d\n", getpid(), ntohs(address.sin_port));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		rate = 0;
		if (sscanf(line, "%llu %llu", &count, &rate) < 1 || count > COUNT_MAX)
			return 2;
		run(kind, count, rate);
	}
	return 0;
}
