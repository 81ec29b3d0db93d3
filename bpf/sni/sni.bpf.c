/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel half of sni: the first octets that a connecting process sends, if they begin a TLS hello.
 */
/*
 * The socket's storage says whether its first octets are still to come: a connection that was
 * looked at costs each later packet one lookup, one that nobody here opened costs the same.
 */
#include "bpf/plugin.bpf.h"

#include "bpf/lib/payload.bpf.h"
#include "bpf/sni/sni.h"

enum sni_state {
	SNI_FIRST, /* nothing sent so far */
	SNI_MORE,  /* in the middle of a hello */
	SNI_DONE,
};

struct sni_sock {
	struct sock_owner owner;
	__s32 left; /* SNI_MORE: octets still to come */
	__u8 state;
	__u8 sample_shift; /* in force when it connected */
	__u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sni_sock);
} sni_sockets SEC(".maps");

static __always_inline int on_connect(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct sni_sock *s;

	if (!sk || ctx->protocol != K_IPPROTO_TCP)
		return 1;
	/* Here, so that packets of a connection that is left out cost no more than others'. */
	if (sampled_out())
		return 1;
	s = bpf_sk_storage_get(&sni_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s) {
		plugin_count(PLUGIN_STAT_MAP_FULL);
		return 1;
	}
	sock_owner_current(&s->owner);
	s->sample_shift = sample_shift(s->owner.cgroup_id);
	s->state = s->owner.pid == self_tgid && self_tgid ? SNI_DONE : SNI_FIRST;
	return 1;
}

SEC("cgroup/connect4")
int sni_connect4(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx);
}

SEC("cgroup/connect6")
int sni_connect6(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx);
}

/*
 * How long a hello that begins at off is, record headers and all; 0: it is none. A message in
 * several records has more headers than can be told from here, and one whose length isn't there yet
 * may be anything.
 */
static __always_inline __s32 hello_length(struct __sk_buff *skb, int off, __u32 size)
{
	__u8 d[9] = {};
	__u32 record, message;

	if (size < 9) {
		if (bpf_skb_load_bytes(skb, off, d, 1) || d[0] != 22)
			return 0;
		return SNI_STREAM_MAX;
	}
	if (bpf_skb_load_bytes(skb, off, d, 9) || d[0] != 22 || d[1] != 3 || d[2] > 4 || d[5] != 1)
		return 0;
	record = d[3] << 8 | d[4];
	message = 4 + (d[6] << 16 | d[7] << 8 | d[8]);
	if (record < message || message + 5 > SNI_STREAM_MAX)
		return SNI_STREAM_MAX;
	return 5 + message;
}

static __always_inline int sni_egress(struct __sk_buff *skb, struct bpf_sock *sk,
				      struct sni_sock *s)
{
	struct payload_head h;
	int off;

	__builtin_memset(&h, 0, sizeof(h));
	off = payload_parse(skb, K_IPPROTO_TCP, true, &h);
	if (off < 0) {
		plugin_count(PLUGIN_STAT_ERROR);
		return 1;
	}
	if (!h.size)
		return 1;
	if (s->state == SNI_FIRST) {
		s->left = hello_length(skb, off, h.size);
		if (!s->left) {
			s->state = SNI_DONE;
			return 1;
		}
	}
	s->left -= h.size;
	s->state = s->left > 0 ? SNI_MORE : SNI_DONE;
	payload_connected(skb, &h, sk);
	sock_owner_netns(&s->owner, sk);
	payload_owner(&h, &s->owner);
	h.sample_shift = s->sample_shift;
	h.boot_ns = bpf_ktime_get_boot_ns();
	payload_emit(skb, off, &h, SNI_CHUNKS);
	return 1;
}

SEC("cgroup_skb/egress")
int sni_out(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct sni_sock *s;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != K_IPPROTO_TCP)
		return 1;
	s = bpf_sk_storage_get(&sni_sockets, sk, NULL, 0);
	if (!s || s->state == SNI_DONE)
		return 1;
	return sni_egress(skb, sk, s);
}
