/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Calls of listen, accept and connect, and what becomes of connections that connect() didn't wait
 * for. */
#include "bpf/plugin.bpf.h"

#include "bpf/tcp/tcp.h"

#include "bpf/lib/sockcall.bpf.h"

#define K_EAGAIN      11
#define K_EINPROGRESS 115

/* Options; the user half writes them while we run. */
volatile __u32 tcp_only, would_block;

/*
 * A connection between its first packet and the answer. The end of the call and the answer come on
 * different CPUs in any order: each writes its part, sets its mark, then looks for the other's, and
 * whoever takes the entry away tells.
 */
struct pending {
	struct process_context p; /* with returned */
	struct sock_facts s;	  /* with done */
	__u64 start_ns, done_ns;
	__u32 returned, done;
	__u32 failed;
	__s32 fd, error;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TCP_PENDING_MAX);
	__type(key, __u64); /* struct sock * */
	__type(value, struct pending);
} pending SEC(".maps");

static __always_inline bool unwanted(struct task_struct *t)
{
	return task_is_self(t) || !process_wanted(t) || sampled_out();
}

/* After the facts are read. */
static __always_inline bool left_out(const struct sockcall_event *e)
{
	if (!tcp_only || (family_is_ip(e->s.family) && e->s.type == K_SOCK_STREAM))
		return false;
	plugin_count(PLUGIN_STAT_FILTERED);
	return true;
}

SEC("tp/syscalls/sys_enter_listen")
int listen_begins__tp(struct syscall_enter *ctx)
{
	struct sockcall call = {
		.kind = SOCKCALL_LISTEN,
		.fd = ctx->args[0],
		.arg = ctx->args[1],
	};

	if (unwanted(current_task()))
		return 0;
	call.start_ns = bpf_ktime_get_boot_ns();
	sockcall_enter(&call);
	return 0;
}

SEC("tp/syscalls/sys_exit_listen")
int listen_ends__tp(struct syscall_exit *ctx)
{
	struct sockcall_event *e;
	struct sockcall call;
	struct sock *sk;

	if (!sockcall_leave(SOCKCALL_LISTEN, &call))
		return 0;
	e = sockcall_begin(current_task(), SOCKCALL_LISTEN, &call, ctx->ret);
	if (!e)
		return 0;
	sk = fd_sock(call.fd);
	if (sk)
		facts_read(&e->s, sk);
	if (left_out(e))
		return 0;
	if (sk && e->s.family == K_AF_UNIX)
		name_from_unix(e, sk);
	sockcall_send(e);
	return 0;
}

/* Waits for as long as it likes: what can't be remembered still gets its row, without descriptor
 * and duration, as do calls that began before us. */
static __always_inline int accept_begins(struct syscall_enter *ctx)
{
	struct sockcall call = {
		.kind = SOCKCALL_ACCEPT,
		.fd = ctx->args[0],
		.start_ns = bpf_ktime_get_boot_ns(),
	};
	__u32 tid = bpf_get_current_pid_tgid();

	if (!task_is_self(current_task()))
		bpf_map_update_elem(&calls, &tid, &call, BPF_ANY);
	return 0;
}

static __always_inline int accept_ends(struct syscall_exit *ctx)
{
	struct task_struct *t = current_task();
	struct sockcall_event *e;
	struct sockcall call;
	bool timed = sockcall_leave(SOCKCALL_ACCEPT, &call);
	struct sock *sk;

	if (ctx->ret == -K_EAGAIN && !would_block) {
		plugin_count(PLUGIN_STAT_FILTERED);
		return 0;
	}
	if (unwanted(t))
		return 0;
	e = sockcall_begin(t, SOCKCALL_ACCEPT, timed ? &call : NULL, ctx->ret);
	if (!e)
		return 0;
	e->arg = e->error ? -1 : ctx->ret;
	sk = fd_sock(e->error ? e->fd : ctx->ret);
	if (sk)
		facts_read(&e->s, sk);
	if (left_out(e))
		return 0;
	if (sk && e->s.family == K_AF_UNIX)
		name_from_unix(e, sk);
	sockcall_send(e);
	return 0;
}

SEC("tp/syscalls/sys_enter_accept")
int accept_begins__tp(struct syscall_enter *ctx)
{
	return accept_begins(ctx);
}

SEC("tp/syscalls/sys_enter_accept4")
int accept4_begins__tp(struct syscall_enter *ctx)
{
	return accept_begins(ctx);
}

SEC("tp/syscalls/sys_exit_accept")
int accept_ends__tp(struct syscall_exit *ctx)
{
	return accept_ends(ctx);
}

SEC("tp/syscalls/sys_exit_accept4")
int accept4_ends__tp(struct syscall_exit *ctx)
{
	return accept_ends(ctx);
}

