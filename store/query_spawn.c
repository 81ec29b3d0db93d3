// SPDX-License-Identifier: Apache-2.0
/* Starting, killing and reaping a query worker without signals and without fork. */
#include "store/query_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/macro.h"
#include "store/query.h"

#define WORKER_SOCKET 3
/* From a closed socket to an ended process takes far less. */
#define FATE_WAIT_MS 200

static int spawn(pid_t *ret, int exe_fd, int sock)
{
	char *const argv[] = {(char *)QUERY_WORKER_NAME, NULL};
	char tz[128] = "TZ=", *envp[] = {NULL, NULL};
	const char *zone = getenv("TZ");
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	char exe[32] = "/proc/self/exe";
	sigset_t none, all;
	int r;

	/* Local times in the worker are the daemon's; nothing else of its environment is the
	 * worker's business. */
	if (zone && snprintf(tz, sizeof(tz), "TZ=%s", zone) < (int)sizeof(tz))
		envp[0] = tz;
	/* Resolved by the child before exec closes it. */
	if (exe_fd >= 0)
		snprintf(exe, sizeof(exe), "/proc/self/fd/%d", exe_fd);
	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawn_file_actions_init(&files);
	if (r)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r) {
		posix_spawn_file_actions_destroy(&files);
		return -r;
	}
	/* The socket first: it may be 0, 1 or 2 in a daemon started without them. A session of its
	 * own: no Ctrl-C. */
	if ((r = posix_spawn_file_actions_adddup2(&files, sock, WORKER_SOCKET)) == 0 &&
	    (r = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0)) ==
		    0 &&
	    (r = posix_spawnattr_setsigmask(&attr, &none)) == 0 &&
	    (r = posix_spawnattr_setsigdefault(&attr, &all)) == 0 &&
	    (r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
							 POSIX_SPAWN_SETSID)) == 0)
		r = posix_spawn(ret, exe, &files, &attr, argv, envp);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

int query_child_start(struct query_child *ret, int exe_fd, struct err *err)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	int pair[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, -errno, "cannot make a socket for the query worker: %s",
			       strerror(errno));
	ours = pair[0];
	theirs = pair[1];
	r = spawn(&pid, exe_fd, theirs);
	if (r < 0)
		return err_set(err, r, "cannot start the query worker: %s", strerror(-r));
	/* Nobody else reaps it, so the pid is still its own. */
	*ret = (struct query_child){
		.sock = TAKE_FD(ours), .pid = pid, .pidfd = syscall(SYS_pidfd_open, pid, 0)};
	if (ret->pidfd < 0) {
		r = -errno;
		query_child_end(ret);
		return err_set(err, r, "cannot hold the query worker by a pidfd: %s", strerror(-r));
	}
	return 0;
}

static void reap(struct query_child *c, siginfo_t *info)
{
	*info = (siginfo_t){0};
	if (c->pidfd >= 0) {
		while (waitid(P_PIDFD, c->pidfd, info, WEXITED) < 0 && errno == EINTR)
			;
		close(c->pidfd);
	} else {
		while (waitid(P_PID, c->pid, info, WEXITED) < 0 && errno == EINTR)
			;
	}
	if (c->sock >= 0)
		close(c->sock);
	*c = (struct query_child){.sock = -1, .pidfd = -1};
}

void query_child_end(struct query_child *c)
{
	siginfo_t info;

	if (!c->pid)
		return;
	/* Ours until reaped. A daemon without CAP_KILL has the hang-up and the worker's own timer.
	 */
	shutdown(c->sock, SHUT_RDWR);
	kill(c->pid, SIGKILL);
	reap(c, &info);
}

static int fate_of_signal(int sig, struct err *err)
{
	switch (sig) {
	case SIGSYS:
		return err_set(err, -EPERM,
			       "the query worker was stopped by its sandbox: the statement made it "
			       "ask for a "
			       "system call that queries may not use");
	case SIGXCPU:
	case SIGALRM:
		return err_set(err, -ETIMEDOUT, "the query was stopped at its deadline");
	case SIGABRT:
	case SIGKILL: /* not by us: the kernel's out-of-memory killer, the CPU limit, or an
			 administrator */
		return err_set(err, -E2BIG,
			       "the query worker was killed (%s): the statement needs too much "
			       "memory or time",
			       sig == SIGKILL ? "SIGKILL" : "SIGABRT");
	case SIGSEGV:
	case SIGBUS:
		return err_set(
			err, -E2BIG,
			"the query worker ran out of memory or stack (%s) with this statement",
			sig == SIGSEGV ? "SIGSEGV" : "SIGBUS");
	}
	return err_set(err, -EIO, "the query worker was ended by signal %d", sig);
}

int query_child_fate(struct query_child *c, struct err *err)
{
	struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
	siginfo_t info;

	if (poll(&p, 1, FATE_WAIT_MS) == 0) {
		query_child_end(c);
		return err_set(err, -EIO, "the query worker hung up in the middle of its answer");
	}
	reap(c, &info);
	if (info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED)
		return fate_of_signal(info.si_status, err);
	if (info.si_status == ENOMEM)
		return err_set(err, -E2BIG, "the query needs more memory than a query may have");
	return err_set(err, -EIO, "the query worker ended early (status %d)", info.si_status);
}

const char *query_worker_path(char *dst, size_t cap)
{
	static const char *const places[] = {"ringside-query",
					     "../libexec/ringside/ringside-query"};
	char own[PATH_MAX], *end;
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (n <= 0)
		return NULL;
	own[n] = '\0';
	end = strrchr(own, '/');
	if (!end)
		return NULL;
	*end = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (snprintf(dst, cap, "%s/%s", own, places[i]) < (int)cap &&
		    access(dst, X_OK) == 0)
			return dst;
	return NULL;
}
