/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Signals as they are made: who sends which one to whom. */
/* The tracepoint is behind all ways that lead to a signal: kill, tkill, tgkill, the queued ones,
 * pidfd_send_signal, timers, faults, terminals, children that end. */
#include "bpf/plugin.bpf.h"

#include "bpf/lib/process.bpf.h"
#include "bpf/signal/signal.h"

/* Bit n - 1: signal n is wanted. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} signal_mask SEC(".maps");

/* include/linux/sched/signal.h: what stands in the place of the details. */
#define K_SEND_SIG_NOINFO 0
#define K_SEND_SIG_PRIV	  1

/* include/uapi/asm-generic/siginfo.h */
#define K_SI_USER    0
#define K_SI_KERNEL  0x80
#define K_SI_TKILL   (-6)
#define K_SI_TIMER   (-2)
#define K_SI_MESGQ   (-3)
#define K_SI_ASYNCIO (-4)
#define K_SI_SIGIO   (-5)

static __always_inline bool signal_wanted(int sig)
{
	__u32 zero = 0;
	__u64 *mask = bpf_map_lookup_elem(&signal_mask, &zero);

	if (sig < 1 || sig > SIGNAL_MAX || !mask)
		return false;
	if (*mask & 1ull << ((sig - 1) & 63))
		return true;
	plugin_count(PLUGIN_STAT_FILTERED);
	return false;
}

/* Codes of system calls that send signals are not above 0; those that are and aren't sent by one come
 * from whatever ran when a timer, a message or a read was over. */
static __always_inline bool code_of_kernel(int code)
{
	return code > 0 || (code <= K_SI_TIMER && code >= K_SI_SIGIO);
}

SEC("tp_btf/signal_generate")
int BPF_PROG(signal_made, int sig, struct kernel_siginfo *info, struct task_struct *target,
	     int group, int result)
{
	struct task_struct *t = current_task();
	__s32 code = K_SI_USER, error = 0;
	struct signal_event *e;
	bool kernel;

	if ((__u64)info == K_SEND_SIG_PRIV) {
		code = K_SI_KERNEL;
	} else if ((__u64)info != K_SEND_SIG_NOINFO) {
		bpf_core_read(&code, sizeof(code), &info->si_code);
		bpf_core_read(&error, sizeof(error), &info->si_errno);
	}
	kernel = code_of_kernel(code);
	if (task_is_self(t) && (!kernel || task_is_self(target)))
		return 0;
	/* Whoever a kernel's signal found running has nothing to do with it. */
	if (!signal_wanted(sig) || !process_wanted(kernel ? target : t) || sampled_out())
		return 0;
	e = event_reserve(sizeof(*e));
	if (!e)
		return 0;
	process_read(&e->p, t);
	e->target_pid = KERNEL_READ(target, tgid);
	e->target_tid = KERNEL_READ(target, pid);
	e->target_uid = KERNEL_READ(target, cred, uid.val);
	task_leader_comm(target, e->target_comm);
	e->kernel = kernel;
	e->sig = sig;
	e->code = code;
	e->error = error;
	e->group = group;
	e->result = result;
	event_submit(e);
	return 0;
}
