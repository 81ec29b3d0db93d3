// SPDX-License-Identifier: Apache-2.0
/* Known calls of the allocator: mallocload KIND N, each time a byte comes on standard input; prints
 * what it did. */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Compilers know what malloc() is and leave calls out. */
static void *(*volatile do_malloc)(size_t) = malloc;
static void *(*volatile do_calloc)(size_t, size_t) = calloc;
static void *(*volatile do_realloc)(void *, size_t) = realloc;
static void (*volatile do_free)(void *) = free;
static int (*volatile do_posix_memalign)(void **, size_t, size_t) = posix_memalign;
static void *(*volatile do_aligned_alloc)(size_t, size_t) = aligned_alloc;
static void *(*volatile do_valloc)(size_t) = valloc;
static void *(*volatile do_pvalloc)(size_t) = pvalloc;

/* A number and what follows, without stdio, which allocates. */
static void say(long number, char end)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%ld%c", number, end);

	if (write(1, text, (size_t)n) != n)
		exit(1);
}

/* 100 bytes, n times, and back. */
static void pairs(int n)
{
	for (int i = 0; i < n; i++)
		do_free(do_malloc(100));
}

/* Every function, n times, with a size of its own; everything is given back. */
static void each(int n)
{
	for (int i = 0; i < n; i++) {
		void *p = do_malloc(100), *q;

		do_free(p);
		do_free(do_calloc(7, 300));
		p = do_realloc(NULL, 5000);
		q = do_realloc(p, 70000);
		do_free(q);
		if (!do_posix_memalign(&p, 64, 200000))
			do_free(p);
		do_free(do_aligned_alloc(64, 640));
		do_free(do_valloc(9000));
		do_free(do_pvalloc(17000));
		p = do_malloc(10);
		if (do_realloc(p, 0)) /* gives it back */
			abort();
		if (do_malloc(0x7000000000000000)) /* fails */
			abort();
	}
}

static void *thread(void *arg)
{
	pairs(*(int *)arg);
	return NULL;
}

static void threads(int n)
{
	pthread_t t[3];

	for (int i = 0; i < 3; i++)
		if (pthread_create(&t[i], NULL, thread, &n))
			abort();
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

__attribute__((noinline)) static void *leaker(size_t size)
{
	void *p = do_malloc(size);

	__asm__ volatile("" ::"r"(p) : "memory");
	return p;
}

/* n of 1,013 bytes stay, n others don't; one is moved. */
static void leak(int n)
{
	void *p;

	for (int i = 0; i < n; i++) {
		if (!leaker(1013))
			abort();
		do_free(do_malloc(500));
	}
	p = do_realloc(do_malloc(600), 60000);
	if (!p)
		abort();
}

/* For so many seconds, as fast as it goes: how many pairs that were, and the time they took. */
static void heavy(int seconds)
{
	struct timespec begin, now;
	long n = 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		pairs(1000);
		n += 1000;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - begin.tv_sec < seconds);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	say(n, ' ');
	say(now.tv_sec * 1000000 + now.tv_nsec / 1000, '\n');
}

/* The same with work on what was allocated, as programs do: n allocations live at a time, CPU
 * microseconds. */
static void mixed(int rounds)
{
	static void *live[1024];
	struct timespec a, b;
	unsigned int seed = 1;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	for (long i = 0; i < rounds * 1000l; i++) {
		unsigned int at;

		seed = seed * 1103515245 + 12345;
		at = seed >> 16 & 1023;
		do_free(live[at]);
		live[at] = do_malloc(16 + (seed >> 20));
		memset(live[at], 1, 16 + (seed >> 20));
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	say((b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000, '\n');
}

static const struct {
	const char *name;
	void (*run)(int n);
} kinds[] = {{"pairs", pairs}, {"each", each},	 {"threads", threads},
	     {"leak", leak},   {"heavy", heavy}, {"mixed", mixed}};

int main(int argc, char **argv)
{
	char go;

	for (size_t i = 0; argc == 3 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(argv[1], kinds[i].name))
			continue;
		say(getpid(), '\n');
		while (read(0, &go, 1) == 1) {
			kinds[i].run(atoi(argv[2]));
			if (write(1, "done\n", 5) != 5)
				return 1;
		}
		return 0;
	}
	fprintf(stderr, "usage: mallocload pairs|each|threads|leak|heavy|mixed N\n");
	return 2;
}
