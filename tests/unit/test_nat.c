// SPDX-License-Identifier: Apache-2.0
/* Translated connections: found from both ends, in the right namespace, bounded, kept for a while
 * after their end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "bpf/nat.h"

#define HOST  100u
#define POD   200u
#define OTHER 300u
#define MANY  10007u
#define TCP   6

/* Client 10.0.0.n means service 10.9.0.1:80, pod answers from 10.1.0.2:8080; seen there as coming
 * from 10.1.0.1. */
static struct nat_conn conn_of(uint32_t n, uint32_t netns, int kind)
{
	struct nat_conn c = {.netns = netns, .family = 4, .transport = TCP};

	c.orig = (struct nat_tuple){
		.src = {n}, .dst = {0x0100090a}, .sport = (uint16_t)(n % 60000 + 1), .dport = 80};
	c.reply = (struct nat_tuple){
		.src = {0x0100090a}, .dst = {n}, .sport = 80, .dport = c.orig.sport};
	if (kind & NAT_DNAT) {
		c.reply.src[0] = 0x0200010a;
		c.reply.sport = 8080;
	}
	if (kind & NAT_SNAT) {
		c.reply.dst[0] = 0x0100010a;
		c.reply.dport = (uint16_t)(n % 50000 + 10000);
	}
	return c;
}

static struct nat_table *open_table(uint32_t max)
{
	struct nat_table *t;

	assert_int_equal(nat_table_new(&t), 0);
	assert_false(nat_is_open(t));
	nat_open(t, max, HOST, NULL, NULL);
	assert_true(nat_is_open(t));
	return t;
}

static bool ask(struct nat_table *t, const struct nat_tuple *socket, uint32_t netns,
		struct nat_peer *p)
{
	return nat_lookup(t, socket, netns, 4, TCP, p);
}

static void kinds(void **state)
{
	(void)state;
	for (int kind = NAT_NONE; kind <= NAT_BOTH; kind++) {
		struct nat_conn c = conn_of(7, HOST, kind);

		assert_int_equal(nat_kind(&c), kind);
	}
}

static void found_from_both_ends(void **state)
{
	struct nat_table *t = open_table(1u << 20);
	struct nat_peer p;

	(void)state;
	for (uint32_t i = 0; i < MANY; i++) {
		struct nat_conn c = conn_of(i, HOST, NAT_BOTH);

		assert_int_equal(nat_put(t, &c, 1, 0), 0);
	}
	assert_int_equal(nat_live(t, HOST), MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		struct nat_conn c = conn_of(i, HOST, NAT_BOTH);

		assert_true(ask(t, &c.orig, POD, &p));
		assert_int_equal(p.addr[0], 0x0200010a);
		assert_int_equal(p.port, 8080);
		assert_true(ask(t, &c.reply, OTHER, &p));
		assert_int_equal(p.addr[0], i);
		assert_int_equal(p.port, c.orig.sport);
		assert_false(nat_lookup(t, &c.orig, HOST, 4, 17, &p));
		assert_false(nat_lookup(t, &c.orig, HOST, 6, TCP, &p));
	}
	nat_table_free(t);
}

/* Who isn't translated for a socket isn't told: masquerading changes nothing for who connected. */
static void only_the_peer_counts(void **state)
{
	struct nat_conn snat = conn_of(1, HOST, NAT_SNAT), dnat = conn_of(2, HOST, NAT_DNAT),
			none = conn_of(3, HOST, NAT_NONE);
	struct nat_table *t = open_table(256);
	struct nat_peer p;

	(void)state;
	nat_put(t, &snat, 1, 0);
	nat_put(t, &dnat, 1, 0);
	nat_put(t, &none, 1, 0);
	assert_int_equal(nat_live(t, HOST), 2);
	assert_false(ask(t, &snat.orig, HOST, &p));
	assert_true(ask(t, &snat.reply, HOST, &p));
	assert_true(ask(t, &dnat.orig, HOST, &p));
	assert_false(ask(t, &dnat.reply, HOST, &p));
	assert_false(ask(t, &none.orig, HOST, &p));
	nat_table_free(t);
}

