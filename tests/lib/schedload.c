// SPDX-License-Identifier: Apache-2.0
/* A known number of waits for a CPU: schedload CPU N SPIN_US. Prints the threads and what each wait
 * was by the clock. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int cpu, count;
static long spin_ns;
static int wake[2];
static atomic_int enough;
static atomic_long woken_at;
/* The second thread is made when the first is settled, which then waits for it. */
static sem_t first_waits, second_ready;

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000l + t.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void spin(long ns)
{
	long end = now() + ns;

	while (now() < end)
		;
}

static void nap(long ns)
{
	struct timespec t = {.tv_nsec = ns};

	nanosleep(&t, NULL);
}

/* On the CPU of the test alone, before all normal threads and behind those of higher priority. */
static void settle(const char *name, int priority)
{
	struct sched_param p = {.sched_priority = priority};
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	/* In this order: behind the other one on its CPU a normal thread would never get on. */
	if (sched_setscheduler(0, SCHED_FIFO, &p) < 0 ||
	    pthread_setaffinity_np(pthread_self(), sizeof(set), &set))
		fail("real time");
	prctl(PR_SET_NAME, name);
	printf("%s %d\n", name, (int)syscall(SYS_gettid));
}

/* Is woken while the other one has the CPU. */
static void *sleeper(void *arg)
{
	long *waits = calloc(count, sizeof(*waits));
	char c;

	if (!waits)
		fail("memory");
	settle("low", 10);
	sem_post(&second_ready);
	for (int i = 0; i < count; i++) {
		if (read(wake[0], &c, 1) != 1)
			fail("read");
		waits[i] = now() - woken_at; /* told afterwards: it must sleep when it is woken */
	}
	for (int i = 0; i < count; i++)
		printf("wait %ld\n", waits[i]);
	free(waits);
	return arg;
}

/* Runs until the other one has taken the CPU often enough. */
static void *runner(void *arg)
{
	settle("low", 10);
	sem_post(&second_ready);
	while (!enough)
		;
	return arg;
}

static void await_second(void)
{
	settle("high", 50);
	sem_post(&first_waits);
	while (sem_wait(&second_ready) < 0)
		;
	nap(20000000); /* it must be at its work by then */
}

static void *waker(void *arg)
{
	await_second();
	for (int i = 0; i < count; i++) {
		woken_at = now();
		if (write(wake[1], "", 1) != 1)
			fail("write");
		spin(spin_ns);
		nap(spin_ns);
	}
	return arg;
}

static void *preemptor(void *arg)
{
	await_second();
	for (int i = 0; i < count; i++) {
		nap(spin_ns);
		spin(spin_ns);
	}
	enough = 1;
	return arg;
}

static void both(void *(*low)(void *), void *(*high)(void *))
{
	pthread_t a, b;

	if (pthread_create(&a, NULL, high, NULL))
		fail("threads");
	while (sem_wait(&first_waits) < 0)
		;
	if (pthread_create(&b, NULL, low, NULL))
		fail("threads");
	pthread_join(a, NULL);
	pthread_join(b, NULL);
}

int main(int argc, char **argv)
{
	cpu = argc == 4 ? atoi(argv[1]) : -1;
	count = argc == 4 ? atoi(argv[2]) : 0;
	spin_ns = argc == 4 ? atol(argv[3]) * 1000 : 0;
	/* Real-time threads must not have a CPU for long. */
	if (cpu < 0 || count < 1 || spin_ns < 1000 || count * spin_ns > 400000000)
		return 2;
	if (pipe(wake) < 0 || sem_init(&first_waits, 0, 0) < 0 || sem_init(&second_ready, 0, 0) < 0)
		fail("pipe");
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("woken 0");
	both(sleeper, waker);
	sleep(1);
	puts("preempted 0");
	both(runner, preemptor);
	return 0;
}
