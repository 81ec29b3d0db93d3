// SPDX-License-Identifier: Apache-2.0
/* Scenarios of streams: ways to move bytes, ways to hand sockets over, ways to begin and to end. */
#include "tests/accuracy/scenarios.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int protocol = IPPROTO_TCP;

static int stream(const struct args *a)
{
	int fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, protocol);

	if (fd < 0 && protocol != IPPROTO_TCP)
		skip(protocol == IPPROTO_SCTP ? "SCTP" : "MPTCP");
	if (fd < 0)
		die("socket");
	return fd;
}

int listener(const struct args *a)
{
	int fd = stream(a), one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (const struct sockaddr *)&a->addr, a->len) < 0 || listen(fd, 64) < 0)
		die("listen");
	say_ready();
	return fd;
}

int accept_one(int s)
{
	int fd = accept4(s, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		die("accept");
	truth->conns++;
	return fd;
}

static void dial(const struct args *a, int fd)
{
	if (connect(fd, (const struct sockaddr *)&a->addr, a->len) < 0)
		die("connect");
	truth->conns++;
}

int dialled(const struct args *a)
{
	int fd = stream(a);

	dial(a, fd);
	return fd;
}

/* Exchanges, in every way that bytes can go. */
static void serve(const struct args *a)
{
	int s = listener(a), fd;

	say_owner();
	for (int i = 0; i < CONNS; i++) {
		fd = accept_one(s);
		get(fd, UP);
		put(fd, DOWN);
		get_all(fd);
		close(fd);
	}
}

static void talk(const struct args *a, int fd)
{
	(void)a;
	say_owner();
	put(fd, UP);
	get(fd, DOWN);
	close(fd);
}

static void call(const struct args *a)
{
	for (int i = 0; i < CONNS; i++)
		talk(a, dialled(a));
}

#define WAY(name, w)                                   \
	static void serve_##name(const struct args *a) \
	{                                              \
		way = w;                               \
		serve(a);                              \
	}                                              \
	static void call_##name(const struct args *a)  \
	{                                              \
		way = w;                               \
		call(a);                               \
	}
#define PROTOCOL(name, p, server, client)              \
	static void serve_##name(const struct args *a) \
	{                                              \
		protocol = p;                          \
		server(a);                             \
	}                                              \
	static void call_##name(const struct args *a)  \
	{                                              \
		protocol = p;                          \
		client(a);                             \
	}

WAY(sendfile, WAY_SENDFILE)
WAY(splice, WAY_SPLICE)
WAY(uring, WAY_URING)
WAY(zerocopy, WAY_ZEROCOPY)
PROTOCOL(sctp, IPPROTO_SCTP, serve, call)

/* The server reads when it is too late to ask who sent. */
static void serve_late(const struct args *a)
{
	int s = listener(a), fd;

	say_owner();
	for (int i = 0; i < CONNS; i++) {
		fd = accept_one(s);
		sleep_ms(30);
		get_all(fd);
		close(fd);
	}
}

static void send_and_exit(const struct args *a, int unused)
{
	(void)unused;
	say_owner();
	put(dialled(a), UP);
}

static void call_exits(const struct args *a)
{
	for (int i = 0; i < CONNS; i++)
		spawn(send_and_exit, a, -1);
}

/* Sockets that others made. */
static void call_fork(const struct args *a)
{
	int fds[CONNS];

	for (int i = 0; i < CONNS; i++) {
		fds[i] = dialled(a);
		spawn(talk, a, fds[i]);
	}
	reap();
	for (int i = 0; i < CONNS; i++)
		close(fds[i]);
}

static void serve_fork(const struct args *a)
{
	int s = listener(a), fd;

	for (int i = 0; i < CONNS; i++) {
		fd = accept_one(s);
		if (fork() == 0) {
			say_owner();
			get(fd, UP);
			put(fd, DOWN);
			get_all(fd);
			_exit(0);
		}
		close(fd);
	}
}

PROTOCOL(mptcp, IPPROTO_MPTCP, serve_fork, call)

static void only_write(const struct args *a, int fd)
{
	(void)a;
	say_owner();
	put(fd, UP);
}

static void call_writer(const struct args *a)
{
	for (int i = 0; i < CONNS; i++) {
		int fd = dialled(a);

		spawn(only_write, a, fd);
		reap();
		close(fd);
	}
}

static void pass(int channel, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = {.iov_base = "f", .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(channel, &msg, 0) != 1)
		die("SCM_RIGHTS");
	close(fd);
}

static int passed(int channel)
{
	char control[CMSG_SPACE(sizeof(int))] = {}, byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	int fd;

	if (recvmsg(channel, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
		die("SCM_RIGHTS");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static void talk_passed(const struct args *a, int channel)
{
	for (int i = 0; i < CONNS; i++)
		talk(a, passed(channel));
}

static void serve_passed_worker(const struct args *a, int channel)
{
	(void)a;
	say_owner();
	for (int i = 0; i < CONNS; i++) {
		int fd = passed(channel);

		get(fd, UP);
		put(fd, DOWN);
		get_all(fd);
		close(fd);
	}
}

static int worker(const struct args *a, void (*fn)(const struct args *a, int fd))
{
	int channel[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0)
		die("socketpair");
	spawn(fn, a, channel[1]);
	close(channel[1]);
	return channel[0];
}

static void call_passed(const struct args *a)
{
	int channel = worker(a, talk_passed);

	for (int i = 0; i < CONNS; i++)
		pass(channel, dialled(a));
}

static void serve_passed(const struct args *a)
{
	int channel = worker(a, serve_passed_worker), s = listener(a);

	for (int i = 0; i < CONNS; i++)
		pass(channel, accept_one(s));
}

/* Nobody at home: the client is through before accept(), or accept() never comes. */
static void call_and_go(const struct args *a)
{
	say_owner();
	for (int i = 0; i < CONNS; i++) {
		int fd = dialled(a);

		put(fd, UP);
		close(fd);
	}
}

static void serve_backlog(const struct args *a)
{
	int s = listener(a), fd;

	say_owner();
	sleep_ms(1200);
	for (int i = 0; i < CONNS; i++) {
		fd = accept_one(s);
		get_all(fd);
		close(fd);
	}
}

static void serve_nobody(const struct args *a)
{
	int s = listener(a);

	say_owner();
	sleep_ms(1200);
	truth->conns = CONNS;
	truth->rx = (long)CONNS * UP; /* acknowledged by the kernel */
	close(s);
}

/* The process lives elsewhere; extra: the file of the socket's namespace. */
static void call_netns(const struct args *a)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int there = open(a->extra, O_RDONLY | O_CLOEXEC);

	for (int i = 0; i < CONNS; i++) {
		int fd;

		if (setns(there, CLONE_NEWNET) < 0)
			die("setns");
		fd = stream(a);
		if (setns(home, CLONE_NEWNET) < 0)
			die("setns");
		dial(a, fd);
		talk(a, fd);
	}
}

/* Ends. */
static void serve_half(const struct args *a)
{
	int s = listener(a), fd;

	say_owner();
	for (int i = 0; i < CONNS; i++) {
		fd = accept_one(s);
		get_all(fd);
		put(fd, DOWN);
		close(fd);
	}
}

static void call_half(const struct args *a)
{
	say_owner();
	for (int i = 0; i < CONNS; i++) {
		int fd = dialled(a);

		put(fd, UP);
		shutdown(fd, SHUT_WR);
		get_all(fd);
		close(fd);
	}
}

static void serve_reset(const struct args *a)
{
	int s = listener(a), fd;
	char c;

	say_owner();
	for (int i = 0; i < CONNS; i++) {
		fd = accept_one(s);
		get(fd, UP);
		put(fd, DOWN);
		if (recv(fd, &c, 1, 0) >= 0 || errno != ECONNRESET)
			die("no reset");
		close(fd);
	}
}

static void call_reset(const struct args *a)
{
	struct linger now = {.l_onoff = 1};

	for (int i = 0; i < CONNS; i++) {
		int fd = dialled(a);

		if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) < 0)
			die("SO_LINGER");
		talk(a, fd);
	}
}

static void serve_none(const struct args *a)
{
	(void)a;
	say_ready();
}

static void call_fail(const struct args *a)
{
	int tries = atoi(a->extra), syns = 1;

	say_owner();
	for (int i = 0; i < tries; i++) {
		int fd = stream(a);

		if (setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &syns, sizeof(syns)) < 0)
			die("TCP_SYNCNT");
		if (connect(fd, (const struct sockaddr *)&a->addr, a->len) == 0)
			die("connect went through");
		truth->failures++;
		close(fd);
	}
}

