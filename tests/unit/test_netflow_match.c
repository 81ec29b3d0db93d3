// SPDX-License-Identifier: Apache-2.0
/* netflow's lists of ports, addresses and names, and the file of services that names of ports come
 * from. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/services.h"
#include "bpf/netflow/netflow_match.h"

static const char services_text[] = "# comment\n"
				    "domain\t53/tcp\n"
				    "domain 53/udp nameserver # names\n"
				    "http 80/tcp www www-http\r\n"
				    "odd\n"
				    "bad 0/tcp\n"
				    "bad 65536/tcp\n"
				    "bad 80\n"
				    "bad 80/\n"
				    "tr\x01ick 81/tcp\n"
				    "quic 443/udp\n"
				    "https 443/tcp";

static struct services *services_of(const char *text)
{
	struct services *s;

	assert_int_equal(services_new(&s), 0);
	assert_int_equal(services_add(s, text, strlen(text)), 0);
	return s;
}

static void services_parsed(void **state)
{
	struct services *s = services_of(services_text);

	(void)state;
	assert_string_equal(services_name(s, 53, "udp"), "domain");
	assert_string_equal(services_name(s, 80, "TCP"), "http");
	assert_null(services_name(s, 80, "udp"));
	assert_string_equal(services_name(s, 443, "tcp"), "https");
	assert_string_equal(services_name(s, 443, NULL), "quic");
	assert_null(services_name(s, 81, NULL));
	assert_null(services_name(s, 0, NULL));
	assert_int_equal(services_port(s, "nameserver", "udp"), 53);
	assert_int_equal(services_port(s, "nameserver", "tcp"), 0);
	assert_int_equal(services_port(s, "www-http", NULL), 80);
	assert_int_equal(services_port(s, "bad", NULL), 0);
	assert_int_equal(services_add(s, "mine 80/tcp", 11), 0); /* what was first stays */
	assert_string_equal(services_name(s, 80, "tcp"), "http");
	assert_int_equal(services_add_file(s, "/nonexistent"), -ENOENT);
	services_free(s);
}

static struct netflow_match *match(const char *ports, const char *ips, const char *hostnames)
{
	const struct netflow_lists lists = {ports, ips, hostnames};
	struct services *s = services_of(services_text);
	struct netflow_match *m = NULL;
	struct err err = {0};

	if (netflow_match_new(&m, &lists, s, &err) < 0)
		assert_true(err.msg[0] && !m);
	services_free(s);
	return m;
}

static void expect_ports(const char *list, const char *in, const char *out)
{
	struct netflow_match *m = match(list, NULL, NULL);
	char *end;

	assert_non_null(m);
	for (const char *p = in; *p; p = end)
		assert_true(netflow_match_port(m, (uint16_t)strtoul(p, &end, 10)));
	for (const char *p = out; *p; p = end)
		assert_false(netflow_match_port(m, (uint16_t)strtoul(p, &end, 10)));
	netflow_match_free(m);
}

static void ports(void **state)
{
	(void)state;
	expect_ports("", "0 1 80 65535", "");
	expect_ports("  \t", "0 1 80 65535", "");
	expect_ports("80", "80", "0 79 81");
	expect_ports("80 8000-8002 9000:9001", "80 8000 8001 8002 9000 9001",
		     "7999 8003 8999 9002");
	expect_ports("!53 1024-65535 *", "1 54 1024 65535", "53");
	expect_ports("* !53", "1 54",
		     "53"); /* the order doesn't matter, and "*" takes nothing back */
	expect_ports("!53", "0 1 52 54", "53"); /* nothing but exclusions: the rest stays */
	expect_ports("!domain *", "80", "53");	/* names exclude, too */
	expect_ports("domain www", "53 80", "443");
	expect_ports("1-10 5 3-20", "1 5 15 20", "21"); /* ranges may overlap */
	assert_null(match("0", NULL, NULL));
	assert_null(match("65536", NULL, NULL));
	assert_null(match("9-8", NULL, NULL));
	assert_null(match("9-", NULL, NULL));
	assert_null(match("9x", NULL, NULL));
	assert_null(match("-9", NULL, NULL));
	assert_null(match("nosuch", NULL, NULL));
	assert_null(match("!", NULL, NULL));
	assert_null(match("!!80", NULL, NULL));
	assert_null(match("80 99999999999999999999", NULL, NULL));
}

