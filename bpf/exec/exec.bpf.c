/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs that start, processes that end, and those that are there. */
/*
 * The tracepoint comes after the new program's memory is made: whatever system call asked for it
 * (execve, execveat, what posix_spawn and fexecve make of them), its arguments are there to be read,
 * and are those that it got.
 */
#include "bpf/plugin.bpf.h"

#include "bpf/exec/exec.h"
#include "bpf/lib/path.bpf.h"
#include "bpf/lib/process.bpf.h"

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

static __always_inline void put_paths(struct exec_event *e, struct task_struct *t)
{
	struct file *exe = BPF_CORE_READ(t, mm, exe_file);
	struct fs_struct *fs = BPF_CORE_READ(t, fs);
	const __u32 max = EXEC_PATHS_MAX - EXEC_NAME_SIZE;

	if (!path_write((void *)exe + bpf_core_field_offset(struct file, f_path), e->data, &e->size,
			max, EXEC_COMPONENTS))
		e->flags |= EXEC_EXE_CUT;
	e->exe_len = e->size - e->filename_len;
	if (!BPF_CORE_READ(exe, f_inode, i_nlink))
		e->flags |= EXEC_DELETED;
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
	if (bpf_ringbuf_output(&events, e, offsetof(struct exec_event, data) + size,
			       BPF_RB_NO_WAKEUP))
		plugin_count(PLUGIN_STAT_RING_FULL);
	else
		plugin_count(PLUGIN_STAT_SUBMITTED);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec_exec, struct task_struct *p, int old_pid, struct linux_binprm *bprm)
{
	struct task_struct *t = current_task();
	struct exec_config config = config_read();
	struct task_struct *parent;
	struct exec_event *e;
	__u32 zero = 0;

	if (task_is_self(t) || !process_wanted(t))
		return 0;
	e = bpf_map_lookup_elem(&scratch, &zero);
	if (!e)
		return 0;
	__builtin_memset(e, 0, offsetof(struct exec_event, data));
	e->kind = EXEC_EXEC;
	process_read(&e->p, t);
	e->p.tid = old_pid; /* now it has the number of the leader */
	e->euid = BPF_CORE_READ(t, cred, euid.val);
	e->argc = BPF_CORE_READ(bprm, argc);
	parent = BPF_CORE_READ(t, real_parent);
	task_leader_comm(parent, e->parent);
	put_filename(e, bprm);
	put_paths(e, t);
	put_memory(e, t, &config);
	send(e);
	return 0;
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
	if (task_is_self(t) || !process_wanted(t))
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
