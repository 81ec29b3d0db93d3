// SPDX-License-Identifier: Apache-2.0
/* What allocators have handed out and not got back: the live table malloc_outstanding. */
#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/macro.h"
#include "bpf/malloc/malloc_priv.h"
#include "bpf/malloc/malloc_stack.h"
#include "bpf/process.h"

#define BATCH 512
/* Rows at most, by processes and stacks; what comes later counts in a row without stack. */
#define GROUPS_MAX 8192
#define SLOTS	   (2 * GROUPS_MAX)

struct outstanding_row {
	uint32_t pid;
	char comm[PROCESS_COMM_SIZE];
	uint64_t cgroup_id;
	struct str container_id;
	uint64_t count, bytes, uncertain_count, uncertain_bytes, count_estimate, bytes_estimate;
	uint64_t oldest, stack_id;
	struct str stack;
};

static const struct field outstanding_fields[] = {
	FIELD(outstanding_row, pid, U32, INT64, TAG, "", "process"),
	FIELD(outstanding_row, comm, CHARS, TEXT, TAG, "", "its name"),
	FIELD(outstanding_row, cgroup_id, U64, INT64, TAG, "",
	      "its cgroup in the unified hierarchy"),
	FIELD(outstanding_row, container_id, STR, TEXT, TAG, "", "its container",
	      .null = NULL_ZERO),
	FIELD(outstanding_row, count, U64, INT64, GAUGE, "{allocation}",
	      "allocations seen that weren't seen to be given back"),
	FIELD(outstanding_row, bytes, U64, INT64, GAUGE, "By", "what they asked for"),
	FIELD(outstanding_row, uncertain_count, U64, INT64, GAUGE, "{allocation}",
	      "of count: given back perhaps while nobody looked (duty_cycle below 1)"),
	FIELD(outstanding_row, uncertain_bytes, U64, INT64, GAUGE, "By", "of bytes, the same"),
	FIELD(outstanding_row, count_estimate, U64, INT64, GAUGE, "{allocation}",
	      "count, with what sample_bytes left out"),
	FIELD(outstanding_row, bytes_estimate, U64, INT64, GAUGE, "By",
	      "bytes, with what sample_bytes left out"),
	FIELD(outstanding_row, oldest, U64, TIME, GAUGE, "ns", "when the first of them was made"),
	FIELD(outstanding_row, stack_id, U64, INT64, TAG, "",
	      "number of the stack; NULL: more stacks than are kept", .null = NULL_ZERO),
	FIELD(outstanding_row, stack, STR, TEXT, TAG, "",
	      "who asked for it, innermost first, as file+offset or by option function+distance",
	      .null = NULL_ZERO),
};

const struct table malloc_outstanding_table =
	TABLE(outstanding_row, LIVE, "malloc_outstanding",
	      "Memory that watched processes hold, by who allocated it (option outstanding)",
	      outstanding_fields);

struct group {
	const struct malloc_process *p; /* NULL: free slot */
	uint64_t stack, count, bytes, uncertain_count, uncertain_bytes, oldest_ns;
	double count_estimate, bytes_estimate;
};

struct gathering {
	struct malloc_state *st;
	struct group *slots;
	unsigned int n;
	uint32_t *windows;
	uint64_t sample_bytes;
};

/* All that is held, some at a time. each returns whether it may stay. */
static int each_held(struct instance *in,
		     bool (*each)(const struct malloc_held_key *k, const struct malloc_held *h,
				  void *arg),
		     void *arg)
{
	struct malloc_bpf *skel = in->skel;
	int fd = bpf_map__fd(skel->maps.held), r;
	struct malloc_held_key keys[BATCH];
	struct malloc_held values[BATCH];
	uint32_t at = 0, n;
	bool first = true;

	do {
		n = BATCH;
		r = bpf_map_lookup_batch(fd, first ? NULL : &at, &at, keys, values, &n, NULL);
		if (r < 0 && errno != ENOENT)
			return -errno;
		for (uint32_t i = 0; i < n; i++)
			if (!each(&keys[i], &values[i], arg))
				bpf_map_delete_elem(fd, &keys[i]);
		first = false;
	} while (r == 0);
	return 0;
}

static const struct malloc_process *owner_of(const struct malloc_state *st, uint32_t owner)
{
	for (const struct malloc_process *p = st->processes; p; p = p->next)
		if (p->owner == owner)
			return p;
	return NULL;
}

static bool still_owned(const struct malloc_held_key *k, const struct malloc_held *h, void *arg)
{
	(void)h;
	return owner_of(arg, k->owner);
}

void malloc_held_purge(struct instance *in)
{
	if (opt_bool(in->opts, "outstanding"))
		(void)each_held(in, still_owned, in->state);
}

