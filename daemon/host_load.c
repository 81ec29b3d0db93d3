// SPDX-License-Identifier: Apache-2.0
/* From a plugin's skeleton to attached programs, and back. */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/links.h"
#include "bpf/tracepoint.h"
#include "daemon/host_internal.h"
#include "daemon/libbpf_log.h"

#define LOG_MODULE "host"
#include "base/log.h"

/* A page at least, and a power of two: what the kernel asks of a ring buffer. */
static uint32_t ring_round(int64_t bytes)
{
	uint32_t size = (uint32_t)sysconf(_SC_PAGESIZE);

	while ((int64_t)size < bytes && size < 1u << 30)
		size <<= 1;
	return size;
}

/* Offset of a variable of .rodata by the object's own BTF; negative if it has none. */
static int rodata_offset(const struct bpf_object *obj, const char *variable)
{
	const struct btf *btf = bpf_object__btf(obj);
	const struct btf_var_secinfo *var;
	const struct btf_type *sec;
	int id;

	id = btf ? btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC) : -ENOENT;
	if (id < 0)
		return id;
	sec = btf__type_by_id(btf, id);
	var = btf_var_secinfos(sec);
	for (unsigned int i = 0; i < btf_vlen(sec); i++, var++) {
		const struct btf_type *t = btf__type_by_id(btf, var->type);

		if (strcmp(btf__name_by_offset(btf, t->name_off), variable) == 0)
			return (int)var->offset;
	}
	return -ENOENT;
}

/* The object's read-only data, still writable before the load. */
static struct bpf_map *rodata_map(const struct bpf_object *obj)
{
	struct bpf_map *m;

	bpf_object__for_each_map(m, obj) {
		const char *name = bpf_map__name(m), *dot = strrchr(name, '.');

		if (dot && strcmp(dot, ".rodata") == 0)
			return m;
	}
	return NULL;
}

static int set_self_tgid(const struct slot *s, struct err *err)
{
	struct bpf_map *map = rodata_map(s->in.obj);
	int off = rodata_offset(s->in.obj, "self_tgid");
	size_t size = 0;
	char *data;

	data = map ? (char *)bpf_map__initial_value(map, &size) : NULL;
	if (!data || off < 0 || (size_t)off + sizeof(uint32_t) > size)
		return err_set(err, -EINVAL,
			       "its BPF object has no variable self_tgid; does it include "
			       "bpf/plugin.bpf.h?");
	memcpy(data + off, &s->in.self_tgid, sizeof(uint32_t));
	return 0;
}

static int size_ring(struct slot *s, struct err *err)
{
	struct bpf_map *events = bpf_object__find_map_by_name(s->in.obj, "events");
	int r;

	s->ring_bytes = ring_round(opt_i64(s->opts, "ring_size"));
	if (opt_origin(s->opts, "ring_size") == OPT_ORIGIN_DEFAULT && s->plugin->default_ring_bytes)
		s->ring_bytes = ring_round(s->plugin->default_ring_bytes);
	if (!events)
		return err_set(
			err, -EINVAL,
			"its BPF object has no map 'events'; does it include bpf/plugin.bpf.h?");
	r = bpf_map__set_max_entries(events, (uint32_t)s->ring_bytes);
	return r < 0 ? err_set(err, r, "cannot size its ring buffer: %s", strerror(-r)) : 0;
}

static int slot_open(struct slot *s, struct err *err)
{
	const struct plugin *p = s->plugin;
	struct host *h = s->host;
	struct instance *in = &s->in;
	int r;

	*in = (struct instance){
		.plugin = p,
		.opts = s->opts,
		.interval_ns = slot_interval(s),
		.base_interval_ns = slot_interval(s),
		.enrich = h->o.enrich,
		.enrich_ctx = h->o.enrich_ctx,
		.nat = h->o.nat,
		.watch_fd = slot_watch_fd,
		.host = s,
		.publish = h->o.publish,
		.publish_arg = h->o.ctx,
		.self_cgroup_id = h->o.self_cgroup_id,
		.self_tgid = h->o.self_tgid,
	};
	if (p->state_size && !(in->state = calloc(1, p->state_size)))
		return err_set(err, -ENOMEM, "out of memory");
	r = instance_out_new(in);
	if (r < 0)
		return err_set(err, r, "out of memory");
	for (unsigned int i = 0; p->tables && p->tables[i]; i++)
		if (table_is_history(p->tables[i]) && h->o.last_ts)
			instance_seed_ts(in, i, h->o.last_ts(h->o.ctx, p->tables[i]));
	if (!p->skel)
		return 0;
	in->skel = p->skel->open(&s->skel);
	if (!in->skel)
		return err_set(err, errno ? -errno : -EINVAL, "cannot open its BPF object: %s",
			       strerror(errno));
	in->obj = *s->skel->obj;
	r = set_self_tgid(s, err);
	return r < 0 ? r : size_ring(s, err);
}

