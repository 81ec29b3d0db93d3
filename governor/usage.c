// SPDX-License-Identifier: Apache-2.0
/* Samples CPU, memory and network of ourselves and keeps a second of history for the rates. */
#include "governor/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "base/clock.h"
#include "base/macro.h"
#include "governor/cgroup.h"
#include "governor/net.h"
#include "governor/netdev.h"

/* A rate is a mean over that much, less the jitter of a one-second timer. */
#define WINDOW_NS (950 * NSEC_PER_MSEC)
/* Less than that is noise: a scheduler tick is 4 ms. */
#define WINDOW_MIN_NS (100 * NSEC_PER_MSEC)
/* A second of samples at the fast interval of 250 ms, and room for an early one. */
#define HISTORY 8
/* A piece of /proc/net/dev: some 60 interfaces. */
#define NET_DEV_PIECE 8192

/* Totals that only grow. */
struct point {
	uint64_t at_ns;
	uint64_t cpu_ns, bpf_ns, rx, tx, periods, throttled;
	bool cpu_valid, net_valid, bpf_valid;
};

struct usage {
	struct cgroup_place *place;
	void (*bpf_cost)(void *ctx, uint64_t *ret_run_ns, uint64_t *ret_map_bytes);
	void *ctx;
	bool maps_in_cgroup; /* since 5.11 the kernel charges map memory to the cgroup */
	struct net_count *net;
	int net_dev_fd;
	struct point history[HISTORY]; /* a ring; the newest at `newest` */
	size_t newest, filled;
	uint64_t bpf_seen_ns, bpf_ns;
	bool bpf_known;
	struct netdev_table nic;
	bool nic_valid;
	struct netdev_rate nic_rate;
	char piece[NET_DEV_PIECE];
	char lost[320];
};

/*
 * BPF memory went from RLIMIT_MEMLOCK to the memory cgroup in 5.11 (d5299b67dd59); the helper that
 * came with the same release tells the two apart, as libbpf itself does.
 */
static bool kernel_charges_maps(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_SOCKET_FILTER, BPF_FUNC_ktime_get_coarse_ns,
				       NULL) == 1;
}

int usage_new(struct usage **ret, struct cgroup_place *place,
	      void (*bpf_cost)(void *ctx, uint64_t *, uint64_t *), void *ctx, struct err *err)
{
	_cleanup_(usage_freep) struct usage *u = calloc(1, sizeof(*u));
	struct err why = {0};
	int fd = cgroup_v2_fd(place);

	if (!u)
		return err_set(err, -ENOMEM, "out of memory");
	u->place = place;
	u->bpf_cost = bpf_cost;
	u->ctx = ctx;
	u->maps_in_cgroup = kernel_charges_maps();
	/* Bound to this network namespace from here on. */
	u->net_dev_fd = open("/proc/self/net/dev", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && net_count_new(&u->net, fd, &why) < 0)
		snprintf(u->lost, sizeof(u->lost), "%s: net_limit holds in scope nic only",
			 why.msg);
	*ret = TAKE_PTR(u);
	return 0;
}

void usage_free(struct usage *u)
{
	if (!u)
		return;
	net_count_free(u->net);
	if (u->net_dev_fd >= 0)
		close(u->net_dev_fd);
	free(u);
}

const char *usage_lost(const struct usage *u)
{
	return u->lost;
}

uint64_t usage_interfaces_skipped(const struct usage *u)
{
	return u->nic.skipped;
}

/* Time of programs that were unloaded disappears from the total; what was billed stays billed. */
static void take_bpf(struct usage *u, uint64_t *ret_map_bytes)
{
	uint64_t run_ns = 0;

	*ret_map_bytes = 0;
	if (u->bpf_cost)
		u->bpf_cost(u->ctx, &run_ns, ret_map_bytes);
	u->bpf_known = run_ns != UINT64_MAX;
	if (!u->bpf_known)
		run_ns = 0;
	if (u->net)
		run_ns += net_count_run_ns(u->net);
	if (run_ns > u->bpf_seen_ns)
		u->bpf_ns += run_ns - u->bpf_seen_ns;
	u->bpf_seen_ns = run_ns;
}

static void take_mem(struct usage *u, const struct cgroup_usage *cg, uint64_t map_bytes,
		     struct governor_usage *ret)
{
	ret->rss_bytes = cg->rss_bytes;
	ret->bpf_map_bytes = map_bytes;
	ret->sample.valid[RESOURCE_MEM] = cg->mem_valid;
	ret->sample.value[RESOURCE_MEM] = cg->mem_bytes;
	if (cg->mem_is_rss || !u->maps_in_cgroup)
		ret->sample.value[RESOURCE_MEM] += map_bytes;
}

