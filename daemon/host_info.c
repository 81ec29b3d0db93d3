// SPDX-License-Identifier: Apache-2.0
/* What plugins say and cost: counters, programs, maps, live tables. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/host_internal.h"

#define LOG_MODULE "host"
#include "base/log.h"

/* Reading fdinfo of every map is the dearer part of the accounting. */
#define MAP_BYTES_EVERY 5

bool slot_is_running(const struct slot *s)
{
	return s->state == PLUGIN_STATE_RUNNING || s->state == PLUGIN_STATE_DEGRADED;
}

/* Sums plugin_stats over the CPUs. */
static void sum_plugin_stats(struct slot *s)
{
	int fd = s->in.obj ? bpf_object__find_map_fd_by_name(s->in.obj, "plugin_stats") : -ENOENT;
	int ncpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *values = NULL;

	if (fd < 0 || ncpus <= 0 || !(values = calloc(ncpus, sizeof(*values))))
		return;
	for (uint32_t key = 0; key < PLUGIN_STAT_X_MAX; key++) {
		uint64_t sum = 0;

		if (bpf_map_lookup_elem(fd, &key, values) < 0)
			continue;
		for (int i = 0; i < ncpus; i++)
			sum += values[i];
		s->in.count.kernel[key] = sum;
	}
}

void slot_read_counters(struct slot *s)
{
	const struct instance_counters *c = &s->in.count;

	sum_plugin_stats(s);
	const uint64_t now[HOST_COUNTS] = {
		[HOST_LOSS_RING_FULL] = c->kernel[PLUGIN_STAT_RING_FULL],
		[HOST_LOSS_MAP_FULL] = c->kernel[PLUGIN_STAT_MAP_FULL],
		[HOST_LOSS_KERNEL_ERROR] = c->kernel[PLUGIN_STAT_ERROR],
		[HOST_LOSS_DECODE] = c->decode_errors,
		[HOST_LOSS_NO_MEMORY] = c->rows_lost,
		[HOST_LOSS_SAMPLED] = c->kernel[PLUGIN_STAT_SAMPLED],
		[HOST_SUBMITTED] = c->kernel[PLUGIN_STAT_SUBMITTED],
		[HOST_FILTERED] = c->kernel[PLUGIN_STAT_FILTERED],
		[HOST_RECEIVED] = c->events,
		[HOST_LEFT_OUT] = c->filtered,
		[HOST_ROWS] = c->rows,
	};

	for (unsigned int i = 0; i < HOST_COUNTS; i++) {
		if (i < HOST_LOSS_MAX)
			s->untold[i] += now[i] - s->counted[i];
		s->ledger[i] += now[i] - s->counted[i];
		s->counted[i] = now[i];
	}
}

/* What the kernel charges for a map; 0 where fdinfo doesn't say. */
static uint64_t map_bytes(int fd)
{
	char path[64], text[1024], *line;
	_cleanup_close_ int info = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	line = strstr(text, "memlock:");
	return line ? strtoull(line + strlen("memlock:"), NULL, 10) : 0;
}

static int prog_info(const struct bpf_program *prog, struct bpf_prog_info *info)
{
	uint32_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	if (bpf_program__fd(prog) < 0)
		return -ENOENT;
	return bpf_obj_get_info_by_fd(bpf_program__fd(prog), info, &len) < 0 ? -errno : 0;
}

/* NULL: no memory for it; its time is then left out. */
static struct meter_prog *slot_prog(struct slot *s, size_t i)
{
	size_t n = 0;
	struct bpf_program *p;

	if (!s->progs) {
		bpf_object__for_each_program(p, s->in.obj)
			n++;
		s->progs = calloc(n, sizeof(*s->progs));
		s->nprogs = s->progs ? n : 0;
	}
	return i < s->nprogs ? &s->progs[i] : NULL;
}

