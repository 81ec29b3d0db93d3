// SPDX-License-Identifier: Apache-2.0
/* A known number of calls of bind(2) of one kind: bindload KIND N DIR. Prints the port after each
 * that has one. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
	struct sockaddr_nl nl;
};

static const char *dir;

static int fail(const char *what)
{
	perror(what);
	exit(1);
}

static socklen_t make_in(union address *a, const char *ip, int port)
{
	memset(a, 0, sizeof(*a));
	if (strchr(ip, ':')) {
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons((uint16_t)port);
		if (inet_pton(AF_INET6, ip, &a->in6.sin6_addr) != 1)
			fail(ip);
		return sizeof(a->in6);
	}
	a->in.sin_family = AF_INET;
	a->in.sin_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, ip, &a->in.sin_addr) != 1)
		fail(ip);
	return sizeof(a->in);
}

static int open_socket(int family, int type, int protocol)
{
	int fd = socket(family, type, protocol);

	return fd < 0 ? fail("socket") : fd;
}

/* want: the errno that must come, 0: none. Prints the port that a socket of IP has then. */
static void do_bind(int fd, const void *a, socklen_t len, int want)
{
	union address got;
	socklen_t size = sizeof(got);
	int r = bind(fd, a, len);

	if ((r < 0 ? errno : 0) != want)
		fail("bind");
	if (want)
		return;
	if (getsockname(fd, &got.any, &size) < 0)
		fail("getsockname");
	if (got.any.sa_family == AF_INET)
		printf("port %d\n", ntohs(got.in.sin_port));
	else if (got.any.sa_family == AF_INET6)
		printf("port %d\n", ntohs(got.in6.sin6_port));
	else if (got.any.sa_family == AF_UNIX && size > 3 && !got.un.sun_path[0])
		printf("name %.*s\n", (int)size - 3, got.un.sun_path + 1);
}

static void bind_ip(int type, const char *ip, int port, int want)
{
	union address a;
	socklen_t len = make_in(&a, ip, port);
	int fd = open_socket(a.any.sa_family, type, 0);

	do_bind(fd, &a, len, want);
	close(fd);
}

static void kind_tcp(int i)
{
	(void)i;
	bind_ip(SOCK_STREAM, "127.0.0.1", 0, 0);
}

static void kind_udp6(int i)
{
	(void)i;
	bind_ip(SOCK_DGRAM, "::1", 0, 0);
}

static void kind_mapped(int i)
{
	bind_ip(SOCK_STREAM, "::ffff:127.0.0.7", 10000 + i, 0);
}

static void kind_wildcard(int i)
{
	bind_ip(SOCK_STREAM, "::", 10000 + i, 0);
}

static void kind_raw(int i)
{
	union address a;
	socklen_t len = make_in(&a, "127.0.0.1", 0);
	int fd = open_socket(AF_INET, SOCK_RAW, 253);

	(void)i;
	do_bind(fd, &a, len, 0);
	close(fd);
}

static void kind_device(int i)
{
	union address a;
	socklen_t len = make_in(&a, "127.0.0.1", 10000 + i);
	int fd = open_socket(AF_INET, SOCK_DGRAM, 0);

	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) < 0)
		fail("SO_BINDTODEVICE");
	do_bind(fd, &a, len, 0);
	close(fd);
}

static void kind_unix(int i)
{
	union address a = {.un.sun_family = AF_UNIX};
	int fd = open_socket(AF_UNIX, SOCK_STREAM, 0);

	if (snprintf(a.un.sun_path, sizeof(a.un.sun_path), "%s/%d", dir, i) >=
	    (int)sizeof(a.un.sun_path))
		exit(2);
	do_bind(fd, &a, sizeof(a.un), 0);
	close(fd);
	unlink(a.un.sun_path);
}

static void kind_abstract(int i)
{
	union address a = {.un.sun_family = AF_UNIX};
	int fd = open_socket(AF_UNIX, SOCK_DGRAM, 0);
	int n = snprintf(a.un.sun_path + 1, sizeof(a.un.sun_path) - 1, "rs-bind-%d", i);

	do_bind(fd, &a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n), 0);
	close(fd);
}

static void kind_autobind(int i)
{
	union address a = {.un.sun_family = AF_UNIX};
	int fd = open_socket(AF_UNIX, SOCK_SEQPACKET, 0);

	(void)i;
	do_bind(fd, &a, sizeof(sa_family_t), 0);
	close(fd);
}

