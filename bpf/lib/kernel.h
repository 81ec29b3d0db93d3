/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel types that our programs read. */
/*
 * Only the fields in use, relocated at load (CO-RE), so that neither vmlinux.h nor a BTF of the
 * build machine is needed. A field that a kernel renamed gets a struct x___flavor next to the
 * struct, with the commit that renamed it; bpf_core_field_exists() chooses. Own names begin with K_
 * or are as in the kernel; oldest kernel: 5.10.
 */
#pragma once

#include <linux/types.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

/* Helpers of libbpf's headers speak of these. */
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#define K_AF_UNIX     1
#define K_AF_INET     2
#define K_AF_INET6    10

#define K_SOCK_STREAM 1
#define K_SOCK_DGRAM  2
#define K_SOCK_RAW    3

#define K_IPPROTO_ICMP	 1
#define K_IPPROTO_TCP	 6
#define K_IPPROTO_UDP	 17
#define K_IPPROTO_ICMPV6 58
#define K_IPPROTO_SCTP	 132
#define K_IPPROTO_RAW	 255

#define K_EEXIST      17

#define K_ETH_P_IP    0x0800
#define K_ETH_P_IPV6  0x86dd

#define K_S_IFMT      0170000
#define K_S_IFSOCK    0140000

/* include/net/tcp_states.h */
enum k_tcp_state {
	K_TCP_ESTABLISHED = BPF_TCP_ESTABLISHED,
	K_TCP_SYN_SENT = BPF_TCP_SYN_SENT,
	K_TCP_SYN_RECV = BPF_TCP_SYN_RECV,
	K_TCP_FIN_WAIT1 = BPF_TCP_FIN_WAIT1,
	K_TCP_FIN_WAIT2 = BPF_TCP_FIN_WAIT2,
	K_TCP_TIME_WAIT = BPF_TCP_TIME_WAIT,
	K_TCP_CLOSE = BPF_TCP_CLOSE,
	K_TCP_CLOSE_WAIT = BPF_TCP_CLOSE_WAIT,
	K_TCP_LAST_ACK = BPF_TCP_LAST_ACK,
	K_TCP_LISTEN = BPF_TCP_LISTEN,
};

#define K_AT_FDCWD     (-100)
#define K_AT_REMOVEDIR 0x200

/* include/linux/fs.h: the open made the file. */
#define K_FMODE_CREATED 0x100000

#define K_PF_KTHREAD 0x00200000 /* include/linux/sched.h */

/* include/linux/sched/signal.h: all threads end with group_exit_code. */
#define K_SIGNAL_GROUP_EXIT 4

/* include/linux/cgroup_subsys.h: their values depend on the kernel's configuration; ask
 * bpf_core_enum_value(). */
enum cgroup_subsys_id {
	memory_cgrp_id,
	pids_cgrp_id,
	cpu_cgrp_id,
};

/* include/net/sock.h: the bit in sk_flags that says that a FIN was received, and the lock set by
 * bind() with a port. */
#define K_SOCK_DONE	     1
#define K_SOCK_BINDPORT_LOCK 8

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_map {
	u32 max_entries;
};

/* For the number of eight bytes that it begins with: see kernel_word(). */
struct timespec64 {
	s64 tv_sec;
};

/* Namespaces and credentials. */
struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct pid_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[];
};

typedef struct {
	struct net *net;
} possible_net_t;

typedef struct {
	unsigned int val;
} kuid_t;

typedef struct {
	unsigned int val;
} kgid_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
};

/* Control groups: the id that userspace knows is the one of the node in kernfs. */
struct kernfs_node {
	u64 id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup_root;

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16]; /* by enum cgroup_subsys_id */
	struct cgroup *dfl_cgrp;
};

/* Tasks. */
struct tty_struct {
	char name[64];
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	struct tty_struct *tty;
	atomic_t live;
	int nr_threads;
	int group_exit_code;
	unsigned int flags;
	u64 utime, stime; /* of threads that are gone */
	unsigned long maxrss;
	unsigned long long sum_sched_runtime;
};

struct file;

struct mm_struct {
	unsigned long start_code, end_code, start_data, end_data;
	unsigned long arg_start, arg_end, env_start, env_end;
	struct file *exe_file;
};

struct sched_entity {
	u64 sum_exec_runtime;
};

struct fs_struct;
struct files_struct;

struct thread_info {
	unsigned long flags;
	u32 status; /* x86 */
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int prio;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	char comm[16];
	struct signal_struct *signal;
	struct mm_struct *mm;
	kuid_t loginuid;
	unsigned int sessionid;
	struct css_set *cgroups;
	const struct cred *cred;
	struct nsproxy *nsproxy;
	struct fs_struct *fs;
	struct files_struct *files;
	void *stack;
	struct pid *thread_pid;
	struct sched_entity se;
	u64 utime, stime;
	u64 start_boottime;
	int exit_code;
	int exit_state;
	unsigned int __state;
};

/* Before 2f064a59a11f ("sched: Change task_struct::state"), 5.14. */
struct task_struct___state {
	volatile long state;
};

struct kernel_siginfo {
	int si_signo;
	int si_errno;
	int si_code;
};

struct linux_binprm {
	int argc;
	const char *filename;
};

/* Files. */
struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
	unsigned int i_nlink;
};

struct qstr {
	u32 hash, len;
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct fs_struct {
	struct path root, pwd;
};

struct file {
	unsigned int f_mode;
	struct inode *f_inode;
	struct path f_path;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

/* Sockets. */
struct in6_addr {
	union {
		u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	union {
		struct {
			__be32 skc_daddr;
			__be32 skc_rcv_saddr;
		};
	};
	union {
		struct {
			__be16 skc_dport;
			u16 skc_num;
		};
	};
	unsigned short skc_family;
	volatile unsigned char skc_state;
	int skc_bound_dev_if;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
};

struct socket;

struct sock {
	struct sock_common __sk_common;
	u8 sk_userlocks : 4;
	u16 sk_type;
	u16 sk_protocol;
	int sk_err;
	struct socket *sk_socket;
};

struct socket {
	struct file *file;
	struct sock *sk;
};

struct sockaddr_un {
	u16 sun_family;
	char sun_path[108];
};

struct unix_address {
	int len;
	struct sockaddr_un name[];
};

struct unix_sock {
	struct sock sk;
	struct unix_address *addr;
};

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u32 segs_in;
	u32 segs_out;
	u64 bytes_received;
	u64 bytes_acked;
	u64 bytes_sent;
	u64 bytes_retrans;
	u32 snd_una;
	u32 snd_nxt;
	u32 write_seq;
	u32 srtt_us;
	u32 mdev_us;
	u32 total_retrans;
};

/* Contexts of iterators. */
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#pragma clang attribute pop
