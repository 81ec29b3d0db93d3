/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs that put the plugin host to the test: alternatives of which some can't work, and a
 * source of any number of samples. */
#include "bpf/plugin.bpf.h"

#include "bpf/lib/syscall.bpf.h"
#include "tests/kernel/host_plugin.h"

const volatile __u32 watched_tgid;

SEC("fentry/no_such_function_anywhere")
int see__fentry(void *ctx)
{
	return 0;
}

/* The verifier refuses it: the tracepoint has no such argument. */
SEC("tp_btf/sched_process_fork")
int see__refused(__u64 *ctx)
{
	return (int)ctx[100];
}

SEC("tp_btf/sched_process_fork")
int see__works(__u64 *ctx)
{
	struct host_plugin_event *e;

	if (bpf_get_current_pid_tgid() >> 32 != watched_tgid)
		return 0;
	e = event_reserve(sizeof(*e));
	if (!e)
		return 0;
	e->kind = HOST_PLUGIN_FORK;
	e->self = is_self();
	e->ok = 0;
	event_submit(e);
	return 0;
}

SEC("fentry/no_such_function_either")
int opt_extra__fentry(void *ctx)
{
	return 0;
}

SEC("tp/syscalls/sys_exit_no_such_call")
int call__no_such(struct syscall_exit *ctx)
{
	return 0;
}

SEC("tp/syscalls/sys_exit_getsid")
int call__tp(struct syscall_exit *ctx)
{
	struct host_plugin_event *e;

	if (bpf_get_current_pid_tgid() >> 32 != watched_tgid)
		return 0;
	e = event_reserve(sizeof(*e));
	if (!e)
		return 0;
	e->kind = HOST_PLUGIN_CALL;
	e->self = is_self();
	e->ok = ctx->ret >= 0;
	event_submit(e);
	return 0;
}

/* Run by the test, never attached: as many samples as its argument says. */
SEC("raw_tp/sched_switch")
int flood(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 n = ctx->args[0];

	for (__u32 i = 0; i < HOST_PLUGIN_FLOOD_MAX && i < n; i++) {
		struct host_plugin_event *e = event_reserve(sizeof(*e));

		if (!e)
			continue;
		e->kind = HOST_PLUGIN_FLOOD;
		e->self = 0;
		e->ok = 0;
		event_submit(e);
	}
	return 0;
}
