/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Handshakes of OpenSSL: from the first call that makes it to the one that decides, or the end of
 * the SSL. */
#include "bpf/plugin.bpf.h"

#include <linux/ptrace.h>

#include "bpf/lib/process.bpf.h"
#include "bpf/lib/uprobe.bpf.h"
#include "bpf/openssl/openssl.h"

/*
 * include/openssl/err.h. What fails a handshake is an error of libssl, or a system call; other
 * libraries also note what is no error in the end.
 */
#define ERR_LIB_SYS 2
#define ERR_LIB_SSL 20

struct ssl_key {
	__u64 ssl;
	__u32 pid, pad;
};

struct ssl_state {
	__u64 begun_ns; /* 0: no handshake was begun */
	__u32 calls;
	__s32 ret;	       /* of the last */
	__u32 library, reason; /* the error that the last one met */
	__u8 role, over;
	__u8 unsure; /* it may be over since the last call */
	__u8 pad[5];
};

/* A call that makes a handshake and hasn't returned yet. */
struct active {
	__u64 ssl, sp;
	__u32 library, reason; /* of the first error; libssl's before the system's */
	__u32 index;	       /* of the file that the probe is in */
	__u8 transfer, pad[3]; /* of data: does it only if it has to */
};

/* Those that were never freed, and of processes that ended, make room. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct ssl_key);
	__type(value, struct ssl_state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64); /* thread */
	__type(value, struct active);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OPENSSL_LIBRARIES);
	__type(key, __u32);
	__type(value, struct openssl_layout);
} layouts SEC(".maps");

static __always_inline struct ssl_key key_of(__u64 ssl)
{
	struct ssl_key key = {.ssl = ssl, .pid = current_tgid()};

	return key;
}

static __always_inline struct ssl_state *state_of(struct ssl_key *key)
{
	struct ssl_state *s = bpf_map_lookup_elem(&states, key), none = {};

	if (s)
		return s;
	bpf_map_update_elem(&states, key, &none, BPF_NOEXIST); /* an LRU map takes every entry */
	return bpf_map_lookup_elem(&states, key);
}

/* A handshake that is over can't be meant: the SSL is used again. */
static __always_inline int set_role(__u64 ssl, __u8 role, bool again)
{
	struct ssl_key key = key_of(ssl);
	struct ssl_state *s = state_of(&key);

	if (!s)
		return 0;
	if (again && s->over)
		__builtin_memset(s, 0, sizeof(*s));
	s->role = role;
	return 0;
}

static __always_inline int enter_call(struct pt_regs *ctx, __u32 index, bool transfer)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct active a = {
		.ssl = PT_REGS_PARM1(ctx),
		.sp = PT_REGS_SP(ctx),
		.index = index,
		.transfer = transfer,
	};
	struct active *before = bpf_map_lookup_elem(&calls, &thread);
	struct ssl_key key = key_of(a.ssl);
	struct ssl_state *s;

	/* One file that has two names in two mounts may have its probes twice. */
	if (before && before->ssl == a.ssl && before->sp == a.sp)
		return 0;
	/* Data of connections that nobody saw begin may flow for long. */
	s = transfer ? bpf_map_lookup_elem(&states, &key) : state_of(&key);
	if (!s || (transfer && s->over))
		return 0;
	if (!s->begun_ns)
		s->begun_ns = bpf_ktime_get_boot_ns();
	s->calls++;
	bpf_map_update_elem(&calls, &thread, &a, BPF_ANY);
	return 0;
}

static __always_inline bool read_u32(__u64 base, __u32 offset, __u32 *ret)
{
	return base && offset != OPENSSL_UNKNOWN &&
	       !bpf_probe_read_user(ret, sizeof(*ret), (void *)(base + offset));
}

static __always_inline __u64 read_pointer(__u64 base, __u32 offset)
{
	__u64 v;

	if (!base || offset == OPENSSL_UNKNOWN ||
	    bpf_probe_read_user(&v, sizeof(v), (void *)(base + offset)))
		return 0;
	return v;
}

static __always_inline void read_agreed(struct openssl_handshake *e, __u32 index)
{
	struct openssl_layout *l = bpf_map_lookup_elem(&layouts, &index);
	__u32 v;

	if (!l)
		return;
	if (read_u32(e->ssl, l->version, &v))
		e->version = v;
	if (read_u32(read_pointer(read_pointer(e->ssl, l->session), l->cipher), l->id, &v))
		e->cipher = v;
}

/* index: of the file that it was ended in. */
static __always_inline void tell(struct ssl_key *key, struct ssl_state *s, __u8 result, __u32 index)
{
	struct task_struct *t = current_task();
	struct openssl_handshake *e;

	if (plugin_is_off() || task_is_self(t) || !process_wanted(t))
		return;
	e = event_reserve(sizeof(*e));
	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = OPENSSL_EVENT_HANDSHAKE;
	process_read(&e->p, t);
	e->ssl = key->ssl;
	e->begun_ns = s->begun_ns;
	e->ended_ns = e->p.boot_ns;
	e->calls = s->calls;
	e->ret = s->ret;
	e->role = s->role;
	e->result = result;
	if (result == OPENSSL_OK) {
		read_agreed(e, index);
	} else {
		e->error_library = s->library;
		e->error_reason = s->reason;
	}
	event_submit(e);
}

enum decided { DECIDED_NOT, DECIDED_OK, DECIDED_FAILED, DECIDED_UNSURE };

/* What came of it with this call; not, as long as it waits for the other side and is called again.
 */
