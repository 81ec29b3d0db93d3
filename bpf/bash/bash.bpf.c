/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Lines that readline() hands to an interactive bash, and the prompts that say a command is over. */
#include "bpf/plugin.bpf.h"

#include <linux/ptrace.h>

#include "bpf/bash/bash.h"
#include "bpf/lib/exe.bpf.h"
#include "bpf/lib/process.bpf.h"
#include "bpf/lib/uprobe.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BASH_SHELLS_MAX);
	__type(key, struct bash_layout);
	__type(value, struct bash_symbols);
} shells SEC(".maps");

/* Shells whose line the return of readline() has seen, until bash puts it into the history. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} seen SEC(".maps");

/* Names of executables to look for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BASH_PROGRAMS_MAX);
	__type(key, char[BASH_NAME_SIZE]);
	__type(value, __u8);
} programs SEC(".maps");

/* Files that the user half has looked at. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BASH_FILES_MAX);
	__type(key, struct bash_file);
	__type(value, __u8);
} files SEC(".maps");

/* What zsh's editor was called for, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} zle_calls SEC(".maps");

/* Src/zsh.h: the first line of a command, or one that goes on with it; others are no prompts. */
#define ZLCON_LINE_START 0
#define ZLCON_LINE_CONT	 1

/* The bash that this process runs, or NULL; *base: the start of its code. */
static __always_inline struct bash_symbols *shell_of(struct task_struct *t, __u64 *base)
{
	struct mm_struct *mm = BPF_CORE_READ(t, mm);
	struct bash_layout key = {};

	*base = BPF_CORE_READ(mm, start_code);
	key.code_size = BPF_CORE_READ(mm, end_code) - *base;
	key.data_start = BPF_CORE_READ(mm, start_data) - *base;
	key.data_end = BPF_CORE_READ(mm, end_data) - *base;
	return bpf_map_lookup_elem(&shells, &key);
}

static __always_inline __s32 shell_int(__u64 base, __s64 offset, __s32 unknown)
{
	__s32 v;

	if (!offset || bpf_probe_read_user(&v, sizeof(v), (void *)(base + offset)))
		return unknown;
	return v;
}

static __always_inline __u64 shell_pointer(__u64 base, __s64 offset)
{
	__u64 v;

	if (!offset || bpf_probe_read_user(&v, sizeof(v), (void *)(base + offset)))
		return 0;
	return v;
}

static __always_inline int tell_prompt(struct bash_symbols *shell, __u64 base, bool continuation)
{
	struct bash_prompt *e;

	if (plugin_is_off())
		return 0;
	e = event_reserve(sizeof(*e));
	if (!e)
		return 0;
	e->kind = BASH_EVENT_PROMPT;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->boot_ns = bpf_ktime_get_boot_ns();
	e->status = shell_int(base, shell->last_command_exit_value, BASH_NO_STATUS);
	e->continuation = continuation;
	event_submit(e);
	return 0;
}

/* Entry of readline(): what ran since the last line is over. A readline() inside a command (read -e) isn't a prompt. */
static __always_inline int on_prompt(void)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__u64 base, prompt;
	struct bash_symbols *shell = shell_of(t, &base);

	if (!shell)
		return 0; /* the line will come without status */
	if (shell_int(base, shell->executing, 0))
		return 0;
	prompt = shell_pointer(base, shell->current_prompt_string);
	return tell_prompt(shell, base,
			   prompt && prompt == shell_pointer(base, shell->ps2_prompt));
}

static __always_inline void fill_tty(struct bash_line *e, struct task_struct *t)
{
	struct tty_struct *tty = BPF_CORE_READ(t, signal, tty);

	e->tty[0] = '\0';
	if (tty)
		bpf_probe_read_kernel_str(e->tty, sizeof(e->tty), &tty->name);
}

static __always_inline int tell(const char *text, struct task_struct *t, struct bash_symbols *shell,
				__u64 base, bool metafied)
{
	struct bash_line *e;
	__u64 cwd = 0;
	long n;

	if (plugin_is_off() || !process_wanted(t))
		return 0;
	e = event_reserve(sizeof(*e));
	if (!e)
		return 0;
	n = bpf_probe_read_user_str(e->text, sizeof(e->text), text);
	if (n <= 1) {
		plugin_count(n < 0 ? PLUGIN_STAT_ERROR : PLUGIN_STAT_FILTERED);
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return 0;
	}
	e->kind = BASH_EVENT_LINE;
	e->metafied = metafied;
	e->len = n - 1;
	process_read(&e->p, t);
	fill_tty(e, t);
	if (shell)
		cwd = shell_pointer(base, shell->cwd);
	n = cwd ? bpf_probe_read_user_str(e->cwd, sizeof(e->cwd), (void *)cwd) : 0;
	e->cwd_len = n > 1 && n < (long)sizeof(e->cwd)
			     ? n - 1
			     : 0; /* a full buffer may have lost its end */
	event_submit(e);
	return 0;
}