static bool ip_in(const char *list, const char *text)
{
	struct netflow_match *m = match(NULL, list, NULL);
	uint32_t addr[4] = {0};
	uint8_t family = strchr(text, ':') ? 6 : 4;
	bool in;

	assert_non_null(m);
	assert_int_equal(inet_pton(family == 4 ? AF_INET : AF_INET6, text, addr), 1);
	in = netflow_match_ip(m, family, addr);
	netflow_match_free(m);
	return in;
}

static void ips(void **state)
{
	/* Netdata's default. */
	static const char def[] =
		"!127.0.0.1/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 !::1/128";

	(void)state;
	assert_true(ip_in(def, "10.255.0.1"));
	assert_false(ip_in(def, "127.9.9.9"));
	assert_true(ip_in(def, "172.31.255.255"));
	assert_false(ip_in(def, "172.32.0.0"));
	assert_true(ip_in(def, "fd12::1"));
	assert_false(ip_in(def, "fe80::1"));
	assert_false(ip_in(def, "::1"));
	assert_false(ip_in(def, "252.0.0.1")); /* begins as fc00::/7 does */
	assert_true(ip_in("*", "8.8.8.8"));
	assert_true(ip_in("*", "2001:db8::1"));
	assert_false(ip_in("* !2001:db8::/32", "2001:db8::1"));
	assert_true(ip_in("!2001:db8::/32", "32.1.13.184"));
	assert_true(ip_in("10.0.0.9-10.0.1.3", "10.0.1.0"));
	assert_false(ip_in("10.0.0.9-10.0.1.3", "10.0.1.4"));
	assert_false(ip_in("10.0.0.9-10.0.1.3", "10.0.0.8"));
	assert_true(ip_in("fd00::1-fd00::ff", "fd00::80"));
	assert_false(ip_in("fd00::1-fd00::ff", "fd00::100"));
	assert_true(ip_in("10.1.2.3/24", "10.1.2.200")); /* the network of the address */
	assert_true(ip_in("0.0.0.0/0", "255.255.255.255"));
	assert_false(ip_in("0.0.0.0/0", "::1"));
	assert_true(ip_in("1.2.3.4/32", "1.2.3.4"));
	assert_false(ip_in("1.2.3.4/32", "1.2.3.5"));
	assert_null(match(NULL, "10.0.0.0/33", NULL));
	assert_null(match(NULL, "::/129", NULL));
	assert_null(match(NULL, "10.0.0.9-10.0.0.8", NULL));
	assert_null(match(NULL, "10.0.0.9-::1", NULL));
	assert_null(match(NULL, "10.0.0", NULL));
	assert_null(match(NULL, "10.0.0.0/", NULL));
	assert_null(match(NULL, "10.0.0.0/ 8", NULL));
	assert_null(match(NULL, "host", NULL));
}

static bool name_in(const char *list, const char *name)
{
	struct netflow_match *m = match(NULL, NULL, list);
	bool in;

	assert_non_null(m);
	assert_true(netflow_match_wants_name(m) == (strlen(list) != 0));
	in = netflow_match_name(m, name);
	netflow_match_free(m);
	return in;
}

static void hostnames(void **state)
{
	static const char many[] = "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b";
	char long_name[254];

	(void)state;
	assert_true(name_in("", "any"));
	assert_true(name_in("example.org", "EXAMPLE.org"));
	assert_false(name_in("example.org", "www.example.org"));
	assert_true(name_in("*.example.org", "a.b.example.org"));
	assert_false(name_in("*.example.org", "example.org"));
	assert_true(name_in("ex*le.*rg", "example.org.rg"));
	assert_false(name_in("!*.bad *", "very.bad"));
	assert_true(name_in("!*.bad *", "very.good"));
	assert_true(name_in("!*.bad", "10.0.0.1"));
	assert_false(name_in("a", ""));
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_false(name_in(many, long_name)); /* and soon */
	assert_null(match(NULL, NULL, "! x"));
}

static void bounded(void **state)
{
	char list[257 * 2 + 1], word[400];

	(void)state;
	for (int i = 0; i < 257; i++)
		memcpy(list + i * 2, "1 ", 2);
	list[sizeof(list) - 1] = '\0';
	assert_null(match(list, NULL, NULL));
	list[256 * 2] = '\0';
	expect_ports(list, "1", "2");
	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	assert_null(match(NULL, NULL, word));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(services_parsed), cmocka_unit_test(ports),   cmocka_unit_test(ips),
		cmocka_unit_test(hostnames),	   cmocka_unit_test(bounded),
	};

	return cmocka_run_group_tests_name("netflow_match", tests, NULL, NULL);
}
