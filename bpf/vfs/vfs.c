// SPDX-License-Identifier: Apache-2.0
/* The vfs plugin: one row for each file that is opened, made, removed, renamed or changed. */
#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/macro.h"
#include "bpf/path_filter.h"
#include "bpf/tracepoint.h"
#include "bpf/vfs.skel.h"
#include "bpf/vfs/vfs_priv.h"

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
	 .help = "operations that failed: like all others, none of them, or nothing else"},
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

/* Can the call do something that is wanted? */
static bool call_is_wanted(const struct vfs_call *call, uint32_t ops)
{
	uint32_t can = 1u << call->op;

	if (call->op == VFS_OPEN)
		can |= 1u << VFS_CREATE;
	if (call->op == VFS_UNLINK)
		can |= 1u << VFS_RMDIR;
	return ops & can;
}

static int attach(struct instance *in, size_t i, struct err *err)
{
	struct vfs_state *st = in->state;
	struct vfs_bpf *skel = in->skel;
	char event[64];
	int r;

	snprintf(event, sizeof(event), "syscalls/sys_exit_%s", vfs_syscalls[i].name);
	r = tracepoint_attach_to(skel->progs.vfs_exit, event, &st->links[i], err);
	return r == -ENOENT ? 0 : r; /* a call that this kernel doesn't have */
}

static void detach(struct vfs_state *st, size_t i)
{
	bpf_link__destroy(st->links[i]);
	st->links[i] = NULL;
}

/* A call that isn't looked at costs nothing. On failure those that were attached still are. */
static int attach_calls(struct instance *in, uint32_t ops, struct err *err)
{
	struct vfs_state *st = in->state;
	struct vfs_bpf *skel = in->skel;
	size_t attached = 0;
	int r = 0;

	for (size_t i = 0; i < st->nsyscalls && r == 0; i++)
		if (call_is_wanted(&vfs_syscalls[i].call, ops) && !st->links[i])
			r = attach(in, i, err);
	for (size_t i = 0; i < st->nsyscalls; i++) {
		if (r == 0 && !call_is_wanted(&vfs_syscalls[i].call, ops))
			detach(st, i);
		attached += st->links[i] != NULL;
	}
	if (r == 0 && !attached)
		r = err_set(err, -EOPNOTSUPP,
			    "this kernel has no tracepoints of system calls "
			    "(CONFIG_FTRACE_SYSCALLS)");
	/* Shown as attached; still ours to destroy. */
	skel->links.vfs_exit = NULL;
	for (size_t i = 0; i < st->nsyscalls && !skel->links.vfs_exit; i++)
		skel->links.vfs_exit = st->links[i];
	return r;
}

static int apply_config(struct instance *in, struct err *err)
{
	int64_t failures = opt_i64(in->opts, "failures");
	struct vfs_bpf *skel = in->skel;
	struct vfs_config config = {
		.no_success = failures == FAILURES_ONLY,
		.no_failure = failures == FAILURES_NONE,
	};
	uint32_t zero = 0;
	int r;

	r = wanted_ops(in, &config.ops, err);
	if (r == 0)
		r = attach_calls(in, config.ops, err);
	if (r < 0)
		return r;
	if (bpf_map_update_elem(bpf_map__fd(skel->maps.vfs_config), &zero, &config, BPF_ANY) < 0)
		return err_set(err, -errno, "cannot hand its options to the kernel: %s",
			       strerror(errno));
	return 0;
}

static int vfs_setup(struct instance *in, struct err *err)
{
	struct vfs_bpf *skel = in->skel;
	int r;

	/* One program for many tracepoints. */
	bpf_program__set_autoattach(skel->progs.vfs_exit, false);
	/* Kernels before 6.1 don't like memory that comes and goes in tracepoints' programs. */
	r = bpf_map__set_map_flags(skel->maps.process_filter, 0);
	return r < 0 ? err_set(err, r, "cannot set up its filters: %s", strerror(-r)) : 0;
}

static int describe_calls(struct instance *in, struct err *err)
{
	struct vfs_state *st = in->state;
	struct vfs_bpf *skel = in->skel;

	for (st->nsyscalls = 0; vfs_syscalls[st->nsyscalls].name; st->nsyscalls++) {
		struct vfs_call call = vfs_syscalls[st->nsyscalls].call;
		uint32_t nr = (uint32_t)vfs_syscalls[st->nsyscalls].nr;

		call.index = (uint8_t)st->nsyscalls;
		if (bpf_map_update_elem(bpf_map__fd(skel->maps.vfs_calls), &nr, &call, BPF_ANY) < 0)
			return err_set(err, -errno,
				       "cannot hand system call %s to the kernel half: %s",
				       vfs_syscalls[st->nsyscalls].name, strerror(errno));
	}
	return 0;
}

static int vfs_start(struct instance *in, struct err *err)
{
	int r = describe_calls(in, err);

	if (r == 0)
		r = process_filter_apply(in, err);
	if (r == 0)
		r = path_filter_apply(in, err);
	return r < 0 ? r : apply_config(in, err);
}

static int vfs_update(struct instance *in, const char *key, struct err *err)
{
	if (process_filter_has(key))
		return process_filter_apply(in, err);
	return path_filter_has(key) ? path_filter_apply(in, err) : apply_config(in, err);
}

static int vfs_event(struct instance *in, const void *ev, size_t len)
{
	return vfs_row_add(in, ev, len);
}

static int on_last(void *ctx, void *data, size_t len)
{
	struct instance *in = ctx;

	in->count.events++;
	if (vfs_row_add(in, data, len) < 0)
		in->count.decode_errors++;
	return 0;
}

/* The host has read the ring when our programs were still attached. */
static void read_rest(struct instance *in)
{
	struct vfs_bpf *skel = in->skel;
	struct ring_buffer *ring;
	int fd = bpf_map__fd(skel->maps.events);

	ring = fd < 0 ? NULL : ring_buffer__new(fd, on_last, in, NULL);
	if (ring)
		ring_buffer__consume(ring);
	ring_buffer__free(ring);
}

static void vfs_stop(struct instance *in)
{
	struct vfs_state *st = in->state;
	struct vfs_bpf *skel = in->skel;

	skel->links.vfs_exit = NULL;
	for (size_t i = 0; i < st->nsyscalls; i++)
		detach(st, i);
	read_rest(in);
	buf_free(&st->text);
}

PLUGIN(vfs, .help = "Files opened, made, removed, renamed and changed, mounts; with path and error",
       .needs = "BTF and the tracepoints of system calls (CONFIG_FTRACE_SYSCALLS), CAP_BPF, "
		"CAP_PERFMON and CAP_SYS_ADMIN",
       TABLES(&vfs_table), .options = vfs_options, .state_size = sizeof(struct vfs_state),
       .default_ring_bytes = 2 << 20, .default_priority = 30, .setup = vfs_setup,
       .start = vfs_start, .update = vfs_update, .event = vfs_event, .shed = instance_shed_sampling,
       .stop = vfs_stop);
