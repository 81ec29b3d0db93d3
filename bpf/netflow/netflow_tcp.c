// SPDX-License-Identifier: Apache-2.0
/* TCP accounting: what ended (events), what goes on (iterator), what was there before. */
#include "bpf/netflow/netflow_priv.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "bpf/iter.h"
#include "bpf/netflow.skel.h"

/* A connection whose end was lost with a full ring stays in the table until two full passes missed
 * it. */
#define FULL_EVERY 16

void netflow_key(struct flow_key *key, const struct netflow_conn *c)
{
	memset(key, 0, sizeof(*key));
	memcpy(key->src, c->src, sizeof(key->src));
	memcpy(key->dst, c->dst, sizeof(key->dst));
	key->sport = c->sport;
	key->dport = c->dport;
	key->pid = c->pid;
	key->netns = c->netns;
	key->family = c->family;
	key->dir = c->dir;
	key->transport = c->transport;
	key->cgroup_id = c->cgroup_id;
	/* The kernel doesn't clear what a longer name left behind. */
	memcpy(key->comm, c->comm, strnlen(c->comm, sizeof(key->comm) - 1));
}

void netflow_aggregate_port(const struct netflow *nf, struct flow_key *key)
{
	if (!nf->ephemeral_port)
		return;
	if (key->dir == NETFLOW_DIR_OUTGOING && key->sport >= nf->ephemeral_port)
		key->sport = 0;
	if (key->dir != NETFLOW_DIR_INCOMING)
		return;
	if (key->dport >= nf->ephemeral_port)
		key->dport = 0;
	if (key->nat_dport >= nf->ephemeral_port)
		key->nat_dport = 0;
}

static bool is_loopback(const uint32_t a[4], uint8_t family)
{
	if (family == 4)
		return ntohl(a[0]) >> 24 == 127;
	return !a[0] && !a[1] && !a[2] && a[3] == htonl(1);
}

bool netflow_wanted(const struct netflow *nf, const struct flow_key *key)
{
	if (key->family == 6 && !nf->ipv6)
		return false;
	return nf->loopback ||
	       !(is_loopback(key->src, key->family) || is_loopback(key->dst, key->family));
}

/* What a connection did since it was last reported. */
struct delta {
	uint64_t rx, tx;
	uint32_t in, out, retransmits;
	uint32_t established, closed, failures;
};

static int account(struct instance *in, const struct netflow_conn *c, const struct delta *d)
{
	struct netflow *nf = netflow(in);
	struct flow_key key;
	struct flow *f;

	if (!(d->rx | d->tx | d->in | d->out | d->retransmits | d->established | d->closed |
	      d->failures))
		return 0;
	netflow_key(&key, c);
	if (!netflow_wanted(nf, &key) || netflow_filter_drops(in, &key))
		return 0;
	netflow_translate(in, &key);
	netflow_aggregate_port(nf, &key);
	f = netflow_flow(in, &key);
	if (!f)
		return -ENOMEM;
	f->rx += d->rx;
	f->tx += d->tx;
	f->packets_in += d->in;
	f->packets_out += d->out;
	f->retransmits += d->retransmits;
	f->established += d->established;
	f->closed += d->closed;
	f->failures += d->failures;
	if (c->srtt_us) {
		f->rtt += c->srtt_us;
		f->rtt_var += c->mdev_us;
		f->rtt_n++;
	}
	return 0;
}

/* Counters of the kernel only grow; a correction (the FIN, a refused segment) may take a few bytes
 * back: then wait. */
static uint64_t grown(uint64_t now, uint64_t *last)
{
	uint64_t d = now > *last ? now - *last : 0;

	*last += d;
	return d;
}

static void since_seen(struct seen *s, const struct netflow_conn *c, struct delta *d)
{
	d->rx = grown(c->rx, &s->rx);
	d->tx = grown(c->tx, &s->tx);
	d->in = c->segs_in - s->segs_in; /* modulo 2^32, as the kernel counts */
	d->out = c->segs_out - s->segs_out;
	d->retransmits = c->retrans - s->retrans;
	s->segs_in = c->segs_in;
	s->segs_out = c->segs_out;
	s->retrans = c->retrans;
}

static void since_open(const struct netflow_conn *c, struct delta *d)
{
	d->rx = c->rx;
	d->tx = c->tx;
	d->in = c->segs_in;
	d->out = c->segs_out;
	d->retransmits = c->retrans;
	d->established = 1;
}

