/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Calls of an allocator, summed up by process, operation and class of sizes; never an event per
 * call. */
#include "bpf/plugin.bpf.h"

#include <linux/ptrace.h>

#include "bpf/lib/process.bpf.h"
#include "bpf/lib/uprobe.bpf.h"
#include "bpf/malloc/malloc.h"

/* What is handed out and not yet given back is remembered, with the stack that asked for it. */
const volatile bool outstanding;
/* One allocation in so many bytes is remembered; 0: each. */
const volatile __u32 sample_bytes;

/* Nobody waits that long inside an allocator: the return of such a call was missed. */
#define CALL_NS 1000000000ull
/* Distance between two frames above which a frame pointer isn't one. */
#define FRAME_MAX (1 << 20)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32); /* process */
	__type(value, struct malloc_target);
} targets SEC(".maps");

/* By slot: the number of the window that is open now; 0: none is. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct malloc_counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct process_context);
} contexts SEC(".maps");

/* By thread. Those that die inside a call leave an entry behind. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MALLOC_CALLS);
	__type(key, __u64);
	__type(value, struct malloc_call);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct malloc_held_key);
	__type(value, struct malloc_held);
} held SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct malloc_stack);
} stacks SEC(".maps");

/* A target whose window is open, or NULL. */
static __always_inline struct malloc_target *watched(__u32 *window)
{
	__u32 pid = current_tgid(), slot, *w;
	struct malloc_target *t = bpf_map_lookup_elem(&targets, &pid);

	if (!t)
		return NULL;
	slot = t->slot;
	w = bpf_map_lookup_elem(&windows, &slot);
	if (!w || !*w)
		return NULL;
	*window = *w;
	return t;
}

static __always_inline __u32 size_class(__u64 size)
{
	__u64 v = size - 1;
	__u32 bits = 0;

	if (size < 2)
		return size;
	if (v >> MALLOC_CLASS_LARGEST)
		return MALLOC_CLASS_LARGEST;
	if (v >> 32) {
		bits += 32;
		v >>= 32;
	}
	if (v >> 16) {
		bits += 16;
		v >>= 16;
	}
	if (v >> 8) {
		bits += 8;
		v >>= 8;
	}
	if (v >> 4) {
		bits += 4;
		v >>= 4;
	}
	if (v >> 2) {
		bits += 2;
		v >>= 2;
	}
	if (v >> 1) {
		bits += 1;
		v >>= 1;
	}
	bits += 1 + (v & 1);
	return bits < MALLOC_CLASS_LARGEST ? bits : MALLOC_CLASS_LARGEST;
}

static __always_inline struct malloc_cell *cell_of(__u32 slot, __u32 operation, __u32 class)
{
	struct malloc_counters *c = bpf_map_lookup_elem(&counters, &slot);
	__u32 i = operation * MALLOC_CLASSES + class;

	barrier_var(i);
	if (!c || i >= MALLOC_OPERATION_X_MAX * MALLOC_CLASSES)
		return NULL;
	return &c->cells[i];
}

static __always_inline void count(__u32 slot, __u32 operation, __u32 class, __u64 freed)
{
	struct process_context *who = bpf_map_lookup_elem(&contexts, &slot);
	struct malloc_cell *cell = cell_of(slot, operation, class);

	/* Once: who this is doesn't change until the next exec. */
	if (who && !who->pid)
		process_read(who, current_task());
	if (!cell)
		return;
	__sync_fetch_and_add(&cell->count, 1);
	if (freed)
		__sync_fetch_and_add(&cell->bytes, freed);
}

/* Who called, and by frame pointers who called that one, as far as programs keep them. */
static __always_inline __u64 read_stack(struct pt_regs *ctx)
{
	__u64 sp = PT_REGS_SP(ctx), fp = PT_REGS_FP(ctx), hash = 0xcbf29ce484222325ull;
	struct malloc_stack s = {};

#if defined(__TARGET_ARCH_x86)
	if (bpf_probe_read_user(&s.ip[0], sizeof(s.ip[0]), (void *)sp))
		return 0;
#else
	s.ip[0] = PT_REGS_RET(ctx);
#endif
	for (int i = 1; i < MALLOC_STACK_DEPTH; i++) {
		__u64 frame[2];

		if (fp <= sp || fp - sp > FRAME_MAX || fp & 7 ||
		    bpf_probe_read_user(frame, sizeof(frame), (void *)fp) || !frame[1])
			break;
		s.ip[i] = frame[1];
		sp = fp;
		fp = frame[0];
	}
	for (int i = 0; i < MALLOC_STACK_DEPTH; i++)
		hash = (hash ^ s.ip[i]) * 0x9e3779b97f4a7c15ull ^ hash >> 29;
	hash |= 1; /* 0: none */
	if (!bpf_map_lookup_elem(&stacks, &hash) &&
	    bpf_map_update_elem(&stacks, &hash, &s, BPF_NOEXIST) &&
	    !bpf_map_lookup_elem(&stacks, &hash))
		return 0;
	return hash;
}

