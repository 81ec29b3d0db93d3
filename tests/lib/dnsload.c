// SPDX-License-Identifier: Apache-2.0
/* A known number of DNS queries in every way that programs ask: connected, unconnected, sendmmsg,
 * TCP, getaddrinfo. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char usage[] = "dnsload MODE ADDR PORT N TYPE EDNS NAME   NAME's %d is the number of "
			    "the query; TYPE 0: A and AAAA in turns\n"
			    "MODE: connected, unconnected, mmsg, tcp (one connection, all at "
			    "once), tcp1 (one after another, octet by octet), getaddrinfo,\n"
			    "serve (answers N queries over UDP: no such name)\n"
			    "Says 'owner PID', then 'answers N' with how many came within WAIT_MS "
			    "(environment, 2000).\n";

static unsigned char buf[65536];
static int wait_ms = 2000;

static void die(const char *what)
{
	fprintf(stderr, "dnsload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static socklen_t parse_addr(struct sockaddr_storage *ss, const char *addr, const char *port)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *res;
	socklen_t len;

	if (getaddrinfo(addr, port, &hints, &res) != 0)
		return 0;
	len = res->ai_addrlen;
	memcpy(ss, res->ai_addr, len);
	freeaddrinfo(res);
	return len;
}

static size_t make_query(unsigned char *b, long i, long type, long edns, const char *pattern)
{
	static const unsigned char opt[11] = {0, 0, 41, 16, 0};
	char name[256];
	size_t n = 12;

	/* The pattern is the test's own. */
	snprintf(name, sizeof(name), "%s", pattern);
	if (strstr(pattern, "%d")) {
		size_t at = (size_t)(strstr(pattern, "%d") - pattern);

		snprintf(name + at, sizeof(name) - at, "%ld%s", i, pattern + at + 2);
	}
	memset(b, 0, 12);
	b[0] = (unsigned char)(i >> 8);
	b[1] = (unsigned char)i;
	b[2] = 1;
	b[5] = 1;
	b[11] = edns ? 1 : 0;
	for (char *save, *p = strtok_r(name, ".", &save); p; p = strtok_r(NULL, ".", &save)) {
		b[n++] = (unsigned char)strlen(p);
		memcpy(b + n, p, strlen(p));
		n += strlen(p);
	}
	b[n++] = 0;
	b[n++] = 0;
	b[n++] = (unsigned char)(type ? type : (i & 1 ? 28 : 1));
	b[n++] = 0;
	b[n++] = 1;
	if (edns) {
		memcpy(b + n, opt, sizeof(opt));
		n += sizeof(opt);
	}
	return n;
}

/* Datagrams that come until there are n or nothing comes for wait_ms. */
static long drain(int s, long n)
{
	struct pollfd p = {.fd = s, .events = POLLIN};
	long got = 0;

	while (got < n && poll(&p, 1, wait_ms) > 0) {
		if (recv(s, buf, sizeof(buf), 0) < 0)
			break;
		got++;
	}
	return got;
}