/* The same ends in three namespaces: the socket's own, the host's, any. */
static void nearest_namespace(void **state)
{
	struct nat_conn pod = conn_of(1, POD, NAT_DNAT), host = conn_of(1, HOST, NAT_DNAT),
			other = conn_of(1, OTHER, NAT_DNAT);
	struct nat_table *t = open_table(256);
	struct nat_peer p;

	(void)state;
	pod.reply.sport = 1;
	host.reply.sport = 2;
	other.reply.sport = 3;
	nat_put(t, &other, 1, 0);
	assert_true(ask(t, &pod.orig, POD, &p));
	assert_int_equal(p.port, 3);
	nat_put(t, &host, 1, 0);
	assert_true(ask(t, &pod.orig, POD, &p));
	assert_int_equal(p.port, 2);
	nat_put(t, &pod, 1, 0);
	assert_true(ask(t, &pod.orig, POD, &p));
	assert_int_equal(p.port, 1);
	assert_true(ask(t, &pod.orig, OTHER, &p));
	assert_int_equal(p.port, 3);
	assert_true(ask(t, &pod.orig, 999, &p));
	assert_int_equal(p.port, 2);
	nat_end(t, &pod, 5);
	assert_true(ask(t, &pod.orig, POD, &p)); /* ended, but still the one meant */
	assert_int_equal(p.port, 1);
	nat_table_free(t);
}

static void kept_after_the_end(void **state)
{
	struct nat_conn c = conn_of(1, HOST, NAT_BOTH);
	struct nat_table *t = open_table(256);
	uint64_t now = clock_mono_ns();
	struct nat_view v;
	struct nat_peer p;
	uint32_t pos = 0;

	(void)state;
	nat_put(t, &c, 1, 0);
	nat_end(t, &c, now);
	nat_end(t, &c, now + 1);
	assert_false(nat_next(t, &pos, &v));
	nat_expire(t, now + NAT_KEEP_NS - 1);
	assert_true(ask(t, &c.orig, HOST, &p));
	nat_keep(t, 2 * NAT_KEEP_NS);
	nat_expire(t, now + NAT_KEEP_NS);
	assert_true(ask(t, &c.reply, HOST, &p));
	nat_expire(t, now + 2 * NAT_KEEP_NS);
	assert_false(ask(t, &c.orig, HOST, &p));
	assert_false(ask(t, &c.reply, HOST, &p));
	nat_table_free(t);
}

/* The next connection with the same ports may be answered by another, or by nobody in between. */
static void ends_used_again(void **state)
{
	struct nat_conn a = conn_of(1, HOST, NAT_BOTH), b = a, none = conn_of(1, HOST, NAT_NONE);
	struct nat_table *t = open_table(256);
	struct nat_stats st;
	struct nat_peer p;

	(void)state;
	b.reply.sport = 9090;
	b.reply.dport = 1234;
	nat_put(t, &a, 1, 0);
	nat_end(t, &a, 1);
	nat_put(t, &b, 2, 0);
	nat_get_stats(t, &st);
	assert_int_equal(st.entries, 1);
	assert_int_equal(st.ended, 0);
	assert_true(ask(t, &a.orig, HOST, &p));
	assert_int_equal(p.port, 9090);
	assert_false(ask(t, &a.reply, HOST, &p));
	assert_true(ask(t, &b.reply, HOST, &p));
	nat_put(t, &none, 3, 0);
	assert_false(ask(t, &a.orig, HOST, &p));
	nat_get_stats(t, &st);
	assert_int_equal(st.entries, 0);
	nat_table_free(t);
}

