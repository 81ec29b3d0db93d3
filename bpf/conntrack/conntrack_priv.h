// SPDX-License-Identifier: Apache-2.0
/* The conntrack plugin among its own files: messages, sockets, namespaces. */
#pragma once

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "bpf/nat.h"
#include "bpf/plugin.h"

/* conntrack_parse.c: pure functions over untrusted bytes. */

enum conntrack_what {
	CONNTRACK_NONE, /* a translation that we have no use for: no ports, no NAT */
	CONNTRACK_NEW,
	CONNTRACK_END,
};

/*
 * What a message of the subsystem ctnetlink says; all of ret but netns. h->nlmsg_len octets are
 * there. Negative: malformed. status: IPS_* bits, 0 if it doesn't say.
 */
int conntrack_parse(const struct nlmsghdr *h, struct nat_conn *ret, uint32_t *status);

/* conntrack_sock.c: one netlink socket. */

/* What must be asked for to learn of all translated connections: the kernel compares status bits
 * with one mask a dump. */
enum dump {
	DUMP_NONE,
	DUMP_DNAT,
	DUMP_SNAT,
};

struct source {
	int fd; /* -1: free */
	uint32_t netns;
	bool present;	    /* met by the present scan of namespaces */
	enum dump dump;	    /* what the kernel is telling now */
	uint32_t seq, pass; /* of the dump */
	bool unfiltered;    /* this kernel ignores the mask: one dump tells all */
	bool want_dump;	    /* events were lost */
	uint64_t dumped_ns; /* start of the last dump */
	uint64_t events, overruns, resyncs;
};

struct conntrack;

/* A subscribed socket in the namespace of the calling thread; -EPERM, -EPROTONOSUPPORT ... */
int conntrack_socket(size_t buffer);
/* Asks for a dump; its answers come among the events. */
int source_dump(struct source *s);
/*
 * Reads until nothing is left or the limits of one pass are met, puts what it reads into the table.
 * Returns whether more is waiting, or what failed.
 */
int source_read(struct instance *in, struct source *s);

/* conntrack_netns.c: which namespaces there are. */

struct netns_ref {
	uint32_t inode;
	char path[64]; /* leads to it */
};

struct netns_set {
	struct netns_ref *refs;
	uint32_t n, max;
	uint32_t left_out; /* beyond max */
};

/* The namespace of the calling thread; 0: not known. */
uint32_t netns_own(void);
/* Those of all processes and of all mounts that we see, each once. set->refs: room for set->max. */
int netns_scan(struct netns_set *set);
/* Calls conntrack_socket() inside of it, on a thread that ends with it. -ESTALE: the path leads
 * elsewhere now. */
int netns_socket(const struct netns_ref *ref, size_t buffer);

/* A message of 16 KiB holds some 60 entries of a dump; events come one by one. */
#define CONNTRACK_MSGS 16
#define CONNTRACK_BUF  (16 * 1024)

struct conntrack {
	int epoll;
	struct source *sources; /* [0]: our own namespace */
	uint32_t max_sources, nsources;
	bool all;    /* namespaces */
	bool silent; /* the kernel sends no events: net.netfilter.nf_conntrack_events=0 */
	size_t buffer;
	uint64_t scanned_ns;
	uint64_t overruns_gone; /* of sources that are closed */
	uint32_t left_out;
	uint8_t (*bufs)[CONNTRACK_BUF]; /* CONNTRACK_MSGS of them */
};

static inline struct conntrack *conntrack(struct instance *in)
{
	return in->state;
}

/* conntrack_table.c: live tables. */

extern const struct table conntrack_nat_table, conntrack_source_table;
/* -ENOBUFS: the batch is full. */
int conntrack_show_nat(struct instance *in, struct batch *batch);
int conntrack_show_sources(struct instance *in, struct batch *batch);
