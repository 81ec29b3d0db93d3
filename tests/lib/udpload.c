// SPDX-License-Identifier: Apache-2.0
/* A known number of UDP exchanges with known sizes, connected and unconnected, one by one and by
 * sendmmsg. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define MOST 64

static const char usage[] =
	"udpload server MODE ADDR PORT N SIZE   MODE: plain, read (recv without address, no "
	"answers)\n"
	"udpload client MODE ADDR PORT N SIZE   MODE: connected, unconnected, mmsg, gso, hold\n"
	"Exchange i: SIZE+i bytes to the server, 2*(SIZE+i) back. gso: N segments of SIZE bytes in "
	"one call, no answers.\n"
	"hold: says 'open' with its socket made, and goes on (connected) after a line on stdin.\n";

static char buf[65536];

static void die(const char *what)
{
	fprintf(stderr, "udpload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static socklen_t parse_addr(struct sockaddr_storage *ss, const char *addr, const char *port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	if (inet_pton(AF_INET, addr, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)atoi(port));
		return sizeof(*v4);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)atoi(port));
	return inet_pton(AF_INET6, addr, &v6->sin6_addr) == 1 ? sizeof(*v6) : 0;
}

static int server(const char *mode, const struct sockaddr_storage *ss, socklen_t len, long n)
{
	int s = socket(ss->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || bind(s, (const struct sockaddr *)ss, len) < 0)
		die("bind");
	printf("ready\nowner %d\n", getpid());
	fflush(stdout);
	for (long i = 0; i < n; i++) {
		struct sockaddr_storage from;
		socklen_t flen = sizeof(from);
		ssize_t got;

		if (strcmp(mode, "read") == 0) {
			if (recv(s, buf, sizeof(buf), 0) < 0)
				die("recv");
			continue;
		}
		got = recvfrom(s, buf, sizeof(buf), 0, (struct sockaddr *)&from, &flen);
		if (got < 0 ||
		    sendto(s, buf, (size_t)got * 2, 0, (struct sockaddr *)&from, flen) < 0)
			die("answer");
	}
	return 0;
}

static void answer(int s)
{
	if (recv(s, buf, sizeof(buf), 0) < 0)
		die("recv");
}

static void mmsg(int s, const struct sockaddr_storage *ss, socklen_t len, long n, long size)
{
	struct mmsghdr msgs[MOST] = {};
	struct iovec iov[MOST];

	if (n > MOST)
		exit(2);
	for (long i = 0; i < n; i++) {
		iov[i] = (struct iovec){.iov_base = buf, .iov_len = (size_t)(size + i)};
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		msgs[i].msg_hdr.msg_name = (void *)ss;
		msgs[i].msg_hdr.msg_namelen = len;
	}
	if (sendmmsg(s, msgs, (unsigned int)n, 0) != n)
		die("sendmmsg");
	for (long i = 0; i < n; i++)
		answer(s);
}

static int client(const char *mode, const struct sockaddr_storage *ss, socklen_t len, long n,
		  long size)
{
	int s = socket(ss->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), seg = (int)size;
	const struct sockaddr *to = (const struct sockaddr *)ss;

	if (s < 0)
		die("socket");
	printf("owner %d\n", getpid());
	fflush(stdout);
	if (strcmp(mode, "hold") == 0) {
		if (connect(s, to, len) < 0)
			die("connect");
		puts("open");
		fflush(stdout);
		if (!fgets(buf, sizeof(buf), stdin))
			return 1;
	}
	if (strcmp(mode, "mmsg") == 0) {
		mmsg(s, ss, len, n, size);
		return 0;
	}
	if (strcmp(mode, "gso") == 0) {
		if (connect(s, to, len) < 0 ||
		    setsockopt(s, IPPROTO_UDP, UDP_SEGMENT, &seg, sizeof(seg)) < 0)
			die("UDP_SEGMENT");
		if (send(s, buf, (size_t)(n * size), 0) != n * size)
			die("send");
		return 0;
	}
	if (strcmp(mode, "connected") == 0 && connect(s, to, len) < 0)
		die("connect");
	for (long i = 0; i < n; i++) {
		ssize_t r = strcmp(mode, "unconnected") == 0
				    ? sendto(s, buf, (size_t)(size + i), 0, to, len)
				    : send(s, buf, (size_t)(size + i), 0);

		if (r < 0)
			die("send");
		answer(s);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_storage ss;
	socklen_t len;

	alarm(120);
	if (argc != 7 || !(len = parse_addr(&ss, argv[3], argv[4]))) {
		fputs(usage, stderr);
		return 2;
	}
	memset(buf, 'u', sizeof(buf));
	if (strcmp(argv[1], "server") == 0)
		return server(argv[2], &ss, len, atol(argv[5]));
	return client(argv[2], &ss, len, atol(argv[5]), atol(argv[6]));
}
