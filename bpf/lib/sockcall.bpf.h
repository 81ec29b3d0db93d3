/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* System calls on sockets: from their entry to what the socket says at their end. */
/*
 * Addresses are read at the end of a call, from the socket where it has them (what the kernel chose
 * or a cgroup's program rewrote), else from the caller's memory: by then the kernel itself has read
 * it, so that the page is there.
 */
#pragma once

#include "bpf/lib/process.bpf.h"
#include "bpf/lib/sock.h"
#include "bpf/lib/sockcall.h"
#include "bpf/lib/syscall.bpf.h"

/* Codes that calls end with when a signal interrupts them and that no process sees
 * (include/linux/errno.h): it sees EINTR, or the call begins again. */
#define K_ERESTARTSYS		512
#define K_ERESTART_RESTARTBLOCK 516
#define K_EINTR			4

/* A call that a thread is in. */
struct sockcall {
	__u64 start_ns;
	__u64 name; /* in the caller's memory */
	__u64 sk;   /* of the connection that it began */
	__s32 fd;
	__s32 arg; /* size of the name, or backlog */
	__u32 kind;
	__u32 unwanted;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SOCKCALL_THREADS);
	__type(key, __u32);
	__type(value, struct sockcall);
} calls SEC(".maps");

/* Events have no fixed size. The programs of system calls don't interrupt each other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sockcall_event);
} scratch SEC(".maps");

static __always_inline bool sockcall_enter(const struct sockcall *call)
{
	__u32 tid = bpf_get_current_pid_tgid();

	if (!bpf_map_update_elem(&calls, &tid, call, BPF_ANY))
		return true;
	plugin_count(PLUGIN_STAT_MAP_FULL);
	return false;
}

/* Takes the call that this thread is in; false: it began before us. */
static __always_inline bool sockcall_leave(__u32 kind, struct sockcall *call)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct sockcall *found = bpf_map_lookup_elem(&calls, &tid);

	if (!found)
		return false;
	*call = *found;
	bpf_map_delete_elem(&calls, &tid);
	return call->kind == kind; /* the end of another was missed */
}

static __always_inline int sockcall_errno(long ret)
{
	if (ret >= 0)
		return 0;
	if (-ret >= K_ERESTARTSYS && -ret <= K_ERESTART_RESTARTBLOCK)
		return K_EINTR;
	return -ret;
}

/* Of the current process; NULL: not an open socket. */
static __always_inline struct sock *fd_sock(int fd)
{
	struct task_struct *t = current_task();
	struct fdtable *fdt = KERNEL_READ(t, files, fdt);
	struct file **files, *file = NULL;

	if (fd < 0 || (__u32)fd >= KERNEL_READ(fdt, max_fds))
		return NULL;
	files = KERNEL_READ(fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), &files[(__u32)fd]);
	return file ? file_sock_probe(file) : NULL;
}

static __always_inline bool family_is_ip(__u16 family)
{
	return family == K_AF_INET || family == K_AF_INET6;
}

static __always_inline void facts_read(struct sock_facts *s, struct sock *sk)
{
	s->family = KERNEL_READ(sk, __sk_common.skc_family);
	s->type = KERNEL_READ(sk, sk_type);
	s->protocol = KERNEL_READ(sk, sk_protocol);
	s->netns = KERNEL_READ(sk, __sk_common.skc_net.net, ns.inum);
	s->bound_dev_if = KERNEL_READ(sk, __sk_common.skc_bound_dev_if);
	if (!family_is_ip(s->family))
		return;
	/* skc_num is 0 already when a connection has just ended. */
	s->local_port = bpf_ntohs(KERNEL_READ((struct inet_sock *)sk, inet_sport));
	s->remote_port = bpf_ntohs(KERNEL_READ(sk, __sk_common.skc_dport));
	if (s->family == K_AF_INET) {
		s->local[0] = KERNEL_READ(sk, __sk_common.skc_rcv_saddr);
		s->remote[0] = KERNEL_READ(sk, __sk_common.skc_daddr);
		return;
	}
	BPF_CORE_READ_INTO((struct in6_addr *)s->local, sk, __sk_common.skc_v6_rcv_saddr);
	BPF_CORE_READ_INTO((struct in6_addr *)s->remote, sk, __sk_common.skc_v6_daddr);
}

static __always_inline void name_from_user(struct sockcall_event *e, const struct sockcall *call)
{
	__u32 n = call->arg;

	if (call->arg <= 0 || !call->name)
		return;
	if (n > SOCKCALL_NAME_SIZE)
		n = SOCKCALL_NAME_SIZE;
	if (!bpf_probe_read_user(e->name, n, (void *)call->name))
		e->name_len = n;
}

/* The name that a unix socket is bound to; that of its listener for one that was accepted. */
static __always_inline void name_from_unix(struct sockcall_event *e, struct sock *sk)
{
	struct unix_address *a = KERNEL_READ((struct unix_sock *)sk, addr);
	__u32 n;

	if (!a)
		return;
	n = KERNEL_READ(a, len);
	if (n > SOCKCALL_NAME_SIZE)
		n = SOCKCALL_NAME_SIZE;
	if (!bpf_probe_read_kernel(e->name, n,
				   (void *)a + bpf_core_field_offset(struct unix_address, name)))
		e->name_len = n;
}

/* An event to fill, with what all have; NULL can't be. */
static __always_inline struct sockcall_event *sockcall_begin(struct task_struct *t, __u32 kind,
							     const struct sockcall *call, long ret)
{
	__u32 zero = 0;
	struct sockcall_event *e = bpf_map_lookup_elem(&scratch, &zero);

	if (!e)
		return NULL;
	__builtin_memset(e, 0, offsetof(struct sockcall_event, name));
	process_read(&e->p, t);
	e->kind = kind;
	e->fd = -1;
	e->error = sockcall_errno(ret);
	if (call) {
		e->fd = call->fd;
		e->arg = call->arg;
		e->duration_ns = e->p.boot_ns - call->start_ns;
		e->flags = SOCKCALL_TIMED;
	}
	return e;
}

static __always_inline void sockcall_send(struct sockcall_event *e)
{
	__u32 n = *(volatile __u32 *)&e->name_len;

	if (n > SOCKCALL_NAME_SIZE)
		n = SOCKCALL_NAME_SIZE;
	if (plugin_is_off())
		return;
	event_output(e, offsetof(struct sockcall_event, name) + n);
}
