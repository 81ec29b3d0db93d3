/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Iterators: TCP connections that last, on each tick, and the sockets that are older than us, at
 * the start. */
#pragma once

#include "bpf/netflow/conn.bpf.h"
#include "bpf/netflow/packets.bpf.h"

/* An accepted connection without a reader gets that long before it is put down to the listener: its
 * worker may be about to start. */
#define OWNER_GRACE_NS 1000000000ull

static __always_inline bool owner_may_change(const struct nf_owner *o)
{
	return o->how == NETFLOW_OWNER_LISTENER && o->opened_ns &&
	       bpf_ktime_get_boot_ns() - o->opened_ns < OWNER_GRACE_NS;
}

/* What the iterator leaves out: nothing to report, or not ours to report. */
static __always_inline bool iter_skips(const struct nf_owner *o, __u8 state)
{
	__u8 dir = *(volatile __u8 *)&o->dir;

	if (dir == NETFLOW_DIR_CLOSED || dir == NETFLOW_DIR_SELF || state == K_TCP_CLOSE)
		return true;
	return iter_mode != NETFLOW_ITER_SHOW && (!was_connected(state) || owner_may_change(o));
}

/*
 * True when the connection must be reported; gives it its id. dir is read once, as it may end at
 * any moment: the record then says what it was, and its end comes by the ring buffer.
 */
static __always_inline bool iter_claims(struct nf_owner *o, __u64 sum, __u8 *dir)
{
	if (iter_mode == NETFLOW_ITER_SHOW) {
		*dir = *(volatile __u8 *)&o->dir;
		return *dir != NETFLOW_DIR_CLOSED;
	}
	if (o->id && o->sum == sum && iter_mode != NETFLOW_ITER_FULL)
		return false;
	o->sum = sum;
	if (!o->id) {
		__u64 zero = 0;

		*(volatile __u64 *)&o->id = ++next_id;
		/*
		 * A full barrier on x86; see emit_end(). Adding a plain 0 would be compiled to an
		 * atomic "or", which the kernel has since 5.12 only.
		 */
		asm volatile("" : "+r"(zero));
		__sync_fetch_and_add(&o->sum, zero);
	}
	*dir = *(volatile __u8 *)&o->dir;
	return *dir != NETFLOW_DIR_CLOSED;
}

static __always_inline void owner_copy(struct netflow_sock *s, const struct nf_owner *o)
{
	conn_owner(&s->conn, o);
	s->opened_ns = o->opened_ns;
}

static __always_inline void iter_write(struct seq_file *seq, struct netflow_sock *s, __u8 dir,
				       __u8 state)
{
	s->conn.dir = dir;
	if (s->conn.dir == NETFLOW_DIR_NONE)
		s->conn.dir = old_direction(s->conn.netns, s->conn.sport);
	else if (s->conn.dir == NETFLOW_DIR_LISTEN && was_connected(state))
		s->conn.dir = NETFLOW_DIR_INCOMING; /* its accept was missed; see tcp_destroy() */
	s->conn.state = state;
	s->conn.transport = K_IPPROTO_TCP;
	bpf_seq_write(seq, s, sizeof(*s));
}

SEC("iter/bpf_sk_storage_map")
int tcp_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct nf_owner *o = ctx->value;
	struct netflow_sock s = {};
	struct tcp_sock *tp;
	struct sock_addrs a;
	__u8 state, dir;

	if (!sk || !o)
		return 0;
	state = sk->__sk_common.skc_state;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || iter_skips(o, state))
		return 0;
	if (!iter_claims(o, tp->bytes_sent + tp->bytes_received + tp->segs_out + tp->segs_in, &dir))
		return 0;
	sock_addrs(sk, &a);
	conn_addrs(&s.conn, &a);
	s.conn.dir = dir;
	conn_counters(&s.conn, sk, tp, state);
	if (iter_mode == NETFLOW_ITER_SHOW)
		s.inode = sock_inode(sk);
	owner_copy(&s, o);
	iter_write(ctx->meta->seq, &s, dir, state);
	return 0;
}

/*
 * tcp_sockets() where sockets are keyed by address: the socket may be gone, so it is read with
 * care. Its entry may even be another's by the time that all is read: the memory of entries is used
 * again at once.
 */