static struct bpf_prog_skeleton *skel_prog(const struct bpf_object_skeleton *skel, int i)
{
	/* The library may know a larger entry than this build: its stride is the skeleton's own. */
	return (struct bpf_prog_skeleton *)((char *)skel->progs + (size_t)i * skel->prog_skel_sz);
}

/* Iterators are read by the plugin, not attached at start; the rest that libbpf can't attach by
 * itself says -EOPNOTSUPP. */
static bool host_attaches(const struct bpf_program *prog)
{
	return bpf_program__autoload(prog) && bpf_program__autoattach(prog) &&
	       bpf_program__expected_attach_type(prog) != BPF_TRACE_ITER;
}

static int prog_attach(const struct bpf_program *prog, struct bpf_link **ret, struct err *err)
{
	struct bpf_link *link;

	if (bpf_program__type(prog) == BPF_PROG_TYPE_TRACEPOINT)
		return tracepoint_attach(prog, ret, err);
	link = bpf_program__attach(prog);
	if (!link && errno == EOPNOTSUPP)
		return 0;
	if (!link)
		return err_set(err, -errno, "cannot attach %s (%s): %s", bpf_program__name(prog),
			       bpf_program__section_name(prog), strerror(errno));
	*ret = link;
	return 0;
}

static int slot_attach(struct slot *s, struct err *err)
{
	for (int i = 0; s->skel && i < s->skel->prog_cnt; i++) {
		struct bpf_prog_skeleton *ps = skel_prog(s->skel, i);
		struct bpf_program *prog = *ps->prog;
		int r;

		if (!host_attaches(prog) || *ps->link)
			continue;
		r = prog_attach(prog, ps->link, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The program that failed last, if another can take its place. */
static struct bpf_program *failed_program(const struct slot *s, bool attaching)
{
	const char *name = libbpf_log_program();
	struct bpf_program *prog;

	if (attaching) {
		for (int i = 0; i < s->skel->prog_cnt; i++) {
			struct bpf_prog_skeleton *ps = skel_prog(s->skel, i);

			/* slot_attach goes in order: the first without a link is the one. */
			if (host_attaches(*ps->prog) && !*ps->link)
				return *ps->prog;
		}
		return NULL;
	}
	prog = name[0] ? bpf_object__find_program_by_name(s->in.obj, name) : NULL;
	return prog;
}

static int load_error(const struct slot *s, int r, struct err *err)
{
	const char *lockdown = hooks_lockdown(), *prog = libbpf_log_program(),
		   *why = libbpf_log_reason();

	if (r == -EPERM || r == -EACCES)
		if (!why[0])
			return err_set(err, r,
				       "the kernel refuses its programs (%s)%s%s: CAP_BPF, "
				       "CAP_PERFMON and CAP_NET_ADMIN are needed",
				       prog[0] ? prog : s->plugin->name, *lockdown ? "; " : "",
				       lockdown);
	return err_set(err, r, "cannot load %s: %s%s%s", prog[0] ? prog : "its BPF object",
		       strerror(-r), why[0] ? ": " : "", why);
}

static void host_tell_load(const struct host *h, bool begins)
{
	if (h->o.on_load)
		h->o.on_load(h->o.ctx, begins);
}

static void slot_close(struct slot *s)
{
	s->half_full = sd_event_source_disable_unref(s->half_full);
	if (s->ring)
		ring_buffer__free(s->ring);
	s->ring = NULL;
	s->watch = sd_event_source_disable_unref(s->watch);
	if (s->in.skel)
		s->plugin->skel->destroy(s->in.skel);
	s->skel = NULL;
	s->ring_bytes = 0;
	instance_out_free(&s->in);
	free(s->in.state);
	free(s->progs);
	s->progs = NULL;
	s->nprogs = 0;
	memset(&s->in, 0, sizeof(s->in));
}

/* One attempt with the programs that aren't banned; *retry: a program was banned, another may do.
 */
static int slot_try(struct slot *s, struct hooks_banned *banned, bool *retry, struct err *err)
{
	char left_out[200] = "";
	struct bpf_program *bad = NULL;
	bool set_up = false;
	int r;

	*retry = false;
	libbpf_log_begin();
	r = slot_open(s, err);
	if (r == 0 && s->plugin->setup) {
		set_up = true;
		r = s->plugin->setup(&s->in, err);
	}
	if (r == 0 && s->skel)
		r = hooks_choose(s->in.obj, banned, left_out, sizeof(left_out), err);
	if (r == 0 && s->skel) {
		r = bpf_object__load_skeleton(s->skel);
		if (r < 0) {
			bad = failed_program(s, false);
			load_error(s, r, err);
		}
	}
	if (r == 0) {
		set_up = true;
		r = s->plugin->start ? s->plugin->start(&s->in, err) : 0;
	}
	if (r == 0 && s->skel)
		r = slot_ring_open(s, err);
	if (r == 0) {
		r = slot_attach(s, err);
		if (r < 0)
			bad = failed_program(s, true);
	}
	if (r == 0) {
		size_t len = strlen(s->in.degraded);

		if (left_out[0])
			snprintf(s->in.degraded + len, sizeof(s->in.degraded) - len, "%s%s",
				 len ? "; " : "", left_out);
		return 0;
	}
	if (bad && hooks_has_substitute(s->in.obj, bad))
		*retry = hooks_ban(banned, bpf_program__name(bad));
	s->watch = sd_event_source_disable_unref(s->watch);
	if (set_up && s->plugin->stop)
		s->plugin->stop(&s->in);
	slot_close(s);
	return r;
}

int slot_load(struct slot *s, struct err *err)
{
	struct hooks_banned banned = {0};
	bool retry;
	int r;

	meter_attend(s->host->meter);
	host_tell_load(s->host, true);
	do {
		r = slot_try(s, &banned, &retry, err);
		if (r < 0 && retry)
			log_info("plugin %s: %s, trying the next hook", s->plugin->name,
				 err ? err->msg : "");
	} while (r < 0 && retry);
	host_tell_load(s->host, false);
	if (r < 0)
		return r;
	r = slot_tick_start(s, err);
	if (r < 0) {
		s->watch = sd_event_source_disable_unref(s->watch);
		if (s->plugin->stop)
			s->plugin->stop(&s->in);
		slot_close(s);
		return r;
	}
	memset(s->counted, 0, sizeof(s->counted));
	s->run_ns = s->runs = s->map_bytes = s->user_ns = 0;
	s->ring_watch = (struct ring_watch){0};
	s->drained_ns = s->looked_ns = 0;
	s->rated = s->logged = (struct slot_totals){0};
	s->now = (struct plugin_cost){0};
	s->stored_before = s->stored_bytes_before = 0;
	slot_stored(s, &s->stored_before, &s->stored_bytes_before);
	s->loaded = true;
	s->in.sampling.at_ns = clock_mono_ns();
	slot_shed_apply(s);
	return 0;
}

/* Those on tracepoints by perf take the kernel a grace period each. */
static bool ends_later(const struct bpf_program *prog, bool off)
{
	return off && bpf_program__type(prog) == BPF_PROG_TYPE_TRACEPOINT;
}

static void slot_detach(struct slot *s)
{
	bool off = instance_off(&s->in) == 0;

	for (int i = 0; s->skel && i < s->skel->prog_cnt; i++) {
		struct bpf_prog_skeleton *ps = skel_prog(s->skel, i);

		if (!host_attaches(*ps->prog) || !*ps->link)
			continue;
		if (ends_later(*ps->prog, off))
			links_close_later(*ps->link);
		else if (bpf_link__destroy(*ps->link) < 0)
			log_warn_errno(-errno, "plugin %s: cannot detach %s", s->plugin->name,
				       bpf_program__name(*ps->prog));
		*ps->link = NULL;
	}
}

/*
 * Detach, then read what is left in ring and maps: the last interval is published with its true
 * length. What cgroup programs and iterators of the plugin see until destroy is its own to read in
 * stop.
 */
void slot_unload(struct slot *s)
{
	if (!s->loaded)
		return;
	s->tick = sd_event_source_disable_unref(s->tick);
	slot_detach(s);
	slot_drain(s, false);
	s->watch = sd_event_source_disable_unref(s->watch);
	slot_tick_run(s);
	slot_read_cost(s, false);
	s->retired_run_ns += s->run_ns;
	s->retired_runs += s->runs;
	s->run_ns = s->runs = s->map_bytes = 0;
	if (s->plugin->stop)
		s->plugin->stop(&s->in);
	instance_flush(&s->in);
	slot_read_counters(s);
	slot_close(s);
	s->loaded = false;
}
