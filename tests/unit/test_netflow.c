// SPDX-License-Identifier: Apache-2.0
/* netflow's aggregation: flows found again, bounded and forgotten; connections followed by id. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "bpf/netflow/netflow_priv.h"

#define MANY 10007u

static struct flow_key key_of(uint32_t n)
{
	return (struct flow_key){.src = {0x0100000a},
				 .dst = {n * 2654435761u},
				 .sport = 80,
				 .dport = (uint16_t)n,
				 .pid = n,
				 .family = 4};
}

static void flows_found_again(void **state)
{
	struct flows f;

	(void)state;
	assert_int_equal(flows_init(&f, 1u << 20), 0);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < MANY; i++) {
			struct flow_key k = key_of(i);
			struct flow *e = flows_get(&f, &k);

			assert_non_null(e);
			e->rx += i;
			e->established++;
		}
		assert_int_equal(f.n, MANY);
	}
	for (uint32_t i = 0; i < f.n; i++) {
		struct flow_key k = key_of(i);

		assert_memory_equal(&f.all[i].key, &k,
				    sizeof(k)); /* in the order of their first sight */
		assert_int_equal(f.all[i].rx, 3ull * i);
		assert_int_equal(f.all[i].established, 3);
	}
	flows_free(&f);
}

static void flows_bounded(void **state)
{
	struct flow_key k;
	struct flows f;

	(void)state;
	assert_int_equal(flows_init(&f, 257), 0);
	for (uint32_t i = 0; i < 257; i++) {
		k = key_of(i);
		assert_non_null(flows_get(&f, &k));
	}
	k = key_of(1000);
	assert_null(flows_get(&f, &k));
	k = key_of(256);
	assert_non_null(flows_get(&f, &k)); /* those that are there stay reachable */
	flows_clear(&f);
	assert_int_equal(f.n, 0);
	k = key_of(1000);
	assert_non_null(flows_get(&f, &k));
	assert_int_equal(f.all[0].rx, 0);
	flows_free(&f);
}

static void flows_give_memory_back(void **state)
{
	struct flows f;
	uint32_t cap;

	(void)state;
	assert_int_equal(flows_init(&f, 1u << 20), 0);
	for (uint32_t i = 0; i < MANY; i++) {
		struct flow_key k = key_of(i);

		assert_non_null(flows_get(&f, &k));
	}
	cap = f.cap;
	flows_clear(&f);
	assert_int_equal(f.cap, cap); /* the next interval is likely to be as busy */
	for (int i = 0; i < 20; i++)
		flows_clear(&f);
	assert_true(f.cap <= 256);
	flows_free(&f);
}

static void flows_every_byte_counts(void **state)
{
	struct flow_key k = {};
	struct flows f;

	(void)state;
	assert_int_equal(flows_init(&f, 1000), 0);
	assert_non_null(flows_get(&f, &k));
	for (size_t i = 0; i < sizeof(k); i++) {
		((uint8_t *)&k)[i] = 1;
		assert_non_null(flows_get(&f, &k));
		((uint8_t *)&k)[i] = 0;
	}
	assert_int_equal(f.n, sizeof(k) + 1);
	flows_free(&f);
}

/* Against a plain array, so that every hole that a deletion leaves is met. */
static void seen_as_a_model(void **state)
{
	static uint8_t model[MANY];
	struct seen_table t;
	uint64_t x = 88172645463325252ull;
	uint32_t n = 0;

	(void)state;
	memset(model, 0, sizeof(model));
	assert_int_equal(seen_init(&t, MANY), 0);
	for (int step = 0; step < 200003; step++) {
		uint32_t id;
		struct seen *s;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		id = (uint32_t)(x % (MANY - 1)) + 1;
		s = seen_find(&t, id);
		assert_int_equal(s != NULL, model[id]);
		if (s) {
			assert_int_equal(s->rx, id);
			seen_del(&t, s);
			n--;
		} else {
			s = seen_add(&t, id);
			assert_non_null(s);
			s->rx = id;
			n++;
		}
		model[id] = !model[id];
		assert_int_equal(t.n, n);
	}
	for (uint32_t id = 1; id < MANY; id++)
		assert_int_equal(seen_find(&t, id) != NULL, model[id]);
	seen_free(&t);
}

