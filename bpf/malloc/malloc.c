// SPDX-License-Identifier: Apache-2.0
/* The malloc plugin: what processes ask of their allocator, by operation and size, seen for a part
 * of the time. */
#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/malloc/malloc_priv.h"
#include "bpf/process.h"
#include "bpf/uprobe.h"

/* How soon a process that starts later is noticed; reading all of /proc costs more than a list. */
#define SCAN_NS	     NSEC_PER_SEC
#define SCAN_WIDE_NS (5 * NSEC_PER_SEC)
/* Steps of the governor: half the time each. */
#define SHED_STEPS   4

#define TABLE_MALLOC 0

struct malloc_row {
	PROCESS_COLUMNS;
	int32_t operation;
	uint8_t function;
	uint64_t size_class, count, bytes, failed;
	double observed;
	uint64_t count_estimate, bytes_estimate;
};

PROCESS_ROW_CHECK(malloc_row);

static const char *const function_names[] = {
	"malloc",	  "free",	   "calloc", "realloc",	 "realloc(0)", "mmap", "munmap",
	"posix_memalign", "aligned_alloc", "valloc", "memalign", "pvalloc",    NULL};

static_assert(ARRAY_SIZE(function_names) == MALLOC_OPERATION_X_MAX + 1, "a name for each");

static const struct field malloc_fields[] = {
	PROCESS_FIELDS(malloc_row, "end of the interval"),
	FIELD(malloc_row, operation, I32, INT64, TAG, "",
	      "0 malloc, 1 free, 2 calloc, 3 realloc, 4 realloc to nothing, 7 posix_memalign, "
	      "8 aligned_alloc, 9 valloc, 10 memalign, 11 pvalloc"),
	FIELD(malloc_row, function, ENUM, TEXT, TAG, "", "its name", .names = function_names),
	FIELD(malloc_row, size_class, U64, INT64, TAG, "By",
	      "sizes up to this, above half of it (2^46: and all larger); NULL: a free of what "
	      "wasn't remembered",
	      .null = NULL_MAX),
	FIELD(malloc_row, count, U64, INT64, DELTA, "{call}", "calls while it was observed"),
	FIELD(malloc_row, bytes, U64, INT64, DELTA, "By",
	      "what they got, or of free what it gave back; NULL: not known", .null = NULL_MAX),
	FIELD(malloc_row, failed, U64, INT64, DELTA, "{call}", "of count, calls that failed"),
	FIELD(malloc_row, observed, F64, DOUBLE, GAUGE, "1",
	      "part of the interval during which it was observed"),
	FIELD(malloc_row, count_estimate, U64, INT64, DELTA, "{call}",
	      "count divided by observed: for the whole interval"),
	FIELD(malloc_row, bytes_estimate, U64, INT64, DELTA, "By", "bytes, likewise",
	      .null = NULL_MAX),
};

static const struct table malloc_table =
	TABLE(malloc_row, METRIC, "malloc",
	      "Calls of allocators, summed up by process, function and size", malloc_fields);

#define FILTER(k, h)                                      \
	{                                                 \
		.key = (k), .type = OPT_LIST, .help = (h) \
	}

