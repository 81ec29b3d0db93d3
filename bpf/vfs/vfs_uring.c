// SPDX-License-Identifier: Apache-2.0
/* Requests of io_uring as vfs rows: each waits for its result, but not for ever. */
#include <bpf/btf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/vfs/vfs_held.h"
#include "bpf/vfs/vfs_priv.h"

#include "bpf/vfs.skel.h" /* speaks of those types */

/* Results come within milliseconds of the work; whom the kernel told nothing by then, it may never.
 */
#define HOLD_NS NSEC_PER_SEC

/* Which request does the same as which call. */
static const struct {
	enum vfs_opcode opcode;
	const char *name;
} requests[] = {
	{VFS_OPCODE_OPENAT, "openat"},	    {VFS_OPCODE_OPENAT2, "openat2"},
	{VFS_OPCODE_RENAMEAT, "renameat2"}, {VFS_OPCODE_UNLINKAT, "unlinkat"},
	{VFS_OPCODE_MKDIRAT, "mkdirat"},    {VFS_OPCODE_SYMLINKAT, "symlinkat"},
	{VFS_OPCODE_LINKAT, "linkat"},	    {VFS_OPCODE_FTRUNCATE, "ftruncate"},
};

/* Its number among the calls, from 1 on. */
static uint8_t call_of(const char *name)
{
	for (size_t i = 0; vfs_syscalls[i].name; i++)
		if (vfs_syscalls[i].nr != VFS_NO_NUMBER && strcmp(vfs_syscalls[i].name, name) == 0)
			return (uint8_t)(i + 1);
	return 0;
}

void vfs_uring_apply(struct instance *in, uint32_t ops)
{
	struct vfs_bpf *skel = in->skel;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		uint8_t index = call_of(requests[i].name);
		/* 0: this machine has no such call, and rows couldn't say what was done. */
		bool wanted = index && vfs_call_is_wanted(&vfs_syscalls[index - 1].call, ops);

		skel->data_numbers->vfs_requests[requests[i].opcode] = wanted ? index : 0;
	}
}

/* The value of a constant of an enum without a name; max: there is none such. */
static uint32_t enum_value(const struct btf *btf, const char *name, uint32_t max)
{
	uint32_t n = btf__type_cnt(btf);

	for (uint32_t id = 1; id < n; id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);
		const struct btf_enum *e = btf_is_enum(t) ? btf_enum(t) : NULL;

		for (uint16_t i = 0; e && !t->name_off && i < btf_vlen(t); i++)
			if (strcmp(btf__name_by_offset(btf, e[i].name_off), name) == 0)
				return (uint32_t)e[i].val < max ? (uint32_t)e[i].val : max;
	}
	return max;
}

/* What the kernel has: 1: all that is needed; 0: no io_uring; else less, and in->degraded says so.
 */
static int look(struct instance *in, uint32_t *creds_bit)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int r = 1;

	if (!btf)
		return 0; /* without it nothing of the plugin loads, and that is said elsewhere */
	if (btf__find_by_name_kind(btf, "btf_trace_io_uring_create", BTF_KIND_TYPEDEF) < 0) {
		r = 0;
	} else if (btf__find_by_name_kind(btf, "io_cmd_data", BTF_KIND_STRUCT) < 0) {
		snprintf(in->degraded, sizeof(in->degraded),
			 "requests by io_uring make no rows: the kernel's BTF doesn't say how it "
			 "keeps them (struct io_cmd_data, Linux 6.0)");
		r = -EOPNOTSUPP;
	} else {
		*creds_bit = enum_value(btf, "REQ_F_CREDS_BIT", VFS_NO_BIT);
	}
	btf__free(btf);
	return r;
}

int vfs_uring_setup(struct instance *in, struct err *err)
{
	struct vfs_state *st = in->state;
	struct vfs_bpf *skel = in->skel;
	struct bpf_program *const programs[] = {
		skel->progs.opt_uring_submitted__req, skel->progs.opt_uring_submitted__sqe,
		skel->progs.opt_uring_ended__req, skel->progs.opt_uring_refused__req};
	uint32_t creds_bit = VFS_NO_BIT;

	st->timer = -1;
	if (look(in, &creds_bit) > 0) {
		skel->rodata->uring_creds_bit = creds_bit;
		st->held = vfs_held_new();
		return st->held ? 0 : err_set(err, -ENOMEM, "no memory for requests by io_uring");
	}
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		bpf_program__set_autoload(programs[i], false);
	bpf_map__set_max_entries(skel->maps.uring_requests, 1);
	return 0;
}

static bool failure_wanted(const struct vfs_config *c, const struct vfs_event *e)
{
	/* Who asks for either must hear of what may be one. */
	if (e->bits & VFS_PENDING)
		return true;
	return !(e->ret < 0 ? c->no_failure : c->no_success);
}

static bool op_wanted(const struct vfs_config *c, const struct vfs_event *e)
{
	uint32_t could = 1u << e->op;

	if (e->op == VFS_OPEN && e->bits & VFS_PENDING && e->flags & O_CREAT)
		could |= 1u << VFS_CREATE;
	return c->ops & could;
}