static __always_inline enum decided decide(const struct active *a, __s32 ret)
{
	struct openssl_layout *l;
	__u32 index = a->index, in_init;

	if (!a->transfer) {
		if (ret == 1)
			return DECIDED_OK;
		return a->library == ERR_LIB_SSL ? DECIDED_FAILED : DECIDED_NOT;
	}
	/* Data flows: it is over. */
	if (ret > 0)
		return DECIDED_OK;
	l = bpf_map_lookup_elem(&layouts, &index);
	if (!l || !read_u32(a->ssl, l->in_init, &in_init))
		return DECIDED_UNSURE; /* an error may be one of what came after it */
	if (!in_init)
		return DECIDED_OK;
	return a->library == ERR_LIB_SSL ? DECIDED_FAILED : DECIDED_NOT;
}

static __always_inline int leave_handshake(struct pt_regs *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct active *a = bpf_map_lookup_elem(&calls, &thread);
	enum decided decided;
	struct ssl_state *s;
	struct ssl_key key;

	if (!a)
		return 0;
	key = key_of(a->ssl);
	s = bpf_map_lookup_elem(&states, &key);
	if (s && !s->over) {
		s->ret = PT_REGS_RC(ctx);
		s->library = a->library;
		s->reason = a->reason;
		decided = decide(a, s->ret);
		s->unsure = decided == DECIDED_UNSURE;
		s->over = decided == DECIDED_OK || decided == DECIDED_FAILED;
		if (s->over)
			tell(&key, s, decided == DECIDED_OK ? OPENSSL_OK : OPENSSL_FAILED,
			     a->index);
	}
	bpf_map_delete_elem(&calls, &thread);
	return 0;
}

static __always_inline int freed(__u64 ssl)
{
	struct ssl_key key = key_of(ssl);
	struct ssl_state *s = bpf_map_lookup_elem(&states, &key);

	if (!s)
		return 0;
	if (s->calls && !s->over)
		tell(&key, s, s->unsure ? OPENSSL_RESULT_UNKNOWN : OPENSSL_ABANDONED,
		     OPENSSL_LIBRARIES);
	bpf_map_delete_elem(&states, &key);
	return 0;
}

static __always_inline int error(__u32 library, __u32 reason)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct active *a = bpf_map_lookup_elem(&calls, &thread);

	if (!a || (library != ERR_LIB_SSL && library != ERR_LIB_SYS))
		return 0;
	if (!a->library || (library == ERR_LIB_SSL && a->library != ERR_LIB_SSL)) {
		a->library = library;
		a->reason = reason;
	}
	return 0;
}

static __always_inline int enter_any(struct pt_regs *ctx, __u32 function, __u32 index)
{
	__u64 ssl = PT_REGS_PARM1(ctx);

	switch (function) {
	case OPENSSL_HANDSHAKE:
		return enter_call(ctx, index, false);
	case OPENSSL_TRANSFER:
		return enter_call(ctx, index, true);
	case OPENSSL_CONNECT:
		return set_role(ssl, OPENSSL_CLIENT, false);
	case OPENSSL_ACCEPT:
		return set_role(ssl, OPENSSL_SERVER, false);
	case OPENSSL_SET_CONNECT:
		return set_role(ssl, OPENSSL_CLIENT, true);
	case OPENSSL_SET_ACCEPT:
		return set_role(ssl, OPENSSL_SERVER, true);
	case OPENSSL_FREE:
		return ssl ? freed(ssl) : 0;
	case OPENSSL_ERROR:
		return error(ssl, PT_REGS_PARM2(ctx));
	case OPENSSL_PUT_ERROR:
		return error(ssl, PT_REGS_PARM3(ctx));
	default:
		return 0;
	}
}

/* Where one link has all probes. */
SEC("uprobe")
int multi_enter(struct pt_regs *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx);

	uprobe_keep_stack(ctx);
	return enter_any(ctx, cookie & 0xff, cookie >> 8);
}

SEC("uretprobe")
int multi_leave(struct pt_regs *ctx)
{
	uprobe_keep_stack(ctx);
	return leave_handshake(ctx);
}

/* Where each function has a link of its own, without a cookie: which file it is in isn't known
 * then. */
#define ENTER(name, function)                                       \
	SEC("uprobe")                                               \
	int name(struct pt_regs *ctx)                               \
	{                                                           \
		uprobe_keep_stack(ctx);                             \
		return enter_any(ctx, function, OPENSSL_LIBRARIES); \
	}

ENTER(enter_do_handshake, OPENSSL_HANDSHAKE)
ENTER(enter_connect, OPENSSL_CONNECT)
ENTER(enter_accept, OPENSSL_ACCEPT)
ENTER(enter_set_connect, OPENSSL_SET_CONNECT)
ENTER(enter_set_accept, OPENSSL_SET_ACCEPT)
ENTER(enter_free, OPENSSL_FREE)
ENTER(enter_error, OPENSSL_ERROR)
ENTER(enter_put_error, OPENSSL_PUT_ERROR)
ENTER(enter_transfer, OPENSSL_TRANSFER)

SEC("uretprobe")
int leave(struct pt_regs *ctx)
{
	uprobe_keep_stack(ctx);
	return leave_handshake(ctx);
}

/* Its libraries will be there in a moment. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(program_began, struct task_struct *task)
{
	struct openssl_exec *e = event_reserve(sizeof(*e));

	if (!e)
		return 0;
	e->kind = OPENSSL_EVENT_EXEC;
	e->pid = BPF_CORE_READ(task, tgid);
	event_submit(e);
	return 0;
}