static const struct opt malloc_options[] = {
	FILTER("pids", "only these processes"),
	FILTER("exclude_pids", "not these processes"),
	FILTER("comms", "only processes of these names (the first 15 bytes count)"),
	FILTER("exclude_comms", "not processes of these names"),
	FILTER("uids", "only processes of these users, as numbers"),
	FILTER("exclude_uids", "not of these users"),
	FILTER("cgroups",
	       "only processes in these cgroups and below: ids, or paths from the root of "
	       "the unified hierarchy"),
	FILTER("exclude_cgroups", "not in these cgroups and below"),
	FILTER("containers",
	       "only processes of these containers: 12 to 64 hex digits of their ids"),
	FILTER("exclude_containers", "not of these containers"),
	{.key = "force",
	 .type = OPT_BOOL,
	 .def = "false",
	 .help = "watch the whole host: without pids, cgroups or containers this is refused"},
	{.key = "duty_cycle",
	 .type = OPT_DOUBLE,
	 .def = "0.05",
	 .min = "0.001",
	 .max = "1",
	 .help = "part of the time during which a process is observed, and slow; 1: always"},
	{.key = "outstanding",
	 .type = OPT_BOOL,
	 .def = "false",
	 .restart = true,
	 .help = "remember what is allocated until it is freed: the table malloc_outstanding"},
	{.key = "outstanding_max",
	 .type = OPT_INT,
	 .def = "16384",
	 .min = "1024",
	 .max = "262144",
	 .restart = true,
	 .help = "allocations that are remembered at most; each takes 100 bytes of the kernel"},
	{.key = "sample_bytes",
	 .type = OPT_BYTES,
	 .def = "0",
	 .min = "0",
	 .max = "1GiB",
	 .restart = true,
	 .help = "remember one allocation in so many bytes, larger ones always; 0: each"},
	{.key = "symbols",
	 .type = OPT_BOOL,
	 .def = "false",
	 .help = "names of functions in stacks, where files have them; read when the table is"},
	{.key = "max_processes",
	 .type = OPT_INT,
	 .def = "64",
	 .min = "1",
	 .max = "1024",
	 .restart = true,
	 .help = "processes that are watched at a time; each takes 14 KiB of the kernel"},
	{.key = "libraries",
	 .type = OPT_LIST,
	 .def = "libjemalloc,libtcmalloc,libmimalloc,libasan,libc.so,libc-,ld-musl",
	 .restart = true,
	 .help = "beginnings of the names of allocators; a process that has several uses the "
		 "first"},
	{},
};

static int set_timer(const struct malloc_state *st, uint64_t at)
{
	struct itimerspec t = {
		.it_value = {.tv_sec = (time_t)(at / NSEC_PER_SEC),
			     .tv_nsec = (long)(at % NSEC_PER_SEC)},
	};

	return timerfd_settime(st->timer, TFD_TIMER_ABSTIME, &t, NULL) < 0 ? -errno : 0;
}

static int run(struct instance *in)
{
	struct malloc_state *st = in->state;
	uint64_t now = clock_mono_ns(), next;
	int r = 0;

	if (now >= st->scan_ns) {
		r = malloc_scan(in);
		now = clock_mono_ns();
		st->scan_ns = now + (malloc_scope_is_wide(st->scope) ? SCAN_WIDE_NS : SCAN_NS);
	}
	next = malloc_windows_run(in, now);
	if (next > st->scan_ns)
		next = st->scan_ns;
	if (next <= now)
		next = now + 1; /* 0 would stop it */
	if (set_timer(st, next) < 0 && !r)
		r = -errno;
	return r;
}

static int on_timer(struct instance *in)
{
	struct malloc_state *st = in->state;
	uint64_t n;

	if (read(st->timer, &n, sizeof(n)) < 0 && errno != EAGAIN)
		return -errno;
	return run(in);
}

static void set_duty(struct instance *in, unsigned int step)
{
	struct malloc_state *st = in->state;

	st->duty = opt_f64(in->opts, "duty_cycle") / (double)(1u << step);
	st->shed = step;
}

static int malloc_shed(struct instance *in, unsigned int step)
{
	set_duty(in, step < SHED_STEPS ? step : SHED_STEPS);
	return SHED_STEPS;
}

static int choose_programs(struct instance *in, struct err *err)
{
	struct malloc_state *st = in->state;
	struct malloc_bpf *skel = in->skel;
	struct bpf_program *const multi[] = {skel->progs.multi_enter, skel->progs.multi_leave};
	struct bpf_program *const single[] = {
		skel->progs.enter_malloc,	  skel->progs.enter_freed,
		skel->progs.enter_calloc,	  skel->progs.enter_realloc,
		skel->progs.enter_posix_memalign, skel->progs.enter_aligned_alloc,
		skel->progs.enter_valloc,	  skel->progs.enter_memalign,
		skel->progs.enter_pvalloc,	  skel->progs.leave,
	};
	int r = 0;

	st->multi = uprobe_multi_usable();
	for (size_t i = 0; i < ARRAY_SIZE(single); i++)
		bpf_program__set_autoload(single[i], !st->multi);
	for (size_t i = 0; i < ARRAY_SIZE(multi) && !r; i++) {
		bpf_program__set_autoload(multi[i], st->multi);
		if (st->multi)
			r = uprobe_multi_prepare(multi[i]);
	}
	return r < 0 ? err_set(err, r, "cannot prepare its programs: %s", strerror(-r)) : 0;
}

