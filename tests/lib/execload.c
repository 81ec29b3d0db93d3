// SPDX-License-Identifier: Apache-2.0
/* A known number of processes, started and ended in a known way: execload WHAT PROGRAM N. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void wait_for(pid_t pid)
{
	int status = 0;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("child");
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "child: status %#x\n", status);
		exit(1);
	}
}

static void run_execve(const char *program, char **argv)
{
	execve(program, argv, environ);
}

static void run_execveat(const char *program, char **argv)
{
	const char *name = strrchr(program, '/') + 1;
	char dir[4096];
	int fd;

	snprintf(dir, sizeof(dir), "%.*s", (int)(name - program), program);
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	syscall(SYS_execveat, fd, name, argv, environ, 0);
}

static void run_fexecve(const char *program, char **argv)
{
	fexecve(open(program, O_RDONLY | O_CLOEXEC), argv, environ);
}

/* From memory that has no name. */
static void run_memfd(const char *program, char **argv)
{
	int from = open(program, O_RDONLY | O_CLOEXEC), fd = memfd_create("rs-memory", MFD_CLOEXEC);
	struct stat st;

	if (from < 0 || fd < 0 || fstat(from, &st) < 0 ||
	    sendfile(fd, from, NULL, (size_t)st.st_size) != st.st_size)
		_exit(1);
	fexecve(fd, argv, environ);
}

/* Name and arguments are in pages of a file that nobody has touched. */
static void run_untouched(const char *program, char **argv)
{
	char name[] = "/tmp/ringside-untouched-XXXXXX", *map;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = mkstemp(name);

	if (fd < 0 || unlink(name) < 0)
		_exit(1);
	for (int i = 0; i < 4; i++) {
		const char *s = i == 3 ? program : argv[i];

		if (pwrite(fd, s, strlen(s) + 1, (off_t)(i * page)) < 0)
			_exit(1);
	}
	map = mmap(NULL, 4 * page, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		_exit(1);
	execve(map + 3 * page, (char *[]){map, map + page, map + 2 * page, NULL}, environ);
}

static const struct kind {
	const char *name;
	void (*run)(const char *program, char **argv);
	int with_vfork;
} kinds[] = {
	{"execve", run_execve, 0}, {"execveat", run_execveat, 0},   {"fexecve", run_fexecve, 0},
	{"memfd", run_memfd, 0},   {"untouched", run_untouched, 0}, {"vfork", run_execve, 1},
};

static void one(const struct kind *k, const char *program, char **argv)
{
	pid_t pid = k->with_vfork ? vfork() : fork();

	if (pid == 0) {
		k->run(program, argv);
		_exit(127);
	}
	wait_for(pid);
}

static void many(const struct kind *k, const char *program, int n)
{
	for (int i = 0; i < n; i++) {
		char number[16];
		char *argv[] = {(char *)program, (char *)(k ? k->name : "posix_spawn"), number,
				NULL};
		pid_t pid;

		snprintf(number, sizeof(number), "%d", i);
		if (k) {
			one(k, program, argv);
			continue;
		}
		errno = posix_spawn(&pid, program, NULL, NULL, argv, environ);
		if (errno)
			die("posix_spawn");
		wait_for(pid);
	}
}

/* Process i of n ends with status i % 256, or by a signal: every 7th with KILL, every 11th TERM. */
static void statuses(int n)
{
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0) {
			if (i % 7 == 6)
				raise(SIGKILL);
			if (i % 11 == 10)
				raise(SIGTERM);
			_exit(i % 256);
		}
		waitpid(pid, NULL, 0);
	}
}

static const char *exec_program;

static void *thread_exec(void *arg)
{
	char tid[16];

	(void)arg;
	snprintf(tid, sizeof(tid), "%d", (int)syscall(SYS_gettid));
	execv(exec_program, (char *[]){(char *)exec_program, "thread", tid, NULL});
	_exit(127);
}

