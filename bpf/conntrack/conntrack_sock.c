// SPDX-License-Identifier: Apache-2.0
/* A ctnetlink socket: events of translated connections, dumps, and what to do when events were
 * lost. */
#include "bpf/conntrack/conntrack_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/macro.h"

/* Messages a pass: 10 to 20 ms, then others on the loop have their turn. */
#define PASS_MSGS 8192
/* After an overrun the next may follow at once: dumps must leave room for events. */
#define DUMP_GAP_NS NSEC_PER_SEC

#define TRANSLATED  (IPS_SRC_NAT | IPS_DST_NAT)

/*
 * Only what concerns translated connections gets into the socket's buffer: all others would be
 * most, and would cost a wake-up each. Parts of a dump (NLM_F_MULTI) hold several messages: those
 * are looked at when they are read.
 */
static int attach_filter(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(NLMSG_ERROR), 10, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(NLMSG_DONE), 9, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_flags)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, htons(NLM_F_MULTI), 7, 0),
		BPF_STMT(BPF_LDX | BPF_IMM, CTA_STATUS),
		BPF_STMT(BPF_LD | BPF_IMM, NLMSG_LENGTH(sizeof(struct nfgenmsg))),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_NLATTR)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_IND, NLA_HDRLEN),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, TRANSLATED, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog prog = {.len = ARRAY_SIZE(code), .filter = code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ? -errno : 0;
}

int conntrack_socket(size_t buffer)
{
	/* Groups count from 1, bits from 0. */
	const struct sockaddr_nl addr = {
		.nl_family = AF_NETLINK,
		.nl_groups =
			1u << (NFNLGRP_CONNTRACK_NEW - 1) | 1u << (NFNLGRP_CONNTRACK_DESTROY - 1),
	};
	_cleanup_close_ int fd = -1;
	int size = (int)buffer, r;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	if (fd < 0)
		return -errno;
	r = attach_filter(fd);
	if (r < 0)
		return r;
	/* In a user namespace the ordinary limit must do. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* One dump of those with that bit, DNAT first; a kernel before 5.15 ignores the mask and tells all.
 */
static int ask(struct source *s, enum dump what)
{
	char buf[128] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	uint32_t bit = what == DUMP_DNAT ? IPS_DST_NAT : IPS_SRC_NAT;
	struct nfgenmsg *g;

	h->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	h->nlmsg_seq = ++s->seq;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = AF_UNSPEC;
	g->version = NFNETLINK_V0;
	mnl_attr_put_u32(h, CTA_STATUS, htonl(bit));
	mnl_attr_put_u32(h, CTA_STATUS_MASK, htonl(bit));
	if (send(s->fd, h, h->nlmsg_len, 0) < 0)
		return -errno;
	s->dump = what;
	return 0;
}

int source_dump(struct source *s)
{
	if (s->dump != DUMP_NONE) {
		s->want_dump = true; /* what was lost may be in what it told already */
		return 0;
	}
	s->want_dump = false;
	s->unfiltered = false;
	s->dumped_ns = clock_mono_ns();
	s->pass++;
	return ask(s, DUMP_DNAT);
}

static int dump_done(struct instance *in, struct source *s)
{
	if (s->dump == DUMP_DNAT && !s->unfiltered)
		return ask(s, DUMP_SNAT);
	s->dump = DUMP_NONE;
	s->resyncs++;
	nat_sweep(in->nat, s->netns, s->pass, clock_mono_ns());
	return 0;
}

static void on_conn(struct instance *in, struct source *s, const struct nlmsghdr *h)
{
	bool dumped = h->nlmsg_flags & NLM_F_MULTI;
	struct nat_conn c;
	uint32_t status;
	int r;

	r = conntrack_parse(h, &c, &status);
	if (r < 0) {
		in->count.decode_errors++;
		return;
	}
	if (dumped && s->dump == DUMP_DNAT && !(status & IPS_DST_NAT))
		s->unfiltered = true;
	if (!dumped) {
		in->count.events++;
		s->events++;
	}
	c.netns = s->netns;
	if (r == CONNTRACK_NEW)
		(void)nat_put(in->nat, &c, dumped ? 0 : clock_real_ns(), s->pass); /* counted */
	else if (r == CONNTRACK_END)
		nat_end(in->nat, &c, clock_mono_ns());
}

static int on_message(struct instance *in, struct source *s, const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

	switch (h->nlmsg_type) {
	case NLMSG_DONE:
		return s->dump != DUMP_NONE && h->nlmsg_seq == s->seq ? dump_done(in, s) : 0;
	case NLMSG_ERROR:
		if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)) || !e->error || h->nlmsg_seq != s->seq)
			return 0;
		s->dump = DUMP_NONE;
		return e->error < 0 ? e->error : -EIO;
	default:
		on_conn(in, s, h);
		return 0;
	}
}

static int on_datagram(struct instance *in, struct source *s, const uint8_t *data, size_t len)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)data;
	int left = (int)len, r = 0, q;

	for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
		q = on_message(in, s, h);
		if (q < 0)
			r = q;
	}
	return r;
}

/* Datagrams read; 0: none was waiting. */
static int read_some(struct instance *in, struct source *s, int *failed)
{
	struct conntrack *ct = conntrack(in);
	struct mmsghdr msgs[CONNTRACK_MSGS] = {0};
	struct sockaddr_nl from[CONNTRACK_MSGS];
	struct iovec iov[CONNTRACK_MSGS];
	int n, r;

	for (int i = 0; i < CONNTRACK_MSGS; i++) {
		iov[i] = (struct iovec){ct->bufs[i], CONNTRACK_BUF};
		msgs[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
						  .msg_namelen = sizeof(from[i]),
						  .msg_iov = &iov[i],
						  .msg_iovlen = 1};
	}
	n = recvmmsg(s->fd, msgs, CONNTRACK_MSGS, MSG_DONTWAIT, NULL);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (from[i].nl_pid != 0)
			continue; /* not the kernel */
		if (msgs[i].msg_hdr.msg_flags & MSG_TRUNC) {
			s->overruns++;
			s->want_dump = true;
			continue;
		}
		r = on_datagram(in, s, ct->bufs[i], msgs[i].msg_len);
		if (r < 0)
			*failed = r;
	}
	return n;
}

int source_read(struct instance *in, struct source *s)
{
	int total = 0, failed = 0, n;

	while (total < PASS_MSGS) {
		n = read_some(in, s, &failed);
		if (n == -EINTR)
			continue;
		if (n == -ENOBUFS) { /* the buffer was full: what came then is lost, the rest can be
					read */
			s->overruns++;
			s->want_dump = true;
			continue;
		}
		if (n <= 0)
			break;
		total += n;
	}
	if (failed < 0)
		return failed;
	if (total >= PASS_MSGS)
		return 1;
	if (n < 0 && n != -EAGAIN)
		return n;
	if (s->want_dump && s->dump == DUMP_NONE && clock_mono_ns() - s->dumped_ns >= DUMP_GAP_NS)
		return source_dump(s);
	return 0;
}