static void bounded(void **state)
{
	struct nat_table *t = open_table(257);
	struct nat_stats st;
	struct nat_peer p;

	(void)state;
	for (uint32_t i = 0; i < MANY; i++) {
		struct nat_conn c = conn_of(i, HOST, i % 3 + 1);

		assert_int_equal(nat_put(t, &c, 1, 0), 0);
		if (i == 5)
			nat_end(t, &c, 1);
		nat_get_stats(t, &st);
		assert_true(st.entries <= 257);
		assert_int_equal(st.evictions, i < 257 ? 0 : i - 256);
	}
	for (uint32_t i = 0; i < MANY; i++) {
		struct nat_conn c = conn_of(i, HOST, i % 3 + 1);
		bool there = i >= MANY - 257;

		assert_int_equal(ask(t, &c.orig, HOST, &p), there && i % 3 != 1);
		if (i % 3)
			assert_int_equal(ask(t, &c.reply, HOST, &p), there);
	}
	nat_table_free(t);
}

/* The first to go is who ended, however young. */
static void the_dead_go_first(void **state)
{
	struct nat_table *t = open_table(256);
	struct nat_peer p;

	(void)state;
	for (uint32_t i = 0; i < 257; i++) {
		struct nat_conn c = conn_of(i, HOST, NAT_DNAT), dead = conn_of(200, HOST, NAT_DNAT);

		nat_put(t, &c, 1, 0);
		if (i == 255)
			nat_end(t, &dead, 1);
	}
	for (uint32_t i = 0; i < 257; i++) {
		struct nat_conn c = conn_of(i, HOST, NAT_DNAT);

		assert_int_equal(ask(t, &c.orig, HOST, &p), i != 200);
	}
	nat_table_free(t);
}

static void sweeps(void **state)
{
	struct nat_table *t = open_table(256);
	struct nat_conn c;

	(void)state;
	for (uint32_t i = 0; i < 101; i++) {
		c = conn_of(i, i % 2 ? HOST : POD, NAT_DNAT);
		nat_put(t, &c, i < 50 ? 0 : 1, 1);
	}
	assert_int_equal(nat_old(t, HOST), 25);
	for (uint32_t i = 0; i < 20; i++) { /* a dump tells of some again, an event of one as new */
		c = conn_of(i, i % 2 ? HOST : POD, NAT_DNAT);
		nat_put(t, &c, i == 1 ? 77 : 0, 2);
	}
	assert_int_equal(nat_old(t, HOST), 24);
	assert_int_equal(nat_sweep(t, HOST, 2, 5), 50 - 10);
	assert_int_equal(nat_live(t, HOST), 10);
	assert_int_equal(nat_live(t, POD), 51);
	assert_int_equal(nat_sweep(t, HOST, 2, 5), 0);
	nat_table_free(t);
}

struct late {
	struct nat_table *t;
	struct nat_conn c;
	int calls;
};

static void refill(void *arg)
{
	struct late *l = arg;

	l->calls++;
	nat_put(l->t, &l->c, 1, 0);
}

/* What is known but not read yet is read by the lookup that needs it. */
static void late_news(void **state)
{
	struct late l = {.c = conn_of(1, HOST, NAT_DNAT)};
	struct nat_conn other = conn_of(2, HOST, NAT_DNAT);
	struct nat_peer p;

	(void)state;
	assert_int_equal(nat_table_new(&l.t), 0);
	nat_open(l.t, 256, HOST, refill, &l);
	assert_true(ask(l.t, &l.c.orig, POD, &p));
	assert_true(ask(l.t, &l.c.orig, POD, &p));
	assert_int_equal(l.calls, 1);
	for (int i = 0; i < 1000; i++)
		assert_false(ask(l.t, &other.orig, POD, &p));
	assert_in_range(l.calls, 1, 900); /* not once a lookup */
	nat_close(l.t);
	assert_false(ask(l.t, &l.c.orig, POD, &p));
	nat_table_free(l.t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds),
		cmocka_unit_test(found_from_both_ends),
		cmocka_unit_test(only_the_peer_counts),
		cmocka_unit_test(nearest_namespace),
		cmocka_unit_test(kept_after_the_end),
		cmocka_unit_test(ends_used_again),
		cmocka_unit_test(bounded),
		cmocka_unit_test(the_dead_go_first),
		cmocka_unit_test(sweeps),
		cmocka_unit_test(late_news),
	};

	return cmocka_run_group_tests_name("nat", tests, NULL, NULL);
}
