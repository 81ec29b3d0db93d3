/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs that start, processes that end, and those that are there. */
/*
 * The tracepoint comes after the new program's memory is made: whatever system call asked for it
 * (execve, execveat, what posix_spawn and fexecve make of them), its arguments are there to be read,
 * and are those that it got.
 */
#include "bpf/plugin.bpf.h"

#include "bpf/exec/exec.h"
#include "bpf/lib/exe.bpf.h"
#include "bpf/lib/path.bpf.h"
#include "bpf/lib/process.bpf.h"
#include "bpf/lib/syscall.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernel_cap {
	u32 cap[2];
};

/* Since f122a08b197d ("capability: just use a 'u64' instead of a 'u32[2]' array"), 6.3, of one u64;
 * on machines with the low byte first that is the same. */
struct cred___caps {
	struct kernel_cap cap_effective;
};

#pragma clang attribute pop

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64); /* struct exec_config, read in one piece */
} exec_config SEC(".maps");

union exec_word {
	__u64 word;
	struct exec_config config;
};

/* Where an event is put together: it has no fixed size, and is larger than the stack. The programs
 * of one CPU don't interrupt themselves. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec_event);
} scratch SEC(".maps");

/* Processes that were told as gone: two last threads may both see that no other lives. */
struct ended {
	__u64 start_ns;
	__u64 tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, struct ended);
	__type(value, __u8);
} ended SEC(".maps");

/* Arguments of calls that go on, by the number of the thread that made them. */
struct exec_call {
	__u64 filename, argv;
	__s32 dirfd;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct exec_call);
} calls SEC(".maps");

static __always_inline struct exec_config config_read(void)
{
	union exec_word w = {};
	__u32 zero = 0;
	__u64 *config = bpf_map_lookup_elem(&exec_config, &zero);

	if (config)
		w.word = *(volatile __u64 *)config;
	return w.config;
}

static __always_inline void put_filename(struct exec_event *e, struct linux_binprm *bprm)
{
	long n = bpf_probe_read_kernel_str(e->data, 4096, BPF_CORE_READ(bprm, filename));

	e->filename_len = e->size = n > 0 ? n : 0;
}

static __always_inline void put_exe(struct exec_event *e, struct task_struct *t)
{
	struct file *exe = BPF_CORE_READ(t, mm, exe_file);
	const __u32 max = EXEC_PATHS_MAX - EXEC_NAME_SIZE;

	if (!path_write((void *)exe + bpf_core_field_offset(struct file, f_path), e->data, &e->size,
			max, EXEC_COMPONENTS))
		e->flags |= EXEC_EXE_CUT;
	e->exe_len = e->size - e->filename_len;
	if (!BPF_CORE_READ(exe, f_inode, i_nlink))
		e->flags |= EXEC_DELETED;
	exe_read(&e->exe, t);
}

static __always_inline void put_cwd(struct exec_event *e, struct task_struct *t)
{
	struct fs_struct *fs = BPF_CORE_READ(t, fs);
	const __u32 max = EXEC_PATHS_MAX - EXEC_NAME_SIZE;

	if (!path_write((void *)fs + bpf_core_field_offset(struct fs_struct, pwd), e->data,
			&e->size, max, EXEC_COMPONENTS))
		e->flags |= EXEC_CWD_CUT;
	e->cwd_len = e->size - e->filename_len - e->exe_len;
}

/* [from, to) of the process's memory, max bytes at most; returns how many, negative: unreadable. */
static __always_inline long put_block(char *dst, __u64 from, __u64 to, __u32 max)
{
	__u64 size = to > from ? to - from : 0;
	__u32 n = size > max ? max : size;

	barrier_var(n);
	if (n > EXEC_BLOCK_MAX)
		n = EXEC_BLOCK_MAX;
	if (!n)
		return 0;
	if (bpf_probe_read_user(dst, n, (void *)from))
		return -1;
	return n;
}

static __always_inline void put_memory(struct exec_event *e, struct task_struct *t,
				       const struct exec_config *c)
{
	struct mm_struct *mm = BPF_CORE_READ(t, mm);
	__u64 from = BPF_CORE_READ(mm, arg_start), to = BPF_CORE_READ(mm, arg_end);
	__u32 off = *(volatile __u32 *)&e->size;
	long n;

	if (off > EXEC_PATHS_MAX)
		return;
	e->args_size = to - from;
	n = put_block(e->data + off, from, to, c->args_max);
	if (n < 0)
		e->flags |= EXEC_ARGS_UNREADABLE;
	else
		e->args_len = n;
	e->size += e->args_len;
	off = *(volatile __u32 *)&e->size;
	if (off > EXEC_PATHS_MAX + EXEC_BLOCK_MAX || !c->env_max)
		return;
	n = put_block(e->data + off, BPF_CORE_READ(mm, env_start), BPF_CORE_READ(mm, env_end),
		      c->env_max);
	if (n < 0)
		e->flags |= EXEC_ENV_UNREADABLE;
	else
		e->env_len = n;
	e->size += e->env_len;
}

