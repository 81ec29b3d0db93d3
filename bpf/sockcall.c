// SPDX-License-Identifier: Apache-2.0
/* Socket addresses to columns, the same for the plugins bind and tcp. */
#include "bpf/sockcall.h"

#include <assert.h>
#include <errno.h>
#include <linux/if_alg.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/macro.h"
#include "base/utf8.h"

const char *const socket_family_names[] = {
	"unspec",    "unix",	  "inet",   "ax25",    "ipx",	  "appletalk", "netrom",
	"bridge",    "atmpvc",	  "x25",    "inet6",   "rose",	  "decnet",    "netbeui",
	"security",  "key",	  "netlink", "packet", "ash",	  "econet",    "atmsvc",
	"rds",	     "sna",	  "irda",   "pppox",   "wanpipe", "llc",       "ib",
	"mpls",	     "can",	  "tipc",   "bluetooth", "iucv",  "rxrpc",     "isdn",
	"phonet",    "ieee802154", "caif",  "alg",     "nfc",	  "vsock",     "kcm",
	"qipcrtr",   "smc",	  "xdp",    "mctp",    "other",	  NULL,
};

#define FAMILY_OTHER (ARRAY_SIZE(socket_family_names) - 2)

static_assert(FAMILY_OTHER == 46, "one for each of Linux up to AF_MCTP");

const char *const socket_type_names[] = {"",	     "stream", "dgram",	 "raw",	  "rdm",
					 "seqpacket", "dccp",  "other", "other", "other",
					 "packet",   "other",  NULL};

#define TYPE_OTHER (ARRAY_SIZE(socket_type_names) - 2)

static void end_set(struct sock_end *e, uint16_t family, const uint32_t addr[4], int32_t port)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const uint32_t v4[4] = {addr[3]};

	if (family == AF_INET6 && memcmp(addr, mapped, sizeof(mapped)) == 0)
		ip_addr_set(&e->addr, v4, 4);
	else if (family == AF_INET || family == AF_INET6)
		ip_addr_set(&e->addr, addr, family == AF_INET ? 4 : 6);
	else
		return;
	e->port = port;
	e->ip = true;
}

void sock_end_set(struct sock_end *e, const struct sock_facts *s, const uint32_t addr[4],
		  uint16_t port)
{
	/* The kernel keeps the protocol's number there. */
	end_set(e, s->family, addr, s->type == SOCK_RAW ? -1 : port);
}

static void parse_unix(struct sock_end *e, const uint8_t *path, size_t len)
{
	char *text = e->text;
	size_t cap = sizeof(e->text);

	if (!len)
		return;
	if (!path[0]) {
		/* The name is all bytes behind the first, NULs among them. */
		*text++ = '@';
		cap--;
		path++;
		len--;
	} else {
		len = strnlen((const char *)path, len);
	}
	utf8_sanitize(text, cap, (const char *)path, len);
}

/* A struct of that type at the beginning of the name; false if it is cut off. */
#define TAKE(dst, name, len) ((len) >= sizeof(dst) && memcpy(&(dst), (name), sizeof(dst)))

