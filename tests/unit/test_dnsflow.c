// SPDX-License-Identifier: Apache-2.0
/* dnsflow in user space: pairing, what stays alone, TCP streams out of order and with holes,
 * bounds. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/dnsflow/dnsflow_priv.h"

#define SEC NSEC_PER_SEC

static struct dnsflow *d;
static struct instance in;
static uint64_t now = 1000 * SEC;

static int up(void **state)
{
	(void)state;
	d = calloc(1, sizeof(*d));
	assert_non_null(d);
	in = (struct instance){.state = d};
	d->query_names = true;
	d->timeout_ns = 6 * SEC;
	exchanges_init(&d->exchanges, 1000);
	assert_int_equal(pending_init(&d->pending, 300), 0);
	return tcp_conns_init(&d->tcp, 16);
}

static int down(void **state)
{
	(void)state;
	exchanges_free(&d->exchanges);
	pending_free(&d->pending);
	tcp_conns_free(&d->tcp);
	free(d);
	return 0;
}

/* "q<label>" A?, answered with one address if `response`. Returns its length. */
static size_t make(uint8_t *b, uint16_t id, char label, bool response)
{
	const uint8_t head[] = {id >> 8,
				id & 255,
				response ? 0x81 : 1,
				response ? 0x80 : 0,
				0,
				1,
				0,
				response,
				0,
				0,
				0,
				0,
				2,
				'q',
				(uint8_t)label,
				0,
				0,
				1,
				0,
				1};
	const uint8_t rr[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, (uint8_t)label};

	memcpy(b, head, sizeof(head));
	memcpy(b + sizeof(head), rr, sizeof(rr));
	return sizeof(head) + (response ? sizeof(rr) : 0);
}

static struct payload_head head_of(uint8_t transport, bool out)
{
	return (struct payload_head){.boot_ns = now,
				     .local = {1},
				     .remote = {2},
				     .pid = 77,
				     .netns = 5,
				     .local_port = 4000,
				     .remote_port = 53,
				     .family = 4,
				     .transport = transport,
				     .out = out,
				     .comm = "asker"};
}

static void udp(bool out, uint16_t id, char label, bool response)
{
	struct payload_head h = head_of(IPPROTO_UDP, out);
	uint8_t b[100];
	size_t len = make(b, id, label, response);

	dnsflow_message(&in, &h, b, len, (uint32_t)len);
}

static void paired(void **state)
{
	(void)state;
	udp(true, 1, 'a', false);
	udp(true, 2, 'b', false);
	now += 1000;
	udp(false, 2, 'b', true);
	now += 1000;
	udp(false, 1, 'a', true);
	assert_int_equal(d->stats.paired, 2);
	assert_int_equal(d->pending.n, 0);
	assert_int_equal(d->exchanges.n, 2);
	assert_string_equal(d->exchanges.all[0].name, "qb");
	assert_int_equal(d->exchanges.all[0].latency_max, 1000);
	assert_int_equal(d->exchanges.all[1].latency_sum, 2000);
	assert_int_equal(d->exchanges.all[1].key.direction, 1);
	assert_int_equal(d->exchanges.all[1].key.src_port, 0);
	assert_int_equal(d->exchanges.all[1].key.dst_port, 53);
	assert_string_equal(d->exchanges.all[1].answers, "192.0.2.97");
}

static void strays(void **state)
{
	(void)state;
	udp(false, 9, 'a', true);
	assert_int_equal(d->stats.unsolicited, 1);
	udp(true, 1, 'a', false);
	udp(false, 1, 'b', true); /* another question */
	udp(false, 2, 'a', true); /* another id */
	assert_int_equal(d->stats.unsolicited, 3);
	udp(true, 1, 'a', false);
	assert_int_equal(d->stats.retries, 1);
	udp(false, 1, 'a', true);
	udp(false, 1, 'a', true);
	assert_int_equal(d->stats.duplicate, 1);
	assert_int_equal(d->exchanges.all[0].retries, 1);
	udp(true, 3, 'c', false);
	now += 6 * SEC;
	udp(false, 3, 'c', true); /* too late */
	assert_int_equal(d->stats.timeouts, 1);
	assert_int_equal(d->stats.late, 1);
	assert_int_equal(d->exchanges.all[1].key.rcode, -1);
	assert_int_equal(d->exchanges.all[1].latency_max, 0);
	assert_int_equal(d->stats.paired, 1);
}

/* The asked end: its answer goes out. */
static void server_end(void **state)
{
	(void)state;
	udp(false, 1, 'a', false);
	udp(true, 1, 'a', true);
	assert_int_equal(d->stats.paired, 1);
	assert_int_equal(d->exchanges.all[0].key.direction, 2);
	assert_int_equal(d->exchanges.all[0].key.dst_port, 0);
	assert_int_equal(d->exchanges.all[0].key.src_port, 4000);
}

