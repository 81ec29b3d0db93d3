// SPDX-License-Identifier: Apache-2.0
/* A known number of calls of listen, accept and connect of one kind: connload KIND N DIR. Prints
 * ports and descriptors. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static const char *dir;
static int count;

static int fail(const char *what)
{
	perror(what);
	exit(1);
}

/* r is what a call gave, want the errno that must come; 0: none. */
static int expect(int r, int want, const char *what)
{
	if ((r < 0 ? errno : 0) != want)
		fail(what);
	return r;
}

static socklen_t make_in(union address *a, const char *ip, int port)
{
	memset(a, 0, sizeof(*a));
	if (strchr(ip, ':')) {
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons((uint16_t)port);
		inet_pton(AF_INET6, ip, &a->in6.sin6_addr);
		return sizeof(a->in6);
	}
	a->in.sin_family = AF_INET;
	a->in.sin_port = htons((uint16_t)port);
	inet_pton(AF_INET, ip, &a->in.sin_addr);
	return sizeof(a->in);
}

static int port_of(int fd)
{
	union address a;
	socklen_t len = sizeof(a);

	expect(getsockname(fd, &a.any, &len), 0, "getsockname");
	return ntohs(a.any.sa_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
}

static int listener(const char *ip, int flags, int backlog)
{
	union address a;
	socklen_t len = make_in(&a, ip, 0);
	int fd = expect(socket(a.any.sa_family, SOCK_STREAM | flags, 0), 0, "socket");

	expect(bind(fd, &a.any, len), 0, "bind");
	expect(listen(fd, backlog), 0, "listen");
	return fd;
}

/* Ends by a reset, so that no port waits. */
static void drop(int fd)
{
	struct linger now = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static int connect_to(const char *ip, int port, int type, int want)
{
	union address a;
	socklen_t len = make_in(&a, ip, port);
	int fd = expect(socket(a.any.sa_family, type, 0), 0, "socket");

	expect(connect(fd, &a.any, len), want, "connect");
	return fd;
}

static int await(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int error = 0;
	socklen_t len = sizeof(error);

	expect(poll(&p, 1, 20000), 0, "poll");
	expect(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0, "SO_ERROR");
	return error;
}

static void pairs(const char *server, const char *client, int type)
{
	int l = listener(server, 0, 16), port = port_of(l);

	printf("port %d\n", port);
	for (int i = 0; i < count; i++) {
		int c = connect_to(client, port, type, type & SOCK_NONBLOCK ? EINPROGRESS : 0);
		int s = expect(i % 2 ? accept(l, NULL, NULL) : accept4(l, NULL, NULL, SOCK_CLOEXEC),
			       0, "accept");

		if (type & SOCK_NONBLOCK && await(c) != 0)
			fail("connected");
		printf("local %d\n", port_of(c));
		drop(c);
		close(s);
	}
	close(l);
}

static void kind_v4(void)
{
	pairs("127.0.0.1", "127.0.0.1", SOCK_STREAM);
}

static void kind_v6(void)
{
	pairs("::1", "::1", SOCK_STREAM);
}

static void kind_mapped(void)
{
	pairs("::", "::ffff:127.0.0.1", SOCK_STREAM);
}

static void kind_nonblock(void)
{
	pairs("127.0.0.1", "127.0.0.1", SOCK_STREAM | SOCK_NONBLOCK);
}

static void kind_refused(void)
{
	for (int i = 0; i < count; i++)
		close(connect_to("127.0.0.1", 9, SOCK_STREAM, ECONNREFUSED));
}

static void kind_nonblock_refused(void)
{
	for (int i = 0; i < count; i++) {
		int c = connect_to("127.0.0.1", 9, SOCK_STREAM | SOCK_NONBLOCK, EINPROGRESS);

		if (await(c) != ECONNREFUSED)
			fail("refused");
		close(c);
	}
}

/* The queue of the listener is full: the first packet is dropped, and comes again a second later.
 */
static void kind_late(void)
{
	int l = listener("127.0.0.1", 0, 0), port = port_of(l);
	int first = connect_to("127.0.0.1", port, SOCK_STREAM, 0), late[64];

	printf("port %d\n", port);
	if (count > 64)
		exit(2);
	for (int i = 0; i < count; i++) {
		late[i] = connect_to("127.0.0.1", port, SOCK_STREAM | SOCK_NONBLOCK, EINPROGRESS);
		printf("late %d\n", port_of(late[i]));
	}
	expect(listen(l, 4096), 0, "listen");
	close(expect(accept(l, NULL, NULL), 0, "accept"));
	for (int i = 0; i < count; i++) {
		if (await(late[i]) != 0)
			fail("late");
		close(expect(accept(l, NULL, NULL), 0, "accept"));
		drop(late[i]);
	}
	drop(first);
	close(l);
}

/* Closed before any answer. */
static void kind_abandoned(void)
{
	int l = listener("127.0.0.1", 0, 0), port = port_of(l);
	int first = connect_to("127.0.0.1", port, SOCK_STREAM, 0);

	for (int i = 0; i < count; i++)
		close(connect_to("127.0.0.1", port, SOCK_STREAM | SOCK_NONBLOCK, EINPROGRESS));
	drop(first);
	close(l);
}

static void kind_udp(void)
{
	for (int i = 0; i < count; i++)
		close(connect_to("127.0.0.1", 10000 + i, SOCK_DGRAM, 0));
}

static socklen_t make_un(union address *a, const char *name)
{
	int n;

	memset(a, 0, sizeof(*a));
	a->un.sun_family = AF_UNIX;
	if (name[0] != '@') {
		snprintf(a->un.sun_path, sizeof(a->un.sun_path), "%s/%s", dir, name);
		return sizeof(a->un);
	}
	n = snprintf(a->un.sun_path + 1, sizeof(a->un.sun_path) - 1, "%s", name + 1);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static void unix_pairs(const char *name)
{
	int l = expect(socket(AF_UNIX, SOCK_STREAM, 0), 0, "socket"), c;
	union address a;
	socklen_t len = make_un(&a, name);

	expect(bind(l, &a.any, len), 0, "bind");
	expect(listen(l, 5), 0, "listen");
	for (int i = 0; i < count; i++) {
		c = expect(socket(AF_UNIX, SOCK_STREAM, 0), 0, "socket");
		expect(connect(c, &a.any, len), 0, "connect");
		close(expect(accept(l, NULL, NULL), 0, "accept"));
		close(c);
	}
	close(l);
	for (int i = 0; i < count; i++) {
		c = expect(socket(AF_UNIX, SOCK_STREAM, 0), 0, "socket");
		expect(connect(c, &a.any, len), ECONNREFUSED, "connect");
		close(c);
	}
}

static void kind_unix(void)
{
	unix_pairs("socket");
}

static void kind_abstract(void)
{
	unix_pairs("@rs-tcp-abstract");
}

/* Accepts and listens that fail, N of each. */
static void kind_failures(void)
{
	int l = listener("127.0.0.1", SOCK_NONBLOCK, 5), port = port_of(l);
	int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int plain = expect(socket(AF_INET, SOCK_STREAM, 0), 0, "socket");
	int udp = expect(socket(AF_INET, SOCK_DGRAM, 0), 0, "socket");
	union address a;
	socklen_t len = make_in(&a, "127.0.0.1", 9);

	printf("port %d\nfd %d\n", port, l);
	for (int i = 0; i < count; i++) {
		expect(accept(l, NULL, NULL), EAGAIN, "accept");
		expect(accept(file, NULL, NULL), ENOTSOCK, "accept");
		expect(accept4(9999, NULL, NULL, 0), EBADF, "accept4");
		expect(accept4(plain, NULL, NULL, 0), EINVAL, "accept4");
		expect(listen(udp, i), EOPNOTSUPP, "listen");
		expect(listen(9999, i), EBADF, "listen");
		expect(connect(file, &a.any, len), ENOTSOCK, "connect");
		expect(connect(plain, (void *)8, len), EFAULT, "connect");
	}
}

static void kind_listen(void)
{
	for (int i = 0; i < count; i++) {
		int fd = expect(socket(AF_INET6, SOCK_STREAM, 0), 0, "socket");

		expect(listen(fd, i), 0, "listen");
		printf("port %d\n", port_of(fd));
		close(fd);
	}
}

static int waiting;

static void *thread(void *arg)
{
	printf("tid %d\n", (int)syscall(SYS_gettid));
	for (int i = 0; i < count; i++) {
		int s = expect(accept(waiting, NULL, NULL), 0, "accept");

		usleep(0);
		close(s);
	}
	return arg;
}

/* Four threads wait in accept; as many connections come as they will take. */
static void kind_threads(void)
{
	pthread_t threads[4];

	waiting = listener("127.0.0.1", 0, 4096);
	for (int i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, thread, NULL))
			exit(1);
	for (int i = 0; i < 4 * count; i++)
		drop(connect_to("127.0.0.1", port_of(waiting), SOCK_STREAM, 0));
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

/* MSG_FASTOPEN: a connection without a call of connect. */
static void kind_fastopen(void)
{
	int l = listener("127.0.0.1", 0, 16);
	union address a;
	socklen_t len = make_in(&a, "127.0.0.1", port_of(l));

	printf("port %d\n", port_of(l));
	for (int i = 0; i < count; i++) {
		int c = expect(socket(AF_INET, SOCK_STREAM, 0), 0, "socket");

		expect((int)sendto(c, "x", 1, MSG_FASTOPEN, &a.any, len), 0, "sendto");
		close(expect(accept(l, NULL, NULL), 0, "accept"));
		drop(c);
	}
}

static const struct kind {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{"v4", kind_v4},
	{"v6", kind_v6},
	{"mapped", kind_mapped},
	{"nonblock", kind_nonblock},
	{"refused", kind_refused},
	{"nonblock_refused", kind_nonblock_refused},
	{"late", kind_late},
	{"abandoned", kind_abandoned},
	{"udp", kind_udp},
	{"unix", kind_unix},
	{"abstract", kind_abstract},
	{"failures", kind_failures},
	{"listen", kind_listen},
	{"threads", kind_threads},
	{"fastopen", kind_fastopen},
};

int main(int argc, char **argv)
{
	count = argc == 4 ? atoi(argv[2]) : 0;
	if (count < 1 || count > 10007)
		return 2;
	dir = argv[3];
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		if (strcmp(kinds[k].name, argv[1]) == 0) {
			kinds[k].run();
			return 0;
		}
	return 2;
}