SEC("tp/syscalls/sys_enter_connect")
int connect_begins__tp(struct syscall_enter *ctx)
{
	struct sockcall call = {
		.kind = SOCKCALL_CONNECT,
		.fd = ctx->args[0],
		.name = ctx->args[1],
		.arg = ctx->args[2],
	};

	/* Remembered in any case: a connection that begins outside of the call is another matter.
	 */
	call.unwanted = unwanted(current_task());
	call.start_ns = bpf_ktime_get_boot_ns();
	sockcall_enter(&call);
	return 0;
}

/* Takes the entry away and tells, unless the other side was first. */
static __always_inline void pending_tell(__u64 key, struct pending *p, __u64 when)
{
	const __u64 size = offsetof(struct sockcall_event, name);
	struct sockcall_event *e = event_reserve(size);

	if (!e) {
		bpf_map_delete_elem(&pending, &key);
		return;
	}
	/* All of it before the entry is free for another. */
	__builtin_memcpy(&e->p, &p->p, sizeof(e->p));
	__builtin_memcpy(&e->s, &p->s, sizeof(e->s));
	e->p.boot_ns = when;
	e->duration_ns = p->done_ns - p->start_ns;
	e->kind = p->failed ? SOCKCALL_CONNECT_FAILED : SOCKCALL_CONNECTED;
	e->fd = p->fd;
	e->arg = 0;
	e->error = p->error;
	e->flags = SOCKCALL_TIMED;
	e->name_len = 0;
	if (bpf_map_delete_elem(&pending, &key))
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
	else
		event_submit(e);
}

/* The call is over: the answer, if it isn't there yet, is told by whoever brings it. */
static __always_inline void connection_left(const struct sockcall *call,
					    const struct process_context *who, int error)
{
	__u64 key = call->sk;
	struct pending *p = bpf_map_lookup_elem(&pending, &key);

	if (!p)
		return;
	if (error != K_EINPROGRESS && error != K_EINTR) {
		bpf_map_delete_elem(&pending, &key);
		return;
	}
	__builtin_memcpy(&p->p, who, sizeof(p->p));
	__sync_fetch_and_add(&p->returned, 1);
	if (*(volatile __u32 *)&p->done)
		pending_tell(key, p, who->boot_ns + 1);
}

SEC("tp/syscalls/sys_exit_connect")
int connect_ends__tp(struct syscall_exit *ctx)
{
	struct sockcall_event *e;
	struct sockcall call;
	struct sock *sk;

	if (!sockcall_leave(SOCKCALL_CONNECT, &call) || call.unwanted)
		return 0;
	e = sockcall_begin(current_task(), SOCKCALL_CONNECT, &call, ctx->ret);
	if (!e)
		return 0;
	sk = fd_sock(call.fd);
	if (sk)
		facts_read(&e->s, sk);
	if (left_out(e))
		return 0;
	/* A socket on its way to a port knows better where than its caller. */
	if (!family_is_ip(e->s.family) || !e->s.remote_port ||
	    (e->error && e->error != K_EINPROGRESS))
		name_from_user(e, &call);
	sockcall_send(e);
	if (call.sk)
		connection_left(&call, &e->p, e->error);
	return 0;
}

static __always_inline void connection_begins(struct sock *sk)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct sockcall *call = bpf_map_lookup_elem(&calls, &tid);
	struct task_struct *t = current_task();
	__u64 key = (__u64)sk;
	struct pending p = {.fd = -1};

	if (call && call->kind == SOCKCALL_CONNECT) {
		if (call->unwanted)
			return;
		p.fd = call->fd;
		p.start_ns = call->start_ns;
	} else {
		/* By sendmsg(MSG_FASTOPEN), io_uring or the kernel: no call to wait for. */
		if (unwanted(t))
			return;
		process_read(&p.p, t);
		p.start_ns = p.p.boot_ns;
		p.returned = 1;
	}
	if (bpf_map_update_elem(&pending, &key, &p, BPF_ANY))
		plugin_count(PLUGIN_STAT_MAP_FULL);
	else if (!p.returned && call)
		call->sk = key;
}

static __always_inline void connection_answered(struct sock *sk, int state)
{
	__u64 key = (__u64)sk;
	struct pending *p = bpf_map_lookup_elem(&pending, &key);

	if (!p)
		return;
	facts_read(&p->s, sk);
	p->done_ns = bpf_ktime_get_boot_ns();
	p->failed = state == K_TCP_CLOSE;
	p->error = p->failed ? KERNEL_READ(sk, sk_err) : 0;
	__sync_fetch_and_add(&p->done, 1);
	if (*(volatile __u32 *)&p->returned)
		pending_tell(key, p, p->done_ns);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int oldstate, int newstate)
{
	if (sk->sk_protocol != K_IPPROTO_TCP)
		return 0;
	if (newstate == K_TCP_SYN_SENT)
		connection_begins(sk);
	else if ((oldstate == K_TCP_SYN_SENT || oldstate == K_TCP_SYN_RECV) &&
		 newstate != K_TCP_SYN_RECV)
		connection_answered(sk, newstate);
	return 0;
}