static void kind_netlink(int i)
{
	union address a = {
		.nl = {.nl_family = AF_NETLINK, .nl_pid = (uint32_t)(70000 + i), .nl_groups = 1}};
	int fd = open_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	do_bind(fd, &a, sizeof(a.nl), 0);
	close(fd);
}

static void kind_inuse(int i)
{
	static int holder = -1;
	union address a;
	socklen_t len = make_in(&a, "127.0.0.1", 9999);

	(void)i;
	if (holder < 0) {
		holder = open_socket(AF_INET, SOCK_DGRAM, 0);
		do_bind(holder, &a, len, 0);
	}
	bind_ip(SOCK_DGRAM, "127.0.0.1", 9999, EADDRINUSE);
}

static void kind_foreign(int i)
{
	bind_ip(SOCK_STREAM, "192.0.2.1", 10000 + i, EADDRNOTAVAIL);
}

static void kind_foreign_mapped(int i)
{
	bind_ip(SOCK_STREAM, "::ffff:192.0.2.1", 10000 + i, EADDRNOTAVAIL);
}

static void kind_privileged(int i)
{
	bind_ip(SOCK_STREAM, "127.0.0.1", 80, EACCES);
	(void)i;
}

static void kind_missing_dir(int i)
{
	union address a = {.un.sun_family = AF_UNIX};
	int fd = open_socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.un.sun_path, sizeof(a.un.sun_path), "/no/such/%d", i);
	do_bind(fd, &a, sizeof(a.un), ENOENT);
	close(fd);
}

static void kind_file(int i)
{
	union address a;
	socklen_t len = make_in(&a, "127.0.0.1", 10000 + i);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	do_bind(fd, &a, len, ENOTSOCK);
	close(fd);
}

static void kind_closed(int i)
{
	union address a;
	socklen_t len = make_in(&a, "127.0.0.1", 10000 + i);

	do_bind(9999, &a, len, EBADF);
}

static void kind_short(int i)
{
	union address a;
	int fd = open_socket(AF_INET, SOCK_STREAM, 0);

	(void)i;
	make_in(&a, "127.0.0.1", 0);
	do_bind(fd, &a, 5, EINVAL);
	do_bind(fd, (void *)8, sizeof(a.in), EFAULT);
	close(fd);
}

/* The address is on a page of a file that this process has never touched. */
static void kind_untouched(int i)
{
	union address a;
	socklen_t len = make_in(&a, "192.0.2.1", 10000 + i);
	char path[256];
	void *page;
	int file, fd = open_socket(AF_INET, SOCK_STREAM, 0);

	snprintf(path, sizeof(path), "%s/page", dir);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (file < 0 || write(file, &a, len) != (ssize_t)len)
		fail(path);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
	if (page == MAP_FAILED)
		fail("mmap");
	do_bind(fd, page, len, EADDRNOTAVAIL);
	munmap(page, 4096);
	close(file);
	close(fd);
}

static const struct kind {
	const char *name;
	void (*run)(int i);
} kinds[] = {
	{"tcp", kind_tcp},
	{"udp6", kind_udp6},
	{"mapped", kind_mapped},
	{"wildcard", kind_wildcard},
	{"raw", kind_raw},
	{"device", kind_device},
	{"unix", kind_unix},
	{"abstract", kind_abstract},
	{"autobind", kind_autobind},
	{"netlink", kind_netlink},
	{"inuse", kind_inuse},
	{"foreign", kind_foreign},
	{"foreign_mapped", kind_foreign_mapped},
	{"privileged", kind_privileged},
	{"missing_dir", kind_missing_dir},
	{"file", kind_file},
	{"closed", kind_closed},
	{"short", kind_short},
	{"untouched", kind_untouched},
};

static int each;

static void *thread(void *arg)
{
	(void)arg;
	printf("tid %d\n", (int)syscall(SYS_gettid));
	for (int i = 0; i < each; i++)
		kind_tcp(i);
	return NULL;
}

int main(int argc, char **argv)
{
	int n = argc == 4 ? atoi(argv[2]) : 0;
	pthread_t threads[4];

	if (n < 1 || n > 10007)
		return 2;
	dir = argv[3];
	if (strcmp(argv[1], "threads") == 0) {
		each = n;
		for (int i = 0; i < 4; i++)
			if (pthread_create(&threads[i], NULL, thread, NULL))
				return 1;
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		return 0;
	}
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		if (strcmp(kinds[k].name, argv[1]) != 0)
			continue;
		for (int i = 0; i < n; i++)
			kinds[k].run(i);
		return 0;
	}
	return 2;
}
