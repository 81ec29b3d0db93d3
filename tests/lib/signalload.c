// SPDX-License-Identifier: Apache-2.0
/* A known number of signals: signalload N. Prints "self PID", "child PID" and what was sent. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void must(int r, const char *what)
{
	if (r < 0) {
		perror(what);
		exit(1);
	}
}

static volatile sig_atomic_t alarmed;

static void on_signal(int sig)
{
	if (sig == SIGALRM)
		alarmed = 1;
}

/* Its own thread, by number. */
static void *thread(void *arg)
{
	int n = *(int *)arg;

	printf("thread %d\n", (int)syscall(SYS_gettid));
	for (int i = 0; i < n; i++)
		must((int)syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1), "tgkill");
	return NULL;
}

static void queue(pid_t pid, int n)
{
	union sigval v = {.sival_int = 7};

	for (int i = 0; i < n; i++)
		must(sigqueue(pid, SIGRTMIN, v), "sigqueue");
}

int main(int argc, char **argv)
{
	int n = argc == 2 ? atoi(argv[1]) : 0;
	struct itimerval soon = {.it_value = {.tv_usec = 20000}};
	sigset_t block;
	pthread_t t;
	pid_t child;

	if (n < 1 || n > 10000)
		return 2;
	/* A pipe of the shell's may have left it ignored. */
	signal(SIGUSR1, on_signal);
	signal(SIGALRM, on_signal);
	signal(SIGUSR2, SIG_IGN);
	signal(SIGCHLD, on_signal);
	child = fork();
	must(child, "fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Real-time signals queue up while they are blocked, the others don't. */
		sigemptyset(&block);
		sigaddset(&block, SIGRTMIN);
		sigaddset(&block, SIGHUP);
		sigprocmask(SIG_BLOCK, &block, NULL);
		for (;;)
			pause();
	}
	printf("self %d\nchild %d\n", (int)getpid(), (int)child);
	usleep(200000);
	for (int i = 0; i < n; i++)
		must(raise(SIGUSR1), "raise");
	pthread_create(&t, NULL, thread, &n);
	pthread_join(t, NULL);
	for (int i = 0; i < n; i++)
		must(kill(child, SIGUSR2), "kill");
	queue(child, n);
	for (int i = 0; i < n; i++)
		must(kill(child, SIGHUP), "kill");
	must(kill(child, 0), "kill"); /* asks, sends nothing */
	if (kill(1, 65) == 0 || errno != EINVAL)
		return 1;
	must(setitimer(ITIMER_REAL, &soon, NULL), "setitimer");
	while (!alarmed)
		usleep(5000);
	must(kill(child, SIGKILL), "kill");
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}
