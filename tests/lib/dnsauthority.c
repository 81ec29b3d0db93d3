// SPDX-License-Identifier: Apache-2.0
/* A name server that takes its time: the same address for every name, some time after the query. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
	"dnsauthority ADDR PORT DELAY_US\n"
	"Says 'ready', then answers over UDP until it is ended: A with 192.0.2.1, AAAA with\n"
	"2001:db8::1, anything else with no records; TTL 0, so that nobody remembers it.\n";

/* Power of two; beyond it queries wait in the socket. */
#define WAITING_MAX 4096
#define QUERY_MAX   512

struct waiting {
	int64_t at;
	struct sockaddr_in peer;
	size_t size;
	unsigned char query[QUERY_MAX + 64]; /* with room for the record of an answer */
};

static struct waiting queue[WAITING_MAX];

static void die(const char *what)
{
	fprintf(stderr, "dnsauthority: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Where the one question ends; 0: not a query that has one. */
static size_t question_end(const unsigned char *q, size_t size)
{
	size_t at = 12;

	if (size < 12 || q[2] & 0x80 || q[4] || q[5] != 1)
		return 0;
	while (at < size && q[at]) {
		if (q[at] > 63)
			return 0;
		at += q[at] + 1u;
	}
	return at + 5 <= size ? at + 5 : 0;
}

/* In place; what followed the question (EDNS) goes. */
static size_t answer(unsigned char *q, size_t end)
{
	static const unsigned char a[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1};
	static const unsigned char aaaa[] = {0xc0, 12,	 0, 28, 0, 1, 0, 0, 0, 0, 0, 16, 0x20, 1,
					     0x0d, 0xb8, 0, 0,	0, 0, 0, 0, 0, 0, 0, 0,	 0,    1};
	unsigned int type = (unsigned int)(q[end - 4] << 8 | q[end - 3]);
	const unsigned char *record = type == 1 ? a : aaaa;
	size_t size = type == 1 ? sizeof(a) : type == 28 ? sizeof(aaaa) : 0;

	q[2] = (q[2] & 0x79) | 0x84; /* an answer, of who knows */
	q[3] = 0;
	memset(q + 6, 0, 6);
	q[7] = size != 0;
	memcpy(q + end, record, size);
	return end + size;
}

/* False: there is none. */
static bool take(int s, struct waiting *w, int64_t delay_ns)
{
	socklen_t len = sizeof(w->peer);
	ssize_t r = recvfrom(s, w->query, QUERY_MAX, MSG_DONTWAIT | MSG_TRUNC,
			     (struct sockaddr *)&w->peer, &len);
	size_t end;

	if (r < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return false;
		die("recvfrom");
	}
	end = r <= QUERY_MAX ? question_end(w->query, (size_t)r) : 0;
	if (!end) {
		fprintf(stderr, "dnsauthority: %zd octets that aren't a query\n", r);
		w->size = 0;
		return true;
	}
	w->at = now_ns() + delay_ns;
	w->size = answer(w->query, end);
	return true;
}

static void serve(int s, int64_t delay_ns)
{
	unsigned int first = 0, next = 0;

	for (;;) {
		struct pollfd p = {.fd = s, .events = POLLIN};
		struct timespec t = {}, *until = NULL;
		struct waiting *w = &queue[first % WAITING_MAX];

		while (first != next && (w = &queue[first % WAITING_MAX])->at <= now_ns()) {
			if (w->size && sendto(s, w->query, w->size, 0, (struct sockaddr *)&w->peer,
					      sizeof(w->peer)) < 0)
				die("sendto");
			first++;
		}
		if (first != next) {
			int64_t left = w->at - now_ns();

			t.tv_nsec = left > 0 ? left : 0;
			until = &t;
		}
		if (ppoll(&p, 1, until, NULL) < 0 && errno != EINTR)
			die("ppoll");
		while (next - first < WAITING_MAX && take(s, &queue[next % WAITING_MAX], delay_ns))
			next += queue[next % WAITING_MAX].size != 0;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	long delay_us = argc == 4 ? atol(argv[3]) : -1;
	int s;

	if (delay_us < 0 || delay_us >= 1000000 ||
	    inet_pton(AF_INET, argv[1], &addr.sin_addr) != 1) {
		fputs(usage, stderr);
		return 2;
	}
	addr.sin_port = htons((uint16_t)atoi(argv[2]));
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0 || bind(s, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die(argv[1]);
	puts("ready");
	fflush(stdout);
	serve(s, delay_us * 1000);
}
