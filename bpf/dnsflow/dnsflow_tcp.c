// SPDX-License-Identifier: Apache-2.0
/* DNS over TCP (RFC 7766): messages out of segments in any order, with parts missing. */
#include "bpf/dnsflow/dnsflow_priv.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

/* Of a longer message the beginning is enough: question, status and the first answers. */
#define KEEP PAYLOAD_LARGE
/* Segments that wait for one before them; more than that means it was lost on its way to us. */
#define HELD_MAX 8
/* Servers close idle connections after seconds (RFC 7766, 6.2.3); a close whose sample was lost is
 * noticed so. */
#define IDLE_NS (120 * NSEC_PER_SEC)

struct held {
	struct held *next;
	uint32_t start;
	uint16_t len;
	uint8_t data[];
};

/* One direction. */
struct stream {
	bool known;  /* next is valid */
	bool broken; /* where a message begins isn't known any more */
	bool fin;
	uint32_t next; /* sequence number */
	uint8_t nprefix, prefix[2];
	uint32_t len, seen; /* of the message at hand, without its prefix */
	uint32_t have;	    /* octets in buf; fewer than seen behind a hole and beyond KEEP */
	uint8_t *buf;
	struct held *held;
	unsigned int nheld;
};

struct tcp_conn {
	struct tcp_conn *next; /* of its bucket */
	struct tcp_conn *older, *newer;
	uint64_t hash, last_ns;
	struct query_key key;
	struct stream streams[2]; /* in, out */
};

int tcp_conns_init(struct tcp_conns *t, uint32_t max)
{
	memset(t, 0, sizeof(*t));
	t->max = max;
	t->seed = hash_seed();
	t->nbuckets = 64;
	while (t->nbuckets < max)
		t->nbuckets *= 2;
	t->buckets = calloc(t->nbuckets, sizeof(struct tcp_conn *));
	return t->buckets ? 0 : -ENOMEM;
}

static void held_free(struct stream *s)
{
	for (struct held *h = s->held, *next; h; h = next) {
		next = h->next;
		free(h);
	}
	s->held = NULL;
	s->nheld = 0;
}

static void stream_reset(struct stream *s)
{
	held_free(s);
	free(s->buf);
	memset(s, 0, sizeof(*s));
}

static void unlink_conn(struct tcp_conns *t, struct tcp_conn *c)
{
	*(c->older ? &c->older->newer : &t->oldest) = c->newer;
	*(c->newer ? &c->newer->older : &t->newest) = c->older;
}

static void link_conn(struct tcp_conns *t, struct tcp_conn *c)
{
	c->older = t->newest;
	c->newer = NULL;
	*(t->newest ? &t->newest->newer : &t->oldest) = c;
	t->newest = c;
}

static void conn_del(struct tcp_conns *t, struct tcp_conn *c)
{
	struct tcp_conn **at = &t->buckets[c->hash & (t->nbuckets - 1)];

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	unlink_conn(t, c);
	stream_reset(&c->streams[0]);
	stream_reset(&c->streams[1]);
	free(c);
	t->n--;
}

void tcp_conns_free(struct tcp_conns *t)
{
	while (t->oldest)
		conn_del(t, t->oldest);
	free(t->buckets);
	memset(t, 0, sizeof(*t));
}

static struct tcp_conn *conn_get(struct dnsflow *d, const struct payload_head *h)
{
	struct tcp_conns *t = &d->tcp;
	struct query_key key = {.local_port = h->local_port,
				.remote_port = h->remote_port,
				.netns = h->netns,
				.family = h->family};
	struct tcp_conn *c, **at;
	uint64_t hash;

	memcpy(key.local, h->local, sizeof(key.local));
	memcpy(key.remote, h->remote, sizeof(key.remote));
	hash = hash_bytes(t->seed, &key, sizeof(key));
	at = &t->buckets[hash & (t->nbuckets - 1)];
	for (c = *at; c; c = c->next)
		if (c->hash == hash && memcmp(&c->key, &key, sizeof(key)) == 0) {
			unlink_conn(t, c);
			link_conn(t, c);
			return c;
		}
	if (h->tcp_flags & (PAYLOAD_FIN | PAYLOAD_RST) && !h->size)
		return NULL; /* the end of one that we know nothing of */
	if (t->n >= t->max) {
		d->stats.tcp_evicted++;
		conn_del(t, t->oldest);
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		d->stats.no_memory++;
		return NULL;
	}
	c->hash = hash;
	c->key = key;
	c->next = *at;
	*at = c;
	link_conn(t, c);
	t->n++;
	return c;
}

static void stream_broken(struct dnsflow *d, struct stream *s)
{
	if (!s->broken)
		d->stats.tcp_lost++;
	s->broken = true;
	s->nprefix = 0;
	held_free(s);
}

static void message_done(struct instance *in, const struct payload_head *h, struct stream *s)
{
	dnsflow(in)->stats.tcp_messages++;
	if (s->have)
		dnsflow_message(in, h, s->buf, s->have, s->len);
	s->nprefix = 0;
	s->seen = s->have = 0;
}

/* With both octets of the prefix there: false when no DNS message is that short. */
static bool message_begin(struct dnsflow *d, struct stream *s)
{
	s->len = (uint32_t)s->prefix[0] << 8 | s->prefix[1];
	s->seen = s->have = 0;
	if (s->len < 12) {
		d->stats.malformed++;
		return false;
	}
	if (!s->buf)
		s->buf = malloc(KEEP);
	if (!s->buf)
		d->stats.no_memory++;
	return s->buf != NULL;
}

