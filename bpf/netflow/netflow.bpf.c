/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel half of netflow: TCP here, UDP in udp.bpf.h, the rest in other.bpf.h. */
/*
 * TCP costs nothing per packet or byte: the kernel counts in tcp_sock already, so
 * it is read when a connection ends and by an iterator on each tick; owners are learned from state
 * changes and from tcp_recvmsg()'s call of tcp_rcv_space_adjust() in the context of the reader.
 */
#include "bpf/plugin.bpf.h"

#include "bpf/netflow/owner.bpf.h"

/* Live options; written by the user side at any time. */
bool opt_loopback;
bool opt_ipv6;
__u8 iter_mode; /* enum netflow_iter */
__u8 seed_pass; /* enum netflow_seed */
__u64 next_id;	/* only the tick's iterator counts it up, and there is one at a time */

#include "bpf/netflow/packets.bpf.h"

static __always_inline __u32 sock_netns(struct sock *sk)
{
	return sk->__sk_common.skc_net.net->ns.inum;
}

/*
 * Payload that was sent once. bytes_sent counts a segment again that a local firewall refused: the
 * kernel then sends it anew without calling it a retransmission. The sequence space doesn't, but it
 * has SYN (in bytes_acked of who connected) and FIN, once that is sent. The smaller of both is
 * right.
 */
static __always_inline __u64 tcp_sent(__u64 once, __u64 acked, __u32 una, __u32 nxt, __u32 end,
				      __u8 dir, int state)
{
	__u64 seq = acked + (__u32)(nxt - una);

	if (dir == NETFLOW_DIR_OUTGOING)
		seq--;
	if (nxt == end && state != K_TCP_ESTABLISHED && state != K_TCP_CLOSE_WAIT)
		seq--;
	return once < seq ? once : seq;
}

static __always_inline void conn_counters(struct netflow_conn *c, struct sock *sk,
					  struct tcp_sock *tp, int state)
{
	__u64 rx = tp->bytes_received;

	if (rx && sk->__sk_common.skc_flags & (1UL << K_SOCK_DONE))
		rx--; /* the FIN */
	c->rx = rx;
	c->tx = tcp_sent(tp->bytes_sent - tp->bytes_retrans, tp->bytes_acked, tp->snd_una,
			 tp->snd_nxt, tp->write_seq, c->dir, state);
	c->srtt_us = tp->srtt_us >> 3;
	c->mdev_us = tp->mdev_us >> 2;
	c->retrans = tp->total_retrans;
	c->segs_out = tp->segs_out;
	c->segs_in = tp->segs_in;
	/* At TCP_CLOSE skc_num is 0 already (inet_put_port); inet_sport still stands. */
	c->sport = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	c->dport = bpf_ntohs(sk->__sk_common.skc_dport);
	c->netns = sock_netns(sk);
}

static __always_inline void conn_addrs(struct netflow_conn *c, const struct sock_addrs *a)
{
	c->family = a->family;
	__builtin_memcpy(c->src, a->src, sizeof(c->src));
	__builtin_memcpy(c->dst, a->dst, sizeof(c->dst));
}

static __always_inline void conn_owner(struct netflow_conn *c, const struct nf_owner *o)
{
	c->id = *(volatile __u64 *)&o->id;
	c->cgroup_id = o->cgroup_id;
	c->pid = o->pid;
	c->owner = o->how;
	c->dir = o->dir;
	__builtin_memcpy(c->comm, o->comm, sizeof(c->comm));
}

static __always_inline bool flow_wanted(const struct sock_addrs *a)
{
	if (a->family == 6 && !opt_ipv6)
		return false;
	return opt_loopback ||
	       !(addr_is_loopback(a->src, a->family) || addr_is_loopback(a->dst, a->family));
}

/* A connection that nobody told us of: older than the plugin and not found by its file (still to be
 * accepted). */
static __always_inline __u8 old_direction(__u32 netns, __u16 port)
{
	return listener_find(netns, port) ? NETFLOW_DIR_INCOMING : NETFLOW_DIR_OUTGOING;
}

static __always_inline int on_connect(struct sock *sk)
{
	struct nf_owner *o = owner_make(sk);

	if (!o)
		return 0;
	/* The socket may have been connected before (AF_UNSPEC disconnects), or bound by somebody
	 * else. */
	o->id = 0;
	o->sum = 0;
	o->opened_ns = bpf_ktime_get_boot_ns();
	owner_set_current(o, current_tgid(), NETFLOW_OWNER_CONNECT);
	o->dir = o->pid == self_tgid ? NETFLOW_DIR_SELF : NETFLOW_DIR_OUTGOING;
	return 0;
}

