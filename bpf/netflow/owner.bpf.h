/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who owns a TCP socket: kept in a hash by its address, or in the socket's own storage. */
#pragma once

#include "bpf/lib/sock.h"
#include "bpf/lib/task.h"
#include "bpf/netflow/netflow.h"

struct nf_owner {
	__u64 opened_ns;
	__u64 cgroup_id;
	__u64 id;  /* see netflow_conn */
	__u64 sum; /* of all counters at the last tick: they only grow, so it moves when any of them
		      does */
	__u32 pid;
	__u8 dir, how; /* enum netflow_dir, netflow_owner */
	__u8 pad[2];
	char comm[16];
};

/*
 * Set before load. A connection whose owner is in its storage costs the host more than all else
 * that is done for it: two allocations charged to the daemon's memory control group, which empties
 * the stock of whoever makes the connection, and two frees a grace period later.
 */
const volatile bool use_hash;

/* Set before load: 8e4597c627fb ("bpf: Allow using bpf_sk_storage in FENTRY/FEXIT/RAW_TP"), 5.11.
 */
const volatile bool has_storage;

/*
 * F_CLONE: a child inherits the listener's owner before accept() is called. The storage goes with
 * its socket: nothing leaks, nothing is evicted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct nf_owner);
} tcp_owners SEC(".maps");

/* max_entries: 1 unless use_hash, then the option max_sockets. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct nf_owner);
} tcp_owners_by_addr SEC(".maps");

/* Who listens: the last that began to, and how many sockets do. */
struct nf_listener {
	struct nf_owner owner;
	__u32 sockets;
	__u32 pad;
};

/* An IPv4 address is in the first word; any: zeros, of either family. */
struct nf_listener_at {
	__u32 netns;
	__u32 port;
	__u32 addr[4];
};

