// SPDX-License-Identifier: Apache-2.0
/* From the loop to the sinks: one reference each, nobody waits, every refusal is counted. */
#pragma once

#include <stdint.h>

#include "bpf/batch.h"

struct bus;

struct bus_sink {
	const char *name; /* "store", "watchers" */
	/* Takes its own reference if it keeps the batch; negative: refused. Must not block. Any
	 * thread publishes. */
	int (*push)(void *ctx, struct batch *batch);
	void *ctx;
};

struct bus_sink_stats {
	const char *name;
	uint64_t batches, rows, rows_dropped;
};

int bus_new(struct bus **ret);
void bus_free(struct bus *bus);
/* Before the first publish. */
int bus_add_sink(struct bus *bus, const struct bus_sink *sink);
/* Sees, and may change, every batch before any sink: on the thread that publishes. Before the first publish. */
void bus_set_filter(struct bus *bus, void (*filter)(void *ctx, struct batch *batch), void *ctx);
/* Takes the caller's reference, which is the only one. The loop's thread. */
void bus_publish(struct bus *bus, struct batch *batch);
unsigned int bus_stats(struct bus *bus, struct bus_sink_stats *ret, unsigned int cap);
/* Rows of a table that some sink refused, since start. */
uint64_t bus_dropped(struct bus *bus, const struct table *table);
/* The same for one sink. */
uint64_t bus_dropped_by(struct bus *bus, const char *sink, const struct table *table);
