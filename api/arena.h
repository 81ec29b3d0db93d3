// SPDX-License-Identifier: Apache-2.0
/* Memory of one call: capped by itself and by a budget that all calls share, freed at once. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdatomic.h>
#include <stddef.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *head;
	size_t total, limit;
	_Atomic size_t *budget; /* bytes left for all; NULL: none */
};

/* NULL at the limit or out of memory; not zeroed; aligned for any type. One thread. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_zalloc(struct arena *a, size_t count, size_t size);
void arena_free(struct arena *a);
/* For protobuf_c_message_unpack: a message over the limit fails to unpack. Valid as long as a. */
ProtobufCAllocator arena_allocator(struct arena *a);