static void parse_words(struct sock_end *e, uint16_t family, const uint8_t *name, size_t len)
{
	char type[sizeof(((struct sockaddr_alg *)0)->salg_type) * 3 + 1];
	char alg_name[sizeof(((struct sockaddr_alg *)0)->salg_name) * 3 + 1];
	struct sockaddr_nl nl;
	struct sockaddr_ll ll;
	struct sockaddr_vm vm;
	struct sockaddr_alg alg;
	size_t n = 0;

	if (family == AF_NETLINK && TAKE(nl, name, len)) {
		snprintf(e->text, sizeof(e->text), "pid %u groups 0x%x", nl.nl_pid, nl.nl_groups);
	} else if (family == AF_PACKET && TAKE(ll, name, len)) {
		snprintf(e->text, sizeof(e->text), "interface %d protocol 0x%04x", ll.sll_ifindex,
			 ntohs(ll.sll_protocol));
	} else if (family == AF_VSOCK && TAKE(vm, name, len)) {
		snprintf(e->text, sizeof(e->text), "cid %u port %u", vm.svm_cid, vm.svm_port);
	} else if (family == AF_ALG && TAKE(alg, name, len)) {
		utf8_sanitize(type, sizeof(type), (const char *)alg.salg_type,
			      strnlen((const char *)alg.salg_type, sizeof(alg.salg_type)));
		utf8_sanitize(alg_name, sizeof(alg_name), (const char *)alg.salg_name,
			      strnlen((const char *)alg.salg_name, sizeof(alg.salg_name)));
		snprintf(e->text, sizeof(e->text), "%s %s", type, alg_name);
	} else if (family) {
		/* As many bytes as are worth reading. */
		for (size_t i = 2; i < len && i < 34; i++)
			n += (size_t)snprintf(e->text + n, sizeof(e->text) - n, "%02x", name[i]);
	}
}

void sock_end_parse(struct sock_end *e, const uint8_t *name, size_t len)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	uint32_t addr[4] = {0};
	uint16_t family;

	memset(e, 0, sizeof(*e));
	if (len < sizeof(family))
		return;
	memcpy(&family, name, sizeof(family));
	if (family == AF_INET && len >= offsetof(struct sockaddr_in, sin_zero)) {
		memcpy(&in, name, offsetof(struct sockaddr_in, sin_zero));
		addr[0] = in.sin_addr.s_addr;
		end_set(e, family, addr, ntohs(in.sin_port));
	} else if (family == AF_INET6 && len >= offsetof(struct sockaddr_in6, sin6_scope_id)) {
		memcpy(&in6, name, offsetof(struct sockaddr_in6, sin6_scope_id));
		memcpy(addr, &in6.sin6_addr, sizeof(addr));
		end_set(e, family, addr, ntohs(in6.sin6_port));
	} else if (family == AF_UNIX) {
		parse_unix(e, name + sizeof(family), len - sizeof(family));
	} else if (family != AF_INET && family != AF_INET6) {
		parse_words(e, family, name, len);
	}
}

int sockcall_check(const struct sockcall_event *e, size_t len, struct sock_end *name)
{
	size_t head = offsetof(struct sockcall_event, name);

	if (len < head || e->kind >= SOCKCALL_X_MAX || e->name_len > SOCKCALL_NAME_SIZE ||
	    e->name_len > len - head)
		return -EBADMSG;
	sock_end_parse(name, e->name, e->name_len);
	return 0;
}

static uint8_t transport(const struct sock_facts *s)
{
	if (s->family != AF_INET && s->family != AF_INET6)
		return 0;
	if (s->type == SOCK_RAW)
		return transport_enum(IPPROTO_RAW);
	/* A connection by several paths: tcp to those who use it. */
	return transport_enum(s->protocol == 262 /* IPPROTO_MPTCP */ ? IPPROTO_TCP
								     : (uint8_t)s->protocol);
}

void sockcall_fill(struct instance *in, unsigned int table, void *row,
		   const struct sockcall_event *e, const struct sock_end *name)
{
	const char *error = e->error ? strerrorname_np(e->error) : "";
	struct socket_row *r = row;

	process_fill(in, table, row, &e->p);
	r->fd = e->fd;
	r->netns = e->s.netns;
	r->bound_dev_if = e->s.bound_dev_if;
	r->protocol = e->s.protocol;
	r->family = (uint8_t)(e->s.family < FAMILY_OTHER ? e->s.family : FAMILY_OTHER);
	r->type = (uint8_t)(e->s.type < TYPE_OTHER ? e->s.type : TYPE_OTHER);
	r->transport = transport(&e->s);
	r->error_raw = (uint32_t)e->error;
	r->duration = e->flags & SOCKCALL_TIMED ? e->duration_ns : UINT64_MAX;
	if (error)
		r->error = instance_str(in, table, error, strlen(error));
	r->path = instance_str(in, table, name->text, strlen(name->text));
}
