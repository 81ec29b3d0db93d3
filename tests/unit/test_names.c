// SPDX-License-Identifier: Apache-2.0
/* Names of addresses: found again by namespace, replaced, bounded, forgotten in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "daemon/names.h"

#define MIN (60 * NSEC_PER_SEC)

static struct ip_addr v4(uint32_t n)
{
	struct ip_addr ip = {.family = 4};

	memcpy(ip.addr, &n, sizeof(n));
	return ip;
}

static const char *at(struct names *n, uint32_t netns, uint32_t addr, uint64_t now)
{
	enum domain_origin origin;
	struct ip_addr ip = v4(addr);
	const char *name = names_find(n, netns, &ip, &origin, now);

	assert_int_equal(origin != DOMAIN_NONE, *name != '\0');
	return name;
}

static void put(struct names *n, uint32_t netns, uint32_t addr, const char *name, uint64_t ttl,
		uint64_t now)
{
	struct ip_addr ip = v4(addr);

	names_learn(n, netns, &ip, name, DOMAIN_DNS, ttl, now);
}

static void found_by_namespace(void **state)
{
	struct ip_addr ip = v4(1), six = {.family = 6, .addr = {0x20, 1, [15] = 1}};
	enum domain_origin origin;
	struct names *n;

	(void)state;
	assert_int_equal(names_new(&n, 100), 0);
	put(n, 7, 1, "a.test", 0, 1000);
	assert_string_equal(at(n, 7, 1, 1000), "a.test");
	assert_string_equal(at(n, 8, 1, 1000), "");
	assert_string_equal(at(n, 7, 2, 1000), "");
	put(n, 8, 1, "b.test", 0, 1000);
	put(n, 7, 1, "c.test", 0, 2000); /* the newest counts */
	assert_string_equal(at(n, 7, 1, 2000), "c.test");
	assert_string_equal(at(n, 8, 1, 2000), "b.test");
	names_learn(n, 7, &six, "six.test", DOMAIN_SNI, 0, 2000);
	assert_string_equal(names_find(n, 7, &six, &origin, 2000), "six.test");
	assert_int_equal(origin, DOMAIN_SNI);
	names_learn(n, 7, &ip, "c.test", DOMAIN_SNI, 0, 2000);
	(void)names_find(n, 7, &ip, &origin, 2000);
	assert_int_equal(origin, DOMAIN_SNI);
	names_free(n);
}

static void in_time(void **state)
{
	struct names_stats stats;
	struct names *n;

	(void)state;
	assert_int_equal(names_new(&n, 100), 0);
	put(n, 1, 1, "short", 5 * NSEC_PER_SEC, 0);
	put(n, 1, 2, "long", 60 * MIN, 0);
	put(n, 1, 3, "used", 0, 0);
	put(n, 1, 4, "ages", UINT64_MAX, 0);
	assert_string_equal(at(n, 1, 1, 10 * MIN - 1), "short"); /* and is held for ten minutes more */
	assert_string_equal(at(n, 1, 1, 20 * MIN), "");
	assert_string_equal(at(n, 1, 2, 60 * MIN - 1), "long");
	assert_string_equal(at(n, 1, 4, 1439 * MIN), "ages");
	assert_string_equal(at(n, 1, 4, 1440 * MIN), "");
	names_free(n);

	/* Used every five minutes: it stays for a day, no longer. */
	assert_int_equal(names_new(&n, 100), 0);
	put(n, 1, 3, "used", 0, 0);
	for (uint64_t m = 5; m < 1435; m += 5)
		assert_string_equal(at(n, 1, 3, m * MIN), "used");
	assert_string_equal(at(n, 1, 3, 1441 * MIN), "");
	put(n, 1, 5, "idle", 0, 0);
	for (int i = 0; i < 61; i++)
		names_second(n, 11 * MIN);
	names_get_stats(n, &stats);
	assert_int_equal(stats.entries, 0);
	assert_int_equal(stats.expired, 2);
	names_free(n);
}

static int count(void *arg, const struct name_view *v)
{
	assert_true(strlen(v->name) > 0);
	return ++*(int *)arg == 100000 ? -1 : 0;
}

/* The least recently used go; what was asked for stays. */
static void bounded(void **state)
{
	struct names_stats stats;
	char text[400];
	struct names *n;
	int seen = 0;

	(void)state;
	assert_int_equal(names_new(&n, 997), 0);
	for (uint32_t i = 1; i <= 10007; i++) {
		snprintf(text, sizeof(text), "host-%u.test", i);
		put(n, 3, i, text, 0, 1);
		assert_string_equal(at(n, 3, 1, 1), "host-1.test");
	}
	names_get_stats(n, &stats);
	assert_int_equal(stats.entries, 997);
	assert_int_equal(stats.evicted, 10007 - 997);
	assert_string_equal(at(n, 3, 10007, 1), "host-10007.test");
	assert_string_equal(at(n, 3, 9007, 1), "");
	assert_int_equal(names_each(n, 1, count, &seen), 0);
	assert_int_equal(seen, 997);
	assert_int_equal(names_each(n, 11 * MIN, count, &seen), 0);
	assert_int_equal(seen, 997);
	names_free(n);
}

static void refused(void **state)
{
	struct ip_addr none = {.family = 4}, odd = {.family = 9, .addr = {1}};
	struct names_stats stats;
	char text[400];
	struct names *n;

	(void)state;
	assert_int_equal(names_new(&n, 10), 0);
	memset(text, 'x', sizeof(text));
	text[256] = '\0';
	put(n, 1, 1, text, 0, 0);
	put(n, 1, 1, "", 0, 0);
	names_learn(n, 1, &none, "block.test", DOMAIN_DNS, 0, 0);
	names_learn(n, 1, &odd, "odd.test", DOMAIN_DNS, 0, 0);
	names_get_stats(n, &stats);
	assert_int_equal(stats.refused, 4);
	assert_int_equal(stats.entries, 0);
	text[255] = '\0';
	put(n, 1, 1, text, 0, 0);
	assert_string_equal(at(n, 1, 1, 0), text);
	names_free(n);
	names_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found_by_namespace),
		cmocka_unit_test(in_time),
		cmocka_unit_test(bounded),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