int netflow_tcp_end(struct instance *in, const struct netflow_conn *c)
{
	struct netflow *nf = netflow(in);
	struct seen *s = c->id ? seen_find(&nf->seen, c->id) : NULL;
	struct delta d = {};

	if (s) {
		since_seen(s, c, &d);
		seen_del(&nf->seen, s);
	} else {
		since_open(c, &d);
	}
	if (c->flags & NETFLOW_FAILED) {
		d.established = 0;
		d.failures = 1;
	} else {
		d.closed = 1;
	}
	return account(in, c, &d);
}

/* Each record is a struct netflow_sock. */
static int iterate(struct netflow *nf, const struct bpf_link *link,
		   int (*fn)(void *arg, const void *record), void *arg)
{
	return iter_read(link, nf->buf, NETFLOW_BUF, sizeof(struct netflow_sock), fn, arg);
}

static struct bpf_link *tcp_link(const struct netflow *nf)
{
	return nf->hash ? nf->skel->links.tcp_sockets_hash : nf->skel->links.tcp_sockets;
}

static int on_open_socket(void *arg, const void *record)
{
	const struct netflow_sock *sock = record;
	struct instance *in = arg;
	struct netflow *nf = netflow(in);
	struct seen *s = seen_find(&nf->seen, sock->conn.id);
	struct delta d = {};

	if (!s) {
		s = seen_add(&nf->seen, sock->conn.id);
		if (!s)
			return 0; /* max_sockets: reported when it ends, in full */
		d.established = 1;
	}
	since_seen(s, &sock->conn, &d);
	s->pass = nf->pass;
	(void)account(in, &sock->conn, &d); /* out of memory: counted */
	return 0;
}

int netflow_tcp_tick(struct instance *in)
{
	struct netflow *nf = netflow(in);
	bool full = ++nf->ticks % FULL_EVERY == 0;
	int r;

	if (full)
		nf->pass++;
	nf->skel->bss->iter_mode = full ? NETFLOW_ITER_FULL : NETFLOW_ITER_TICK;
	r = iterate(nf, tcp_link(nf), on_open_socket, in);
	if (full && r == 0)
		seen_expire(&nf->seen, nf->pass - 1);
	return r;
}

static int on_old_socket(void *arg, const void *record)
{
	const struct netflow_sock *sock = record;
	struct instance *in = arg;
	struct netflow *nf = netflow(in);
	struct seen *s = sock->opened_ns ? NULL : seen_add(&nf->seen, sock->conn.id);
	struct delta d = {.established = 1};
	struct delta before = {};

	if (sock->opened_ns)
		return on_open_socket(
			arg, sock); /* opened since the hooks were attached: all of it is ours */
	if (!s)
		return 0;
	since_seen(s, &sock->conn, &before);
	s->pass = nf->pass;
	(void)account(in, &sock->conn, &d);
	return 0;
}

int netflow_tcp_baseline(struct instance *in)
{
	struct netflow *nf = netflow(in);

	nf->skel->bss->iter_mode = NETFLOW_ITER_FULL;
	return iterate(nf, tcp_link(nf), on_old_socket, in);
}

struct show {
	struct instance *in;
	struct batch *batch;
};

static int on_show(void *arg, const void *record)
{
	const struct show *show = arg;

	return netflow_show(show->in, record, show->batch);
}

int netflow_show_all(struct instance *in, struct batch *batch)
{
	struct netflow *nf = netflow(in);
	struct show show = {.in = in, .batch = batch};
	int r;

	nf->skel->bss->iter_mode = NETFLOW_ITER_SHOW;
	r = iterate(nf, tcp_link(nf), on_show, &show);
	if (r < 0 || !nf->udp)
		return r;
	return iterate(nf, nf->skel->links.udp_sockets_show, on_show, &show);
}

/* It writes nothing: reading it to the end is what runs it. */
static int run_seed(struct bpf_link *link)
{
	_cleanup_close_ int fd = bpf_iter_create(bpf_link__fd(link));
	char none[64];
	ssize_t n;

	if (fd < 0)
		return -errno;
	do {
		n = read(fd, none, sizeof(none));
	} while (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN)));
	return n < 0 ? -errno : 0;
}

int netflow_seed(struct instance *in, struct err *err)
{
	struct netflow *nf = netflow(in);
	int r = 0;

	/* Listeners first: they tell the direction of the others. */
	for (int pass = NETFLOW_SEED_LISTENERS; r == 0 && pass <= NETFLOW_SEED_OTHERS; pass++) {
		nf->skel->bss->seed_pass = (uint8_t)pass;
		r = run_seed(nf->skel->links.seed_files);
	}
	return r < 0 ? err_set(err, r, "cannot look for the sockets that are open: %s",
			       strerror(-r))
		     : 0;
}
