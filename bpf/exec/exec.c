// SPDX-License-Identifier: Apache-2.0
/* The exec plugin: programs that start, processes that end, processes that are there. */
#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/exec.skel.h"
#include "bpf/exec/exec_priv.h"
#include "bpf/iter.h"
#include "bpf/links.h"
#include "bpf/tracepoint.h"

/* How often rows are looked at that wait for a digest. */
#define TICK_NS (250 * NSEC_PER_MSEC)

static_assert(sizeof(struct exec_config) == sizeof(uint64_t), "it changes at once");

static const struct opt exec_options[] = {
	{.key = "exits",
	 .type = OPT_BOOL,
	 .def = "true",
	 .help = "rows of the table exit: processes that end, with status and what they used"},
	{.key = "args_max",
	 .type = OPT_BYTES,
	 .def = "4KiB",
	 .min = "64",
	 .max = "8KiB",
	 .help = "bytes of the arguments that are kept"},
	{.key = "env",
	 .type = OPT_LIST,
	 .help = "names of environment variables to keep; none by default. They are looked for in "
		 "its first 8 KiB"},
	{.key = "failed",
	 .type = OPT_BOOL,
	 .def = "false",
	 .help = "rows of calls that failed, too, with error; each of them is seen, of a search "
		 "through PATH as well"},
	{.key = "sha256",
	 .type = OPT_BOOL,
	 .def = "false",
	 .help = "digests of executables, once a file; a row waits for it, two seconds at most"},
	{.key = "sha256_max",
	 .type = OPT_BYTES,
	 .def = "64MiB",
	 .min = "64KiB",
	 .max = "4GiB",
	 .help = "larger executables have no digest"},
	PROCESS_OPTIONS,
	{},
};

static int apply_config(struct instance *in, struct err *err)
{
	struct exec_bpf *skel = in->skel;
	struct exec_config config = {
		.args_max = (uint16_t)opt_i64(in->opts, "args_max"),
		.env_max = opt_item(in->opts, "env", 0) ? EXEC_BLOCK_MAX : 0,
		.exits = opt_bool(in->opts, "exits"),
		.failed = opt_bool(in->opts, "failed"),
	};
	uint32_t zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(skel->maps.exec_config), &zero, &config, BPF_ANY) < 0)
		return err_set(err, -errno, "cannot hand its options to the kernel: %s",
			       strerror(errno));
	return 0;
}

/* The begins first: what they noted down is taken by an end, or would be by a later one. */
static void detach_calls(struct exec_state *st)
{
	for (size_t i = EXEC_CALL_LINKS; i-- > 0;) {
		if (st->calls[i])
			links_close_later(st->calls[i]);
		st->calls[i] = NULL;
	}
}

/* All four or none. The ends first: a call that is seen to begin must be seen to end. */
static int apply_failed(struct instance *in, struct err *err)
{
	struct exec_bpf *skel = in->skel;
	struct exec_state *st = in->state;
	const struct bpf_program *const progs[EXEC_CALL_LINKS] = {
		skel->progs.exec_call_ends,
		skel->progs.exec_callat_ends,
		skel->progs.exec_call_begins,
		skel->progs.exec_callat_begins,
	};
	int r = 0;

	if (!opt_bool(in->opts, "failed")) {
		detach_calls(st);
		return 0;
	}
	for (size_t i = 0; i < EXEC_CALL_LINKS && r == 0; i++)
		if (!st->calls[i])
			r = tracepoint_attach(progs[i], &st->calls[i], err);
	if (r < 0)
		detach_calls(st);
	return r;
}

static int exec_setup(struct instance *in, struct err *err)
{
	struct exec_bpf *skel = in->skel;
	struct exec_state *st = in->state;
	struct stat ns;

	(void)err;
	st->tail = &st->head;
	/* The first process, unless a sandbox keeps it from us. */
	st->host_pid = stat("/proc/1/ns/mnt", &ns) == 0 ? 1 : (uint32_t)getpid();
	if (st->host_pid == 1 || stat("/proc/self/ns/mnt", &ns) == 0)
		st->host_mntns = (uint32_t)ns.st_ino;
	bpf_program__set_autoattach(skel->progs.exec_call_begins, false);
	bpf_program__set_autoattach(skel->progs.exec_callat_begins, false);
	bpf_program__set_autoattach(skel->progs.exec_call_ends, false);
	bpf_program__set_autoattach(skel->progs.exec_callat_ends, false);
	return 0;
}

static int exec_start(struct instance *in, struct err *err)
{
	struct err why = {};
	int r = apply_config(in, err);

	if (r == 0)
		r = process_filter_apply(in, err);
	if (r == 0)
		r = exec_wait_apply(in, err);
	if (r == 0 && apply_failed(in, &why) < 0)
		snprintf(in->degraded, sizeof(in->degraded), "no rows of calls that fail: %.200s",
			 why.msg);
	return r;
}

static int exec_update(struct instance *in, const char *key, struct err *err)
{
	int r;

	if (process_filter_has(key))
		return process_filter_apply(in, err);
	if (strcmp(key, "sha256") == 0 || strcmp(key, "sha256_max") == 0)
		return exec_wait_apply(in, err);
	r = apply_config(in, err);
	return r == 0 && strcmp(key, "failed") == 0 ? apply_failed(in, err) : r;
}

static int exec_event(struct instance *in, const void *ev, size_t len)
{
	uint32_t kind;

	if (len < sizeof(kind))
		return -EBADMSG;
	memcpy(&kind, ev, sizeof(kind));
	if ((kind == EXEC_EXEC || kind == EXEC_FAILED) && len >= offsetof(struct exec_event, data))
		return exec_wait_add(in, ev, len);
	if (kind == EXEC_EXIT && len == sizeof(struct exec_exit))
		return exec_exit_add(in, ev);
	return -EBADMSG;
}

struct snapshot {
	struct instance *in;
	struct batch *batch;
};

static int on_process(void *arg, const void *record)
{
	const struct snapshot *s = arg;

	return exec_process_add(s->in, s->batch, record);
}

static int exec_snapshot(struct instance *in, const struct table *table, struct batch *batch)
{
	struct exec_bpf *skel = in->skel;
	struct snapshot s = {in, batch};
	struct exec_process chunk[32];
	struct bpf_link *link;
	int r;

	if (table != &processes_table)
		return -EINVAL;
	link = bpf_program__attach_iter(skel->progs.exec_processes, NULL);
	if (!link)
		return -errno;
	r = iter_read(link, chunk, sizeof(chunk), sizeof(chunk[0]), on_process, &s);
	bpf_link__destroy(link);
	return r;
}

static void exec_stop(struct instance *in)
{
	struct exec_state *st = in->state;

	detach_calls(st);
	exec_wait_stop(in);
	buf_free(&st->text);
	buf_free(&st->caps);
}

static int exec_tick(struct instance *in, uint64_t now_ns)
{
	(void)now_ns;
	exec_wait_emit(in, false);
	return 0;
}

PLUGIN(exec, .help = "Programs started, with arguments, user and container; how processes ended",
       .needs = "BTF and the tracepoints sched_process_exec and sched_process_exit, CAP_BPF and "
		"CAP_PERFMON",
       TABLES(&exec_table, &exit_table, &processes_table), .options = exec_options,
       .state_size = sizeof(struct exec_state), .default_interval_ns = TICK_NS,
       .default_ring_bytes = 512 * 1024, .default_priority = 85, .setup = exec_setup, .start = exec_start, .update = exec_update,
       .event = exec_event, .tick = exec_tick, .snapshot = exec_snapshot,
       .shed = instance_shed_sampling, .stop = exec_stop);