/* The newest point that is a window old, else the oldest there is. */
static const struct point *window_start(const struct usage *u, uint64_t now_ns)
{
	const struct point *p = NULL;

	for (size_t i = 0; i < u->filled; i++) {
		p = &u->history[(u->newest + HISTORY - i) % HISTORY];
		if (now_ns - p->at_ns >= WINDOW_NS)
			break;
	}
	return p && now_ns - p->at_ns >= WINDOW_MIN_NS ? p : NULL;
}

static uint64_t per_second(uint64_t now, uint64_t before, uint64_t elapsed_ns, double scale)
{
	return now > before ? (uint64_t)((double)(now - before) * scale / (double)elapsed_ns) : 0;
}

static void rates(const struct point *from, const struct point *to, struct governor_usage *ret)
{
	uint64_t elapsed = to->at_ns - from->at_ns;

	ret->cpu_bpf_millicores = per_second(to->bpf_ns, from->bpf_ns, elapsed, 1000);
	ret->sample.value[RESOURCE_KERNEL_CPU] = ret->cpu_bpf_millicores;
	ret->sample.valid[RESOURCE_KERNEL_CPU] = from->bpf_valid && to->bpf_valid;
	if (from->cpu_valid && to->cpu_valid) {
		ret->cpu_user_millicores = per_second(to->cpu_ns, from->cpu_ns, elapsed, 1000);
		ret->sample.value[RESOURCE_CPU] =
			ret->cpu_user_millicores + ret->cpu_bpf_millicores;
		ret->sample.valid[RESOURCE_CPU] = true;
	}
	/* Without periods no quota is set. */
	if (to->periods && to->periods >= from->periods && to->throttled >= from->throttled)
		ret->sample.throttled = to->periods == from->periods
						? 0.0
						: (double)(to->throttled - from->throttled) /
							  (double)(to->periods - from->periods);
	if (from->net_valid && to->net_valid) {
		ret->net_rx = per_second(to->rx, from->rx, elapsed, NSEC_PER_SEC);
		ret->net_tx = per_second(to->tx, from->tx, elapsed, NSEC_PER_SEC);
		ret->sample.value[RESOURCE_NET] = ret->net_rx + ret->net_tx;
		ret->sample.valid[RESOURCE_NET] = true;
	}
}

static void add_device(void *arg, const struct net_device *dev)
{
	netdev_add(arg, dev);
}

static int read_net_dev(struct usage *u)
{
	off_t at = 0;

	for (;;) {
		ssize_t n = pread(u->net_dev_fd, u->piece, sizeof(u->piece), at);
		size_t used;

		if (n < 0)
			return -errno;
		used = parse_net_dev(u->piece, n, add_device, &u->nic);
		/* The end, or a line longer than a piece, which the kernel doesn't write. */
		if (!used)
			return 0;
		at += used;
	}
}

/* One look a second: a burst between two faster ones is not a second's traffic. */
static void take_nic(struct usage *u, uint64_t now_ns, struct governor_usage *ret)
{
	if (u->net_dev_fd >= 0 && (!u->nic.last_ns || now_ns - u->nic.last_ns >= WINDOW_NS)) {
		netdev_begin(&u->nic, now_ns);
		u->nic_valid = read_net_dev(u) == 0 && u->nic.elapsed_ns;
		netdev_end(&u->nic);
		u->nic_rate = u->nic.busiest;
	}
	ret->net_rx = u->nic_rate.rx;
	ret->net_tx = u->nic_rate.tx;
	memcpy(ret->net_interface, u->nic_rate.name, sizeof(ret->net_interface));
	ret->sample.value[RESOURCE_NET] = ret->net_rx > ret->net_tx ? ret->net_rx : ret->net_tx;
	ret->sample.valid[RESOURCE_NET] = u->nic_valid;
}

void usage_take(struct usage *u, enum net_scope scope, uint64_t now_ns, struct governor_usage *ret)
{
	struct cgroup_usage cg = {0};
	struct point p = {.at_ns = now_ns};
	const struct point *from;
	uint64_t map_bytes;

	*ret = (struct governor_usage){.sample = {.now_ns = now_ns, .throttled = -1}};
	cgroup_read_usage(u->place, &cg);
	take_bpf(u, &map_bytes);
	take_mem(u, &cg, map_bytes, ret);
	p.cpu_ns = cg.cpu_ns;
	p.cpu_valid = cg.cpu_valid;
	p.bpf_ns = u->bpf_ns;
	p.periods = cg.nr_periods;
	p.throttled = cg.nr_throttled;
	p.net_valid = u->net && net_count_read(u->net, &p.rx, &p.tx) == 0;
	p.bpf_valid = u->bpf_known;
	from = window_start(u, now_ns);
	if (from)
		rates(from, &p, ret);
	u->newest = (u->newest + 1) % HISTORY;
	u->history[u->newest] = p;
	u->filled += u->filled < HISTORY;
	if (scope == NET_SCOPE_NIC)
		take_nic(u, now_ns, ret);
}
