// SPDX-License-Identifier: Apache-2.0
/* Connections whose addresses the host translates: kept by one plugin, asked by all that report
 * peers. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Addresses in network order, IPv4 in the first word; ports in host order. */
struct nat_tuple {
	uint32_t src[4], dst[4];
	uint16_t sport, dport; /* ICMP: sport is the identifier */
};

/* As connection tracking knows it: how its first packet came, and how answers to it come back. */
struct nat_conn {
	struct nat_tuple orig, reply;
	uint32_t netns;	   /* inode of the namespace that tracks it */
	uint8_t family;	   /* 4, 6 */
	uint8_t transport; /* IPPROTO_* */
	uint8_t pad[2];
};

enum nat_kind {
	NAT_NONE,
	NAT_DNAT = 1, /* answers come from elsewhere than the packets went to */
	NAT_SNAT = 2, /* answers go elsewhere than the packets came from */
	NAT_BOTH = 3,
};

/* The true peer of a socket. */
struct nat_peer {
	uint32_t addr[4];
	uint16_t port;
};

/* Entries stay that long after their connection's end, for the rows that are still to come; longer
 * if somebody asks for it. */
#define NAT_KEEP_NS (30ull * 1000000000)

struct nat_table;

/* The seed hides from remote peers where their entries go. -ENOMEM. */
int nat_table_new(struct nat_table **ret);
void nat_table_free(struct nat_table *t);
enum nat_kind nat_kind(const struct nat_conn *c);

/* The plugin that fills it. */

/*
 * Opens the table for at most max entries. refill, called by lookups that find nothing, reads what
 * is known but not yet put: a connection can end sooner than the loop turns. host_netns: whose
 * entries go before those of strangers.
 */
void nat_open(struct nat_table *t, uint32_t max, uint32_t host_netns, void (*refill)(void *arg),
	      void *arg);
/* Forgets all. */
void nat_close(struct nat_table *t);
/*
 * Puts or renews one; one that isn't translated ends. since_ns: epoch, 0 if it is older than us;
 * pass: of a dump. When the table is full the entry that ended first goes, else the oldest
 * (counted). -ENOMEM: counted too.
 */
int nat_put(struct nat_table *t, const struct nat_conn *c, uint64_t since_ns, uint32_t pass);
void nat_end(struct nat_table *t, const struct nat_conn *c, uint64_t now_ns);
/* Ends those of the namespace that no put since that pass has renewed; returns how many. */
uint32_t nat_sweep(struct nat_table *t, uint32_t netns, uint32_t pass, uint64_t now_ns);
/* Those of the namespace that must be swept because nobody will tell of their end (since_ns was 0).
 */
uint32_t nat_old(const struct nat_table *t, uint32_t netns);
/* Drops what ended long enough ago. now_ns: monotonic, as everywhere but in since_ns. */
void nat_expire(struct nat_table *t, uint64_t now_ns);

struct nat_stats {
	uint32_t entries, ended; /* ended: among entries */
	uint64_t evictions, no_memory;
};

void nat_get_stats(const struct nat_table *t, struct nat_stats *ret);
uint32_t nat_live(const struct nat_table *t, uint32_t netns);

struct nat_view {
	const struct nat_conn *conn;
	uint64_t since_ns;
};

/* Those that haven't ended, in no order; *pos begins with 0. False: no more. */
bool nat_next(const struct nat_table *t, uint32_t *pos, struct nat_view *ret);

/* Plugins that report peers. */

/* Somebody fills it: only then a lookup can find anything. */
bool nat_is_open(const struct nat_table *t);
/* Rows come as late as that. */
void nat_keep(struct nat_table *t, uint64_t ns);
/*
 * The peer behind the translation for a socket with that local (src) and remote (dst) end in that
 * namespace: for who connected the one that answers (DNAT), for who accepted the one that asked
 * (SNAT). Entries of the same namespace first, then the host's, then any: a pod's connections are
 * translated in the host's.
 */
bool nat_lookup(struct nat_table *t, const struct nat_tuple *socket, uint32_t netns, uint8_t family,
		uint8_t transport, struct nat_peer *ret);
