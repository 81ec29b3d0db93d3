// SPDX-License-Identifier: Apache-2.0
/* Scenarios of datagrams: UDP in its ways, raw sockets, ping sockets, packets from below the stack.
 */
#include "tests/accuracy/scenarios.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define QUIC_SOCKETS 11
#define QUIC_BATCH   3
#define QUIC_SIZE    1200

static char buf[65536];

static int datagram(const struct args *a, int type, int protocol)
{
	int fd = socket(a->addr.ss_family, type | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		die("socket");
	return fd;
}

static int bound(const struct args *a)
{
	int fd = datagram(a, SOCK_DGRAM, 0), big = 1 << 20;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big)) < 0 ||
	    bind(fd, (const struct sockaddr *)&a->addr, a->len) < 0)
		die("bind");
	say_ready();
	say_owner();
	return fd;
}

static void sent(long bytes)
{
	if (bytes < 0)
		die("send");
	truth->tx += bytes;
	truth->out++;
}

static void received(long bytes)
{
	if (bytes < 0)
		die("recv");
	truth->rx += bytes;
	truth->in++;
}

static void answer_all(const struct args *a, int n)
{
	int fd = bound(a);

	for (int i = 0; i < n; i++) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		ssize_t got = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);

		received(got);
		sent(sendto(fd, buf, (size_t)got * 2, 0, (struct sockaddr *)&from, len));
	}
}

static void serve(const struct args *a)
{
	answer_all(a, DATAGRAMS);
}

static void call_connected(const struct args *a)
{
	int fd = datagram(a, SOCK_DGRAM, 0);

	say_owner();
	if (connect(fd, (const struct sockaddr *)&a->addr, a->len) < 0)
		die("connect");
	for (int i = 0; i < DATAGRAMS; i++) {
		sent(send(fd, buf, (size_t)(SIZE + i), 0));
		received(recv(fd, buf, sizeof(buf), 0));
	}
}

static void call_unconnected(const struct args *a)
{
	int fd = datagram(a, SOCK_DGRAM, 0);

	say_owner();
	for (int i = 0; i < DATAGRAMS; i++) {
		sent(sendto(fd, buf, (size_t)(SIZE + i), 0, (const struct sockaddr *)&a->addr,
			    a->len));
		received(recvfrom(fd, buf, sizeof(buf), 0, NULL, NULL));
	}
}

/* All datagrams of a call: to addr, or from wherever (addr NULL). */
static void many(int fd, struct sockaddr_storage *addr, socklen_t len, bool out)
{
	static struct mmsghdr msgs[DATAGRAMS];
	static struct iovec iov[DATAGRAMS];
	int n;

	for (int i = 0; i < DATAGRAMS; i++) {
		iov[i] = (struct iovec){.iov_base = buf + i * 2000L,
					.iov_len = out ? (size_t)(SIZE + i) : 2000};
		msgs[i].msg_hdr = (struct msghdr){
			.msg_iov = &iov[i], .msg_iovlen = 1, .msg_name = addr, .msg_namelen = len};
	}
	n = out ? sendmmsg(fd, msgs, DATAGRAMS, 0) : recvmmsg(fd, msgs, DATAGRAMS, 0, NULL);
	if (n != DATAGRAMS)
		die("mmsg");
	for (int i = 0; i < n; i++) {
		if (out)
			sent(msgs[i].msg_len);
		else
			received(msgs[i].msg_len);
	}
}

static void serve_mmsg(const struct args *a)
{
	int fd = bound(a);
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);

	if (recvfrom(fd, buf, sizeof(buf), MSG_PEEK, (struct sockaddr *)&from, &len) < 0)
		die("recv");
	many(fd, NULL, 0, false);
	many(fd, &from, len, true);
}

static void call_mmsg(const struct args *a)
{
	struct sockaddr_storage to = a->addr;
	int fd = datagram(a, SOCK_DGRAM, 0);

	say_owner();
	many(fd, &to, a->len, true);
	many(fd, NULL, 0, false);
}

/* As QUIC does: one socket for all peers there, batches that the kernel segments here. */
static void serve_quic(const struct args *a)
{
	answer_all(a, QUIC_SOCKETS * QUIC_BATCH * 2);
}

static void quic_client(const struct args *a, int unused)
{
	int fd, size = QUIC_SIZE;

	(void)unused;
	say_owner();
	for (int s = 0; s < QUIC_SOCKETS; s++) {
		fd = datagram(a, SOCK_DGRAM, 0);
		if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)) < 0)
			skip("UDP_SEGMENT");
		sent(sendto(fd, buf, (size_t)size * QUIC_BATCH, 0,
			    (const struct sockaddr *)&a->addr, a->len));
		truth->out += QUIC_BATCH - 1;
		for (int i = 0; i < QUIC_BATCH; i++)
			received(recv(fd, buf, sizeof(buf), 0));
		close(fd);
	}
}

