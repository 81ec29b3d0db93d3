// SPDX-License-Identifier: Apache-2.0
/* The sched plugin: rows of long waits for a CPU, and sums of all waits each interval. */
#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "bpf/process.h"
#include "bpf/sched.skel.h"
#include "bpf/sched/sched.h"
#include "bpf/sched/sched_waits.h"

enum { SCHED_TABLE, RUNQ_TABLE };

/* include/linux/sched.h: what a thread is in, without how (freezable, not in the load, woken only
 * by a fatal signal); those bits differ between kernels. */
#define STATE_REPORTED 0xff

struct sched_row {
	PROCESS_COLUMNS;
	uint64_t runq_latency_ns;
	int64_t prev_state;
	int32_t next_prio, prev_prio;
	uint32_t cpu, next_pid, prev_pid, prev_tid;
	char prev_comm[PROCESS_COMM_SIZE];
	uint8_t wakeup_tracked;
};

PROCESS_ROW_CHECK(sched_row);

static const struct field sched_fields[] = {
	PROCESS_FIELDS(sched_row, "when the thread got the CPU"),
	FIELD(sched_row, runq_latency_ns, U64, INT64, GAUGE, "ns", "how long it waited for it"),
	FIELD(sched_row, wakeup_tracked, U8, BOOL, TAG, "",
	      "since a wake-up; false: since it had to leave, or left, a CPU"),
	FIELD(sched_row, cpu, U32, INT64, TAG, "", "the CPU"),
	FIELD(sched_row, next_pid, U32, INT64, TAG, "", "its process, as pid"),
	FIELD(sched_row, next_prio, I32, INT64, TAG, "",
	      "its priority as the kernel counts: 120 is nice 0, below 100 is real time"),
	FIELD(sched_row, prev_pid, U32, INT64, TAG, "",
	      "process that had the CPU before; 0: it was idle"),
	FIELD(sched_row, prev_tid, U32, INT64, TAG, "", "its thread"),
	FIELD(sched_row, prev_comm, CHARS, TEXT, TAG, "", "its name", .dict = true),
	FIELD(sched_row, prev_prio, I32, INT64, TAG, "", "its priority"),
	FIELD(sched_row, prev_state, I64, INT64, TAG, "",
	      "its state: 0 could go on, 1 sleeps, 2 sleeps uninterruptibly, 4 stopped, 8 traced, "
	      "64 "
	      "parked, 128 ended"),
};

static const struct table sched_table =
	TABLE(sched_row, AUDIT, "sched", "Long waits for a CPU", sched_fields);

struct runq_row {
	uint64_t ts, switches, woken, preempted, untracked, wait, wait_max, p50, p95, p99;
	uint32_t cpu;
};

static const struct field runq_fields[] = {
	FIELD(runq_row, ts, U64, TIME, TAG, "ns", "end of the interval"),
	FIELD(runq_row, cpu, U32, INT64, TAG, "", "the CPU"),
	FIELD(runq_row, switches, U64, INT64, DELTA, "", "times that it went to another thread"),
	FIELD(runq_row, woken, U64, INT64, DELTA, "", "threads that got it after a wake-up"),
	FIELD(runq_row, preempted, U64, INT64, DELTA, "",
	      "threads that got it after they had to leave, or left, a CPU"),
	FIELD(runq_row, untracked, U64, INT64, DELTA, "",
	      "threads that got it after a wait of unknown length: it began before the plugin, or "
	      "two "
	      "shared a slot"),
	FIELD(runq_row, wait, U64, INT64, DELTA, "ns", "all waits together"),
	FIELD(runq_row, wait_max, U64, INT64, GAUGE, "ns", "the longest wait"),
	FIELD(runq_row, p50, U64, INT64, GAUGE, "ns", "half of the waits were shorter, to 1/16"),
	FIELD(runq_row, p95, U64, INT64, GAUGE, "ns", "95 of 100 were"),
	FIELD(runq_row, p99, U64, INT64, GAUGE, "ns", "99 of 100 were"),
};

static const struct table runq_table =
	TABLE(runq_row, METRIC, "runq", "Waits for each CPU, summed up each interval", runq_fields);

static const struct opt sched_options[] = {
	{.key = "threshold",
	 .type = OPT_DURATION,
	 .def = "10ms",
	 .min = "100us",
	 .max = "1h",
	 .help = "waits of that length and longer make a row of sched; all waits count in runq"},
	PROCESS_OPTIONS,
	{},
};

struct state {
	int ncpus;
	struct sched_cpu *now, *last; /* by CPU */
};

