// SPDX-License-Identifier: Apache-2.0
/* From a ctnetlink message to a translated connection. */
#include "bpf/conntrack/conntrack_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <string.h>

/* The first attribute of each type; others are NULL. */
struct attrs {
	const struct nlattr **tb;
	unsigned int max;
};

static int take(const struct nlattr *a, void *arg)
{
	struct attrs *to = arg;
	unsigned int type = mnl_attr_get_type(a);

	if (type <= to->max && !to->tb[type])
		to->tb[type] = a;
	return MNL_CB_OK;
}

static void nested(const struct nlattr *a, const struct nlattr **tb, unsigned int max)
{
	struct attrs to = {.tb = tb, .max = max};

	memset(tb, 0, (max + 1) * sizeof(*tb));
	if (a)
		(void)mnl_attr_parse_nested(a, take, &to); /* what is cut off isn't taken */
}

static bool get(const struct nlattr *a, void *dst, size_t size)
{
	if (!a || mnl_attr_get_payload_len(a) < size)
		return false;
	memcpy(dst, mnl_attr_get_payload(a), size);
	return true;
}

static uint16_t port(const struct nlattr *a)
{
	uint16_t v = 0;

	(void)get(a, &v, sizeof(v)); /* a protocol without ports has 0 */
	return ntohs(v);
}

static bool addresses(const struct nlattr *ip, struct nat_tuple *t, uint8_t *family)
{
	const struct nlattr *tb[CTA_IP_MAX + 1];

	nested(ip, tb, CTA_IP_MAX);
	if (get(tb[CTA_IP_V4_SRC], t->src, 4) && get(tb[CTA_IP_V4_DST], t->dst, 4)) {
		*family = 4;
		return true;
	}
	*family = 6;
	return get(tb[CTA_IP_V6_SRC], t->src, 16) && get(tb[CTA_IP_V6_DST], t->dst, 16);
}

/* reply: the identifier of ICMP stands where the port of its peer would. */
static bool tuple(const struct nlattr *a, bool reply, struct nat_tuple *t, uint8_t *family,
		  uint8_t *transport)
{
	const struct nlattr *tb[CTA_TUPLE_MAX + 1], *proto[CTA_PROTO_MAX + 1];
	uint16_t id;

	memset(t, 0, sizeof(*t));
	nested(a, tb, CTA_TUPLE_MAX);
	if (!addresses(tb[CTA_TUPLE_IP], t, family))
		return false;
	nested(tb[CTA_TUPLE_PROTO], proto, CTA_PROTO_MAX);
	if (!get(proto[CTA_PROTO_NUM], transport, 1))
		return false;
	t->sport = port(proto[CTA_PROTO_SRC_PORT]);
	t->dport = port(proto[CTA_PROTO_DST_PORT]);
	if (*transport == IPPROTO_ICMP || *transport == IPPROTO_ICMPV6) {
		id = port(proto[*transport == IPPROTO_ICMP ? CTA_PROTO_ICMP_ID
							   : CTA_PROTO_ICMPV6_ID]);
		t->sport = reply ? 0 : id;
		t->dport = reply ? id : 0;
	}
	return true;
}

int conntrack_parse(const struct nlmsghdr *h, struct nat_conn *ret, uint32_t *status)
{
	const struct nlattr *tb[CTA_MAX + 1] = {0};
	struct attrs to = {.tb = tb, .max = CTA_MAX};
	uint8_t family, transport;

	memset(ret, 0, sizeof(*ret));
	*status = 0;
	if (NFNL_SUBSYS_ID(h->nlmsg_type) != NFNL_SUBSYS_CTNETLINK ||
	    h->nlmsg_len < NLMSG_LENGTH(sizeof(struct nfgenmsg)))
		return -EINVAL;
	/* libmnl reads up to the next multiple of 4; whole attributes end there anyway. */
	if (h->nlmsg_len % NLMSG_ALIGNTO)
		return -EINVAL;
	(void)mnl_attr_parse(h, sizeof(struct nfgenmsg), take, &to);
	if (!tuple(tb[CTA_TUPLE_ORIG], false, &ret->orig, &ret->family, &ret->transport) ||
	    !tuple(tb[CTA_TUPLE_REPLY], true, &ret->reply, &family, &transport))
		return -EINVAL;
	if (family != ret->family || transport != ret->transport)
		return -EINVAL;
	if (get(tb[CTA_STATUS], status, sizeof(*status)))
		*status = ntohl(*status);
	if (nat_kind(ret) == NAT_NONE)
		return CONNTRACK_NONE;
	switch (NFNL_MSG_TYPE(h->nlmsg_type)) {
	case IPCTNL_MSG_CT_NEW:
		return CONNTRACK_NEW;
	case IPCTNL_MSG_CT_DELETE:
		return CONNTRACK_END;
	}
	return CONNTRACK_NONE;
}