static int size_maps(struct instance *in, struct err *err)
{
	struct malloc_state *st = in->state;
	struct malloc_bpf *skel = in->skel;
	struct bpf_map *const by_process[] = {skel->maps.targets, skel->maps.windows,
					      skel->maps.counters, skel->maps.contexts};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(by_process) && !r; i++)
		r = bpf_map__set_max_entries(by_process[i], st->max_processes);
	if (!r && opt_bool(in->opts, "outstanding")) {
		r = bpf_map__set_max_entries(skel->maps.held,
					     (uint32_t)opt_i64(in->opts, "outstanding_max"));
		if (!r)
			r = bpf_map__set_max_entries(skel->maps.stacks, MALLOC_STACKS);
	}
	return r < 0 ? err_set(err, r, "cannot size its maps: %s", strerror(-r)) : 0;
}

static int malloc_setup(struct instance *in, struct err *err)
{
	struct malloc_state *st = in->state;
	struct malloc_bpf *skel = in->skel;
	int r;

	st->timer = -1;
	r = malloc_scope_new(&st->scope, in, err);
	if (r < 0)
		return r;
	st->max_processes = (uint32_t)opt_i64(in->opts, "max_processes");
	st->used_slots = calloc((st->max_processes + 63) / 64, sizeof(*st->used_slots));
	st->scratch = malloc(sizeof(*st->scratch));
	if (!st->used_slots || !st->scratch)
		return err_set(err, -ENOMEM, "no memory for its processes");
	set_duty(in, 0);
	skel->rodata->outstanding = opt_bool(in->opts, "outstanding");
	skel->rodata->sample_bytes = (uint32_t)opt_i64(in->opts, "sample_bytes");
	r = size_maps(in, err);
	return r < 0 ? r : choose_programs(in, err);
}

static int malloc_start(struct instance *in, struct err *err)
{
	struct malloc_state *st = in->state;
	int r;

	st->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (st->timer < 0)
		return err_set(err, -errno, "cannot make a timer: %s", strerror(errno));
	if (!in->watch_fd)
		return err_set(err, -EOPNOTSUPP, "it needs a loop for its timer");
	r = in->watch_fd(in, st->timer, on_timer);
	if (!r)
		r = run(in);
	return r < 0 ? err_set(err, r, "cannot find the processes to watch: %s", strerror(-r)) : 0;
}

static int malloc_update(struct instance *in, const char *key, struct err *err)
{
	struct malloc_state *st = in->state;
	struct malloc_scope *scope;
	int r;

	if (strcmp(key, "symbols") == 0)
		return 0;
	if (strcmp(key, "duty_cycle") == 0) {
		set_duty(in, st->shed);
	} else {
		r = malloc_scope_new(&scope, in, err);
		if (r < 0)
			return r;
		malloc_scope_free(st->scope);
		st->scope = scope;
		st->scan_ns = 0;
	}
	return run(in);
}

static uint64_t scaled(uint64_t n, double observed)
{
	return observed > 0 ? (uint64_t)((double)n / observed + 0.5) : n;
}

