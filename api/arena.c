// SPDX-License-Identifier: Apache-2.0
/* A bump allocator: protobuf-c turns 2 bytes of input into 90 of objects, so its memory needs a hard end. */
#include "api/arena.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Most requests fit; with malloc's own header below one page. */
#define CHUNK 4000

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, cap;
	alignas(max_align_t) char data[];
};

static bool take_budget(struct arena *a, size_t size)
{
	size_t left;

	if (!a->budget)
		return true;
	left = atomic_load_explicit(a->budget, memory_order_relaxed);
	do {
		if (left < size)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(a->budget, &left, left - size, memory_order_relaxed,
							memory_order_relaxed));
	return true;
}

static struct arena_chunk *add_chunk(struct arena *a, size_t size)
{
	size_t cap = size > CHUNK ? size : CHUNK;
	struct arena_chunk *c;

	if (cap > a->limit || a->total > a->limit - cap || !take_budget(a, cap))
		return NULL;
	c = malloc(sizeof(*c) + cap);
	if (!c) {
		if (a->budget)
			atomic_fetch_add_explicit(a->budget, cap, memory_order_relaxed);
		return NULL;
	}
	*c = (struct arena_chunk){.next = a->head, .cap = cap};
	a->head = c;
	a->total += cap;
	return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_chunk *c = a->head;
	void *p;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (!c || c->cap - c->used < size)
		c = add_chunk(a, size);
	if (!c)
		return NULL;
	p = c->data + c->used;
	c->used += size;
	return p;
}

void *arena_zalloc(struct arena *a, size_t count, size_t size)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	p = arena_alloc(a, bytes);
	return p ? memset(p, 0, bytes) : NULL;
}

void arena_free(struct arena *a)
{
	while (a->head) {
		struct arena_chunk *next = a->head->next;

		free(a->head);
		a->head = next;
	}
	if (a->budget)
		atomic_fetch_add_explicit(a->budget, a->total, memory_order_relaxed);
	a->total = 0;
}

static void *proto_alloc(void *a, size_t size)
{
	return arena_alloc(a, size);
}

static void proto_free(void *a, void *p)
{
	(void)a; /* everything goes at once, in arena_free */
	(void)p;
}

ProtobufCAllocator arena_allocator(struct arena *a)
{
	return (ProtobufCAllocator){.alloc = proto_alloc, .free = proto_free, .allocator_data = a};
}