void slot_read_cost(struct slot *s, bool maps)
{
	uint64_t run_ns = 0, runs = 0, bytes = 0, now = clock_mono_ns();
	size_t i = 0;
	struct bpf_prog_info info;
	struct bpf_program *p;
	struct bpf_map *m;

	if (!s->in.obj)
		return;
	bpf_object__for_each_program(p, s->in.obj) {
		struct meter_prog *mp = slot_prog(s, i++);

		if (!mp || prog_info(p, &info) < 0)
			continue;
		meter_take(s->host->meter, mp, info.run_time_ns, info.run_cnt, now);
		run_ns += mp->ns;
		runs += mp->runs;
	}
	s->run_ns = run_ns;
	s->runs = runs;
	if (!maps)
		return;
	bpf_object__for_each_map(m, s->in.obj)
		if (bpf_map__fd(m) >= 0)
			bytes += map_bytes(bpf_map__fd(m));
	s->map_bytes = bytes;
}

/* A plugin's losses count for its first history table: the kernel side doesn't know whose row it
 * would have been. */
static void slot_tell_losses(struct slot *s, host_loss_fn fn, void *arg)
{
	static const char *const stages[HOST_LOSS_MAX] = {"ring_full", "map_full", "kernel_error",
							  "decode", "no_memory", "sampled"};
	const char *table = "";

	for (unsigned int i = 0; s->plugin->tables && s->plugin->tables[i] && !*table; i++)
		if (table_is_history(s->plugin->tables[i]))
			table = s->plugin->tables[i]->name;
	if (!*table && s->plugin->tables && s->plugin->tables[0])
		table = s->plugin->tables[0]->name;
	for (unsigned int i = 0; i < HOST_LOSS_MAX; i++) {
		if (s->untold[i])
			fn(arg, table, s->plugin->name, stages[i], s->untold[i]);
		s->untold[i] = 0;
	}
}

void host_account(struct host *h, host_loss_fn fn, void *arg)
{
	uint64_t run_ns = 0, bytes = 0, now_ns = clock_mono_ns();

	for (unsigned int i = 0; i < h->nslots; i++) {
		struct slot *s = &h->slots[i];

		if (s->loaded) {
			slot_read_counters(s);
			slot_ring_look(s);
			slot_sampling_look(s, now_ns);
			slot_read_cost(s, !s->map_bytes || h->account_calls % MAP_BYTES_EVERY == 0);
			slot_rate(s, now_ns);
		}
		slot_tell_losses(s, fn, arg);
		run_ns += s->retired_run_ns + s->run_ns;
		bytes += s->map_bytes;
	}
	h->account_calls++;
	h->cost_run_ns = run_ns;
	h->cost_map_bytes = bytes;
}

void host_meter_read(void *arg)
{
	struct host *h = arg;

	for (unsigned int i = 0; i < h->nslots; i++)
		if (h->slots[i].loaded)
			slot_read_cost(&h->slots[i], false);
}

void host_measure_always(struct host *h, bool always)
{
	meter_set_always(h->meter, always);
}

double host_kernel_mcores(const struct host *h)
{
	double sum = 0;

	for (unsigned int i = 0; i < h->nslots; i++)
		if (h->slots[i].loaded)
			sum += h->slots[i].now.kernel_mcores;
	return sum;
}

void host_ledgers(struct host *h, host_ledger_fn fn, void *arg)
{
	for (unsigned int i = 0; i < h->nslots; i++) {
		const struct slot *s = &h->slots[i];
		const uint64_t *n = s->ledger;
		const struct plugin_ledger l = {
			.submitted = n[HOST_SUBMITTED],
			.ring_full = n[HOST_LOSS_RING_FULL],
			.map_full = n[HOST_LOSS_MAP_FULL],
			.kernel_error = n[HOST_LOSS_KERNEL_ERROR],
			.filtered = n[HOST_FILTERED],
			.sampled = n[HOST_LOSS_SAMPLED],
			.received = n[HOST_RECEIVED],
			.decode_errors = n[HOST_LOSS_DECODE],
			.left_out = n[HOST_LEFT_OUT],
			.no_memory = n[HOST_LOSS_NO_MEMORY],
			.rows = n[HOST_ROWS],
		};

		fn(arg, i, s->plugin, &l);
	}
}