static long mmsg(int s, long n, long type, long edns, const char *name)
{
	static unsigned char queries[64][300];
	struct mmsghdr msgs[64] = {};
	struct iovec iov[64];

	if (n > 64)
		exit(2);
	for (long i = 0; i < n; i++) {
		iov[i] = (struct iovec){.iov_base = queries[i],
					.iov_len = make_query(queries[i], i, type, edns, name)};
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	if (sendmmsg(s, msgs, (unsigned int)n, 0) != n)
		die("sendmmsg");
	return drain(s, n);
}

static long udp(const char *mode, const struct sockaddr_storage *ss, socklen_t len, long n,
		long type, long edns, const char *name)
{
	int s = socket(ss->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const struct sockaddr *to = (const struct sockaddr *)ss;
	long got = 0;

	if (s < 0 || (strcmp(mode, "unconnected") != 0 && connect(s, to, len) < 0))
		die("connect");
	if (strcmp(mode, "mmsg") == 0)
		return mmsg(s, n, type, edns, name);
	for (long i = 0; i < n; i++) {
		size_t size = make_query(buf, i, type, edns, name);
		ssize_t r = strcmp(mode, "unconnected") == 0 ? sendto(s, buf, size, 0, to, len)
							     : send(s, buf, size, 0);

		if (r < 0)
			die("send");
		got += drain(s, 1);
	}
	return got;
}

static void read_all(int s, unsigned char *b, size_t n)
{
	while (n) {
		ssize_t r = recv(s, b, n, 0);

		if (r <= 0)
			die("recv");
		b += r;
		n -= (size_t)r;
	}
}

static void read_answer(int s)
{
	read_all(s, buf, 2);
	read_all(s, buf + 2, (size_t)(buf[0] << 8 | buf[1]));
}

static long tcp(const char *mode, const struct sockaddr_storage *ss, socklen_t len, long n,
		long type, long edns, const char *name)
{
	int s = socket(ss->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	bool slow = strcmp(mode, "tcp1") == 0;
	static unsigned char all[65536];
	size_t size = 0;

	if (s < 0 || setsockopt(s, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof(one)) < 0 ||
	    connect(s, (const struct sockaddr *)ss, len) < 0)
		die("connect");
	for (long i = 0; i < n && size < sizeof(all) - 400; i++) {
		size_t q = make_query(all + size + 2, i, type, edns, name);

		all[size] = (unsigned char)(q >> 8);
		all[size + 1] = (unsigned char)q;
		size += q + 2;
		if (!slow)
			continue;
		for (size_t k = 0; k < size; k++)
			if (send(s, all + k, 1, 0) != 1)
				die("send");
		size = 0;
		read_answer(s);
	}
	if (size && send(s, all, size, 0) != (ssize_t)size)
		die("send");
	for (long i = 0; i < n && !slow; i++)
		read_answer(s);
	close(s);
	return n;
}

static long by_libc(long n, const char *pattern)
{
	long got = 0;

	for (long i = 0; i < n; i++) {
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *res;
		size_t at = (size_t)(strstr(pattern, "%d") - pattern);
		char name[256];

		snprintf(name, sizeof(name), "%s", pattern);
		snprintf(name + at, sizeof(name) - at, "%ld%s", i, pattern + at + 2);
		if (getaddrinfo(name, "80", &hints, &res) != 0)
			continue;
		for (struct addrinfo *a = res; a; a = a->ai_next)
			got++;
		freeaddrinfo(res);
	}
	return got;
}

/* Each query comes back as its own answer. */
static long serve(const struct sockaddr_storage *ss, socklen_t len, long n)
{
	int s = socket(ss->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	long done = 0;

	if (s < 0 || bind(s, (const struct sockaddr *)ss, len) < 0)
		die("bind");
	puts("ready");
	fflush(stdout);
	for (; done < n; done++) {
		struct sockaddr_storage from;
		socklen_t size = sizeof(from);
		ssize_t r = recvfrom(s, buf, sizeof(buf), 0, (struct sockaddr *)&from, &size);

		if (r < 12)
			die("recvfrom");
		buf[2] |= 0x80; /* an answer */
		buf[3] = 3;	/* NXDOMAIN */
		if (sendto(s, buf, (size_t)r, 0, (struct sockaddr *)&from, size) != r)
			die("sendto");
	}
	return done;
}

int main(int argc, char **argv)
{
	struct sockaddr_storage ss;
	socklen_t len;
	long got;

	alarm(120);
	if (argc != 8 || !(len = parse_addr(&ss, argv[2], argv[3]))) {
		fputs(usage, stderr);
		return 2;
	}
	if (getenv("WAIT_MS"))
		wait_ms = atoi(getenv("WAIT_MS"));
	printf("owner %d\n", getpid());
	fflush(stdout);
	if (strcmp(argv[1], "serve") == 0)
		got = serve(&ss, len, atol(argv[4]));
	else if (strcmp(argv[1], "getaddrinfo") == 0)
		got = by_libc(atol(argv[4]), argv[7]);
	else if (strncmp(argv[1], "tcp", 3) == 0)
		got = tcp(argv[1], &ss, len, atol(argv[4]), atol(argv[5]), atol(argv[6]), argv[7]);
	else
		got = udp(argv[1], &ss, len, atol(argv[4]), atol(argv[5]), atol(argv[6]), argv[7]);
	printf("answers %ld\n", got);
	return 0;
}
