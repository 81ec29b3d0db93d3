/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Files touched by requests of io_uring: no system call ends with them. */
/*
 * A request is seen twice. As it is accepted, the names that it was given are in the kernel's
 * memory and the submitter is at work: who, what and where. As it completes, its result is known,
 * and what it opened; but not all that end say so (IOSQE_CQE_SKIP_SUCCESS, a full completion
 * queue), so the first is sent at once and the user half joins the second to it. A request that
 * isn't even accepted tells its error at once.
 *
 * Included by vfs.bpf.c, whose functions it uses: a request has its arguments where the system call
 * of the same name has them.
 */
#pragma once

#include "bpf/vfs/vfs_request.bpf.h"

/* Which bit of a request says that it has credentials of its own; VFS_NO_BIT: not known. */
const volatile __u32 uring_creds_bit = VFS_NO_BIT;

/* Which call does the same, counted from 1; 0: none that is wanted. Changes while it runs. */
__u8 vfs_requests[VFS_OPCODES] SEC(".data.numbers");

/* Accepted, and not known to have ended. */
struct uring_request {
	__u64 id;
	__u32 tgid;
	__u32 slot; /* where in the ring's table the file will be, from 1 on; 0: a descriptor */
};

/*
 * By the address of the request, which the kernel uses again and again. Of those that never tell
 * their end the oldest must make room.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, VFS_REQUESTS);
	__type(key, __u64);
	__type(value, struct uring_request);
} uring_requests SEC(".maps");

/* How many this CPU has seen. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} uring_count SEC(".maps");

/* More CPUs than any kernel has. */
#define URING_CPU_BITS 14

static __always_inline __u64 uring_new_id(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&uring_count, &zero);

	return count ? ++*count << URING_CPU_BITS | bpf_get_smp_processor_id() : 0;
}