void host_cost(struct host *h, uint64_t *ret_run_ns, uint64_t *ret_map_bytes)
{
	*ret_run_ns = meter_known(h->meter) ? h->cost_run_ns : UINT64_MAX;
	*ret_map_bytes = h->cost_map_bytes;
}

/* "tp_btf/inet_sock_set_state" -> "tp_btf". */
static void attach_kind(const char *section, char *dst, size_t cap)
{
	snprintf(dst, cap, "%.*s", (int)strcspn(section, "/"), section);
}

static bool prog_attached(const struct slot *s, const struct bpf_program *prog)
{
	for (int i = 0; i < s->skel->prog_cnt; i++) {
		const struct bpf_prog_skeleton *ps =
			(const struct bpf_prog_skeleton *)((const char *)s->skel->progs +
							   (size_t)i * s->skel->prog_skel_sz);

		if (*ps->prog == prog)
			return *ps->link != NULL;
	}
	return false;
}

/* Sections of one kind, "cgroup": as many as there are. */
static unsigned int count_kind(const struct slot *s, const char *kind)
{
	struct bpf_program *p;
	unsigned int n = 0;

	bpf_object__for_each_program(p, s->in.obj) {
		char other[24];

		attach_kind(bpf_program__section_name(p), other, sizeof(other));
		n += bpf_program__autoload(p) && strcmp(other, kind) == 0;
	}
	return n;
}

/* A few hooks of a kind are named, many of them counted; iterators are read when needed and observe
 * nothing by themselves. */
#define HOOKS_NAMED 2

static void add_hook(const struct slot *s, char *dst, size_t cap, const char *section)
{
	size_t len = strlen(dst), n;
	char kind[24], text[96];
	unsigned int count;
	const char *at;

	attach_kind(section, kind, sizeof(kind));
	count = count_kind(s, kind);
	if (strcmp(kind, "iter") == 0)
		return;
	if (count > HOOKS_NAMED)
		snprintf(text, sizeof(text), "%u %s hooks", count, kind);
	else
		snprintf(text, sizeof(text), "%s", section);
	n = strlen(text);
	at = strstr(dst, text);
	if (at && (at[n] == '\0' || at[n] == ',') && (at == dst || at[-1] == ' '))
		return;
	if (len + n + 3 < cap)
		snprintf(dst + len, cap - len, "%s%s", len ? ", " : "", text);
}

static void info_programs(struct slot *s, struct plugin_info *ret)
{
	struct bpf_program *p;
	size_t i = 0;

	if (!s->in.obj)
		return;
	slot_read_cost(s, false);
	bpf_object__for_each_program(p, s->in.obj) {
		const char *section = bpf_program__section_name(p);
		const struct meter_prog *mp = slot_prog(s, i++);
		struct plugin_program_info *pi;
		struct bpf_prog_info info;

		if (!mp || !bpf_program__autoload(p) || prog_info(p, &info) < 0)
			continue;
		add_hook(s, ret->hook, sizeof(ret->hook), section);
		ret->run_count += mp->runs;
		ret->run_time_ns += mp->ns;
		ret->missed_runs += info.recursion_misses;
		if (ret->nprograms == ARRAY_SIZE(ret->programs))
			continue;
		pi = &ret->programs[ret->nprograms++];
		snprintf(pi->name, sizeof(pi->name), "%s", bpf_program__name(p));
		snprintf(pi->section, sizeof(pi->section), "%s", section);
		attach_kind(section, pi->attach, sizeof(pi->attach));
		pi->attached = prog_attached(s, p);
		pi->id = info.id;
		pi->run_count = mp->runs;
		pi->run_time_ns = mp->ns;
		pi->missed_runs = info.recursion_misses;
	}
}

/* Its default is each plugin's own. */
static void info_priority(const struct slot *s, struct plugin_option_info *oi)
{
	if (!s->plugin->default_priority)
		return;
	snprintf(oi->def, sizeof(oi->def), "%u", s->plugin->default_priority);
	if (opt_origin(s->opts, "priority") == OPT_ORIGIN_DEFAULT)
		memcpy(oi->value, oi->def, sizeof(oi->def));
}

