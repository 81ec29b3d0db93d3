/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Files opened, made, renamed, removed and changed, as the system calls for it end. */
/*
 * At the end of a call its result is known, the names that it was given are in memory (the kernel
 * has read them), and its arguments still stand in its registers: one program does for all calls.
 * It hangs on the tracepoint of all system calls, because each of their own tracepoints costs more
 * in the call itself, isn't passed by 32-bit programs, and takes the kernel tens of milliseconds to
 * leave. So it comes by at every call of every process: nothing may stand before vfs_call_of().
 */
#include "bpf/plugin.bpf.h"

#include "bpf/lib/path_filter.bpf.h"
#include "bpf/lib/process_btf.bpf.h"
#include "bpf/vfs/vfs.h"
#include "bpf/vfs/vfs_regs.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64); /* struct vfs_config, read in one piece */
} vfs_config SEC(".maps");

union vfs_word {
	__u64 word;
	struct vfs_config config;
};

/* Set before the load; the first stands for none. */
const volatile struct vfs_call vfs_calls[VFS_CALLS];

/* Changes while it runs. */
struct vfs_numbers vfs_numbers SEC(".data.calls");

/* Where an event is put together; its paths are made in path_text, which goes with it. */
struct vfs_scratch {
	__u64 taken;
	__u64 args[VFS_ARGS];
	struct vfs_event e;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vfs_scratch);
} scratch SEC(".maps");

static __always_inline struct vfs_config config_read(void)
{
	union vfs_word w = {};
	__u32 zero = 0;
	__u64 *config = bpf_map_lookup_elem(&vfs_config, &zero);

	if (config)
		w.word = *(volatile __u64 *)config;
	return w.config;
}

/* n: enum vfs_arg. */
static __always_inline __u64 arg(const struct vfs_scratch *s, __u8 n)
{
	return s->args[n & (VFS_ARGS - 1)];
}

static __always_inline struct file *file_of(__u32 fd)
{
	struct file **files;
	struct fdtable *fdt;
	__u32 max;

	if (task_is_typed()) {
		struct task_struct *t = (void *)bpf_get_current_task_btf();
		struct files_struct *all = t->files;

		fdt = all ? all->fdt : NULL;
		max = fdt ? fdt->max_fds : 0;
		files = fdt ? fdt->fd : NULL;
	} else {
		fdt = BPF_CORE_READ(current_task(), files, fdt);
		max = BPF_CORE_READ(fdt, max_fds);
		files = BPF_CORE_READ(fdt, fd);
	}
	return fd < max ? kernel_pointer(files + fd) : NULL;
}

static __always_inline struct vfs_scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/*
 * A program never meets itself on a CPU, but newer kernels (7.x) may preempt it, and then another
 * of ours may come by: that one has no place, and its event is lost (counted). NULL as well. Who
 * takes it gives it back.
 */
static __always_inline struct vfs_scratch *scratch_take(void)
{
	struct vfs_scratch *s = scratch_get();

	if (!s)
		return NULL;
	if (*(volatile __u64 *)&s->taken) {
		plugin_count(PLUGIN_STAT_ERROR);
		return NULL;
	}
	*(volatile __u64 *)&s->taken = 1;
	return s;
}

static __always_inline void scratch_give(struct vfs_scratch *s)
{
	*(volatile __u64 *)&s->taken = 0;
}

/* Where names begin that are relative to a descriptor; false: it is none. */
static __always_inline bool dir_of(int fd, struct path *path)
{
	struct file *file;

	if (fd == K_AT_FDCWD) {
		struct fs_struct *fs = BPF_CORE_READ(current_task(), fs);

		return !bpf_core_read(path, sizeof(*path), &fs->pwd);
	}
	file = file_of(fd);
	return file && !bpf_core_read(path, sizeof(*path), &file->f_path);
}

/* What an open file says; its fields lie close together, and one read costs what one field does. */
struct vfs_file {
	struct path path;
	struct inode *inode;
	__u32 mode;
};

#define VFS_FILE_HEAD 128

static __always_inline bool file_read(struct vfs_file *f, struct file *file)
{
	const __u32 path = bpf_core_field_offset(struct file, f_path);
	const __u32 inode = bpf_core_field_offset(struct file, f_inode);
	const __u32 mode = bpf_core_field_offset(struct file, f_mode);
	char head[VFS_FILE_HEAD] __attribute__((aligned(8)));

	if (can_cast()) {
		struct file *t = cast_to(struct file, file);

		f->path.mnt = t->f_path.mnt;
		f->path.dentry = t->f_path.dentry;
		f->inode = t->f_inode;
		f->mode = t->f_mode;
		return true;
	}
	if (path <= VFS_FILE_HEAD - sizeof(f->path) && inode <= VFS_FILE_HEAD - sizeof(f->inode) &&
	    mode <= VFS_FILE_HEAD - sizeof(f->mode)) {
		if (bpf_probe_read_kernel(head, sizeof(head), file))
			return false;
		f->path.mnt = *(struct vfsmount **)(head + path);
		f->path.dentry = *(struct dentry **)(head + path + sizeof(void *));
		f->inode = *(struct inode **)(head + inode);
		f->mode = *(__u32 *)(head + mode);
		return true;
	}
	f->inode = BPF_CORE_READ(file, f_inode);
	f->mode = BPF_CORE_READ(file, f_mode);
	return !bpf_core_read(&f->path, sizeof(f->path), &file->f_path);
}