static __always_inline int on_listen(struct sock *sk)
{
	struct nf_owner *o = owner_make(sk);

	if (!o)
		return 0;
	o->id = 0;
	o->sum = 0;
	o->opened_ns = bpf_ktime_get_boot_ns();
	owner_set_current(o, current_tgid(), NETFLOW_OWNER_LISTENER);
	o->dir = o->pid == self_tgid ? NETFLOW_DIR_SELF : NETFLOW_DIR_LISTEN;
	listener_add(sock_netns(sk), sk->__sk_common.skc_num, o);
	return 0;
}

static __always_inline void owner_accepted(struct nf_owner *o)
{
	o->dir = NETFLOW_DIR_INCOMING;
	o->opened_ns = bpf_ktime_get_boot_ns();
}

/* SYN_RECV -> ESTABLISHED, in softirq: the current task means nothing. */
static __always_inline int on_accept(struct sock *sk)
{
	struct nf_owner *o = owner_get(sk), *l;

	if (o) {
		if (o->dir == NETFLOW_DIR_LISTEN)
			owner_accepted(o);
		return 0; /* self; outgoing: both sides connected at once; incoming: fast open, read
			     before */
	}
	o = owner_make(sk);
	if (!o)
		return 0;
	l = listener_find(sock_netns(sk), sk->__sk_common.skc_num);
	if (l) {
		o->pid = l->pid;
		o->how = l->how;
		o->cgroup_id = l->cgroup_id;
		__builtin_memcpy(o->comm, l->comm, sizeof(o->comm));
		if (l->dir == NETFLOW_DIR_SELF) {
			o->dir = NETFLOW_DIR_SELF;
			return 0;
		}
	}
	owner_accepted(o);
	return 0;
}

/* close() or shutdown(), in the context of who does it: the last chance for a server that never
 * reads. */
static __always_inline int on_shutdown(struct sock *sk)
{
	struct nf_owner *o = owner_get(sk);
	__u32 pid;

	if (!o)
		return 0;
	if (o->dir == NETFLOW_DIR_LISTEN) /* fast open: closed before the handshake was complete */
		owner_accepted(o);
	if (o->how >= NETFLOW_OWNER_CLOSER || o->dir == NETFLOW_DIR_SELF)
		return 0;
	pid = current_tgid();
	if (pid && !current_is_kthread())
		owner_set_current(o, pid, NETFLOW_OWNER_CLOSER);
	return 0;
}

static __always_inline bool was_connected(int state)
{
	return state != K_TCP_SYN_SENT && state != K_TCP_SYN_RECV && state != K_TCP_LISTEN;
}

/*
 * The iterator gives an id and then looks whether the socket was marked closed; here the mark is
 * set and then the id is read, with the locked operations of event_reserve() between: whichever
 * comes second sees the first, so that no connection is reported in full twice.
 */
static __always_inline void emit_end(struct sock *sk, struct tcp_sock *tp, struct nf_owner *o,
				     int old, __u8 dir)
{
	struct sock_addrs a;
	struct netflow_conn *c;

	sock_addrs(sk, &a);
	/* One that a tick has reported must end in user space too, whatever the filter is now. */
	if (!(o && o->id) && !flow_wanted(&a)) {
		plugin_count(PLUGIN_STAT_FILTERED);
		return;
	}
	c = event_reserve(sizeof(*c));
	if (!c)
		return;
	conn_addrs(c, &a);
	if (o) {
		conn_owner(c, o);
	} else {
		c->id = c->cgroup_id = c->pid = c->owner = 0;
		__builtin_memset(c->comm, 0, sizeof(c->comm));
	}
	c->dir = dir;
	conn_counters(c, sk, tp, old);
	if (dir == NETFLOW_DIR_NONE)
		c->dir = old_direction(c->netns, c->sport);
	c->flags = was_connected(old) ? 0 : NETFLOW_FAILED;
	c->state = old;
	c->transport = K_IPPROTO_TCP;
	c->pad[0] = c->pad[1] = 0;
	event_submit(c);
}