static struct group *group_of(struct gathering *g, const struct malloc_process *p, uint64_t stack)
{
	uint32_t i;

	if (g->n >= GROUPS_MAX)
		stack = 0; /* a slot for each process without stack is left */
	i = (uint32_t)(hash_u64(p->owner, stack) % SLOTS);
	while (g->slots[i].p && (g->slots[i].p != p || g->slots[i].stack != stack))
		i = (i + 1) % SLOTS;
	if (!g->slots[i].p) {
		g->slots[i].p = p;
		g->slots[i].stack = stack;
		g->n++;
	}
	return &g->slots[i];
}

static bool gather(const struct malloc_held_key *k, const struct malloc_held *h, void *arg)
{
	struct gathering *g = arg;
	const struct malloc_process *p = owner_of(g->st, k->owner);
	struct group *at;
	double weight = 1;

	if (!p)
		return true; /* its process ended just now */
	at = group_of(g, p, h->stack);
	at->count++;
	at->bytes += h->size;
	if (g->windows[p->slot] != h->window) {
		at->uncertain_count++;
		at->uncertain_bytes += h->size;
	}
	/* An allocation of n bytes was taken with the chance n / sample_bytes. */
	if (h->size && h->size < g->sample_bytes)
		weight = (double)g->sample_bytes / (double)h->size;
	at->count_estimate += weight;
	at->bytes_estimate += weight * (double)h->size;
	if (!at->oldest_ns || h->boot_ns < at->oldest_ns)
		at->oldest_ns = h->boot_ns;
	return true;
}

static int add_row(struct instance *in, struct batch *batch, struct stack_reader *reader,
		   const struct group *g)
{
	struct malloc_bpf *skel = in->skel;
	struct outstanding_row *row = batch_add(batch);
	struct process_context who = {};
	struct process_row columns = {};
	const char *container;
	char text[STACK_TEXT_MAX];
	size_t len;

	if (!row)
		return -ENOBUFS;
	row->pid = g->p->pid;
	if (bpf_map_lookup_elem(bpf_map__fd(skel->maps.contexts), &g->p->slot, &who) == 0) {
		container = process_columns(in, &columns, &who);
		memcpy(row->comm, columns.comm, sizeof(row->comm));
		row->cgroup_id = columns.cgroup_id;
		row->container_id = batch_str(batch, container, strlen(container));
	}
	row->count = g->count;
	row->bytes = g->bytes;
	row->uncertain_count = g->uncertain_count;
	row->uncertain_bytes = g->uncertain_bytes;
	row->count_estimate = (uint64_t)(g->count_estimate + 0.5);
	row->bytes_estimate = (uint64_t)(g->bytes_estimate + 0.5);
	row->oldest = clock_boot_to_real(g->oldest_ns);
	row->stack_id = g->stack >> 1; /* fits an int64 */
	len = stack_text(reader, g->p->pid, g->stack, text, sizeof(text));
	row->stack = batch_str(batch, text, len);
	if (len && !row->stack.len) {
		batch_drop_last(batch);
		return -ENOBUFS;
	}
	return 0;
}

static int read_windows(struct instance *in, uint32_t *dst)
{
	struct malloc_state *st = in->state;
	struct malloc_bpf *skel = in->skel;

	for (const struct malloc_process *p = st->processes; p; p = p->next)
		if (bpf_map_lookup_elem(bpf_map__fd(skel->maps.windows), &p->slot, &dst[p->slot]) <
		    0)
			return -errno;
	return 0;
}

int malloc_held_snapshot(struct instance *in, struct batch *batch)
{
	struct malloc_state *st = in->state;
	struct malloc_bpf *skel = in->skel;
	_cleanup_free_ struct group *slots = calloc(SLOTS, sizeof(*slots));
	_cleanup_free_ uint32_t *windows = calloc(st->max_processes, sizeof(*windows));
	_cleanup_(stack_reader_freep) struct stack_reader *reader = NULL;
	struct gathering g = {st, slots, 0, windows, (uint64_t)opt_i64(in->opts, "sample_bytes")};
	int r;

	if (!opt_bool(in->opts, "outstanding"))
		return 0;
	if (!slots || !windows)
		return -ENOMEM;
	r = stack_reader_new(&reader, bpf_map__fd(skel->maps.stacks),
			     opt_bool(in->opts, "symbols"));
	if (!r)
		r = read_windows(in, windows);
	if (!r)
		r = each_held(in, gather, &g);
	for (unsigned int i = 0; i < SLOTS && !r; i++)
		if (slots[i].p)
			r = add_row(in, batch, reader, &slots[i]);
	return r;
}