static void call_quic(const struct args *a)
{
	spawn(quic_client, a, -1);
	spawn(quic_client, a, -1);
}

/* One datagram, and gone. */
static void serve_sink(const struct args *a)
{
	int fd = bound(a);

	for (int i = 0; i < DATAGRAMS; i++)
		received(recv(fd, buf, sizeof(buf), 0));
}

static void send_one(const struct args *a, int i)
{
	say_owner();
	sent(sendto(datagram(a, SOCK_DGRAM, 0), buf, (size_t)(SIZE + i), 0,
		    (const struct sockaddr *)&a->addr, a->len));
}

static void call_exits(const struct args *a)
{
	for (int i = 0; i < DATAGRAMS; i++)
		spawn(send_one, a, i);
}

/* A socket that a child uses. */
static void use_inherited(const struct args *a, int fd)
{
	say_owner();
	for (int i = 0; i < DATAGRAMS; i++) {
		sent(sendto(fd, buf, (size_t)(SIZE + i), 0, (const struct sockaddr *)&a->addr,
			    a->len));
		received(recvfrom(fd, buf, sizeof(buf), 0, NULL, NULL));
	}
}

static void call_fork(const struct args *a)
{
	spawn(use_inherited, a, datagram(a, SOCK_DGRAM, 0));
}

/* Raw: a protocol of our own, to where nobody minds. */
#define RAW_PROTOCOL 253 /* RFC 3692: for experiments */

static void serve_raw(const struct args *a)
{
	int fd = datagram(a, SOCK_RAW, RAW_PROTOCOL);

	say_ready();
	say_owner();
	for (int i = 0; i < DATAGRAMS; i++)
		received(recv(fd, buf, sizeof(buf), 0) - (long)sizeof(struct iphdr));
}

static void call_raw(const struct args *a)
{
	struct sockaddr_in to = *(const struct sockaddr_in *)&a->addr;
	int fd = datagram(a, SOCK_RAW, RAW_PROTOCOL);

	say_owner();
	to.sin_port = 0;
	for (int i = 0; i < DATAGRAMS; i++)
		sent(sendto(fd, buf, (size_t)(SIZE + i), 0, (struct sockaddr *)&to, sizeof(to)));
}

static void serve_kernel(const struct args *a)
{
	(void)a;
	say_ready();
}

static void call_ping(const struct args *a)
{
	struct icmphdr h = {.type = ICMP_ECHO};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);

	if (fd < 0)
		skip("ping sockets");
	say_owner();
	memcpy(buf, &h, sizeof(h));
	for (int i = 0; i < DATAGRAMS; i++) {
		sent(sendto(fd, buf, (size_t)(SIZE + i), 0, (const struct sockaddr *)&a->addr,
			    a->len) -
		     (long)sizeof(h));
		received(recv(fd, buf + 2048, 2048, 0) - (long)sizeof(h));
	}
}

static uint16_t checksum(const void *data, size_t len)
{
	const uint16_t *p = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < len / 2; i++)
		sum += p[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

/* IP and UDP headers written by hand, to an interface; extra: our address. */
static void call_packet(const struct args *a)
{
	const struct sockaddr_in *to = (const struct sockaddr_in *)&a->addr;
	struct sockaddr_ll ll = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_halen = 6};
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP};
	struct udphdr udp = {.uh_sport = htons(5353), .uh_dport = to->sin_port};

	if (fd < 0)
		die("AF_PACKET");
	say_owner();
	memset(ll.sll_addr, 0xff, 6);
	ll.sll_ifindex = (int)if_nametoindex("veth0");
	ip.daddr = to->sin_addr.s_addr;
	if (inet_pton(AF_INET, a->extra, &ip.saddr) != 1)
		die("address");
	for (int i = 0; i < DATAGRAMS; i++) {
		size_t len = (size_t)(SIZE + i);

		udp.uh_ulen = htons((uint16_t)(len + sizeof(udp)));
		ip.tot_len = htons((uint16_t)(len + sizeof(udp) + sizeof(ip)));
		ip.check = 0;
		ip.check = checksum(&ip, sizeof(ip));
		memcpy(buf, &ip, sizeof(ip));
		memcpy(buf + sizeof(ip), &udp, sizeof(udp));
		sent(sendto(fd, buf, sizeof(ip) + sizeof(udp) + len, 0, (struct sockaddr *)&ll,
			    sizeof(ll)) -
		     (long)(sizeof(ip) + sizeof(udp)));
	}
}

const struct scenario other_scenarios[] = {
	{"udp", serve, call_connected},	       {"udp-unconnected", serve, call_unconnected},
	{"mmsg", serve_mmsg, call_mmsg},       {"quic", serve_quic, call_quic},
	{"udp-exits", serve_sink, call_exits}, {"udp-fork", serve, call_fork},
	{"raw", serve_raw, call_raw},	       {"ping", serve_kernel, call_ping},
	{"packet", serve_sink, call_packet},   {},
};