/* Ports that are listened on: tells the direction of connections that are older than the plugin. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct netflow_listener);
	__type(value, struct nf_listener);
} listeners SEC(".maps");

/* The same with their addresses: looked at where a port has several. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct nf_listener_at);
	__type(value, struct nf_listener);
} listeners_at SEC(".maps");

static __always_inline struct nf_owner *owner_get(struct sock *sk)
{
	if (use_hash) {
		__u64 key = (__u64)sk;

		return bpf_map_lookup_elem(&tcp_owners_by_addr, &key);
	}
	return bpf_sk_storage_get(&tcp_owners, sk, NULL, 0);
}

/* The one that is there, or a new one, zeroed; NULL: no room (counted). */
static __always_inline struct nf_owner *owner_make(struct sock *sk)
{
	struct nf_owner *o;

	if (use_hash) {
		__u64 key = (__u64)sk;
		struct nf_owner zero = {};

		bpf_map_update_elem(&tcp_owners_by_addr, &key, &zero, BPF_NOEXIST);
		o = bpf_map_lookup_elem(&tcp_owners_by_addr, &key);
	} else {
		o = bpf_sk_storage_get(&tcp_owners, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	}
	if (!o)
		plugin_count(PLUGIN_STAT_MAP_FULL);
	return o;
}

/* What is there, whole; false: no room (counted). */
static __always_inline bool owner_put(struct sock *sk, const struct nf_owner *new)
{
	struct nf_owner *o;

	if (use_hash) {
		__u64 key = (__u64)sk;

		if (!bpf_map_update_elem(&tcp_owners_by_addr, &key, new, BPF_ANY))
			return true;
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return false;
	}
	o = owner_make(sk);
	if (o)
		*o = *new;
	return o;
}

/* Leaves alone what is there: outgoing, where both sides connected at once, or incoming, where a
 * fast open was read before the handshake was complete. */
static __always_inline void owner_add(struct sock *sk, const struct nf_owner *new)
{
	__u64 key = (__u64)sk;
	long r;

	if (!use_hash) {
		owner_put(sk, new);
		return;
	}
	r = bpf_map_update_elem(&tcp_owners_by_addr, &key, new, BPF_NOEXIST);
	if (r && r != -K_EEXIST)
		plugin_count(PLUGIN_STAT_MAP_FULL);
}

/* With storage the mark stays until the socket goes: deleting costs as much then as now. */
static __always_inline void owner_drop(struct sock *sk)
{
	if (use_hash) {
		__u64 key = (__u64)sk;

		bpf_map_delete_elem(&tcp_owners_by_addr, &key);
	}
}

/* Of a process with one thread, which most are, the name is at hand; the leader's takes two reads.
 */
static __always_inline void owner_comm(struct nf_owner *o, __u32 pid)
{
	if ((__u32)bpf_get_current_pid_tgid() == pid)
		bpf_get_current_comm(o->comm, sizeof(o->comm));
	else
		current_leader_comm(o->comm);
}

static __always_inline void owner_set_current(struct nf_owner *o, __u32 pid, enum netflow_owner how)
{
	o->how = how;
	if (o->pid == pid)
		return; /* the name and the cgroup are there already */
	o->pid = pid;
	o->cgroup_id = bpf_get_current_cgroup_id();
	owner_comm(o, pid);
}

static __always_inline void owner_set_task(struct nf_owner *o, struct task_struct *task,
					   enum netflow_owner how)
{
	o->how = how;
	o->pid = BPF_CORE_READ(task, tgid);
	o->cgroup_id = task_cgroup_id(task);
	task_leader_comm(task, o->comm);
}

static __always_inline bool port_has_listener(__u32 netns, __u16 port)
{
	struct netflow_listener key = {.netns = netns, .port = port};

	return bpf_map_lookup_elem(&listeners, &key);
}

static __always_inline void listener_at_addr(struct nf_listener_at *key, const __u32 addr[4])
{
	__builtin_memcpy(key->addr, addr, sizeof(key->addr));
	if (!in6_is_mapped(key->addr))
		return;
	key->addr[0] = key->addr[3];
	key->addr[2] = key->addr[3] = 0;
}

/* Whose child this is: by its port, and where several listen on that, or did, by its address. */
static __always_inline struct nf_listener *listener_find(__u32 netns, __u16 port, struct sock *sk)
{
	struct netflow_listener key = {.netns = netns, .port = port};
	struct nf_listener *l = bpf_map_lookup_elem(&listeners, &key), *found;
	struct nf_listener_at at = {.netns = netns, .port = port};
	struct sock_addrs a;

	if (!l || (l->sockets < 2 && l->owner.pid))
		return l;
	sock_addrs(sk, &a);
	listener_at_addr(&at, a.src);
	found = bpf_map_lookup_elem(&listeners_at, &at);
	if (found)
		return found;
	__builtin_memset(at.addr, 0, sizeof(at.addr));
	found = bpf_map_lookup_elem(&listeners_at, &at);
	return found ? found : l;
}

/* Replaced as a whole, so that nobody finds half of one. */
static __always_inline void listener_count(void *map, const void *key, const struct nf_owner *o)
{
	struct nf_listener *l = bpf_map_lookup_elem(map, key);
	struct nf_listener new = {.owner = *o};

	new.sockets = l ? l->sockets + 1 : 1;
	if (bpf_map_update_elem(map, key, &new, BPF_ANY))
		plugin_count(PLUGIN_STAT_MAP_FULL);
}

static __always_inline void listener_add(__u32 netns, __u16 port, const __u32 addr[4],
					 const struct nf_owner *o)
{
	struct netflow_listener key = {.netns = netns, .port = port};
	struct nf_listener_at at = {.netns = netns, .port = port};

	listener_at_addr(&at, addr);
	listener_count(&listeners, &key, o);
	listener_count(&listeners_at, &at, o);
}

/* One of several: when it was the last that began, nobody knows whose the next child is until it is
 * read. */
static __always_inline void listener_uncount(void *map, const void *key, __u32 pid)
{
	struct nf_listener *l = bpf_map_lookup_elem(map, key);
	struct nf_listener new;

	if (!l || l->sockets < 2) {
		bpf_map_delete_elem(map, key);
		return;
	}
	new = *l;
	new.sockets--;
	if (new.owner.pid == pid) {
		new.owner.pid = 0;
		new.owner.how = NETFLOW_OWNER_NONE;
		new.owner.cgroup_id = 0;
		__builtin_memset(new.owner.comm, 0, sizeof(new.owner.comm));
	}
	if (bpf_map_update_elem(map, key, &new, BPF_ANY))
		plugin_count(PLUGIN_STAT_MAP_FULL);
}

static __always_inline void listener_del(__u32 netns, __u16 port, const __u32 addr[4], __u32 pid)
{
	struct netflow_listener key = {.netns = netns, .port = port};
	struct nf_listener_at at = {.netns = netns, .port = port};

	listener_at_addr(&at, addr);
	listener_uncount(&listeners, &key, pid);
	listener_uncount(&listeners_at, &at, pid);
}
