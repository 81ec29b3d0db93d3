// SPDX-License-Identifier: Apache-2.0
/* The vfs plugin: one row for each file that is opened, made, removed, renamed or changed. */
#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/macro.h"
#include "bpf/path_filter.h"
#include "bpf/vfs/vfs_priv.h"

#include "bpf/vfs.skel.h" /* speaks of those types */

static_assert(sizeof(struct vfs_config) == sizeof(uint64_t), "it changes at once");

enum failures { FAILURES_ALL, FAILURES_NONE, FAILURES_ONLY };

static const struct opt vfs_options[] = {
	{.key = "events",
	 .type = OPT_LIST,
	 .help = "operations to look at: open, create, unlink, rmdir, rename, mkdir, mknod, chmod, "
		 "chown, truncate, link, symlink, mount, umount; all by default"},
	{.key = "failures",
	 .type = OPT_ENUM,
	 .def = "all",
	 .choices = (const char *const[]){"all", "none", "only", NULL},
	 .help = "operations that failed: like all others, none of them, or nothing else; of "
		 "requests by io_uring whose result isn't known each may be one"},
	PATH_OPTIONS,
	PROCESS_OPTIONS,
	{},
};

static int parse_op(const char *text, struct err *err)
{
	for (int op = VFS_NONE + 1; op < VFS_OP_X_MAX; op++)
		if (strcasecmp(text, vfs_op_names[op]) == 0)
			return op;
	return err_set(err, -EINVAL, "option events: there is no '%.32s'; open or rename would be",
		       text);
}

static int wanted_ops(const struct instance *in, uint32_t *ops, struct err *err)
{
	const char *text;

	*ops = 0;
	for (size_t i = 0; (text = opt_item(in->opts, "events", i)); i++) {
		int op = parse_op(text, err);

		if (op < 0)
			return op;
		*ops |= 1u << op;
	}
	if (!*ops)
		*ops = (1u << VFS_OP_X_MAX) - 1;
	return 0;
}

bool vfs_call_is_wanted(const struct vfs_call *call, uint32_t ops)
{
	uint32_t can = 1u << call->op;

	if (call->op == VFS_OPEN)
		can |= 1u << VFS_CREATE;
	if (call->op == VFS_UNLINK)
		can |= 1u << VFS_RMDIR;
	return ops & can;
}

static void number_wanted(struct vfs_numbers *numbers, int nr)
{
	numbers->wanted[nr / 64] |= 1ull << nr % 64;
}

/* A call that can't do it is left alone. */
static int number_calls(struct instance *in, uint32_t ops, struct err *err)
{
	struct vfs_bpf *skel = in->skel;
	struct vfs_numbers numbers = {};
	size_t n = vfs_syscalls_count();
	uint32_t zero = 0;

	for (size_t i = 0; i < n; i++) {
		const struct vfs_syscall *s = &vfs_syscalls[i];

		if (!vfs_call_is_wanted(&s->call, ops))
			continue;
		if (s->nr != VFS_NO_NUMBER) {
			numbers.of[s->nr].native = (uint8_t)(i + 1);
			number_wanted(&numbers, s->nr);
		}
		if (s->compat) {
			numbers.of[s->compat].compat = (uint8_t)(i + 1);
			number_wanted(&numbers, s->compat);
		}
	}
	if (bpf_map_update_elem(bpf_map__fd(skel->maps.data_calls), &zero, &numbers, BPF_ANY) < 0)
		return err_set(err, -errno, "cannot hand its system calls to the kernel: %s",
			       strerror(errno));
	return 0;
}

static int apply_config(struct instance *in, struct err *err)
{
	int64_t failures = opt_i64(in->opts, "failures");
	struct vfs_state *st = in->state;
	struct vfs_bpf *skel = in->skel;
	struct vfs_config config = {
		.no_success = failures == FAILURES_ONLY,
		.no_failure = failures == FAILURES_NONE,
	};
	uint32_t zero = 0;
	int r;

	r = wanted_ops(in, &config.ops, err);
	if (r < 0)
		return r;
	r = number_calls(in, config.ops, err);
	if (r < 0)
		return r;
	vfs_uring_apply(in, config.ops);
	st->config = config;
	if (bpf_map_update_elem(bpf_map__fd(skel->maps.vfs_config), &zero, &config, BPF_ANY) < 0)
		return err_set(err, -errno, "cannot hand its options to the kernel: %s",
			       strerror(errno));
	return 0;
}

static int vfs_setup(struct instance *in, struct err *err)
{
	struct vfs_bpf *skel = in->skel;
	size_t n = vfs_syscalls_count();
	int r;

	/* Memory that can be mapped lies in small pages, which the processor forgets sooner. */
	r = bpf_map__set_map_flags(skel->maps.data_calls, 0);
	if (r < 0)
		return err_set(err, r, "cannot prepare its system calls: %s", strerror(-r));
	/* The first stands for none. */
	for (size_t i = 0; i < n; i++)
		skel->rodata->vfs_calls[i + 1] = vfs_syscalls[i].call;
	return vfs_uring_setup(in, err);
}

static int vfs_start(struct instance *in, struct err *err)
{
	int r = process_filter_apply(in, err);

	if (r == 0)
		r = path_filter_apply(in, err);
	if (r == 0)
		r = apply_config(in, err);
	return r < 0 ? r : vfs_uring_start(in, err);
}

static int vfs_update(struct instance *in, const char *key, struct err *err)
{
	if (process_filter_has(key))
		return process_filter_apply(in, err);
	return path_filter_has(key) ? path_filter_apply(in, err) : apply_config(in, err);
}

static int vfs_event(struct instance *in, const void *ev, size_t len)
{
	const struct vfs_event *e = ev;

	if (len >= offsetof(struct vfs_event, data) && e->bits & VFS_URING)
		return vfs_uring_event(in, e, len);
	return vfs_row_add(in, e, len);
}

static void vfs_stop(struct instance *in)
{
	struct vfs_state *st = in->state;

	vfs_uring_stop(in);
	buf_free(&st->text);
}

PLUGIN(vfs, .help = "Files opened, made, removed, renamed and changed, mounts; with path and error",
       .needs = "BTF, the tracepoint of system calls that end, CAP_BPF and CAP_PERFMON",
       TABLES(&vfs_table), .options = vfs_options, .state_size = sizeof(struct vfs_state),
       .default_ring_bytes = 2 << 20, .default_priority = 30, .setup = vfs_setup,
       .start = vfs_start, .update = vfs_update, .event = vfs_event, .shed = instance_shed_sampling,
       .stop = vfs_stop);
