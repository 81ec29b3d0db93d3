// SPDX-License-Identifier: Apache-2.0
/* The exec plugin: programs that start, processes that end, processes that are there. */
#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"
#include "bpf/exec.skel.h"
#include "bpf/exec/exec_priv.h"

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
	};
	uint32_t zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(skel->maps.exec_config), &zero, &config, BPF_ANY) < 0)
		return err_set(err, -errno, "cannot hand its options to the kernel: %s",
			       strerror(errno));
	return 0;
}

static int exec_start(struct instance *in, struct err *err)
{
	int r = apply_config(in, err);

	return r < 0 ? r : process_filter_apply(in, err);
}

static int exec_update(struct instance *in, const char *key, struct err *err)
{
	return process_filter_has(key) ? process_filter_apply(in, err) : apply_config(in, err);
}

static int exec_event(struct instance *in, const void *ev, size_t len)
{
	uint32_t kind;

	if (len < sizeof(kind))
		return -EBADMSG;
	memcpy(&kind, ev, sizeof(kind));
	if (kind == EXEC_EXEC && len >= offsetof(struct exec_event, data))
		return exec_row_add(in, ev, len);
	if (kind == EXEC_EXIT && len == sizeof(struct exec_exit))
		return exec_exit_add(in, ev);
	return -EBADMSG;
}

static int read_processes(struct instance *in, int fd, struct batch *batch)
{
	struct exec_process chunk[32];
	size_t have = 0;

	for (;;) {
		ssize_t n = read(fd, (char *)chunk + have, sizeof(chunk) - have);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return have ? -EBADMSG : 0;
		have += (size_t)n;
		for (size_t i = 0; i < have / sizeof(chunk[0]); i++) {
			int r = exec_process_add(in, batch, &chunk[i]);

			if (r < 0)
				return r;
		}
		/* The kernel writes whole ones, and may hand out a part. */
		n = (ssize_t)(have % sizeof(chunk[0]));
		memmove(chunk, (char *)chunk + have - n, (size_t)n);
		have = (size_t)n;
	}
}

static int exec_snapshot(struct instance *in, const struct table *table, struct batch *batch)
{
	struct exec_bpf *skel = in->skel;
	_cleanup_close_ int fd = -1;
	struct bpf_link *link;
	int r;

	if (table != &processes_table)
		return -EINVAL;
	link = bpf_program__attach_iter(skel->progs.exec_processes, NULL);
	if (!link)
		return -errno;
	fd = bpf_iter_create(bpf_link__fd(link));
	r = fd < 0 ? -errno : read_processes(in, fd, batch);
	bpf_link__destroy(link);
	return r;
}

static void exec_stop(struct instance *in)
{
	struct exec_state *st = in->state;

	buf_free(&st->text);
}

PLUGIN(exec, .help = "Programs started, with arguments, user and container; how processes ended",
       .needs = "BTF and the tracepoints sched_process_exec and sched_process_exit, CAP_BPF and "
		"CAP_PERFMON",
       TABLES(&exec_table, &exit_table, &processes_table), .options = exec_options,
       .state_size = sizeof(struct exec_state), .start = exec_start, .update = exec_update,
       .event = exec_event, .snapshot = exec_snapshot, .stop = exec_stop);