/* data NULL: octets that we don't have. */
static void stream_feed(struct instance *in, const struct payload_head *h, struct stream *s,
			const uint8_t *data, uint32_t n)
{
	s->next += n;
	while (n && !s->broken) {
		uint32_t part;

		if (s->nprefix < 2) {
			if (!data) {
				stream_broken(dnsflow(in), s);
				return;
			}
			s->prefix[s->nprefix++] = *data++;
			n--;
			if (s->nprefix == 2 && !message_begin(dnsflow(in), s))
				stream_broken(dnsflow(in), s);
			continue;
		}
		part = s->len - s->seen < n ? s->len - s->seen : n;
		if (data && s->have == s->seen && s->have < KEEP) {
			uint32_t copy = part < KEEP - s->have ? part : KEEP - s->have;

			memcpy(s->buf + s->have, data, copy);
			s->have += copy;
		}
		s->seen += part;
		data = data ? data + part : NULL;
		n -= part;
		if (s->seen == s->len)
			message_done(in, h, s);
	}
}

/* What lies behind next, as far as it is new. False: there is a gap before it. */
static bool stream_take(struct instance *in, const struct payload_head *h, struct stream *s,
			uint32_t start, const uint8_t *data, uint32_t n)
{
	int32_t ahead = (int32_t)(start - s->next);

	if (ahead > 0)
		return false;
	if ((uint32_t)-ahead < n)
		stream_feed(in, h, s, data + -ahead, n - (uint32_t)-ahead);
	return true;
}

static void take_held(struct instance *in, const struct payload_head *h, struct stream *s)
{
	for (struct held **at = &s->held; *at && !s->broken;) {
		struct held *seg = *at;

		if (!stream_take(in, h, s, seg->start, seg->data, seg->len)) {
			at = &seg->next;
			continue;
		}
		if (s->broken)
			return; /* all of them are gone */
		*at = seg->next;
		free(seg);
		s->nheld--;
		at = &s->held; /* next has moved: another may fit now */
	}
}

/* The nearest of those that wait is as far as the gap reaches. */
static void give_up_gap(struct instance *in, const struct payload_head *h, struct stream *s)
{
	uint32_t gap = s->held->start - s->next;

	for (struct held *seg = s->held; seg; seg = seg->next)
		if (seg->start - s->next < gap)
			gap = seg->start - s->next;
	stream_feed(in, h, s, NULL, gap);
	if (!s->broken)
		take_held(in, h, s);
}

static void hold(struct instance *in, const struct payload_head *h, struct stream *s,
		 uint32_t start, const uint8_t *data)
{
	struct held *seg = malloc(sizeof(*seg) + h->cap);

	if (!seg) {
		dnsflow(in)->stats.no_memory++;
		stream_broken(dnsflow(in), s);
		return;
	}
	seg->start = start;
	seg->len = h->cap;
	memcpy(seg->data, data, h->cap);
	seg->next = s->held;
	s->held = seg;
	/* What this host sends is in order: a gap is a sample that was lost. */
	if (++s->nheld > HELD_MAX || h->out)
		give_up_gap(in, h, s);
}

/* A segment that holds one message and nothing else shows where messages begin. */
static bool is_one_message(const struct payload_head *h, const uint8_t *data)
{
	return !h->off && h->cap > 14 && ((uint32_t)data[0] << 8 | data[1]) + 2 == h->size;
}

static void segment(struct instance *in, const struct payload_head *h, struct stream *s,
		    const uint8_t *data)
{
	uint32_t start = h->seq + (h->tcp_flags & PAYLOAD_SYN ? 1 : 0) + h->off;

	if (!s->known || (s->broken && is_one_message(h, data))) {
		s->known = true;
		s->broken = false;
		s->next = start;
		s->nprefix = 0;
		/* In the middle of a connection that is older than us. */
		if (h->off)
			stream_broken(dnsflow(in), s);
	}
	if (s->broken)
		return;
	if (s->next == start && !s->nprefix && is_one_message(h, data) && h->cap == h->size) {
		s->next += h->size;
		dnsflow(in)->stats.tcp_messages++;
		dnsflow_message(in, h, data + 2, h->cap - 2u, h->size - 2);
	} else if (!stream_take(in, h, s, start, data, h->cap)) {
		hold(in, h, s, start, data);
	}
	if (s->held && !s->broken)
		take_held(in, h, s);
}

void dnsflow_tcp(struct instance *in, const struct payload_head *h, const uint8_t *data)
{
	struct dnsflow *d = dnsflow(in);
	struct tcp_conn *c = conn_get(d, h);
	struct stream *s;

	if (!c)
		return;
	c->last_ns = h->boot_ns;
	s = &c->streams[h->out ? 1 : 0];
	if (h->tcp_flags & PAYLOAD_SYN && (!s->known || s->next != h->seq + 1)) {
		stream_reset(s);
		s->known = true;
		s->next = h->seq + 1;
	}
	if (h->cap)
		segment(in, h, s, data);
	s->fin |= h->tcp_flags & PAYLOAD_FIN;
	if (h->tcp_flags & PAYLOAD_RST || (c->streams[0].fin && c->streams[1].fin))
		conn_del(&d->tcp, c);
}

void dnsflow_tcp_expire(struct instance *in, uint64_t boot_ns)
{
	struct tcp_conns *t = &dnsflow(in)->tcp;

	while (t->oldest && boot_ns > t->oldest->last_ns && boot_ns - t->oldest->last_ns >= IDLE_NS)
		conn_del(t, t->oldest);
}
