/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel half of netflow: TCP here, UDP in udp.bpf.h, the rest in other.bpf.h. */
/*
 * TCP needs nothing per packet or byte (but packets.bpf.h, which counts the others, is called for
 * its packets, too): the kernel counts in tcp_sock already, so it is read when a connection ends
 * and by an iterator on each tick; owners are learned from state changes and from tcp_recvmsg()'s
 * call of tcp_rcv_space_adjust() in the context of the reader.
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
#include "bpf/netflow/conn.bpf.h"
#include "bpf/netflow/iter.bpf.h"

static __always_inline int on_connect(struct sock *sk)
{
	/* In place of what is there: the socket may have been connected before (AF_UNSPEC
	 * disconnects), or bound by somebody else. */
	struct nf_owner o = {.opened_ns = bpf_ktime_get_boot_ns()};

	owner_set_current(&o, current_tgid(), NETFLOW_OWNER_CONNECT);
	o.dir = o.pid == self_tgid ? NETFLOW_DIR_SELF : NETFLOW_DIR_OUTGOING;
	owner_put(sk, &o);
	return 0;
}

static __always_inline int on_listen(struct sock *sk)
{
	struct nf_owner o = {.opened_ns = bpf_ktime_get_boot_ns()};
	struct sock_addrs a;

	owner_set_current(&o, current_tgid(), NETFLOW_OWNER_LISTENER);
	o.dir = o.pid == self_tgid ? NETFLOW_DIR_SELF : NETFLOW_DIR_LISTEN;
	/* Counted as a listener only where its end will be known, too. */
	if (!owner_put(sk, &o))
		return 0;
	sock_addrs(sk, &a);
	listener_add(sock_netns(sk), sk->__sk_common.skc_num, a.src, &o);
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
	struct nf_owner *o, new = {};
	struct nf_listener *l;

	/* By address nothing is inherited, and the one lookup is saved that finds nothing. */
	o = use_hash ? NULL : owner_get(sk);
	if (o) {
		if (o->dir == NETFLOW_DIR_LISTEN)
			owner_accepted(o);
		return 0; /* self; and what owner_add() leaves as it is */
	}
	l = listener_find(sock_netns(sk), sk->__sk_common.skc_num, sk);
	if (l) {
		new.pid = l->owner.pid;
		new.how = l->owner.how;
		new.cgroup_id = l->owner.cgroup_id;
		__builtin_memcpy(new.comm, l->owner.comm, sizeof(new.comm));
	}
	owner_accepted(&new);
	if (l && l->owner.dir == NETFLOW_DIR_SELF)
		new.dir = NETFLOW_DIR_SELF;
	owner_add(sk, &new);
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

static __always_inline void on_listener_closed(struct sock *sk, struct tcp_sock *tp,
					       const struct nf_owner *o)
{
	struct sock_addrs a;

	sock_addrs(sk, &a);
	/* skc_num is 0 already; see conn_counters(). */
	listener_del(sock_netns(sk), bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport), a.src, o->pid);
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
	if (old == K_TCP_LISTEN && o)
		on_listener_closed(sk, tp, o);
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
		if (use_other && has_storage && sk->sk_protocol == K_IPPROTO_SCTP &&
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

/* A listener whose close was missed; with storage also a child that was never established. */
static __always_inline void on_listen_missed(struct sock *sk, struct tcp_sock *tp,
					     const struct nf_owner *o)
{
	if (use_hash)
		on_listener_closed(sk, tp, o);
	owner_drop(sk);
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
		on_listen_missed(sk, tp, o);
	return 0;
}

/* A reader that isn't the owner we know; kept out of the fast path. */
static __always_inline void on_new_reader(struct sock *sk, struct nf_owner *o, __u32 pid)
{
	/* What came before a reset can still be read afterwards. */
	if (!pid || sk->__sk_common.skc_state == K_TCP_CLOSE || current_is_kthread())
		return;
	if (!o)
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
	on_new_reader(sk, o, pid);
	return 0;
}