/* Each byte has the same chance to be the one that is looked at. */
static __always_inline bool take_sample(__u64 size)
{
	__u64 point;

	if (!sample_bytes || size >= sample_bytes)
		return true;
	point = (__u64)bpf_get_prandom_u32() * sample_bytes >> 32;
	return point < size;
}

/* Inside another call of the allocator: realloc() that calls malloc(), calloc() of some libraries.
 */
static __always_inline struct malloc_call *outer_call(__u64 *thread, __u32 window, __u64 sp)
{
	struct malloc_call *c = bpf_map_lookup_elem(&calls, thread);

	if (!c || c->window != window || sp > c->sp ||
	    bpf_ktime_get_boot_ns() - c->boot_ns > CALL_NS)
		return NULL;
	return c;
}

static __always_inline int enter(struct pt_regs *ctx, __u32 operation, __u64 size, __u64 old,
				 __u64 out)
{
	__u64 thread = bpf_get_current_pid_tgid(), sp = PT_REGS_SP(ctx);
	struct malloc_call call = {}, *outer;
	struct malloc_target *t;
	__u32 window;

	t = watched(&window);
	if (!t)
		return 0;
	outer = outer_call(&thread, window, sp);
	if (outer) {
		outer->depth++;
		return 0;
	}
	if (operation == MALLOC_REALLOC && old && !size)
		operation = MALLOC_REALLOC_FREE;
	count(t->slot, operation, size_class(size), 0); /* bytes when it succeeded */
	call.size = size;
	call.sp = sp;
	call.boot_ns = bpf_ktime_get_boot_ns();
	call.old = old;
	call.out = out;
	call.window = window;
	call.operation = operation;
	if (outstanding && take_sample(size)) {
		call.sampled = 1;
		call.stack = read_stack(ctx);
	}
	bpf_map_update_elem(&calls, &thread, &call, BPF_ANY); /* an LRU map takes every entry */
	return 0;
}

static __always_inline int enter_array(struct pt_regs *ctx, __u32 operation, __u64 n, __u64 size)
{
	__u64 bytes = n * size;

	barrier_var(bytes); /* or clang makes a product of 128 bits of it */
	if (n && bytes / n != size)
		bytes = ~0ull >> 1; /* it fails, however large it is */
	return enter(ctx, operation, bytes, 0, 0);
}

static __always_inline int enter_free(struct pt_regs *ctx)
{
	struct malloc_held_key key = {.address = PT_REGS_PARM1(ctx)};
	__u64 thread = bpf_get_current_pid_tgid(), size = 0;
	__u32 window, class = MALLOC_CLASS_UNKNOWN;
	struct malloc_target *t;
	struct malloc_held *h;

	t = watched(&window);
	if (!t || outer_call(&thread, window, PT_REGS_SP(ctx)))
		return 0;
	if (outstanding && key.address) {
		key.owner = t->owner;
		h = bpf_map_lookup_elem(&held, &key);
		if (h) {
			size = h->size;
			class = size_class(size);
			bpf_map_delete_elem(&held, &key);
		}
	}
	count(t->slot, MALLOC_FREE, class, size);
	return 0;
}

static __always_inline void hold(struct malloc_target *t, struct malloc_call *c, __u64 address)
{
	struct malloc_held_key key = {.address = c->old, .owner = t->owner};
	struct malloc_held h = {
		.size = c->size,
		.stack = c->stack,
		.boot_ns = c->boot_ns,
		.window = c->window,
	};

	if (c->old)
		bpf_map_delete_elem(&held, &key);
	if (!address || !c->sampled)
		return;
	key.address = address;
	if (bpf_map_update_elem(&held, &key, &h, BPF_ANY))
		plugin_count(PLUGIN_STAT_MAP_FULL);
}