static void without_question(void **state)
{
	const uint8_t formerr[] = {0, 1, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0};
	struct payload_head h = head_of(IPPROTO_UDP, false);

	(void)state;
	udp(true, 1, 'a', false);
	dnsflow_message(&in, &h, formerr, sizeof(formerr), sizeof(formerr));
	assert_int_equal(d->stats.paired, 1);
	assert_int_equal(d->exchanges.all[0].key.rcode, 1);
	dnsflow_message(&in, &h, formerr, 11, 11);
	assert_int_equal(d->stats.malformed, 1);
}

static void bounded(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < 997; i++)
		udp(true, i, 'a', false);
	assert_int_equal(d->pending.n, 300);
	assert_int_equal(d->stats.evicted, 997 - 300);
	for (uint16_t i = 0; i < 997; i++)
		udp(false, i, 'a', true);
	assert_int_equal(d->stats.paired, 300);
	assert_int_equal(d->stats.unsolicited, 697);
	assert_int_equal(d->exchanges.all[0].count, 300);
}

/* A stream of n answers (in) after their queries (out) were fed whole; returns its length. */
static size_t make_stream(uint8_t *b, unsigned int n)
{
	size_t len = 0;

	for (unsigned int i = 0; i < n; i++) {
		size_t m = make(b + len + 2, (uint16_t)i, (char)('A' + i % 26), true);

		b[len] = 0;
		b[len + 1] = (uint8_t)m;
		len += m + 2;
	}
	return len;
}

static void ask_tcp(unsigned int n)
{
	struct payload_head h = head_of(IPPROTO_TCP, true);
	uint8_t b[64];

	memset(b, 0, sizeof(b));
	h.seq = 100;
	h.tcp_flags = PAYLOAD_SYN;
	dnsflow_tcp(&in, &h, b);
	h.tcp_flags = 0;
	h.seq = 101;
	for (unsigned int i = 0; i < n; i++) {
		size_t m = make(b + 2, (uint16_t)i, (char)('A' + i % 26), false);

		b[0] = 0;
		b[1] = (uint8_t)m;
		h.size = h.cap = (uint16_t)(m + 2);
		dnsflow_tcp(&in, &h, b);
		h.seq += h.size;
	}
}

/* The octets from..to of the stream as one segment; its sequence numbers pass through 0. */
static void segment(const uint8_t *stream, size_t from, size_t to)
{
	struct payload_head h = head_of(IPPROTO_TCP, false);

	h.seq = (uint32_t)(0xffffff00u + from);
	h.size = h.cap = (uint16_t)(to - from);
	dnsflow_tcp(&in, &h, stream + from);
}

static void begin_answers(void)
{
	struct payload_head h = head_of(IPPROTO_TCP, false);

	h.seq = 0xffffff00u - 1;
	h.tcp_flags = PAYLOAD_SYN;
	dnsflow_tcp(&in, &h, (const uint8_t *)"");
}

static void tcp_any_cut(void **state)
{
	uint8_t b[4096];
	size_t len = make_stream(b, 40);

	(void)state;
	for (size_t each = 1; each < 97; each++) {
		begin_answers();
		ask_tcp(40);
		d->stats = (struct dnsflow_stats){};
		for (size_t at = 0; at < len; at += each)
			segment(b, at, at + each < len ? at + each : len);
		assert_int_equal(d->stats.paired, 40);
		assert_int_equal(d->stats.tcp_lost, 0);
		tcp_conns_free(&d->tcp);
		assert_int_equal(tcp_conns_init(&d->tcp, 16), 0);
	}
}

static void tcp_out_of_order(void **state)
{
	uint8_t b[4096];
	size_t len = make_stream(b, 40), part = len / 8;

	(void)state;
	begin_answers();
	ask_tcp(40);
	segment(b, 0, part);
	for (size_t k = 7; k > 1; k--) /* backwards, overlapping */
		segment(b, k * part - 5, k == 7 ? len : (k + 1) * part);
	assert_int_equal(d->stats.paired, 5);
	segment(b, part, 2 * part);
	assert_int_equal(d->stats.tcp_lost, 0);
	assert_int_equal(d->stats.paired, 40);
	assert_int_equal(d->stats.unsolicited + d->stats.duplicate, 0);
}

/* A sample that never came: the messages in it are lost, and nothing is made up; one alone in its
 * segment finds the way back. */
static void tcp_hole(void **state)
{
	uint8_t b[4096];
	size_t one = make_stream(b, 1), len = make_stream(b, 40);

	(void)state;
	begin_answers();
	ask_tcp(40);
	segment(b, 0, 3 * one);
	for (size_t k = 4; k < 14; k++)
		segment(b, k * one,
			(k + 1) * one); /* 3 is missing; nine wait, then the gap is given up */
	assert_int_equal(d->stats.tcp_lost, 1);
	segment(b, 14 * one, len);
	assert_int_equal(d->stats.malformed + d->stats.unsolicited, 0);
	assert_int_equal(d->stats.paired, 3 + 1 + 26);
}