/* The file itself says what it is and how it is called. */
static __always_inline int text_of_file(struct file *file)
{
	struct vfs_scratch *s = scratch_get();
	struct path_text *text = path_text_get();
	struct vfs_file f = {};
	struct inode *inode;

	if (!s || !text || !file || !file_read(&f, file))
		return 0;
	inode = f.inode;
	s->e.file_mode =
		can_cast() ? cast_to(struct inode, inode)->i_mode : BPF_CORE_READ(inode, i_mode);
	if (s->e.op == VFS_OPEN && f.mode & K_FMODE_CREATED)
		s->e.op = VFS_CREATE;
	path_text_of(text, &f.path);
	return 0;
}

__noinline int vfs_text_of_file(__u32 fd)
{
	return text_of_file(file_of(fd));
}

/* What the call was given, from the root on. */
__noinline int vfs_text_given(__u32 dir, __u64 user)
{
	struct vfs_scratch *s = scratch_get();
	struct path_text *text = path_text_get();
	struct path from = {};
	long len;

	if (!s || !text)
		return 0;
	/* Of a request that was accepted the kernel has the name, and where it is empty, it may be.
	 */
	if (s->e.bits & VFS_PENDING)
		len = path_text_read_kernel(text, (void *)user);
	else
		len = path_text_read(text, (void *)user);
	if (len < 0)
		s->e.bits |= VFS_UNREADABLE;
	/* No name at all means the directory itself, where the call allows it. */
	if (len < 0 || (!len && s->e.ret < 0 && !(s->e.bits & VFS_PENDING)))
		return 0;
	if (path_text_is_absolute(text)) {
		struct fs_struct *fs = BPF_CORE_READ(current_task(), fs);

		bpf_core_read(&from, sizeof(from), &fs->root);
	} else if (!dir_of(dir, &from)) {
		return 0;
	}
	path_text_join(text, &from, len);
	return 0;
}

/* So many bytes cost less by loads than by a helper. */
#define VFS_WORDS_MAX 128

/* Behind what is in data already; returns the length. */
__noinline int vfs_take_text(__u32 off)
{
	struct vfs_scratch *s = scratch_get();
	struct path_text *t = path_text_get();
	__u32 at, len;

	if (!s || !t)
		return 0;
	at = *(volatile __u32 *)&t->at;
	len = path_text_len(t);
	if (at > PATH_TEXT_BASE_MAX)
		return 0;
	if (len > VFS_PATH_MAX - 1)
		len = VFS_PATH_MAX - 1;
	barrier_var(len);
	len &= VFS_PATH_MAX - 1;
	off &= VFS_PATH_MAX - 1;
	if (len <= VFS_WORDS_MAX) {
		for (__u32 i = 0; i < VFS_WORDS_MAX && i < len; i += 8)
			*(__u64 *)(s->e.data + off + i) = *(__u64 *)(t->data + at + i);
		return len;
	}
	if (bpf_probe_read_kernel(s->e.data + off, len, (void *)t->data + at))
		return 0;
	return len;
}

/* Text as the call was given it, which isn't a path, or not one of ours. */
static __always_inline __u32 take_given(struct vfs_scratch *s, __u32 off, __u32 max,
					const void *user)
{
	long n;

	if (!user)
		return 0;
	n = bpf_probe_read_user_str(s->e.data + (off & (VFS_PATH_MAX - 1)), max, user);
	if (n < 0)
		s->e.bits |= VFS_UNREADABLE;
	return n > 0 ? n - 1 : 0;
}

struct vfs_open_how {
	__u64 flags, mode, resolve;
};

/* -1 leaves the owner as it is, in 16 bits as well. */
static __always_inline __u32 id16(__u32 id)
{
	return (__u16)id == 0xffff ? (__u32)-1 : (__u16)id;
}

static __always_inline void put_numbers(struct vfs_scratch *s, const volatile struct vfs_call *call)
{
	struct vfs_open_how how = {};

	s->e.flags = arg(s, call->flags);
	s->e.mode = arg(s, call->mode);
	s->e.arg = arg(s, call->arg);
	if (call->bits & VFS_ID16)
		s->e.arg = id16(s->e.arg) | (__u64)id16(arg(s, call->arg2)) << 32;
	else if (call->arg2)
		s->e.arg = (__u32)s->e.arg | arg(s, call->arg2) << 32;
	if (s->e.op == VFS_UNLINK && s->e.flags & K_AT_REMOVEDIR)
		s->e.op = VFS_RMDIR;
	if (!(call->bits & VFS_HOW))
		return;
	if (bpf_probe_read_user(&how, sizeof(how), (void *)s->e.flags))
		s->e.bits |= VFS_UNREADABLE;
	s->e.flags = how.flags;
	s->e.mode = how.mode;
}