static __always_inline void send(struct exec_event *e)
{
	__u32 size = *(volatile __u32 *)&e->size;

	if (size > EXEC_DATA_MAX)
		size = EXEC_DATA_MAX;
	event_output(e, offsetof(struct exec_event, data) + size);
}

/* From the parent to the first process of the pid namespaces that we see. */
static __always_inline void put_ancestors(struct exec_event *e, struct task_struct *t)
{
	for (int i = 0; i < EXEC_ANCESTORS; i++) {
		t = BPF_CORE_READ(t, group_leader, real_parent, group_leader);
		e->chain[i].pid = BPF_CORE_READ(t, tgid);
		if (!e->chain[i].pid)
			break;
		task_leader_comm(t, e->chain[i].comm);
		e->ancestors = i + 1;
	}
}

/* What all events have; NULL: none is wanted of this process. */
static __always_inline struct exec_event *event_begin(struct task_struct *t, enum exec_kind kind)
{
	struct cred___caps *cred = (void *)BPF_CORE_READ(t, cred);
	struct exec_event *e;
	__u32 zero = 0;

	if (task_is_self(t) || !process_wanted(t) || sampled_out_of(BPF_CORE_READ(t, tgid)))
		return NULL;
	e = bpf_map_lookup_elem(&scratch, &zero);
	if (!e)
		return NULL;
	__builtin_memset(e, 0, offsetof(struct exec_event, data));
	e->kind = kind;
	process_read(&e->p, t);
	e->euid = BPF_CORE_READ(t, cred, euid.val);
	bpf_core_read(&e->capabilities, sizeof(e->capabilities), &cred->cap_effective);
	if (task_root_is_top(t))
		e->flags |= EXEC_ROOT_TOP;
	put_ancestors(e, t);
	return e;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec_exec, struct task_struct *p, int old_pid, struct linux_binprm *bprm)
{
	struct task_struct *t = current_task();
	struct exec_config config = config_read();
	struct exec_event *e = event_begin(t, EXEC_EXEC);

	if (!e)
		return 0;
	e->p.tid = old_pid; /* now it has the number of the leader */
	e->argc = BPF_CORE_READ(bprm, argc);
	put_filename(e, bprm);
	put_exe(e, t);
	put_cwd(e, t);
	put_memory(e, t, &config);
	send(e);
	return 0;
}

static __always_inline int call_begins(__u64 filename, __u64 argv, __s32 dirfd)
{
	struct exec_call call = {.filename = filename, .argv = argv, .dirfd = dirfd};
	__u32 tid = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&calls, &tid, &call, BPF_ANY); /* an LRU map takes every entry */
	return 0;
}

/* The kernel has read the name, and most of the arguments: what it hasn't may be on a page that
 * isn't there. */
static __always_inline void put_call(struct exec_event *e, const struct exec_call *call, __u32 max)
{
	volatile __u32 *size = &e->size;
	__u32 begin, at;
	long n;

	n = bpf_probe_read_user_str(e->data, 4096, (void *)call->filename);
	e->filename_len = e->size = n > 0 ? n : 0;
	put_cwd(e, current_task());
	begin = *size;
	/* As a loop it may be laid out so that its end falls through to its begin: the
	 * verifier of 5.10 takes that for a loop without end. */
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < EXEC_FAILED_ARGS + 1; i++) {
		__u64 arg = 0;

		at = *size;
		if (bpf_probe_read_user(&arg, sizeof(arg), (void *)(call->argv + i * sizeof(arg))))
			e->flags |= EXEC_ARGS_UNREADABLE;
		if (!arg)
			break;
		if (i == EXEC_FAILED_ARGS || at - begin > max ||
		    at > EXEC_PATHS_MAX + EXEC_BLOCK_MAX) {
			e->flags |= EXEC_ARGS_CUT;
			break;
		}
		n = bpf_probe_read_user_str(e->data + at, EXEC_FAILED_ARG_SIZE, (void *)arg);
		if (n < 0) {
			e->flags |= EXEC_ARGS_UNREADABLE;
			break;
		}
		if (n == EXEC_FAILED_ARG_SIZE)
			e->flags |= EXEC_ARGS_CUT;
		*size = at + n;
		e->argc = i + 1;
	}
	e->args_len = *size - begin;
	if (e->args_len > max) {
		e->args_len = max;
		e->flags |= EXEC_ARGS_CUT;
	}
}