/* Both sides connect; the driver holds their first SYNs back. addr: the peer's, whose port is ours
 * too. */
static int simultaneous(const struct args *a)
{
	struct sockaddr_in own = {.sin_family = AF_INET};
	int fd = stream(a);

	own.sin_port = ((const struct sockaddr_in *)&a->addr)->sin_port;
	if (bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0)
		die("bind");
	say_ready();
	dial(a, fd);
	return fd;
}

static void serve_simultaneous(const struct args *a)
{
	int fd = simultaneous(a);

	say_owner();
	get(fd, UP);
	put(fd, DOWN);
	get_all(fd);
}

static void call_simultaneous(const struct args *a)
{
	talk(a, simultaneous(a));
}

const struct scenario tcp_scenarios[] = {
	{"stream", serve, call},
	{"sendfile", serve_sendfile, call_sendfile},
	{"splice", serve_splice, call_splice},
	{"uring", serve_uring, call_uring},
	{"zerocopy", serve_zerocopy, call_zerocopy},
	{"mptcp", serve_mptcp, call_mptcp},
	{"sctp", serve_sctp, call_sctp},
	{"exits", serve_late, call_exits},
	{"fork", serve_fork, call_fork},
	{"fork-writer", serve_late, call_writer},
	{"passed", serve_passed, call_passed},
	{"backlog", serve_backlog, call_and_go},
	{"nobody", serve_nobody, call_and_go},
	{"netns", serve, call_netns},
	{"half-close", serve_half, call_half},
	{"reset", serve_reset, call_reset},
	{"fail", serve_none, call_fail},
	{"simultaneous", serve_simultaneous, call_simultaneous},
	{},
};
