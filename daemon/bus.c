// SPDX-License-Identifier: Apache-2.0
/* From the loop to the sinks. */
#include "daemon/bus.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

/* Store, watchers and a handful of exporters. */
#define SINKS_MAX 16
/* More tables than that in one build would be a design error; bus_publish counts the rest together
 * in the last slot. */
#define TABLES_MAX 128

struct sink {
	struct bus_sink ops;
	_Atomic uint64_t batches, rows, rows_dropped;
};

struct table_drops {
	_Atomic(const struct table *) table;
	_Atomic uint64_t rows[SINKS_MAX];
};

struct bus {
	void (*filter)(void *ctx, struct batch *batch);
	void *filter_ctx;
	unsigned int nsinks; /* fixed before the first publish */
	struct sink sinks[SINKS_MAX];
	struct table_drops drops[TABLES_MAX];
};

int bus_new(struct bus **ret)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return -ENOMEM;
	*ret = bus;
	return 0;
}

void bus_free(struct bus *bus)
{
	free(bus);
}

int bus_add_sink(struct bus *bus, const struct bus_sink *sink)
{
	if (bus->nsinks == SINKS_MAX)
		return -ENOSPC;
	bus->sinks[bus->nsinks++].ops = *sink;
	return 0;
}

/* The slot of a table; the first loss of a table claims one. */
static struct table_drops *drops_of(struct bus *bus, const struct table *table)
{
	for (unsigned int i = 0; i < TABLES_MAX; i++) {
		const struct table *have = atomic_load(&bus->drops[i].table);

		if (!have && atomic_compare_exchange_strong(&bus->drops[i].table, &have, table))
			return &bus->drops[i];
		if (have == table)
			return &bus->drops[i];
	}
	return &bus->drops[TABLES_MAX - 1];
}

void bus_set_filter(struct bus *bus, void (*filter)(void *ctx, struct batch *batch), void *ctx)
{
	bus->filter = filter;
	bus->filter_ctx = ctx;
}

void bus_publish(struct bus *bus, struct batch *batch)
{
	if (bus->filter)
		bus->filter(bus->filter_ctx, batch);
	for (unsigned int i = 0; i < bus->nsinks && batch->nrows; i++) {
		struct sink *s = &bus->sinks[i];

		if (s->ops.push(s->ops.ctx, batch) < 0) {
			atomic_fetch_add(&s->rows_dropped, batch->nrows);
			atomic_fetch_add(&drops_of(bus, batch->table)->rows[i], batch->nrows);
			continue;
		}
		atomic_fetch_add(&s->batches, 1);
		atomic_fetch_add(&s->rows, batch->nrows);
	}
	batch_unref(batch);
}

unsigned int bus_stats(struct bus *bus, struct bus_sink_stats *ret, unsigned int cap)
{
	for (unsigned int i = 0; i < bus->nsinks && i < cap; i++) {
		struct sink *s = &bus->sinks[i];

		ret[i] = (struct bus_sink_stats){
			.name = s->ops.name,
			.batches = atomic_load(&s->batches),
			.rows = atomic_load(&s->rows),
			.rows_dropped = atomic_load(&s->rows_dropped),
		};
	}
	return bus->nsinks;
}

static struct table_drops *find_drops(struct bus *bus, const struct table *table)
{
	for (unsigned int i = 0; i < TABLES_MAX; i++) {
		const struct table *have = atomic_load(&bus->drops[i].table);

		if (!have)
			return NULL;
		if (have == table)
			return &bus->drops[i];
	}
	return NULL;
}

uint64_t bus_dropped_by(struct bus *bus, const char *sink, const struct table *table)
{
	struct table_drops *drops = find_drops(bus, table);
	uint64_t rows = 0;

	for (unsigned int i = 0; drops && i < bus->nsinks; i++)
		if (!sink || strcmp(bus->sinks[i].ops.name, sink) == 0)
			rows += atomic_load(&drops->rows[i]);
	return rows;
}

uint64_t bus_dropped(struct bus *bus, const struct table *table)
{
	return bus_dropped_by(bus, NULL, table);
}