static int sched_start(struct instance *in, struct err *err)
{
	struct sched_bpf *skel = in->skel;
	struct state *st = in->state;

	st->ncpus = libbpf_num_possible_cpus();
	if (st->ncpus < 0)
		return err_set(err, st->ncpus, "cannot count the CPUs: %s", strerror(-st->ncpus));
	st->now = calloc((size_t)st->ncpus, sizeof(*st->now));
	st->last = calloc((size_t)st->ncpus, sizeof(*st->last));
	if (!st->now || !st->last)
		return err_set(err, -ENOMEM, "out of memory");
	skel->bss->threshold_ns = (uint64_t)opt_i64(in->opts, "threshold");
	return process_filter_apply(in, err);
}

static int sched_update(struct instance *in, const char *key, struct err *err)
{
	struct sched_bpf *skel = in->skel;

	skel->bss->threshold_ns = (uint64_t)opt_i64(in->opts, "threshold");
	return process_filter_has(key) ? process_filter_apply(in, err) : 0;
}

static int sched_event(struct instance *in, const void *ev, size_t len)
{
	const struct sched_event *e = ev;
	struct sched_row *row;

	if (len != sizeof(*e))
		return -EBADMSG;
	row = instance_row(in, SCHED_TABLE);
	if (!row)
		return 0;
	process_fill(in, SCHED_TABLE, row, &e->p);
	row->runq_latency_ns = e->wait_ns;
	row->wakeup_tracked = !!e->woken;
	row->cpu = e->cpu;
	row->next_pid = e->p.pid;
	row->next_prio = e->prio;
	row->prev_pid = e->prev_pid;
	row->prev_tid = e->prev_tid;
	row->prev_prio = e->prev_prio;
	row->prev_state = e->prev_state & STATE_REPORTED;
	memcpy(row->prev_comm, e->prev_comm, strnlen(e->prev_comm, sizeof(row->prev_comm) - 1));
	return 0;
}

static void add_row(struct instance *in, uint64_t ts, uint32_t cpu, const struct sched_cpu *now,
		    const struct sched_cpu *last, uint32_t epoch)
{
	uint64_t waits[SCHED_BUCKETS];
	struct runq_row *row;

	if (now->switches == last->switches || !(row = instance_row(in, RUNQ_TABLE)))
		return;
	for (size_t i = 0; i < SCHED_BUCKETS; i++)
		waits[i] = now->buckets[i] - last->buckets[i];
	row->ts = ts;
	row->cpu = cpu;
	row->switches = now->switches - last->switches;
	row->woken = now->woken - last->woken;
	row->preempted = now->preempted - last->preempted;
	row->untracked = now->untracked - last->untracked;
	row->wait = now->wait_ns - last->wait_ns;
	if (now->epoch[epoch & 1] == epoch)
		row->wait_max = now->wait_max_ns[epoch & 1];
	row->p50 = sched_percentile(waits, 50);
	row->p95 = sched_percentile(waits, 95);
	row->p99 = sched_percentile(waits, 99);
}

static int sched_tick(struct instance *in, uint64_t now_ns)
{
	struct sched_bpf *skel = in->skel;
	struct state *st = in->state;
	uint32_t zero = 0, epoch = skel->bss->epoch;
	struct sched_cpu *swap;

	/* From here on the programs leave the old one's slot alone. */
	skel->bss->epoch = epoch + 1;
	if (bpf_map_lookup_elem(bpf_map__fd(skel->maps.cpus), &zero, st->now) < 0)
		return -errno;
	for (int i = 0; i < st->ncpus; i++)
		add_row(in, now_ns, (uint32_t)i, &st->now[i], &st->last[i], epoch);
	swap = st->last;
	st->last = st->now;
	st->now = swap;
	return 0;
}

static void sched_stop(struct instance *in)
{
	struct state *st = in->state;

	free(st->now);
	free(st->last);
}

PLUGIN(sched,
       .help = "How long threads wait for a CPU: long waits with who had it, and sums of all",
       .needs = "BTF and the tracepoints sched_switch, sched_wakeup and sched_wakeup_new, CAP_BPF "
		"and CAP_PERFMON",
       TABLES(&sched_table, &runq_table), .options = sched_options,
       .default_ring_bytes = 256 * 1024, .default_priority = 30, .state_size = sizeof(struct state),
       .start = sched_start, .update = sched_update, .event = sched_event, .tick = sched_tick,
       .shed = instance_shed_sampling, .stop = sched_stop);