static void tcp_hole_in_message(void **state)
{
	static uint8_t b[20000];
	size_t m = make(b + 2, 0, 'A', true);

	(void)state;
	/* The message says it is long; its middle isn't there. Question and first answer are. */
	b[0] = 10000 >> 8;
	b[1] = 10000 & 255;
	memset(b + 2 + m, 0, 10000 - m);
	make_stream(b + 10002, 1);
	b[10002 + 3] = 1; /* id */
	b[10002 + 2 + 14] = 'B';
	begin_answers();
	ask_tcp(2);
	segment(b, 0, 4000);
	for (size_t at = 8000; at < 10000; at += 200)
		segment(b, at, at + 200);
	segment(b, 10000, 10000 + 2 + 38);
	assert_int_equal(d->stats.tcp_lost, 0);
	assert_int_equal(d->stats.paired, 2);
}

static void tcp_bounded(void **state)
{
	struct payload_head h = head_of(IPPROTO_TCP, true);
	uint8_t b[64] = {0, 40};

	(void)state;
	for (uint16_t i = 0; i < 101; i++) {
		h.local_port = (uint16_t)(1000 + i);
		h.size = h.cap = 20;
		dnsflow_tcp(&in, &h, b);
	}
	assert_int_equal(d->tcp.n, 16);
	assert_int_equal(d->stats.tcp_evicted, 101 - 16);
	h.tcp_flags = PAYLOAD_RST;
	h.size = h.cap = 0;
	dnsflow_tcp(&in, &h, b);
	assert_int_equal(d->tcp.n, 15);
	dnsflow_tcp_expire(&in, now + 121 * SEC);
	assert_int_equal(d->tcp.n, 0);
	dnsflow_tcp(&in, &h, b); /* the end of one that we don't know makes none */
	assert_int_equal(d->tcp.n, 0);
}

/* A socket without an address of its own: NAT makes the packets of one exchange show several. */
static void any_local(void **state)
{
	struct payload_head h = head_of(IPPROTO_UDP, true);
	uint8_t b[100];
	size_t len = make(b, 3, 'n', false);

	(void)state;
	h.any_local = 1;
	h.local[0] = 10;
	dnsflow_message(&in, &h, b, len, (uint32_t)len);
	h.local[0] = 11;
	h.out = false;
	len = make(b, 3, 'n', true);
	dnsflow_message(&in, &h, b, len, (uint32_t)len);
	assert_int_equal(d->stats.paired, 1);
	assert_int_equal(d->stats.unsolicited, 0);
	/* What the row shows is what the query's packet bore. */
	assert_int_equal(d->exchanges.all[0].key.src[0], 10);
}

extern const struct plugin plugin_dnsflow;

static uint64_t published, stood_for;

static void publish(void *arg, struct batch *b)
{
	const struct field *rate = NULL;

	(void)arg;
	for (uint32_t i = 0; i < b->table->nfields; i++)
		if (strcmp(b->table->fields[i].name, "sample_rate") == 0)
			rate = &b->table->fields[i];
	assert_non_null(rate);
	for (uint32_t i = 0; i < b->nrows; i++) {
		uint32_t n;

		memcpy(&n, (const char *)batch_row(b, i) + rate->off, sizeof(n));
		stood_for += n;
	}
	published += b->nrows;
	batch_unref(b);
}

/* Each step halves the log and doubles the interval; the sums stay exact. */
static void shed(void **state)
{
	enum { N = 8009 };

	(void)state;
	in.plugin = &plugin_dnsflow;
	in.publish = publish;
	in.base_interval_ns = 10 * SEC;
	assert_int_equal(instance_out_new(&in), 0);
	assert_int_equal(plugin_dnsflow.shed(&in, 0), 3);
	d->log = true;
	assert_int_equal(plugin_dnsflow.shed(&in, 2), 6);
	assert_int_equal(in.interval_ns, 40 * SEC);
	for (unsigned int i = 0; i < N; i++) {
		udp(true, (uint16_t)i, 'l', false);
		udp(false, (uint16_t)i, 'l', true);
	}
	instance_flush(&in);
	assert_int_equal(d->stats.paired, N);
	assert_int_equal(d->exchanges.all[0].count, N);
	assert_int_equal(published + d->stats.log_left_out, N);
	/* Of 2,002 expected, six standard deviations either way. */
	assert_in_range(published, 2002 - 233, 2002 + 233);
	assert_int_equal(stood_for, published * 4);
	assert_int_equal(plugin_dnsflow.shed(&in, 99), 6);
	assert_int_equal(in.interval_ns, 80 * SEC);
	instance_out_free(&in);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(paired),		TEST(strays),	 TEST(server_end),
		TEST(without_question), TEST(bounded),	 TEST(tcp_any_cut),
		TEST(tcp_out_of_order), TEST(tcp_hole),	 TEST(tcp_hole_in_message),
		TEST(tcp_bounded),	TEST(any_local), TEST(shed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
