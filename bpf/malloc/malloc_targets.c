// SPDX-License-Identifier: Apache-2.0
/* The processes that are watched: found, given a place in the kernel's tables, and let go. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "bpf/malloc/malloc_priv.h"

/* Field 22 of /proc/PID/stat, behind the name, which may hold anything; 0: gone. */
static uint64_t start_time(uint32_t pid)
{
	_cleanup_close_ int fd = -1;
	char path[32], text[1024];
	unsigned long long v;
	ssize_t n;
	char *p;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1,
			 " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
			 "%*s %*s %llu",
			 &v) != 1)
		return 0;
	return v;
}

static bool take_slot(struct malloc_state *st, uint32_t *ret)
{
	for (uint32_t i = 0; i < st->max_processes; i++) {
		uint64_t bit = 1ull << (i % 64);

		if (st->used_slots[i / 64] & bit)
			continue;
		st->used_slots[i / 64] |= bit;
		*ret = i;
		return true;
	}
	return false;
}

void malloc_process_free(struct instance *in, struct malloc_process *p)
{
	struct malloc_state *st = in->state;

	for (struct malloc_process **at = &st->processes; *at; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	bpf_map_delete_elem(bpf_map__fd(p->skel->maps.targets), &p->pid);
	st->used_slots[p->slot / 64] &= ~(1ull << (p->slot % 64));
	pthread_mutex_destroy(&p->lock);
	free(p->last);
	free(p);
}

/* What the slot's last owner left. */
static int clear_slot(struct malloc_state *st, struct malloc_process *p)
{
	struct process_context nobody = {};
	uint32_t closed = 0;

	memset(st->scratch, 0, sizeof(*st->scratch));
	if (bpf_map_update_elem(bpf_map__fd(p->skel->maps.windows), &p->slot, &closed, BPF_ANY) <
		    0 ||
	    bpf_map_update_elem(bpf_map__fd(p->skel->maps.counters), &p->slot, st->scratch,
				BPF_ANY) < 0 ||
	    bpf_map_update_elem(bpf_map__fd(p->skel->maps.contexts), &p->slot, &nobody, BPF_ANY) <
		    0)
		return -errno;
	return 0;
}

static int tell_kernel(struct malloc_state *st, struct malloc_process *p)
{
	struct malloc_target t = {.slot = p->slot, .owner = p->owner};
	int r = clear_slot(st, p);

	if (r < 0)
		return r;
	if (bpf_map_update_elem(bpf_map__fd(p->skel->maps.targets), &p->pid, &t, BPF_ANY) < 0)
		return -errno;
	return 0;
}

static int watch(struct instance *in, uint32_t pid, uint64_t start)
{
	struct malloc_state *st = in->state;
	struct malloc_process *p;
	int r;

	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->last = calloc(1, sizeof(*p->last));
	r = p->last ? malloc_library_find(in, pid, &p->library, p->path, sizeof(p->path)) : -ENOMEM;
	if (!r && !take_slot(st, &p->slot))
		r = -ENOSPC;
	if (r) {
		free(p->last);
		free(p);
		return r;
	}
	p->skel = in->skel;
	p->multi = st->multi;
	p->pid = pid;
	p->start_time = start;
	/* Execs count from there: they don't reach the next number. */
	p->owner = ++st->serial << 8;
	p->probes.fds[0] = p->probes.fds[1] = -1;
	p->seen = true;
	p->next_ns = p->told_ns = p->since_ns = clock_mono_ns();
	pthread_mutex_init(&p->lock, NULL);
	p->next = st->processes;
	st->processes = p;
	r = tell_kernel(st, p);
	if (r < 0)
		malloc_process_free(in, p);
	return r;
}

static void found(uint32_t pid, void *arg)
{
	struct instance *in = arg;
	struct malloc_state *st = in->state;
	uint64_t start = start_time(pid);
	int r;

	if (!start)
		return;
	for (struct malloc_process *p = st->processes; p; p = p->next) {
		if (p->pid != pid)
			continue;
		if (p->start_time != start)
			return; /* a reused number: when the last one's rows are told */
		p->seen = true;
		p->unwanted = false;
		return;
	}
	r = watch(in, pid, start);
	if (r == -ENOSPC)
		st->left_out++;
	else if (r == -ENOENT)
		st->unknown++;
}

/* It may have run another program since, whose allocator is elsewhere. */
static void look_again(struct instance *in, struct malloc_process *p)
{
	struct malloc_library library;
	struct malloc_target t;
	char path[sizeof(p->path)];

	if (bpf_map_lookup_elem(bpf_map__fd(p->skel->maps.targets), &p->pid, &t) < 0)
		return;
	p->ended |= !!t.ended;
	if (p->ended || (t.owner == p->owner && !p->lost) || p->job.running)
		return;
	if (malloc_library_find(in, p->pid, &library, path, sizeof(path)) < 0)
		return; /* its libraries aren't there yet */
	/* Probes that stay are in the file that they were put into. */
	if (p->attached && (library.dev != p->library.dev || library.ino != p->library.ino)) {
		p->moved = true;
		return;
	}
	p->owner = t.owner;
	p->lost = p->moved = false;
	p->library = library;
	memcpy(p->path, path, sizeof(path));
}

/* Told when the plugin starts, and logged when it changes later. */
static void describe(struct instance *in)
{
	struct malloc_state *st = in->state;
	const struct malloc_process *bad = NULL;
	char *dst = in->degraded;
	size_t cap = sizeof(in->degraded);

	for (const struct malloc_process *p = st->processes; p; p = p->next)
		bad = p->error ? p : bad;
	dst[0] = '\0';
	if (bad)
		snprintf(dst, cap, "no probes in process %u (%.100s): %.80s", bad->pid, bad->path,
			 strerror(-bad->error));
	else if (st->left_out)
		snprintf(dst, cap,
			 "more processes match than max_processes, %u: the others aren't watched",
			 st->max_processes);
	else if (st->unknown)
		snprintf(dst, cap,
			 "some processes have no allocator that the option libraries names");
	if (strcmp(dst, st->told)) {
		if (*dst && st->started)
			log_warn("plugin malloc: %s", dst);
		memcpy(st->told, dst, sizeof(st->told));
	}
	st->started = true;
}

int malloc_scan(struct instance *in)
{
	struct malloc_state *st = in->state;
	int r;

	st->left_out = st->unknown = 0;
	for (struct malloc_process *p = st->processes; p; p = p->next) {
		p->seen = false;
		look_again(in, p);
	}
	r = malloc_scope_each(st->scope, found, in);
	for (struct malloc_process *p = st->processes; p; p = p->next) {
		if (p->seen || r < 0)
			continue;
		if (start_time(p->pid) != p->start_time)
			p->ended = true;
		else
			p->unwanted = true;
	}
	describe(in);
	return r;
}