static void info_options(const struct slot *s, struct plugin_info *ret)
{
	for (const struct opt *o = opt_set_table(s->opts); o->key; o++) {
		struct plugin_option_info *oi;

		if (strcmp(o->key, "enabled") == 0)
			continue; /* the state says it */
		if (ret->noptions == ARRAY_SIZE(ret->options))
			break;
		oi = &ret->options[ret->noptions++];
		snprintf(oi->key, sizeof(oi->key), "%s", o->key);
		snprintf(oi->type, sizeof(oi->type), "%s", opt_type_name(o->type));
		snprintf(oi->value, sizeof(oi->value), "%s", opt_text(s->opts, o->key));
		snprintf(oi->def, sizeof(oi->def), "%s", o->def ? o->def : "");
		if (strcmp(o->key, "priority") == 0)
			info_priority(s, oi);
		snprintf(oi->origin, sizeof(oi->origin), "%s",
			 opt_origin_name(opt_origin(s->opts, o->key)));
		snprintf(oi->help, sizeof(oi->help), "%s", o->help);
		oi->restart = o->restart;
	}
}

void host_info(struct host *h, const struct plugin *p, struct plugin_info *ret)
{
	struct slot *s = NULL;

	for (unsigned int i = 0; i < h->nslots; i++)
		if (h->slots[i].plugin == p)
			s = &h->slots[i];
	memset(ret, 0, sizeof(*ret));
	snprintf(ret->name, sizeof(ret->name), "%s", p->name);
	snprintf(ret->help, sizeof(ret->help), "%s", p->help);
	snprintf(ret->needs, sizeof(ret->needs), "%s", p->needs ? p->needs : "");
	for (unsigned int i = 0;
	     p->tables && p->tables[i] && ret->ntables < ARRAY_SIZE(ret->tables); i++)
		snprintf(ret->tables[ret->ntables++], sizeof(ret->tables[0]), "%s",
			 p->tables[i]->name);
	ret->state = s->state;
	snprintf(ret->reason, sizeof(ret->reason), "%s", s->reason);
	ret->persisted = s->persisted;
	ret->enabled_at_ns = s->enabled_at;
	ret->disable_at_ns = s->disable_at;
	snprintf(ret->etag, sizeof(ret->etag), "%s-%llu", p->name,
		 (unsigned long long)s->generation);
	info_options(s, ret);
	if (!s->loaded)
		return;
	slot_read_counters(s);
	slot_read_cost(s, true);
	info_programs(s, ret);
	ret->events = s->in.count.events;
	ret->rows = s->in.count.rows;
	ret->decode_errors = s->in.count.decode_errors;
	ret->filtered = s->in.count.filtered + s->in.count.kernel[PLUGIN_STAT_FILTERED];
	ret->kernel_drops = s->in.count.kernel[PLUGIN_STAT_RING_FULL] +
			    s->in.count.kernel[PLUGIN_STAT_MAP_FULL] +
			    s->in.count.kernel[PLUGIN_STAT_ERROR];
	ret->rows_dropped =
		s->in.count.rows_lost; /* what sinks refuse is added by whoever sees the bus */
	ret->sampled = s->in.count.kernel[PLUGIN_STAT_SAMPLED];
	ret->user_time_ns = s->user_ns;
	slot_stored(s, &ret->rows_stored, &ret->bytes_stored);
	ret->map_bytes = s->map_bytes;
	ret->ring_bytes = s->ring_bytes;
}

int host_snapshot(struct host *h, const struct table *table, struct batch *batch)
{
	for (unsigned int i = 0; i < h->nslots; i++) {
		struct slot *s = &h->slots[i];

		for (unsigned int k = 0; s->plugin->tables && s->plugin->tables[k]; k++) {
			if (s->plugin->tables[k] != table)
				continue;
			if (!s->loaded || !s->plugin->snapshot)
				return 0;
			return s->plugin->snapshot(&s->in, table, batch);
		}
	}
	return -ENOENT;
}
