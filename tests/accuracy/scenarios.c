// SPDX-License-Identifier: Apache-2.0
/* One side of one network scenario with known owners and bytes: "owner", "ready" and "truth" lines
 * tell them. */
#include "tests/accuracy/scenarios.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct truth *truth;
enum way way;

static char buf[65536];
static struct io_uring ring;

void die(const char *what)
{
	fprintf(stderr, "scenarios: %s: %s\n", what, strerror(errno));
	exit(1);
}

void skip(const char *why)
{
	printf("skip %s: %s\n", why, strerror(errno));
	fflush(stdout);
	_exit(77);
}

/* One write() each, whole lines: children share the pipe. */
void say_owner(void)
{
	dprintf(STDOUT_FILENO, "owner %d\n", getpid());
}

void say_ready(void)
{
	dprintf(STDOUT_FILENO, "ready\n");
}

void sleep_ms(long ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

int spawn(void (*fn)(const struct args *a, int fd), const struct args *a, int fd)
{
	int pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		alarm(60);
		fn(a, fd);
		_exit(0);
	}
	return pid;
}

void reap(void)
{
	int status;

	while (wait(&status) > 0) {
		if (status)
			exit(1);
	}
}

static ssize_t uring_io(int fd, bool out, size_t len)
{
	struct io_uring_cqe *cqe = NULL;
	struct io_uring_sqe *sqe;
	ssize_t n;
	int r;

	if (!ring.ring_fd) {
		r = io_uring_queue_init(8, &ring, 0);
		if (r < 0) {
			errno = -r;
			skip("io_uring");
		}
	}
	sqe = io_uring_get_sqe(&ring);
	if (out)
		io_uring_prep_send(sqe, fd, buf, len, MSG_NOSIGNAL);
	else
		io_uring_prep_recv(sqe, fd, buf, len, 0);
	if (io_uring_submit_and_wait(&ring, 1) < 0 || io_uring_wait_cqe(&ring, &cqe) < 0)
		die("io_uring");
	n = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	errno = n < 0 ? (int)-n : 0;
	return n < 0 ? -1 : n;
}

static ssize_t sendfile_out(int fd, size_t len)
{
	static int mem = -1;

	if (mem < 0) {
		mem = memfd_create("scenarios", MFD_CLOEXEC);
		if (mem < 0 || ftruncate(mem, sizeof(buf)) < 0)
			die("memfd");
	}
	return sendfile(fd, mem, &(off_t){0}, len);
}

static ssize_t splice_io(int fd, bool out, size_t len)
{
	static int pipes[2];
	ssize_t n;

	if (!pipes[1] && pipe2(pipes, O_CLOEXEC) < 0)
		die("pipe");
	if (len > 4096)
		len = 4096;
	if (out) {
		if (write(pipes[1], buf, len) != (ssize_t)len)
			die("pipe");
		for (size_t done = 0; done < len; done += (size_t)n) {
			n = splice(pipes[0], NULL, fd, NULL, len - done, 0);
			if (n <= 0)
				die("splice");
		}
		return (ssize_t)len;
	}
	n = splice(fd, NULL, pipes[1], NULL, len, 0);
	if (n > 0 && read(pipes[0], buf, (size_t)n) != n)
		die("pipe");
	return n;
}

static ssize_t zerocopy_out(int fd, size_t len)
{
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) < 0)
		skip("SO_ZEROCOPY");
	return send(fd, buf, len, MSG_ZEROCOPY | MSG_NOSIGNAL);
}

static ssize_t step(int fd, bool out, size_t len)
{
	switch (way) {
	case WAY_SENDFILE:
		return out ? sendfile_out(fd, len) : recv(fd, buf, len, 0);
	case WAY_SPLICE:
		return splice_io(fd, out, len);
	case WAY_URING:
		return uring_io(fd, out, len);
	case WAY_ZEROCOPY:
		return out ? zerocopy_out(fd, len) : recv(fd, buf, len, 0);
	case WAY_PLAIN:
		break;
	}
	return out ? send(fd, buf, len, MSG_NOSIGNAL) : recv(fd, buf, len, 0);
}

void put(int fd, long len)
{
	while (len > 0) {
		ssize_t n = step(fd, true, len < (long)sizeof(buf) ? (size_t)len : sizeof(buf));

		if (n < 0)
			die("send");
		truth->tx += n;
		len -= n;
	}
}

void get(int fd, long len)
{
	while (len > 0) {
		ssize_t n = step(fd, false, len < (long)sizeof(buf) ? (size_t)len : sizeof(buf));

		if (n <= 0)
			die(n ? "recv" : "peer closed early");
		truth->rx += n;
		len -= n;
	}
}

void get_all(int fd)
{
	ssize_t n;

	while ((n = step(fd, false, sizeof(buf))) > 0)
		truth->rx += n;
	if (n < 0)
		die("recv");
}

static bool parse_addr(struct args *a, const char *addr, const char *port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a->addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->addr;

	if (inet_pton(AF_INET, addr, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)atoi(port));
		a->len = sizeof(*v4);
		return true;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)atoi(port));
	a->len = sizeof(*v6);
	return inet_pton(AF_INET6, addr, &v6->sin6_addr) == 1;
}

static const struct scenario *find(const struct scenario *s, const char *name)
{
	while (s->name && strcmp(s->name, name) != 0)
		s++;
	return s->name ? s : NULL;
}

int main(int argc, char **argv)
{
	const struct scenario *s = NULL;
	struct args a = {};

	alarm(90); /* whatever goes wrong, it ends */
	if (argc >= 5 && parse_addr(&a, argv[3], argv[4])) {
		s = find(tcp_scenarios, argv[1]);
		if (!s)
			s = find(idle_scenarios, argv[1]);
		if (!s)
			s = find(other_scenarios, argv[1]);
	}
	if (!s) {
		fputs("scenarios NAME server|client ADDR PORT [EXTRA]\n", stderr);
		return 2;
	}
	a.extra = argc > 5 ? argv[5] : "";
	truth = mmap(NULL, sizeof(*truth), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (truth == MAP_FAILED)
		die("mmap");
	if (strcmp(argv[2], "server") == 0)
		s->server(&a);
	else
		s->client(&a);
	reap();
	dprintf(STDOUT_FILENO, "truth %ld %ld %ld %ld %ld %ld\n", truth->tx, truth->rx, truth->out,
		truth->in, truth->conns, truth->failures);
	return 0;
}