static void seen_bounded(void **state)
{
	struct seen_table t;

	(void)state;
	assert_int_equal(seen_init(&t, 100), 0);
	assert_null(seen_find(&t, 1));
	for (uint64_t id = 1; id <= 100; id++)
		assert_non_null(seen_add(&t, id));
	assert_null(seen_add(&t, 101));
	seen_del(&t, seen_find(&t, 50));
	assert_non_null(seen_add(&t, 101));
	seen_free(&t);
}

static void seen_expires(void **state)
{
	struct seen_table t;

	(void)state;
	assert_int_equal(seen_init(&t, MANY), 0);
	for (uint64_t id = 1; id < MANY; id++)
		seen_add(&t, id)->pass = id % 7 ? 5 : 3;
	assert_int_equal(seen_expire(&t, 3), 0);
	assert_int_equal(seen_expire(&t, 4), (MANY - 1) / 7);
	for (uint64_t id = 1; id < MANY; id++)
		assert_int_equal(seen_find(&t, id) != NULL, id % 7 != 0);
	assert_int_equal(seen_expire(&t, 6), t.n ? MANY - 1 - (MANY - 1) / 7 : 0);
	assert_int_equal(t.n, 0);
	seen_free(&t);
}

static struct flow_key aggregated(uint16_t ephemeral, uint8_t dir, uint16_t sport, uint16_t dport)
{
	struct netflow nf = {.ephemeral_port = ephemeral};
	struct flow_key k = {.dir = dir, .sport = sport, .dport = dport};

	netflow_aggregate_port(&nf, &k);
	return k;
}

static void ports(void **state)
{
	struct flow_key k;

	(void)state;
	k = aggregated(32768, NETFLOW_DIR_OUTGOING, 40000, 50000);
	assert_int_equal(k.sport, 0);
	assert_int_equal(k.dport, 50000);
	k = aggregated(32768, NETFLOW_DIR_INCOMING, 40000, 50000);
	assert_int_equal(k.sport, 40000);
	assert_int_equal(k.dport, 0);
	k = aggregated(32768, NETFLOW_DIR_OUTGOING, 32767, 80);
	assert_int_equal(k.sport, 32767);
	k = aggregated(32768, NETFLOW_DIR_OUTGOING, 32768, 80);
	assert_int_equal(k.sport, 0);
	k = aggregated(0, NETFLOW_DIR_OUTGOING, 40000, 80);
	assert_int_equal(k.sport, 40000);
}

static void wanted(void **state)
{
	struct netflow nf = {.ipv6 = true};
	struct flow_key k = {.family = 4};

	(void)state;
	memcpy(k.src, (uint8_t[]){10, 0, 0, 1}, 4);
	memcpy(k.dst, (uint8_t[]){127, 9, 9, 9}, 4);
	assert_false(netflow_wanted(&nf, &k));
	nf.loopback = true;
	assert_true(netflow_wanted(&nf, &k));
	k = (struct flow_key){.family = 6};
	((uint8_t *)k.src)[15] = 1;
	assert_true(netflow_wanted(&nf, &k));
	nf.loopback = false;
	assert_false(netflow_wanted(&nf, &k));
	((uint8_t *)k.src)[0] = 0xfd;
	assert_true(netflow_wanted(&nf, &k));
	nf.ipv6 = false;
	assert_false(netflow_wanted(&nf, &k));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flows_found_again),
		cmocka_unit_test(flows_bounded),
		cmocka_unit_test(flows_give_memory_back),
		cmocka_unit_test(flows_every_byte_counts),
		cmocka_unit_test(seen_as_a_model),
		cmocka_unit_test(seen_bounded),
		cmocka_unit_test(seen_expires),
		cmocka_unit_test(ports),
		cmocka_unit_test(wanted),
	};

	return cmocka_run_group_tests_name("netflow", tests, NULL, NULL);
}
