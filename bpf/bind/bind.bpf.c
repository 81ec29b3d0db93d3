/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every call of bind(2), whatever became of it. */
#include "bpf/plugin.bpf.h"

#define SOCKCALL_THREADS 1024 /* in the call at a time; it doesn't wait */

#include "bpf/lib/sockcall.bpf.h"

SEC("tp/syscalls/sys_enter_bind")
int bind_begins__tp(struct syscall_enter *ctx)
{
	struct sockcall call = {
		.kind = SOCKCALL_BIND,
		.fd = ctx->args[0],
		.name = ctx->args[1],
		.arg = ctx->args[2],
	};
	struct task_struct *t = current_task();

	if (task_is_self(t) || !process_wanted(t) || sampled_out())
		return 0;
	call.start_ns = bpf_ktime_get_boot_ns();
	sockcall_enter(&call);
	return 0;
}

/* Set by __inet_bind() if the port wasn't 0. */
static __always_inline bool port_was_asked(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & K_SOCK_BINDPORT_LOCK;
}

SEC("tp/syscalls/sys_exit_bind")
int bind_ends__tp(struct syscall_exit *ctx)
{
	struct task_struct *t = current_task();
	struct sockcall call;
	struct sockcall_event *e;
	struct sock *sk;

	if (!sockcall_leave(SOCKCALL_BIND, &call))
		return 0;
	e = sockcall_begin(t, SOCKCALL_BIND, &call, ctx->ret);
	if (!e)
		return 0;
	sk = fd_sock(call.fd);
	if (sk)
		facts_read(&e->s, sk);
	if (sk && !e->error && family_is_ip(e->s.family)) {
		if (port_was_asked(sk))
			e->flags |= SOCKCALL_PORT_ASKED;
	} else if (sk && !e->error && e->s.family == K_AF_UNIX) {
		name_from_unix(e, sk);
	} else {
		name_from_user(e, &call);
	}
	sockcall_send(e);
	return 0;
}