/* The address of the text that a request keeps in that field. */
#define URING_NAME(type, req, field)                                       \
	(bpf_core_field_exists(struct type, field)                         \
		 ? (__u64)BPF_CORE_READ((struct type *)(req), field, name) \
		 : (__u64)BPF_CORE_READ((struct type##___delayed *)(req),  \
					field.__incomplete_filename, name))

static __always_inline void uring_put(struct vfs_scratch *s, __u8 n, __u64 value)
{
	s->args[n & (VFS_ARGS - 1)] = value;
}

static __always_inline __u32 uring_put_open(struct vfs_scratch *s, struct io_kiocb *req,
					    const volatile struct vfs_call *call)
{
	struct io_open *o = (void *)req;

	uring_put(s, call->dir, BPF_CORE_READ(o, dfd));
	uring_put(s, call->path, URING_NAME(io_open, req, filename));
	s->e.flags = BPF_CORE_READ(o, how.flags);
	s->e.mode = BPF_CORE_READ(o, how.mode);
	return BPF_CORE_READ(o, file_slot);
}

static __always_inline void uring_put_pair(struct vfs_scratch *s, struct io_kiocb *req,
					   const volatile struct vfs_call *call, __u8 opcode)
{
	if (opcode == VFS_OPCODE_RENAMEAT) {
		struct io_rename *r = (void *)req;

		uring_put(s, call->dir, BPF_CORE_READ(r, old_dfd));
		uring_put(s, call->dir2, BPF_CORE_READ(r, new_dfd));
		uring_put(s, call->path, URING_NAME(io_rename, req, oldpath));
		uring_put(s, call->path2, URING_NAME(io_rename, req, newpath));
		s->e.flags = (__u32)BPF_CORE_READ(r, flags);
	} else if (opcode == VFS_OPCODE_LINKAT) {
		struct io_link *l = (void *)req;

		uring_put(s, call->dir, BPF_CORE_READ(l, old_dfd));
		uring_put(s, call->dir2, BPF_CORE_READ(l, new_dfd));
		uring_put(s, call->path, URING_NAME(io_link, req, oldpath));
		uring_put(s, call->path2, URING_NAME(io_link, req, newpath));
		s->e.flags = (__u32)BPF_CORE_READ(l, flags);
	} else {
		struct io_link *l = (void *)req;

		uring_put(s, call->text, URING_NAME(io_link, req, oldpath));
		uring_put(s, call->dir, BPF_CORE_READ(l, new_dfd));
		uring_put(s, call->path, URING_NAME(io_link, req, newpath));
	}
}

/* What an accepted request will do; returns the slot that an open will fill. */
static __always_inline __u32 uring_put_args(struct vfs_scratch *s, struct io_kiocb *req,
					    const volatile struct vfs_call *call, __u8 opcode)
{
	struct io_unlink *u = (void *)req;
	struct io_mkdir *m = (void *)req;

	switch (opcode) {
	case VFS_OPCODE_OPENAT:
	case VFS_OPCODE_OPENAT2:
		return uring_put_open(s, req, call);
	case VFS_OPCODE_UNLINKAT:
		uring_put(s, call->dir, BPF_CORE_READ(u, dfd));
		uring_put(s, call->path, URING_NAME(io_unlink, req, filename));
		s->e.flags = (__u32)BPF_CORE_READ(u, flags);
		if (s->e.flags & K_AT_REMOVEDIR)
			s->e.op = VFS_RMDIR;
		return 0;
	case VFS_OPCODE_MKDIRAT:
		uring_put(s, call->dir, BPF_CORE_READ(m, dfd));
		uring_put(s, call->path, URING_NAME(io_mkdir, req, filename));
		s->e.mode = BPF_CORE_READ(m, mode);
		return 0;
	case VFS_OPCODE_FTRUNCATE:
		uring_put(s, call->dir, req->cqe.fd);
		if (bpf_core_field_exists(struct io_ftrunc, len))
			s->e.arg = BPF_CORE_READ((struct io_ftrunc *)req, len);
		return 0;
	default:
		uring_put_pair(s, req, call, opcode);
		return 0;
	}
}

/* One that was refused, by what it was submitted with: the system call's arguments. */
static __always_inline void uring_args_of(__u64 *args, const struct io_uring_sqe *sqe, __u8 opcode)
{
	args[VFS_ARG_NONE] = 0;
	args[VFS_ARG_CWD] = K_AT_FDCWD;
	args[1] = BPF_CORE_READ(sqe, fd);
	args[2] = BPF_CORE_READ(sqe, addr);
	args[3] = args[5] = BPF_CORE_READ(sqe, open_flags);
	args[4] = BPF_CORE_READ(sqe, len);
	switch (opcode) {
	case VFS_OPCODE_OPENAT2:
		args[3] = BPF_CORE_READ(sqe, addr2);
		break;
	case VFS_OPCODE_RENAMEAT:
	case VFS_OPCODE_LINKAT:
		args[3] = args[4];
		args[4] = BPF_CORE_READ(sqe, addr2);
		break;
	case VFS_OPCODE_MKDIRAT:
		args[3] = args[4];
		break;
	case VFS_OPCODE_SYMLINKAT:
		args[1] = args[2];
		args[2] = BPF_CORE_READ(sqe, fd);
		args[3] = BPF_CORE_READ(sqe, addr2);
		break;
	case VFS_OPCODE_FTRUNCATE:
		/* A place in the ring's table is no descriptor. */
		if (BPF_CORE_READ(sqe, flags) & URING_FIXED_FILE)
			args[1] = -1;
		args[2] = BPF_CORE_READ(sqe, addr2);
		break;
	}
}

/* slot: from 0 on. */
static __always_inline struct file *uring_file_at(struct io_ring_ctx *ctx, __u32 slot)
{
	unsigned long file = 0;

	if (bpf_core_field_exists(struct io_rsrc_data, nodes)) {
		struct io_rsrc_node **nodes = BPF_CORE_READ(ctx, file_table.data.nodes),
				    *node = NULL;

		if (slot < BPF_CORE_READ(ctx, file_table.data.nr))
			bpf_probe_read_kernel(&node, sizeof(node), nodes + slot);
		file = node ? BPF_CORE_READ(node, file_ptr) : 0;
	} else if (bpf_core_field_exists(struct io_file_table, files)) {
		struct io_fixed_file *files = BPF_CORE_READ(ctx, file_table.files);

		if (slot < BPF_CORE_READ(ctx, nr_user_files))
			bpf_probe_read_kernel(
				&file, sizeof(file),
				(void *)files + slot * bpf_core_type_size(struct io_fixed_file) +
					bpf_core_field_offset(struct io_fixed_file, file_ptr));
	}
	return (struct file *)(file & ~URING_FILE_BITS);
}

__noinline int vfs_text_at(__u64 file)
{
	return text_of_file((void *)file);
}

/* As put_paths(), of a file that a request has in hand. */
static __always_inline bool uring_put_file(struct vfs_scratch *s, struct path_text *t,
					   struct file *file)
{
	struct path_filter_config filter = path_filter_read();

	path_text_begin(t, PATH_TEXT_MIDDLE);
	if (file)
		vfs_text_at((__u64)file);
	/* The name that was given stands, where there was one. */
	if (t->cut || path_text_len(t) <= 1)
		return true;
	s->e.len[0] = vfs_take_text(0);
	return !path_filter_is_on(&filter) || path_is_wanted(&filter);
}

static __always_inline void uring_begin(struct vfs_scratch *s, __u32 index, __u32 bits, long ret)
{
	__builtin_memset(&s->e, 0, offsetof(struct vfs_event, data));
	s->e.op = vfs_calls[index & (VFS_CALLS - 1)].op;
	s->e.index = index;
	s->e.bits = VFS_URING | bits;
	s->e.ret = ret;
	s->e.fd = -1;
}

/* A request may have been given the credentials of another user (IORING_REGISTER_PERSONALITY). */
static __always_inline void uring_put_process(struct vfs_scratch *s, struct io_kiocb *req)
{
	const struct cred *cred;

	process_read_current(&s->e.p);
	if (uring_creds_bit >= VFS_NO_BIT || !(req->flags & 1u << uring_creds_bit))
		return;
	cred = req->creds;
	if (!cred)
		return;
	s->e.p.uid = cred->uid.val;
	s->e.p.gid = cred->gid.val;
}

static __always_inline __u32 uring_put_text(struct vfs_scratch *s, __u32 off, __u64 name)
{
	long n = bpf_probe_read_kernel_str(s->e.data + (off & (VFS_PATH_MAX - 1)), PATH_TEXT_GIVEN,
					   (void *)name);

	return n > 0 ? n - 1 : 0;
}

/* Puts it together; false: its paths aren't wanted, whatever it may have opened. */
static __always_inline bool uring_put_request(struct vfs_scratch *s, struct io_kiocb *req,
					      __u32 index, __u32 *slot)
{
	const volatile struct vfs_call *call = &vfs_calls[index & (VFS_CALLS - 1)];
	struct path_text *text = path_text_get();
	bool wanted;

	if (!text)
		return false;
	/* No result, so that nobody looks for what has been opened. */
	uring_begin(s, index, VFS_PENDING, -1);
	*slot = uring_put_args(s, req, call, req->opcode);
	if (call->bits & VFS_BY_FD && req->flags & URING_FIXED_FILE)
		wanted = uring_put_file(s, text, uring_file_at(req->ctx, req->cqe.fd));
	else
		wanted = put_paths(s, text, call);
	if (call->text)
		s->e.len[1] = uring_put_text(s, s->e.len[0], arg(s, call->text));
	if (wanted)
		return true;
	/* What it opens may have another name. */
	s->e.bits |= VFS_LEFT_OUT;
	return call->op == VFS_OPEN || call->bits & VFS_BY_FD;
}

static __always_inline bool uring_is_wanted(void)
{
	return process_wanted(current_task()) && !sampled_out();
}

/* True: it was sent, and its end will be of interest. */
static __always_inline bool uring_accepted(struct io_kiocb *req, __u32 index,
					   struct uring_request *r)
{
	struct vfs_scratch *s;
	bool wanted;

	if (!uring_is_wanted())
		return false;
	s = scratch_take();
	if (!s)
		return false;
	s->args[VFS_ARG_NONE] = 0;
	wanted = uring_put_request(s, req, index, &r->slot);
	if (wanted) {
		uring_put_process(s, req);
		r->id = uring_new_id();
		r->tgid = s->e.p.pid;
		s->e.request = r->id;
		send(&s->e, s->e.len[0] + s->e.len[1]);
	} else {
		plugin_count(PLUGIN_STAT_FILTERED);
	}
	scratch_give(s);
	return wanted;
}

/* Two programs have it, of which one is loaded. */
static __noinline int uring_take(struct io_kiocb *req, __u32 index)
{
	struct uring_request r = {};
	__u64 key = (__u64)req;

	/* What the one before it at this address has left must not get its result. */
	if (uring_accepted(req, index, &r))
		bpf_map_update_elem(&uring_requests, &key, &r, BPF_ANY);
	else
		bpf_map_delete_elem(&uring_requests, &key);
	return 0;
}

/* For nearly all of them that is all that happens. */
static __always_inline int uring_submitted(struct io_kiocb *req)
{
	__u32 index = vfs_requests[req->opcode];

	if (index && !current_is_self())
		uring_take(req, index);
	return 0;
}

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(opt_uring_submitted__req, struct io_kiocb *req)
{
	return uring_submitted(req);
}

/* Before 2ad57931db64 ("io_uring: rename trace_io_uring_submit_sqe() tracepoint"), 6.4. */
SEC("tp_btf/io_uring_submit_sqe")
int BPF_PROG(opt_uring_submitted__sqe, struct io_kiocb *req)
{
	return uring_submitted(req);
}

/* Its file, if that can be told: no other thread should have closed it in this microsecond. */
static __always_inline struct file *uring_file_of(struct vfs_scratch *s, struct io_kiocb *req,
						  const struct uring_request *r)
{
	__u32 slot = r->slot == URING_ANY_SLOT ? s->e.ret : r->slot - 1;

	if (s->e.ret < 0)
		return NULL;
	if (s->e.op == VFS_TRUNCATE)
		return BPF_CORE_READ(req, file);
	if (s->e.op != VFS_OPEN)
		return NULL;
	if (r->slot)
		return uring_file_at(BPF_CORE_READ(req, ctx), slot);
	s->e.fd = s->e.ret;
	/* When its submitter dies, a thread of the kernel's own may end it. */
	return bpf_get_current_pid_tgid() >> 32 == r->tgid ? file_of(s->e.ret) : NULL;
}

/* Its result to what has been sent; does nothing of those that weren't. */
static __always_inline void uring_ended(struct io_kiocb *req, __u32 index, long ret)
{
	struct path_text *text = path_text_get();
	struct uring_request *found, r;
	struct vfs_scratch *s;
	__u64 key = (__u64)req;

	found = bpf_map_lookup_elem(&uring_requests, &key);
	if (!found || !text)
		return;
	r = *found;
	bpf_map_delete_elem(&uring_requests, &key);
	s = scratch_take();
	if (!s)
		return;
	uring_begin(s, index, VFS_ENDED, ret);
	s->e.request = r.id;
	s->e.p.boot_ns = bpf_ktime_get_boot_ns();
	if (!uring_put_file(s, text, uring_file_of(s, req, &r)))
		s->e.bits |= VFS_LEFT_OUT;
	send(&s->e, s->e.len[0]);
	scratch_give(s);
}

SEC("tp_btf/io_uring_complete")
int BPF_PROG(opt_uring_ended__req, void *ring, void *request)
{
	struct io_kiocb *req = request;
	__u32 index;
	__u8 opcode;

	/* A completion that no request stands for. */
	if (!req)
		return 0;
	if (can_cast())
		opcode = cast_to(struct io_kiocb, req)->opcode;
	else
		opcode = BPF_CORE_READ(req, opcode);
	index = vfs_requests[opcode];
	if (index)
		uring_ended(req, index, BPF_CORE_READ(req, cqe.res));
	return 0;
}

static __always_inline void uring_tell_refused(struct vfs_scratch *s,
					       const struct io_uring_sqe *sqe, struct io_kiocb *req,
					       __u32 index, int error, __u32 ops)
{
	const volatile struct vfs_call *call = &vfs_calls[index & (VFS_CALLS - 1)];
	struct path_text *text = path_text_get();

	if (!text)
		return;
	uring_args_of(s->args, sqe, req->opcode);
	uring_begin(s, index, 0, error);
	put_numbers(s, call);
	if (!put_paths(s, text, call) || !(ops & 1u << (s->e.op & 31))) {
		plugin_count(PLUGIN_STAT_FILTERED);
		return;
	}
	if (call->text)
		s->e.len[1] =
			take_given(s, s->e.len[0], PATH_TEXT_GIVEN, (void *)arg(s, call->text));
	uring_put_process(s, req);
	send(&s->e, s->e.len[0] + s->e.len[1]);
}

/* Not accepted: what is wrong with it is known at once, and the name may not have been read. */
SEC("tp_btf/io_uring_req_failed")
int BPF_PROG(opt_uring_refused__req, const struct io_uring_sqe *sqe, struct io_kiocb *req,
	     int error)
{
	__u32 index = vfs_requests[req->opcode];
	struct vfs_config config = config_read();
	__u64 key = (__u64)req;
	struct vfs_scratch *s;

	if (!index || current_is_self())
		return 0;
	/* It completes, too; that is not the end of the one before it at this address. */
	bpf_map_delete_elem(&uring_requests, &key);
	if (!result_wanted(&config, error) || !uring_is_wanted())
		return 0;
	s = scratch_take();
	if (!s)
		return 0;
	uring_tell_refused(s, sqe, req, index, error, config.ops);
	scratch_give(s);
	return 0;
}
