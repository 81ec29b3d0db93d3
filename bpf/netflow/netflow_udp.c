// SPDX-License-Identifier: Apache-2.0
/* UDP, ICMP, raw, SCTP: attaching to the root of the cgroup2 hierarchy and reading the flows of an
 * interval. */
#include "bpf/netflow/netflow_priv.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/clock.h"
#include "bpf/cgroup2.h"
#include "bpf/netflow.skel.h"

/* Flows a batch; a bucket of the kernel's hash must fit, and it has more buckets than flows. */
#define BATCH	  256u

#define HOOKS_MAX 11

/* Owners before packets, so that none is counted without its owner. Returns how many. */
static size_t udp_hooks(const struct netflow *nf, struct cgroup2_hook hooks[HOOKS_MAX])
{
	struct netflow_bpf *s = nf->skel;
	const struct cgroup2_hook all[] = {
		{s->progs.other_create, &s->links.other_create},
		{s->progs.udp_bind4, &s->links.udp_bind4},
		{s->progs.udp_bind6, &s->links.udp_bind6},
		{s->progs.udp_connect4, &s->links.udp_connect4},
		{s->progs.udp_connect6, &s->links.udp_connect6},
		{s->progs.udp_sendmsg4, &s->links.udp_sendmsg4},
		{s->progs.udp_sendmsg6, &s->links.udp_sendmsg6},
		{s->progs.udp_recvmsg4, &s->links.udp_recvmsg4},
		{s->progs.udp_recvmsg6, &s->links.udp_recvmsg6},
		{s->progs.udp_out, &s->links.udp_out},
		{s->progs.udp_in, &s->links.udp_in},
	};

	size_t first = nf->other ? 0 : 1;

	static_assert(ARRAY_SIZE(all) == HOOKS_MAX, "as many as the callers have room for");
	memcpy(hooks, all + first, sizeof(all) - first * sizeof(all[0]));
	return ARRAY_SIZE(all) - first;
}

int netflow_udp_attach(struct instance *in, struct err *err)
{
	struct netflow *nf = netflow(in);
	struct cgroup2_hook hooks[HOOKS_MAX];
	size_t n = udp_hooks(nf, hooks);

	return cgroup2_attach(nf->cgroup_fd, hooks, n, err);
}

void netflow_udp_detach(struct instance *in)
{
	struct cgroup2_hook hooks[HOOKS_MAX];

	cgroup2_detach(hooks, udp_hooks(netflow(in), hooks));
}

static int account(struct instance *in, const struct netflow_udp_key *k,
		   const struct netflow_udp_flow *v)
{
	struct flow_key key = {
		.sport = k->sport,
		.dport = k->dport,
		.pid = k->pid,
		.netns = k->netns,
		.family = k->family,
		.dir = k->dir,
		.transport = k->transport,
		.cgroup_id = v->cgroup_id,
	};
	struct flow *f;

	memcpy(key.src, k->src, sizeof(key.src));
	memcpy(key.dst, k->dst, sizeof(key.dst));
	memcpy(key.comm, v->comm, strnlen(v->comm, sizeof(key.comm) - 1));
	if (netflow_filter_drops(in, &key))
		return 0;
	netflow_translate(in, &key);
	netflow_aggregate_port(netflow(in), &key);
	f = netflow_flow(in, &key);
	if (!f)
		return -ENOMEM;
	f->rx += v->rx;
	f->tx += v->tx;
	f->packets_in += v->packets_in;
	f->packets_out += v->packets_out;
	return 0;
}

/*
 * Returns when every program that read the old udp_turn has ended: they run under rcu_read_lock(),
 * and this membarrier command is synchronize_rcu(). It isn't offered on nohz_full systems: there a
 * moment must do.
 */
static void wait_for_programs(void)
{
	const struct timespec moment = {.tv_nsec = 5 * NSEC_PER_MSEC};

	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0)
		nanosleep(&moment, NULL);
}

static int drain(struct instance *in, int map)
{
	struct netflow *nf = netflow(in);
	struct netflow_udp_key *keys = (struct netflow_udp_key *)nf->buf;
	struct netflow_udp_flow *values = (struct netflow_udp_flow *)(keys + BATCH);
	uint32_t token, n;
	bool first = true;
	int r;

	do {
		n = BATCH;
		r = bpf_map_lookup_and_delete_batch(map, first ? NULL : &token, &token, keys,
						    values, &n, NULL);
		if (r < 0 && r != -ENOENT)
			return r;
		first = false;
		for (uint32_t i = 0; i < n; i++)
			(void)account(in, &keys[i], &values[i]); /* out of memory: counted */
	} while (r == 0);
	return 0;
}

int netflow_udp_tick(struct instance *in)
{
	struct netflow *nf = netflow(in);
	uint8_t turn = nf->skel->bss->udp_turn;
	int map = bpf_map__fd(turn ? nf->skel->maps.udp_flows_1 : nf->skel->maps.udp_flows_0);
	struct netflow_udp_key any;

	nf->skel->bss->udp_turn = !turn;
	/* Only what is added to an entry while that is deleted is lost; one made too late for this
	 * turn is read in the next but one. */
	if (bpf_map_get_next_key(map, NULL, &any) == -ENOENT)
		return 0;
	wait_for_programs();
	return drain(in, map);
}