static void emit(struct instance *in, uint64_t now_ns, const struct process_context *who, size_t i,
		 const struct malloc_cell *c, double observed)
{
	uint32_t operation = (uint32_t)i / MALLOC_CLASSES, class = (uint32_t)i % MALLOC_CLASSES;
	bool known = class != MALLOC_CLASS_UNKNOWN;
	struct malloc_row *row = instance_row(in, TABLE_MALLOC);

	if (!row)
		return;
	process_fill(in, TABLE_MALLOC, row, who);
	row->ts = now_ns;
	row->tid = who->pid;
	row->sample_rate = c->count < UINT32_MAX ? (uint32_t)c->count : UINT32_MAX;
	row->operation = (int32_t)operation;
	row->function = (uint8_t)operation;
	row->size_class = !known ? UINT64_MAX : class ? 1ull << (class - 1) : 0;
	row->count = c->count;
	row->bytes = known ? c->bytes : UINT64_MAX;
	row->failed = c->failed;
	row->observed = observed;
	row->count_estimate = scaled(c->count, observed);
	row->bytes_estimate = known ? scaled(c->bytes, observed) : UINT64_MAX;
}

/* What was counted since the last time. */
static int tell(struct instance *in, struct malloc_process *p, uint64_t now_ns)
{
	struct malloc_state *st = in->state;
	struct malloc_bpf *skel = in->skel;
	struct malloc_counters *now = st->scratch;
	struct process_context who;
	uint64_t mono, seen;
	double observed = 0;

	if (bpf_map_lookup_elem(bpf_map__fd(skel->maps.counters), &p->slot, now) < 0 ||
	    bpf_map_lookup_elem(bpf_map__fd(skel->maps.contexts), &p->slot, &who) < 0)
		return -errno;
	mono = clock_mono_ns();
	seen = malloc_observed(p, mono);
	if (mono > p->told_ns)
		observed = (double)(seen - p->told_observed_ns) / (double)(mono - p->told_ns);
	if (observed > 1)
		observed = 1;
	for (size_t i = 0; i < ARRAY_SIZE(now->cells) && who.pid; i++) {
		const struct malloc_cell *a = &now->cells[i], *b = &p->last->cells[i];
		struct malloc_cell d = {a->count - b->count, a->bytes - b->bytes,
					a->failed - b->failed};

		if (d.count || d.failed)
			emit(in, now_ns, &who, i, &d, observed);
	}
	*p->last = *now;
	p->told_ns = mono;
	p->told_observed_ns = seen;
	return 0;
}

static int malloc_tick(struct instance *in, uint64_t now_ns)
{
	struct malloc_state *st = in->state;
	struct malloc_process *p, *next;
	bool purge = false;
	int r = 0;

	for (p = st->processes; p; p = next) {
		/* Before the rows: what comes after them is lost with the process. */
		bool over = (p->ended || p->unwanted) && !p->attached && !p->job.running;
		int failed = tell(in, p, now_ns);

		next = p->next;
		r = failed ? failed : r;
		if (over) {
			malloc_process_free(in, p);
			purge = true;
		}
	}
	if (purge)
		malloc_held_purge(in);
	return r;
}

static int malloc_snapshot(struct instance *in, const struct table *table, struct batch *batch)
{
	if (table == &malloc_processes_table)
		return malloc_processes_snapshot(in, batch);
	return table == &malloc_outstanding_table ? malloc_held_snapshot(in, batch) : 0;
}

static void malloc_stop(struct instance *in)
{
	struct malloc_state *st = in->state;

	malloc_windows_stop(in);
	if (st->scratch)
		(void)malloc_tick(in, clock_real_ns());
	while (st->processes)
		malloc_process_free(in, st->processes);
	malloc_scope_free(st->scope);
	free(st->used_slots);
	free(st->scratch);
	if (st->timer > 0)
		close(st->timer);
}

PLUGIN(malloc, .help = "Calls of malloc and free, by process, function and size",
       .needs = "uprobes (CONFIG_UPROBE_EVENTS), CAP_BPF and CAP_PERFMON",
       TABLES(&malloc_table, &malloc_outstanding_table, &malloc_processes_table),
       .options = malloc_options, .state_size = sizeof(struct malloc_state),
       .default_ring_bytes = 4096, .default_priority = 20, .default_interval_ns = 10 * NSEC_PER_SEC,
       .setup = malloc_setup, .start = malloc_start, .tick = malloc_tick, .update = malloc_update,
       .snapshot = malloc_snapshot, .shed = malloc_shed, .stop = malloc_stop);
