/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Lines that readline() hands to an interactive bash, and the prompts that say a command is over. */
#include "bpf/plugin.bpf.h"

#include <linux/ptrace.h>

#include "bpf/bash/bash.h"

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

/* Entry of readline(): what ran since the last line is over. A readline() inside a command (read -e) isn't a prompt. */
static __always_inline int on_prompt(void)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__u64 base, prompt;
	struct bash_symbols *shell = shell_of(t, &base);
	struct bash_prompt *e;

	if (!shell)
		return 0; /* the line will come without status */
	if (shell_int(base, shell->executing, 0))
		return 0;
	e = event_reserve(sizeof(*e));
	if (!e)
		return 0;
	e->kind = BASH_EVENT_PROMPT;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->boot_ns = bpf_ktime_get_boot_ns();
	e->status = shell_int(base, shell->last_command_exit_value, BASH_NO_STATUS);
	prompt = shell_pointer(base, shell->current_prompt_string);
	e->continuation = prompt && prompt == shell_pointer(base, shell->ps2_prompt);
	event_submit(e);
	return 0;
}

static __always_inline void fill_owner(struct bash_line *e, struct task_struct *t)
{
	struct tty_struct *tty = BPF_CORE_READ(t, signal, tty);

	e->boot_ns = bpf_ktime_get_boot_ns();
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->ppid = BPF_CORE_READ(t, real_parent, tgid);
	e->uid = bpf_get_current_uid_gid();
	e->cgroup_id = bpf_get_current_cgroup_id();
	e->loginuid = e->session_id = (__u32)-1;
	/* Only with CONFIG_AUDIT. */
	if (bpf_core_field_exists(t->loginuid))
		e->loginuid = BPF_CORE_READ(t, loginuid.val);
	if (bpf_core_field_exists(t->sessionid))
		e->session_id = BPF_CORE_READ(t, sessionid);
	e->tty[0] = '\0';
	if (tty)
		bpf_probe_read_kernel_str(e->tty, sizeof(e->tty), &tty->name);
}

static __always_inline int tell(const char *text, struct task_struct *t, struct bash_symbols *shell,
				__u64 base)
{
	struct bash_line *e = event_reserve(sizeof(*e));
	__u64 cwd = 0;
	long n;

	if (!e)
		return 0;
	n = bpf_probe_read_user_str(e->text, sizeof(e->text), text);
	if (n <= 1) {
		plugin_count(n < 0 ? PLUGIN_STAT_ERROR : PLUGIN_STAT_FILTERED);
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return 0;
	}
	e->kind = BASH_EVENT_LINE;
	e->len = n - 1;
	fill_owner(e, t);
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

	if (!text)
		return 0; /* end of file */
	shell = shell_of(t, &base);
	if (!shell && any_program)
		return 0;
	if (shell && shell_int(base, shell->executing, 0)) {
		plugin_count(PLUGIN_STAT_FILTERED);
		return 0;
	}
	bpf_map_update_elem(&seen, &pid, &yes, BPF_ANY); /* an LRU map takes every entry */
	return tell(text, t, shell, base);
}

SEC("uprobe")
int bash_prompt(struct pt_regs *ctx)
{
	return on_prompt();
}

SEC("uretprobe")
int bash_line(struct pt_regs *ctx)
{
	return on_line((const char *)PT_REGS_RC(ctx), false);
}

SEC("uretprobe")
int library_line(struct pt_regs *ctx)
{
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

	if (!bpf_map_delete_elem(&seen, &pid))
		return 0;
	shell = shell_of(t, &base);
	if (!shell || shell_int(base, shell->executing, 0))
		return 0;
	return tell((const char *)PT_REGS_PARM1(ctx), t, shell, base);
}
