// SPDX-License-Identifier: Apache-2.0
/* A known number of TCP connections with a known number of bytes each way, in the ways that
 * programs do it. */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK 65536

static const char usage[] =
	"tcpload server MODE ADDR PORT N UP DOWN STEP   MODE: plain, fork, sendfile, uring, push\n"
	"tcpload client MODE ADDR PORT N UP DOWN STEP   MODE: plain, hold\n"
	"Connection i carries UP + i*STEP bytes to the server and DOWN + i*STEP back (push: UP "
	"none).\n"
	"The server says 'ready', and 'owner PID' for each process that serves; the client 'owner "
	"PID'.\n"
	"hold: sends 1000 bytes on each connection, says 'open', and goes on after a line on "
	"stdin.\n";

struct load {
	const char *mode;
	struct sockaddr_storage addr;
	socklen_t len;
	long n, up, down, step;
};

static char buf[CHUNK];
static struct io_uring ring;

static void die(const char *what)
{
	fprintf(stderr, "tcpload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void say(const char *word, long n)
{
	if (n)
		printf("%s %ld\n", word, n);
	else
		printf("%s\n", word);
	fflush(stdout);
}

/* One operation through io_uring; its result as recv() and send() give it. */
static ssize_t uring_io(int fd, bool out, size_t len)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	struct io_uring_cqe *cqe = NULL;
	ssize_t n;

	if (out)
		io_uring_prep_send(sqe, fd, buf, len, 0);
	else
		io_uring_prep_recv(sqe, fd, buf, len, 0);
	if (io_uring_submit_and_wait(&ring, 1) < 0 || io_uring_wait_cqe(&ring, &cqe) < 0)
		die("io_uring");
	n = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	if (n < 0) {
		errno = (int)-n;
		return -1;
	}
	return n;
}

static void take(const struct load *l, int fd, long len)
{
	while (len > 0) {
		size_t want = len < CHUNK ? (size_t)len : CHUNK;
		ssize_t n = strcmp(l->mode, "uring") == 0 ? uring_io(fd, false, want)
							  : recv(fd, buf, want, 0);

		if (n < 0)
			die("recv");
		if (n == 0) {
			fprintf(stderr, "tcpload: peer closed, %ld bytes missing\n", len);
			exit(1);
		}
		len -= n;
	}
}

static void give(const struct load *l, int fd, long len)
{
	bool file = strcmp(l->mode, "sendfile") == 0, uring = strcmp(l->mode, "uring") == 0;
	int mem = -1;

	if (file) {
		mem = memfd_create("tcpload", MFD_CLOEXEC);
		if (mem < 0 || ftruncate(mem, len) < 0)
			die("memfd");
	}
	while (len > 0) {
		size_t want = len < CHUNK ? (size_t)len : CHUNK;
		ssize_t n = file    ? sendfile(fd, mem, NULL, want)
			    : uring ? uring_io(fd, true, want)
				    : send(fd, buf, want, MSG_NOSIGNAL);

		if (n < 0)
			die("send");
		len -= n;
	}
	if (mem >= 0)
		close(mem);
}

static void take_eof(int fd)
{
	while (recv(fd, buf, CHUNK, 0) > 0)
		;
}

static void serve_one(const struct load *l, int fd, long i)
{
	if (strcmp(l->mode, "push") != 0) {
		take(l, fd, l->up + i * l->step);
		give(l, fd, l->down + i * l->step);
		take_eof(fd);
	} else {
		give(l, fd,
		     l->down + i * l->step); /* never reads: its owner shows when it closes */
	}
	close(fd);
}

static int server(const struct load *l)
{
	int s = socket(l->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, status,
	    failed = 0;

	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(s, (const struct sockaddr *)&l->addr, l->len) < 0 || listen(s, 128) < 0)
		die("listen");
	if (strcmp(l->mode, "uring") == 0) {
		int r = io_uring_queue_init(8, &ring, 0);

		if (r < 0) {
			printf("skip io_uring_queue_init: %s\n", strerror(-r));
			return 77;
		}
	}
	say("ready", 0);
	if (strcmp(l->mode, "fork") != 0)
		say("owner", getpid());
	for (long i = 0; i < l->n; i++) {
		int fd = accept4(s, NULL, NULL, SOCK_CLOEXEC);
		pid_t pid = 0;

		if (fd < 0)
			die("accept");
		if (strcmp(l->mode, "fork") == 0) {
			pid = fork();
			if (pid < 0)
				die("fork");
		}
		if (pid) {
			say("owner", pid);
			close(fd);
			continue;
		}
		serve_one(l, fd, i);
		if (strcmp(l->mode, "fork") == 0)
			_exit(0);
	}
	while (wait(&status) > 0)
		failed |= status;
	return failed ? 1 : 0;
}

static int dial(const struct load *l)
{
	int fd = socket(l->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&l->addr, l->len) < 0)
		die("connect");
	return fd;
}

static void talk(const struct load *l, int fd, long i, long sent)
{
	if (l->up)
		give(l, fd, l->up + i * l->step - sent);
	take(l, fd, l->down + i * l->step);
	close(fd);
}

static int client(const struct load *l)
{
	bool hold = strcmp(l->mode, "hold") == 0;
	int *fds = calloc((size_t)l->n + 1, sizeof(*fds));

	if (!fds)
		die("memory");
	say("owner", getpid());
	for (long i = 0; i < l->n; i++) {
		fds[i] = dial(l);
		if (hold)
			give(l, fds[i], 1000);
		else
			talk(l, fds[i], i, 0);
	}
	if (hold) {
		say("open", 0);
		if (!fgets(buf, CHUNK, stdin))
			return 1;
		for (long i = 0; i < l->n; i++)
			talk(l, fds[i], i, 1000);
	}
	free(fds);
	return 0;
}

static bool parse_addr(struct load *l, const char *addr, const char *port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&l->addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&l->addr;

	if (inet_pton(AF_INET, addr, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)atoi(port));
		l->len = sizeof(*v4);
		return true;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)atoi(port));
	l->len = sizeof(*v6);
	return inet_pton(AF_INET6, addr, &v6->sin6_addr) == 1;
}

int main(int argc, char **argv)
{
	struct load l = {};

	alarm(120); /* whatever goes wrong, it ends */
	if (argc != 9 || !parse_addr(&l, argv[3], argv[4])) {
		fputs(usage, stderr);
		return 2;
	}
	l.mode = argv[2];
	l.n = atol(argv[5]);
	l.up = atol(argv[6]);
	l.down = atol(argv[7]);
	l.step = atol(argv[8]);
	memset(buf, 'r', sizeof(buf));
	return strcmp(argv[1], "server") == 0 ? server(&l) : client(&l);
}