static __always_inline void finish(struct pt_regs *ctx, struct malloc_call *c)
{
	__u64 address = PT_REGS_RC(ctx);
	__u32 pid = current_tgid();
	struct malloc_target *t = bpf_map_lookup_elem(&targets, &pid);
	struct malloc_cell *cell;
	bool failed = !address;

	if (!t)
		return;
	if (c->operation == MALLOC_POSIX_MEMALIGN) {
		failed = (__u32)address;
		if (failed || bpf_probe_read_user(&address, sizeof(address), (void *)c->out))
			address = 0;
	} else if (!c->size) {
		failed = false; /* NULL is a right answer */
	}
	cell = cell_of(t->slot, c->operation, size_class(c->size));
	if (cell && failed)
		__sync_fetch_and_add(&cell->failed, 1);
	else if (cell)
		__sync_fetch_and_add(&cell->bytes, c->size);
	if (outstanding && !failed)
		hold(t, c, address);
}

static __always_inline int leave_call(struct pt_regs *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct malloc_call *c = bpf_map_lookup_elem(&calls, &thread);

	if (!c)
		return 0;
	if (c->depth) {
		c->depth--;
		return 0;
	}
	finish(ctx, c);
	bpf_map_delete_elem(&calls, &thread);
	return 0;
}

static __always_inline int enter_any(struct pt_regs *ctx, __u32 operation)
{
	__u64 a = PT_REGS_PARM1(ctx), b = PT_REGS_PARM2(ctx);

	switch (operation) {
	case MALLOC_FREE:
		return enter_free(ctx);
	case MALLOC_CALLOC:
		return enter_array(ctx, operation, a, b);
	case MALLOC_REALLOC:
		return enter(ctx, operation, b, a, 0);
	case MALLOC_POSIX_MEMALIGN:
		return enter(ctx, operation, PT_REGS_PARM3(ctx), 0, a);
	case MALLOC_ALIGNED_ALLOC:
	case MALLOC_MEMALIGN:
		return enter(ctx, operation, b, 0, 0);
	default: /* malloc, valloc, pvalloc */
		return enter(ctx, operation, a, 0, 0);
	}
}

/* Where one link has all probes. */
SEC("uprobe")
int multi_enter(struct pt_regs *ctx)
{
	uprobe_keep_stack(ctx);
	return enter_any(ctx, bpf_get_attach_cookie(ctx) & 15);
}

SEC("uretprobe")
int multi_leave(struct pt_regs *ctx)
{
	uprobe_keep_stack(ctx);
	return leave_call(ctx);
}

/* Where each function has a link of its own. */
#define ENTER(name, operation)                    \
	SEC("uprobe")                             \
	int name(struct pt_regs *ctx)             \
	{                                         \
		uprobe_keep_stack(ctx);           \
		return enter_any(ctx, operation); \
	}

ENTER(enter_malloc, MALLOC_MALLOC)
ENTER(enter_freed, MALLOC_FREE)
ENTER(enter_calloc, MALLOC_CALLOC)
ENTER(enter_realloc, MALLOC_REALLOC)
ENTER(enter_posix_memalign, MALLOC_POSIX_MEMALIGN)
ENTER(enter_aligned_alloc, MALLOC_ALIGNED_ALLOC)
ENTER(enter_valloc, MALLOC_VALLOC)
ENTER(enter_memalign, MALLOC_MEMALIGN)
ENTER(enter_pvalloc, MALLOC_PVALLOC)

SEC("uretprobe")
int leave(struct pt_regs *ctx)
{
	uprobe_keep_stack(ctx);
	return leave_call(ctx);
}

/* A new program in a target: nothing of what it held is left, and it may be somebody else now. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(target_exec, struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid), slot;
	struct malloc_target *t = bpf_map_lookup_elem(&targets, &pid);
	struct process_context *who;

	if (!t)
		return 0;
	t->owner++;
	slot = t->slot;
	who = bpf_map_lookup_elem(&contexts, &slot);
	if (who)
		process_read(who, task);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(target_exit, struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct malloc_target *t = bpf_map_lookup_elem(&targets, &pid);

	if (t && !BPF_CORE_READ(task, signal, live.counter))
		t->ended = 1;
	return 0;
}
