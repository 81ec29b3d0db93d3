// SPDX-License-Identifier: Apache-2.0
/* ctnetlink messages: what the kernel sends, and what it would never send. */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bpf/conntrack/conntrack_priv.h"

static void put_tuple(struct nlmsghdr *h, uint16_t type, const char *src, const char *dst,
		      uint8_t proto, uint16_t sport, uint16_t dport)
{
	bool v6 = strchr(src, ':') != NULL;
	struct nlattr *tuple = mnl_attr_nest_start(h, type), *part;
	uint8_t addr[16];

	part = mnl_attr_nest_start(h, CTA_TUPLE_IP);
	assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, src, addr), 1);
	mnl_attr_put(h, v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, v6 ? 16 : 4, addr);
	assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, dst, addr), 1);
	mnl_attr_put(h, v6 ? CTA_IP_V6_DST : CTA_IP_V4_DST, v6 ? 16 : 4, addr);
	mnl_attr_nest_end(h, part);
	part = mnl_attr_nest_start(h, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(h, CTA_PROTO_NUM, proto);
	if (proto == IPPROTO_ICMP) {
		mnl_attr_put_u16(h, CTA_PROTO_ICMP_ID, htons(sport));
	} else {
		mnl_attr_put_u16(h, CTA_PROTO_SRC_PORT, htons(sport));
		mnl_attr_put_u16(h, CTA_PROTO_DST_PORT, htons(dport));
	}
	mnl_attr_nest_end(h, part);
	mnl_attr_nest_end(h, tuple);
}

static struct nlmsghdr *message(char *buf, uint16_t type)
{
	struct nlmsghdr *h;

	memset(buf, 0, 512);
	h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | type;
	(void)mnl_nlmsg_put_extra_header(h, sizeof(struct nfgenmsg));
	return h;
}

static void translated(void **state)
{
	char buf[512];
	struct nlmsghdr *h = message(buf, IPCTNL_MSG_CT_NEW);
	struct nat_conn c;
	uint32_t status;

	(void)state;
	put_tuple(h, CTA_TUPLE_ORIG, "fd00::1", "fd00::2", IPPROTO_TCP, 40000, 80);
	put_tuple(h, CTA_TUPLE_REPLY, "fd00::3", "fd00::1", IPPROTO_TCP, 8080, 40000);
	mnl_attr_put_u32(h, CTA_STATUS, htonl(0x20));
	assert_int_equal(conntrack_parse(h, &c, &status), CONNTRACK_NEW);
	assert_int_equal(status, 0x20);
	assert_int_equal(c.family, 6);
	assert_int_equal(c.transport, IPPROTO_TCP);
	assert_int_equal(nat_kind(&c), NAT_DNAT);
	assert_int_equal(c.orig.dport, 80);
	assert_int_equal(c.reply.sport, 8080);
	h->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
	assert_int_equal(conntrack_parse(h, &c, &status), CONNTRACK_END);
}

static void untranslated(void **state)
{
	char buf[512];
	struct nlmsghdr *h = message(buf, IPCTNL_MSG_CT_NEW);
	struct nat_conn c;
	uint32_t status;

	(void)state;
	put_tuple(h, CTA_TUPLE_ORIG, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, 40000, 53);
	put_tuple(h, CTA_TUPLE_REPLY, "10.0.0.2", "10.0.0.1", IPPROTO_UDP, 53, 40000);
	assert_int_equal(conntrack_parse(h, &c, &status), CONNTRACK_NONE);
}

/* The identifier takes the place of the ports: the same both ways unless it is translated, too. */
static void icmp(void **state)
{
	char buf[512];
	struct nlmsghdr *h = message(buf, IPCTNL_MSG_CT_NEW);
	struct nat_conn c;
	uint32_t status;

	(void)state;
	put_tuple(h, CTA_TUPLE_ORIG, "10.0.0.1", "8.8.8.8", IPPROTO_ICMP, 77, 0);
	put_tuple(h, CTA_TUPLE_REPLY, "8.8.8.8", "10.0.0.1", IPPROTO_ICMP, 77, 0);
	assert_int_equal(conntrack_parse(h, &c, &status), CONNTRACK_NONE);
	h = message(buf, IPCTNL_MSG_CT_NEW);
	put_tuple(h, CTA_TUPLE_ORIG, "10.0.0.1", "8.8.8.8", IPPROTO_ICMP, 77, 0);
	put_tuple(h, CTA_TUPLE_REPLY, "8.8.8.8", "192.0.2.1", IPPROTO_ICMP, 78, 0);
	assert_int_equal(conntrack_parse(h, &c, &status), CONNTRACK_NEW);
	assert_int_equal(nat_kind(&c), NAT_SNAT);
	assert_int_equal(c.orig.sport, 77);
	assert_int_equal(c.reply.dport, 78);
}

/* At each length, in memory of exactly that length. */
static void cut_off(void **state)
{
	char buf[512];
	struct nlmsghdr *h = message(buf, IPCTNL_MSG_CT_NEW);
	uint32_t whole, status;
	struct nat_conn c;

	(void)state;
	put_tuple(h, CTA_TUPLE_ORIG, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, 40000, 53);
	put_tuple(h, CTA_TUPLE_REPLY, "10.0.0.3", "10.0.0.1", IPPROTO_UDP, 53, 40000);
	whole = h->nlmsg_len;
	for (uint32_t len = sizeof(*h); len < whole; len++) {
		struct nlmsghdr *part = malloc(len);

		assert_non_null(part);
		memcpy(part, buf, len);
		part->nlmsg_len = len;
		assert_int_equal(conntrack_parse(part, &c, &status), -EINVAL);
		free(part);
	}
	h->nlmsg_type = NFNL_SUBSYS_CTNETLINK_EXP << 8;
	assert_int_equal(conntrack_parse(h, &c, &status), -EINVAL);
}

static void families_mixed(void **state)
{
	char buf[512];
	struct nlmsghdr *h = message(buf, IPCTNL_MSG_CT_NEW);
	struct nat_conn c;
	uint32_t status;

	(void)state;
	put_tuple(h, CTA_TUPLE_ORIG, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, 1, 2);
	put_tuple(h, CTA_TUPLE_REPLY, "fd00::1", "fd00::2", IPPROTO_UDP, 2, 1);
	assert_int_equal(conntrack_parse(h, &c, &status), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(translated),	  cmocka_unit_test(untranslated),
		cmocka_unit_test(icmp),		  cmocka_unit_test(cut_off),
		cmocka_unit_test(families_mixed),
	};

	return cmocka_run_group_tests_name("conntrack", tests, NULL, NULL);
}
