// SPDX-License-Identifier: Apache-2.0
/* The busiest direction of the busiest network interface, from two looks at /proc/net/dev: pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "governor/parse.h"

/* More than a node full of containers has; the rest is counted in `skipped`. */
#define NETDEV_MAX 1024

struct netdev_rate {
	char name[16];
	uint64_t rx, tx; /* bytes per second */
};

struct netdev_table {
	struct net_device dev[NETDEV_MAX];
	uint32_t seen[NETDEV_MAX]; /* the look in which it was there last */
	size_t n;
	size_t guess; /* where the next device stood in the look before: the kernel keeps their
			 order */
	uint32_t look;
	uint64_t last_ns;    /* of the look before */
	uint64_t skipped;    /* no room */
	uint64_t elapsed_ns; /* between the two looks; 0 in the first one */
	struct netdev_rate busiest;
};

/* A look: begin, every device, end. After the first look with a time between, busiest is right. */
void netdev_begin(struct netdev_table *t, uint64_t now_ns);
void netdev_add(struct netdev_table *t, const struct net_device *dev);
/* Forgets interfaces that are gone. */
void netdev_end(struct netdev_table *t);