/* The row of a request whose result is known, or never will be. */
static int settle(struct instance *in, const struct vfs_event *e, size_t len)
{
	const struct vfs_state *st = in->state;

	if (e->bits & VFS_LEFT_OUT || !failure_wanted(&st->config, e) ||
	    !op_wanted(&st->config, e)) {
		in->count.filtered++;
		return 0;
	}
	return vfs_row_add(in, e, len);
}

static int settle_overdue(struct instance *in, uint64_t before_ns)
{
	struct vfs_state *st = in->state;
	struct vfs_event *e;
	int r = 0, one;
	size_t len;

	while ((e = vfs_held_overdue(st->held, before_ns, &len))) {
		one = settle(in, e, len);
		free(e);
		r = one < 0 ? one : r;
	}
	return r;
}

/* Wakes when the oldest of now has waited long enough, whatever becomes of it. */
static int arm(struct vfs_state *st)
{
	uint64_t since = vfs_held_since(st->held), at = since + HOLD_NS;
	struct itimerspec t = {
		.it_value = {(time_t)(at / NSEC_PER_SEC), (long)(at % NSEC_PER_SEC)},
	};

	if (st->armed || !since)
		return 0;
	if (timerfd_settime(st->timer, TFD_TIMER_ABSTIME, &t, NULL) < 0)
		return -errno;
	st->armed = true;
	return 0;
}

static int on_timer(struct instance *in)
{
	struct vfs_state *st = in->state;
	uint64_t expirations;
	int r, armed;

	if (read(st->timer, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
		return -errno;
	st->armed = false;
	r = settle_overdue(in, clock_mono_ns() - HOLD_NS);
	armed = arm(st);
	return armed < 0 ? armed : r;
}

int vfs_uring_start(struct instance *in, struct err *err)
{
	struct vfs_state *st = in->state;
	int r;

	if (!st->held)
		return 0;
	st->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (st->timer < 0)
		return err_set(err, -errno, "cannot make a timer: %s", strerror(errno));
	r = in->watch_fd ? in->watch_fd(in, st->timer, on_timer) : -EOPNOTSUPP;
	return r < 0 ? err_set(err, r, "cannot wait for its timer: %s", strerror(-r)) : 0;
}

static int hold(struct instance *in, const struct vfs_event *e, size_t len)
{
	struct vfs_state *st = in->state;
	uint64_t now = clock_mono_ns();

	/* Better without its result than not at all. */
	if (vfs_held_add(st->held, e, len, now) < 0)
		return settle(in, e, len);
	if (arm(st) < 0)
		return settle_overdue(in, UINT64_MAX);
	return settle_overdue(in, now - HOLD_NS);
}

/* What came as it ended, with who did it and what it asked for. */
static void complete(struct vfs_event *to, const struct vfs_event *held)
{
	uint64_t ended = to->p.boot_ns;

	to->p = held->p;
	to->p.boot_ns = ended;
	to->flags = held->flags;
	to->mode = held->mode;
	to->arg = held->arg;
	if (to->fd < 0)
		to->fd = held->fd;
	/* In a table that can't be looked into, but it was the only way to succeed. */
	if (to->op == VFS_OPEN && !to->file_mode && to->ret >= 0 &&
	    (held->flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		to->op = VFS_CREATE;
}

static int join(struct instance *in, const struct vfs_event *end, size_t end_len)
{
	struct vfs_state *st = in->state;
	_cleanup_free_ struct vfs_event *e = NULL, *with_path = NULL;
	struct vfs_event result = {};
	size_t len;

	e = vfs_held_take(st->held, end->request, &len);
	if (!e)
		return 0; /* its row went without a result, or it found the ring full: counted */
	memcpy(&result, end, offsetof(struct vfs_event, data));
	complete(&result, e);
	if (end->len[0] && (with_path = malloc(end_len))) {
		memcpy(with_path, end, end_len);
		memcpy(with_path, &result, offsetof(struct vfs_event, data));
		return settle(in, with_path, end_len);
	}
	/* The path as it was given. */
	result.op = result.op == VFS_UNLINK ? e->op : result.op;
	result.bits = (e->bits & ~VFS_PENDING) | VFS_ENDED;
	memcpy(result.len, e->len, sizeof(result.len));
	if (!result.file_mode)
		result.file_mode = e->file_mode;
	memcpy(e, &result, offsetof(struct vfs_event, data));
	return settle(in, e, len);
}

int vfs_uring_event(struct instance *in, const struct vfs_event *e, size_t len)
{
	const struct vfs_state *st = in->state;

	if (!st->held)
		return -EBADMSG;
	if (e->bits & VFS_PENDING)
		return hold(in, e, len);
	if (e->bits & VFS_ENDED)
		return join(in, e, len);
	return vfs_row_add(in, e, len);
}

void vfs_uring_stop(struct instance *in)
{
	struct vfs_state *st = in->state;

	if (st->held)
		settle_overdue(in, UINT64_MAX);
	vfs_held_free(st->held);
	st->held = NULL;
	closep(&st->timer);
	st->timer = -1;
}
