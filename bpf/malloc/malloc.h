/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the two halves of the malloc plugin share. */
#pragma once

#include "bpf/lib/process.h"

/* Numbers as in Fluent Bit's trace_malloc; mmap (5) and munmap (6) aren't calls of an allocator. */
enum malloc_operation {
	MALLOC_MALLOC,
	MALLOC_FREE,
	MALLOC_CALLOC,
	MALLOC_REALLOC,
	MALLOC_REALLOC_FREE, /* realloc(p, 0) */
	MALLOC_MMAP,
	MALLOC_MUNMAP,
	MALLOC_POSIX_MEMALIGN,
	MALLOC_ALIGNED_ALLOC,
	MALLOC_VALLOC,
	MALLOC_MEMALIGN,
	MALLOC_PVALLOC,
	MALLOC_OPERATION_X_MAX,
};

/* Class 0: 0 bytes; n: up to 2^(n-1), the last of them whatever is larger, too. */
#define MALLOC_CLASS_LARGEST 47
#define MALLOC_CLASS_UNKNOWN 48 /* of a free whose allocation wasn't seen */
#define MALLOC_CLASSES	     49

#define MALLOC_STACK_DEPTH   16
/* Different stacks that are kept; later ones have the number 0. */
#define MALLOC_STACKS 4096
/* Threads inside an allocator at the same time; more lose the oldest call's return. */
#define MALLOC_CALLS 2048

struct malloc_cell {
	__u64 count, bytes, failed;
};

/* Of one process, from the moment on that it is watched. */
struct malloc_counters {
	struct malloc_cell cells[MALLOC_OPERATION_X_MAX * MALLOC_CLASSES];
};

struct malloc_target {
	__u32 slot;  /* its index in the arrays */
	__u32 owner; /* of memory: another number after each exec */
	__u32 ended;
	__u32 pad;
};

/* A call that hasn't returned yet. */
struct malloc_call {
	__u64 size, sp, boot_ns;
	__u64 old; /* realloc: what it gives back */
	__u64 out; /* posix_memalign: where the result goes */
	__u64 stack;
	__u32 window;
	__u8 operation, depth, sampled, pad;
};

struct malloc_held_key {
	__u64 address;
	__u32 owner, pad;
};

struct malloc_held {
	__u64 size, stack, boot_ns;
	__u32 window; /* the one in which it was allocated */
	__u32 pad;
};

struct malloc_stack {
	__u64 ip[MALLOC_STACK_DEPTH]; /* 0 behind the outermost */
};