/* Both names of a rename or link, or the one of everything else; false: not wanted. */
static __always_inline bool put_paths(struct vfs_scratch *s, struct path_text *t,
				      const volatile struct vfs_call *call)
{
	struct path_filter_config filter = path_filter_read();
	bool on = path_filter_is_on(&filter), wanted = !on;
	int dir = arg(s, call->dir);

	path_text_begin(t, PATH_TEXT_MIDDLE);
	if (call->bits & VFS_BY_FD)
		s->e.fd = dir;
	else if (call->op == VFS_OPEN && s->e.ret >= 0)
		s->e.fd = s->e.ret;
	if (s->e.fd >= 0)
		vfs_text_of_file(s->e.fd);
	/* Not all that can be opened has a name, and some are too deep. */
	if (!(call->bits & VFS_BY_FD) && (t->cut || path_text_len(t) <= 1))
		vfs_text_given(dir, arg(s, call->path));
	if (on)
		wanted = path_is_wanted(&filter);
	if (t->cut)
		s->e.bits |= VFS_CUT;
	s->e.len[0] = vfs_take_text(0);
	if (!call->path2)
		return wanted;
	path_text_begin(t, PATH_TEXT_MIDDLE);
	vfs_text_given(arg(s, call->dir2), arg(s, call->path2));
	if (on)
		wanted |= path_is_wanted(&filter);
	if (t->cut)
		s->e.bits |= VFS_CUT2;
	s->e.len[1] = vfs_take_text(s->e.len[0]);
	return wanted;
}

static __always_inline void send(struct vfs_event *e, __u32 size)
{
	if (size > VFS_DATA_MAX)
		size = VFS_DATA_MAX;
	event_output(e, offsetof(struct vfs_event, data) + size);
}

static __always_inline bool result_wanted(const struct vfs_config *c, long ret)
{
	if (!(ret < 0 ? c->no_failure : c->no_success))
		return true;
	plugin_count(PLUGIN_STAT_FILTERED);
	return false;
}

/* Which call it is, from 1 on; 0: none that is wanted, as nearly all. */
static __always_inline __u32 vfs_call_of(__u32 nr, bool *compat)
{
	__u32 index;

	if (nr >= VFS_NUMBERS)
		return 0;
	/* The verifier must see it of the very register. */
	barrier_var(nr);
	nr &= VFS_NUMBERS - 1;
	if (!(vfs_numbers.wanted[nr / 64] & 1ull << (nr & 63)))
		return 0;
	*compat = syscall_is_compat();
	index = *compat ? vfs_numbers.of[nr].compat : vfs_numbers.of[nr].native;
	barrier_var(index);
	return index & (VFS_CALLS - 1);
}

/* Of a call whose arguments are there. */
static __always_inline void tell_call(struct vfs_scratch *s, __u32 index, long ret, __u32 ops)
{
	const volatile struct vfs_call *call = &vfs_calls[index & (VFS_CALLS - 1)];
	struct path_text *text = path_text_get();
	__u32 off;

	if (!text)
		return;
	__builtin_memset(&s->e, 0, offsetof(struct vfs_event, data));
	s->e.op = call->op;
	s->e.index = index;
	s->e.ret = ret;
	s->e.fd = -1;
	put_numbers(s, call);
	if (!put_paths(s, text, call) || !(ops & 1u << (s->e.op & 31))) {
		plugin_count(PLUGIN_STAT_FILTERED);
		return;
	}
	off = s->e.len[0] + s->e.len[1];
	if (call->text) {
		s->e.len[1] = take_given(s, off & (VFS_PATH_MAX - 1), PATH_TEXT_GIVEN,
					 (void *)arg(s, call->text));
		off += s->e.len[1];
		s->e.len[2] = take_given(s, off & (VFS_PATH_MAX - 1), VFS_FSTYPE_MAX,
					 (void *)arg(s, call->text2));
		off += s->e.len[2];
	}
	process_read_current(&s->e.p);
	send(&s->e, off);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(vfs_exit, struct vfs_pt_regs *regs, long ret)
{
	struct vfs_config config;
	struct vfs_scratch *s;
	bool compat = false;
	__u32 index;

	index = vfs_call_of(regs->VFS_ARGS_NR, &compat);
	if (!index || current_is_self())
		return 0;
	config = config_read();
	if (!result_wanted(&config, ret) || !process_wanted(current_task()) || sampled_out())
		return 0;
	s = scratch_take();
	if (!s)
		return 0;
	syscall_args(s->args, regs, compat);
	tell_call(s, index, ret, config.ops);
	scratch_give(s);
	return 0;
}

#include "bpf/vfs/vfs_uring.bpf.h"