static __always_inline int on_close(struct sock *sk, int old)
{
	struct nf_owner *o = owner_get(sk);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u8 dir = o ? o->dir : NETFLOW_DIR_NONE;

	if (!tp || old == K_TCP_CLOSE || dir == NETFLOW_DIR_CLOSED)
		return 0;
	if (o)
		*(volatile __u8 *)&o->dir = NETFLOW_DIR_CLOSED;
	if (old == K_TCP_LISTEN)
		listener_del(sock_netns(sk), bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport));
	/* LISTEN: a listener, or a child that ended before it was established, or whose accept was
	 * missed. */
	if (dir == NETFLOW_DIR_LISTEN && was_connected(old))
		dir = NETFLOW_DIR_INCOMING;
	if (dir != NETFLOW_DIR_LISTEN && dir != NETFLOW_DIR_SELF && (o || was_connected(old)))
		emit_end(sk, tp, o, old, dir);
	owner_drop(sk);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old, int new)
{
	if (sk->sk_protocol != K_IPPROTO_TCP) {
		if (use_other && !use_hash && sk->sk_protocol == K_IPPROTO_SCTP &&
		    new == K_TCP_ESTABLISHED)
			other_accepted(sk);
		return 0;
	}
	switch (new) {
	case K_TCP_SYN_SENT:
		return on_connect(sk);
	case K_TCP_LISTEN:
		return on_listen(sk);
	case K_TCP_ESTABLISHED:
		return old == K_TCP_SYN_RECV ? on_accept(sk) : 0;
	case K_TCP_FIN_WAIT1:
	case K_TCP_LAST_ACK:
		return on_shutdown(sk);
	case K_TCP_CLOSE:
		return on_close(sk, old);
	}
	return 0;
}

/*
 * The kernel doesn't run a program on a tracepoint that hits while the same program is running on
 * that CPU: an interrupt or, where tracepoints are preemptible, another task. Most that is missed
 * so is made good by what comes later; an end is not, so what goes without one ends here.
 */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroy, struct sock *sk)
{
	struct nf_owner *o = owner_get(sk);
	struct tcp_sock *tp;

	if (!o || o->dir == NETFLOW_DIR_CLOSED)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	/* Without a measured round trip the handshake was never completed. */
	if (tp->srtt_us)
		on_close(sk, K_TCP_ESTABLISHED);
	else if (o->dir != NETFLOW_DIR_LISTEN)
		on_close(sk, K_TCP_SYN_SENT);
	else
		owner_drop(sk);
	return 0;
}

/* A reader that isn't the owner we know; kept out of the fast path. */
static __always_inline void on_new_reader(struct sock *sk, __u32 pid)
{
	struct nf_owner *o;

	/* What came before a reset can still be read afterwards. */
	if (!pid || sk->__sk_common.skc_state == K_TCP_CLOSE || current_is_kthread())
		return;
	o = owner_make(sk);
	if (!o || o->dir == NETFLOW_DIR_SELF || o->dir == NETFLOW_DIR_CLOSED)
		return;
	owner_set_current(o, pid, NETFLOW_OWNER_READER);
	if (pid == self_tgid)
		o->dir = NETFLOW_DIR_SELF;
	else if (o->dir ==
		 NETFLOW_DIR_LISTEN) /* fast open: read before the handshake was complete */
		owner_accepted(o);
	else if (o->dir == NETFLOW_DIR_NONE)
		o->dir = old_direction(sock_netns(sk), sk->__sk_common.skc_num);
}

/*
 * tcp_recvmsg() calls it with whoever reads: the worker that a connection was given to, not the
 * process that accepted it. There in every kernel since 4.16, and no system call hook is needed.
 */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tcp_reader, struct sock *sk)
{
	struct nf_owner *o = owner_get(sk);
	__u32 pid = current_tgid();

	if (o && o->pid == pid && o->how >= NETFLOW_OWNER_CONNECT)
		return 0;
	on_new_reader(sk, pid);
	return 0;
}

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

static __always_inline void iter_write(struct seq_file *seq, struct netflow_sock *s,
				       const struct nf_owner *o, __u8 dir, __u8 state)
{
	conn_owner(&s->conn, o);
	s->conn.dir = dir;
	if (s->conn.dir == NETFLOW_DIR_NONE)
		s->conn.dir = old_direction(s->conn.netns, s->conn.sport);
	else if (s->conn.dir == NETFLOW_DIR_LISTEN && was_connected(state))
		s->conn.dir = NETFLOW_DIR_INCOMING; /* its accept was missed; see tcp_destroy() */
	s->conn.state = state;
	s->conn.transport = K_IPPROTO_TCP;
	s->opened_ns = o->opened_ns;
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
	iter_write(ctx->meta->seq, &s, o, dir, state);
	return 0;
}

/* tcp_sockets() where sockets are keyed by address: the socket may be gone, so it is read with
 * care. */
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
	iter_write(ctx->meta->seq, &s, o, dir, state);
	return 0;
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
		listener_add(netns, port, o);
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
	if (use_hash) {
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
	if (!use_udp || use_hash || seed_pass != NETFLOW_SEED_OTHERS)
		return 0;
	if ((type == K_SOCK_DGRAM && protocol == K_IPPROTO_UDP) ||
	    (use_other && other_is_ours(type, protocol)))
		seed_udp(sk, task);
	return 0;
}
