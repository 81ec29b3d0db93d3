// SPDX-License-Identifier: Apache-2.0
/* Who is watched, in which allocator and for how long: the live table malloc_processes. */
#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "bpf/malloc/malloc_priv.h"

struct processes_row {
	uint32_t pid;
	struct str allocator;
	uint8_t probes;
	uint64_t watched, observed;
	struct str error;
};

static const struct field processes_fields[] = {
	FIELD(processes_row, pid, U32, INT64, TAG, "", "process"),
	FIELD(processes_row, allocator, STR, TEXT, TAG, "",
	      "file of its allocator, in its own mount namespace; NULL: gone", .null = NULL_ZERO),
	FIELD(processes_row, probes, U8, BOOL, GAUGE, "", "probes are in it now"),
	FIELD(processes_row, watched, U64, INT64, GAUGE, "ns", "since it was found"),
	FIELD(processes_row, observed, U64, INT64, GAUGE, "ns", "of that, with probes in it"),
	FIELD(processes_row, error, STR, TEXT, TAG, "", "why it has none", .null = NULL_ZERO),
};

const struct table malloc_processes_table =
	TABLE(processes_row, LIVE, "malloc_processes",
	      "Processes that the plugin malloc watches, one row each", processes_fields);

int malloc_processes_snapshot(struct instance *in, struct batch *batch)
{
	struct malloc_state *st = in->state;
	uint64_t now = clock_mono_ns();

	for (struct malloc_process *p = st->processes; p; p = p->next) {
		struct processes_row *row = batch_add(batch);
		const char *why = p->error ? strerror(-p->error) : "";
		char file[PATH_MAX];
		ssize_t n;

		if (!row)
			return -ENOBUFS;
		n = readlink(p->path, file, sizeof(file));
		row->pid = p->pid;
		row->allocator = batch_str(batch, file, n > 0 ? (size_t)n : 0);
		row->probes = p->attached;
		row->watched = now - p->since_ns;
		row->observed = malloc_observed(p, now);
		row->error = batch_str(batch, why, strlen(why));
	}
	return 0;
}