static __always_inline int call_ends(long ret)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct exec_call *found = bpf_map_lookup_elem(&calls, &tid), call;
	struct exec_config config = config_read();
	struct exec_event *e;

	if (!found)
		return 0; /* began before we looked, or it has the number of the leader now */
	call = *found;
	bpf_map_delete_elem(&calls, &tid);
	if (ret >= 0 || !config.failed || plugin_is_off())
		return 0;
	e = event_begin(current_task(), EXEC_FAILED);
	if (!e)
		return 0;
	e->error = -ret;
	e->dirfd = call.dirfd;
	put_call(e, &call, config.args_max);
	send(e);
	return 0;
}

/* Attached while the option failed asks for it, and until the kernel has ended their links. */
SEC("tp/syscalls/sys_enter_execve")
int exec_call_begins(struct syscall_enter *ctx)
{
	return call_begins(ctx->args[0], ctx->args[1], EXEC_FDCWD);
}

SEC("tp/syscalls/sys_enter_execveat")
int exec_callat_begins(struct syscall_enter *ctx)
{
	return call_begins(ctx->args[1], ctx->args[2], ctx->args[0]);
}

SEC("tp/syscalls/sys_exit_execve")
int exec_call_ends(struct syscall_exit *ctx)
{
	return call_ends(ctx->ret);
}

SEC("tp/syscalls/sys_exit_execveat")
int exec_callat_ends(struct syscall_exit *ctx)
{
	return call_ends(ctx->ret);
}

/* Once a process: the first of its last threads that gets here. */
static __always_inline bool process_is_over(struct task_struct *t, struct ended *id)
{
	__u8 yes = 1;

	if (BPF_CORE_READ(t, signal, live.counter))
		return false;
	id->start_ns = BPF_CORE_READ(t, group_leader, start_boottime);
	id->tgid = BPF_CORE_READ(t, tgid);
	return !bpf_map_update_elem(&ended, id, &yes, BPF_NOEXIST);
}

static __always_inline __u32 wait_status(struct task_struct *t)
{
	struct signal_struct *s = BPF_CORE_READ(t, signal);

	return BPF_CORE_READ(s, flags) & K_SIGNAL_GROUP_EXIT
		       ? BPF_CORE_READ(s, group_exit_code)
		       : BPF_CORE_READ(t, group_leader, exit_code);
}

/* Of threads that are gone, of this one, and of a leader that waits for it. */
static __always_inline void add_usage(struct exec_exit *e, struct task_struct *t)
{
	struct task_struct *leader = BPF_CORE_READ(t, group_leader);
	struct signal_struct *s = BPF_CORE_READ(t, signal);

	e->utime = BPF_CORE_READ(s, utime) + BPF_CORE_READ(t, utime);
	e->stime = BPF_CORE_READ(s, stime) + BPF_CORE_READ(t, stime);
	e->runtime = BPF_CORE_READ(s, sum_sched_runtime) + BPF_CORE_READ(t, se.sum_exec_runtime);
	if (leader != t) {
		e->utime += BPF_CORE_READ(leader, utime);
		e->stime += BPF_CORE_READ(leader, stime);
		e->runtime += BPF_CORE_READ(leader, se.sum_exec_runtime);
	}
	e->maxrss = BPF_CORE_READ(s, maxrss);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(exec_exit, struct task_struct *p)
{
	struct task_struct *t = current_task();
	struct exec_config config = config_read();
	struct exec_exit *e;
	struct ended id;

	if (!config.exits || !process_is_over(t, &id))
		return 0;
	if (task_is_self(t) || !process_wanted(t) || sampled_out_of(id.tgid))
		return 0;
	e = event_reserve(sizeof(*e));
	if (!e)
		return 0;
	e->kind = EXEC_EXIT;
	e->code = wait_status(t);
	e->start_ns = id.start_ns;
	process_read(&e->p, t);
	add_usage(e, t);
	event_submit(e);
	return 0;
}

SEC("iter/task")
int exec_processes(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *t = ctx->task;
	struct exec_process e = {};

	if (!t || t->tgid != t->pid)
		return 0;
	process_read(&e.p, t);
	e.p.boot_ns = BPF_CORE_READ(t, start_boottime);
	e.p.sample_rate = 1; /* they are all there */
	e.runtime = BPF_CORE_READ(t, signal, sum_sched_runtime) +
		    BPF_CORE_READ(t, se.sum_exec_runtime);
	if (bpf_core_field_exists(t->__state))
		e.state = BPF_CORE_READ(t, __state);
	else
		e.state = BPF_CORE_READ((struct task_struct___state *)t, state);
	e.exit_state = BPF_CORE_READ(t, exit_state);
	e.threads = BPF_CORE_READ(t, signal, nr_threads);
	e.kthread = !!(BPF_CORE_READ(t, flags) & K_PF_KTHREAD);
	bpf_seq_write(seq, &e, sizeof(e));
	return 0;
}