/* A thread that isn't the first runs the program; its number is the last argument. */
static void threads_exec(const char *program, int n)
{
	exec_program = program;
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();
		pthread_t t;

		if (pid == 0) {
			pthread_create(&t, NULL, thread_exec, NULL);
			pthread_join(t, NULL);
		}
		wait_for(pid);
	}
}

static pthread_barrier_t all;

static void *thread_end(void *arg)
{
	pthread_barrier_wait(&all);
	return arg;
}

/* Processes of 13 threads that end at the same moment, the first of them long before. */
static void threads_end(int n)
{
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			pthread_barrier_init(&all, NULL, 12);
			for (int k = 0; k < 12; k++) {
				pthread_t t;

				pthread_create(&t, NULL, thread_end, NULL);
			}
			pthread_exit(NULL);
		}
		wait_for(pid);
	}
}

static void *burn(void *arg)
{
	struct timespec t;
	volatile unsigned int x = 0;

	do {
		for (int i = 0; i < 10000; i++)
			x = x + (unsigned int)i;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	} while (t.tv_sec * 1000 + t.tv_nsec / 1000000 < (long)(intptr_t)arg);
	return NULL;
}

/* A child of three threads works n ms in each and touches 64 MiB; prints what wait4() says of it. */
static void usage(int n)
{
	struct rusage u;
	pid_t pid = fork();

	if (pid == 0) {
		size_t size = 64u << 20;
		char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);
		pthread_t t[2];

		memset(p, 1, size);
		for (int i = 0; i < 2; i++)
			pthread_create(&t[i], NULL, burn, (void *)(intptr_t)n);
		for (int i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		burn((void *)(intptr_t)(n * 2));
		_exit(0);
	}
	if (pid < 0 || wait4(pid, NULL, 0, &u) != pid)
		die("child");
	printf("%d %ld %ld %ld\n", (int)pid, u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec,
	       u.ru_stime.tv_sec * 1000000 + u.ru_stime.tv_usec, u.ru_maxrss);
}

struct failing {
	const char *what, *program;
	int n;
};

/* Calls that nothing comes of: there is no such program. */
static void *fail(void *arg)
{
	const struct failing *f = arg;

	for (int i = 0; i < f->n; i++) {
		char number[16];
		char *argv[] = {(char *)f->program, (char *)f->what, number, NULL};

		snprintf(number, sizeof(number), "%d", i);
		if (strcmp(f->what, "failed_execveat") == 0)
			run_execveat(f->program, argv);
		else
			run_execve(f->program, argv);
		close_range(3, ~0u, 0); /* the directory of execveat() */
	}
	return NULL;
}

static void failing(const char *what, const char *program, int n)
{
	struct failing f = {what, program, n};
	pthread_t t;

	if (strcmp(what, "failed_thread") != 0) {
		fail(&f);
		return;
	}
	if (pthread_create(&t, NULL, fail, &f))
		die("thread");
	pthread_join(t, NULL);
}

int main(int argc, char **argv)
{
	const char *what = argc == 4 ? argv[1] : "";
	int n = argc == 4 ? atoi(argv[3]) : 0;

	if (n < 1 || n > 100000 || argv[2][0] != '/') {
		fprintf(stderr, "usage: execload WHAT /PROGRAM N\n");
		return 2;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(what, kinds[i].name) == 0)
			return many(&kinds[i], argv[2], n), 0;
	if (strcmp(what, "posix_spawn") == 0)
		many(NULL, argv[2], n);
	else if (strcmp(what, "statuses") == 0)
		statuses(n);
	else if (strcmp(what, "threads_exec") == 0)
		threads_exec(argv[2], n);
	else if (strcmp(what, "threads_end") == 0)
		threads_end(n);
	else if (strncmp(what, "failed_", 7) == 0)
		failing(what, argv[2], n);
	else if (strcmp(what, "usage") == 0)
		usage(n);
	else
		return 2;
	return 0;
}
