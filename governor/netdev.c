// SPDX-License-Identifier: Apache-2.0
/* Keeps the last counters of each interface and turns differences into rates. */
#include "governor/netdev.h"

#include <string.h>

#include "base/clock.h"

void netdev_begin(struct netdev_table *t, uint64_t now_ns)
{
	t->look++;
	t->elapsed_ns = t->last_ns ? now_ns - t->last_ns : 0;
	t->last_ns = now_ns;
	t->busiest = (struct netdev_rate){0};
	t->guess = 0;
}

static uint64_t rate(uint64_t now, uint64_t before, uint64_t elapsed_ns)
{
	/* A counter that went back was reset (driver reload, another device of that name): nothing
	 * is known of it. */
	if (now < before || !elapsed_ns)
		return 0;
	return (uint64_t)((double)(now - before) * NSEC_PER_SEC / (double)elapsed_ns);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void netdev_add(struct netdev_table *t, const struct net_device *dev)
{
	struct netdev_rate r = {0};
	size_t i = t->guess;

	if (i >= t->n || strncmp(t->dev[i].name, dev->name, sizeof(dev->name)))
		for (i = 0; i < t->n && strncmp(t->dev[i].name, dev->name, sizeof(dev->name)); i++)
			;
	if (i == NETDEV_MAX) {
		t->skipped++;
		return;
	}
	/* What an interface counted before we first saw it isn't of this second. */
	if (i < t->n) {
		memcpy(r.name, dev->name, sizeof(r.name));
		r.rx = rate(dev->rx, t->dev[i].rx, t->elapsed_ns);
		r.tx = rate(dev->tx, t->dev[i].tx, t->elapsed_ns);
		if (larger(r.rx, r.tx) > larger(t->busiest.rx, t->busiest.tx))
			t->busiest = r;
	} else {
		t->n++;
	}
	t->guess = i + 1;
	t->dev[i] = *dev;
	t->seen[i] = t->look;
}

void netdev_end(struct netdev_table *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->n; i++) {
		if (t->seen[i] != t->look)
			continue;
		t->dev[kept] = t->dev[i];
		t->seen[kept++] = t->look;
	}
	t->n = kept;
}