SEC("iter/bpf_map_elem")
int tcp_sockets_hash(struct bpf_iter__bpf_map_elem *ctx)
{
	struct nf_owner *o = ctx->value;
	struct netflow_sock s = {};
	__u64 *key = ctx->key;
	struct sock_addrs a;
	struct tcp_sock *tp;
	struct sock *sk;
	__u8 state, dir;

	if (!key || !o)
		return 0;
	sk = (struct sock *)*key;
	tp = (struct tcp_sock *)sk;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (iter_skips(o, state))
		return 0;
	s.conn.rx = BPF_CORE_READ(tp, bytes_received);
	s.conn.segs_out = BPF_CORE_READ(tp, segs_out);
	s.conn.segs_in = BPF_CORE_READ(tp, segs_in);
	s.conn.tx = BPF_CORE_READ(tp, bytes_sent);
	if (!iter_claims(o, s.conn.tx + s.conn.rx + s.conn.segs_out + s.conn.segs_in, &dir))
		return 0;
	if (s.conn.rx && BPF_CORE_READ(sk, __sk_common.skc_flags) & (1UL << K_SOCK_DONE))
		s.conn.rx--;
	s.conn.tx = tcp_sent(s.conn.tx - BPF_CORE_READ(tp, bytes_retrans),
			     BPF_CORE_READ(tp, bytes_acked), BPF_CORE_READ(tp, snd_una),
			     BPF_CORE_READ(tp, snd_nxt), BPF_CORE_READ(tp, write_seq), dir, state);
	s.conn.srtt_us = BPF_CORE_READ(tp, srtt_us) >> 3;
	s.conn.mdev_us = BPF_CORE_READ(tp, mdev_us) >> 2;
	s.conn.retrans = BPF_CORE_READ(tp, total_retrans);
	s.conn.sport = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	s.conn.dport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	s.conn.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	sock_addrs_probe(sk, &a);
	conn_addrs(&s.conn, &a);
	if (iter_mode == NETFLOW_ITER_SHOW)
		s.inode = sock_inode(sk);
	owner_copy(&s, o);
	if (*(volatile __u64 *)key == (__u64)sk)
		iter_write(ctx->meta->seq, &s, dir, state);
	return 0;
}

static __always_inline void seed_listener(struct sock *sk, __u32 netns, __u16 port,
					  const struct nf_owner *o)
{
	struct sock_addrs a;

	sock_addrs_probe(sk, &a);
	listener_add(netns, port, a.src, o);
}

static __always_inline void seed_tcp(struct sock *sk, struct task_struct *task)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	__u32 netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	__u16 port = BPF_CORE_READ(sk, __sk_common.skc_num);
	struct nf_owner *o;

	if (state == K_TCP_CLOSE ||
	    (state == K_TCP_LISTEN) != (seed_pass == NETFLOW_SEED_LISTENERS))
		return;
	o = owner_make(sk);
	if (!o || o->how >= NETFLOW_OWNER_FD || o->dir == NETFLOW_DIR_LISTEN)
		return; /* the first process that has it open, or already told of by a hook */
	owner_set_task(o, task, NETFLOW_OWNER_FD);
	if (state == K_TCP_LISTEN) {
		o->how = NETFLOW_OWNER_LISTENER;
		o->dir = NETFLOW_DIR_LISTEN;
	} else if (o->dir == NETFLOW_DIR_NONE) {
		o->dir = old_direction(netns, port);
	}
	if (o->pid == self_tgid)
		o->dir = NETFLOW_DIR_SELF;
	if (state == K_TCP_LISTEN)
		seed_listener(sk, netns, port, o);
}

/* Every open file of every process, whatever its namespaces: owners of the sockets that are older
 * than us. */
SEC("iter/task_file")
int seed_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	__u16 family, type, protocol;
	struct sock *sk;

	if (!task || !file)
		return 0;
	if (!has_storage) { /* 5.11, too */
		sk = file_sock_probe(file);
	} else {
		struct socket *so = bpf_sock_from_file(file);

		sk = so ? so->sk : NULL;
	}
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family != K_AF_INET && family != K_AF_INET6)
		return 0;
	type = BPF_CORE_READ(sk, sk_type);
	protocol = BPF_CORE_READ(sk, sk_protocol);
	if (type == K_SOCK_STREAM && protocol == K_IPPROTO_TCP) {
		seed_tcp(sk, task);
		return 0;
	}
	if (!use_udp || !has_storage || seed_pass != NETFLOW_SEED_OTHERS)
		return 0;
	if ((type == K_SOCK_DGRAM && protocol == K_IPPROTO_UDP) ||
	    (use_other && other_is_ours(type, protocol)))
		seed_udp(sk, task);
	return 0;
}