/* Return of readline(). any_program: the probe is in a library that others use too, so only a known bash counts. */
static __always_inline int on_line(const char *text, bool any_program)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct bash_symbols *shell;
	__u8 yes = 1;
	__u64 base;

	if (!text || plugin_is_off())
		return 0; /* end of file, or of the plugin */
	shell = shell_of(t, &base);
	if (!shell && any_program)
		return 0;
	if (shell && shell_int(base, shell->executing, 0)) {
		plugin_count(PLUGIN_STAT_FILTERED);
		return 0;
	}
	bpf_map_update_elem(&seen, &pid, &yes, BPF_ANY); /* an LRU map takes every entry */
	return tell(text, t, shell, base, false);
}

SEC("uprobe")
int bash_prompt(struct pt_regs *ctx)
{
	uprobe_keep_stack(ctx);
	return on_prompt();
}

SEC("uretprobe")
int bash_line(struct pt_regs *ctx)
{
	uprobe_keep_stack(ctx);
	return on_line((const char *)PT_REGS_RC(ctx), false);
}

SEC("uretprobe")
int library_line(struct pt_regs *ctx)
{
	uprobe_keep_stack(ctx);
	return on_line((const char *)PT_REGS_RC(ctx), true);
}

/*
 * A readline() that was entered before the probes were there returns unseen: the first line of a shell that waited at
 * its prompt. bash hands it to pre_process_line() right after that.
 */
SEC("uprobe")
int bash_history(struct pt_regs *ctx)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct bash_symbols *shell;
	__u64 base;

	uprobe_keep_stack(ctx);
	if (!bpf_map_delete_elem(&seen, &pid))
		return 0;
	shell = shell_of(t, &base);
	if (!shell || shell_int(base, shell->executing, 0))
		return 0;
	return tell((const char *)PT_REGS_PARM1(ctx), t, shell, base, false);
}

/* char *zleread(char **left, char **right, int flags, int context, ...) of zsh's line editor. */
SEC("uprobe")
int zle_prompt(struct pt_regs *ctx)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__u32 tid = bpf_get_current_pid_tgid(), context = PT_REGS_PARM4(ctx);
	__u64 base;
	struct bash_symbols *shell = shell_of(t, &base);

	uprobe_keep_stack(ctx);
	if (!shell || context > ZLCON_LINE_CONT)
		return 0;
	bpf_map_update_elem(&zle_calls, &tid, &context, BPF_ANY); /* an LRU map takes every entry */
	return tell_prompt(shell, base, context == ZLCON_LINE_CONT);
}

SEC("uretprobe")
int zle_line(struct pt_regs *ctx)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	const char *text = (const char *)PT_REGS_RC(ctx);
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 base;
	struct bash_symbols *shell = shell_of(t, &base);

	uprobe_keep_stack(ctx);
	if (bpf_map_delete_elem(&zle_calls, &tid) || !text || !shell)
		return 0;
	return tell(text, t, shell, base, true);
}

/* Does it run a file of one of the names? */
static __always_inline bool runs_program(struct bash_program *e, struct task_struct *t)
{
	struct dentry *dentry = BPF_CORE_READ(t, mm, exe_file, f_path.dentry);

	e->kind = BASH_EVENT_PROGRAM;
	bpf_probe_read_kernel_str(e->name, sizeof(e->name), BPF_CORE_READ(dentry, d_name.name));
	if (!bpf_map_lookup_elem(&programs, e->name))
		return false;
	e->pid = BPF_CORE_READ(t, tgid);
	exe_read(&e->exe, t);
	return true;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(program_starts, struct task_struct *p, int old_pid, struct linux_binprm *bprm)
{
	struct bash_program program = {}, *e;
	struct bash_file file = {};

	if (!runs_program(&program, current_task()))
		return 0;
	file.ino = program.exe.ino;
	file.dev = program.exe.dev;
	if (bpf_map_lookup_elem(&files, &file))
		return 0;
	e = event_reserve(sizeof(*e));
	if (!e)
		return 0;
	*e = program;
	event_submit(e);
	return 0;
}

SEC("iter/task")
int programs_running(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct bash_program e = {};

	if (t && t->tgid == t->pid && runs_program(&e, t))
		bpf_seq_write(ctx->meta->seq, &e, sizeof(e));
	return 0;
}
