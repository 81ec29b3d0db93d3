// SPDX-License-Identifier: Apache-2.0
/* Loads net.bpf.c, attaches it to our cgroup2 leaf and sums its per-CPU counters. */
#include "governor/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "governor/net_bytes.h"

#include "bpf/governor_net.skel.h"

struct net_count {
	struct governor_net_bpf *skel;
	struct bpf_link *ingress, *egress;
	struct net_bytes *cpus; /* one a possible CPU */
	int n_cpus;
};

static int attach(struct net_count *n, int cgroup_fd, struct err *err)
{
	int r;

	n->ingress = bpf_program__attach_cgroup(n->skel->progs.net_ingress, cgroup_fd);
	n->egress = n->ingress ? bpf_program__attach_cgroup(n->skel->progs.net_egress, cgroup_fd)
			       : NULL;
	if (n->ingress && n->egress)
		return 0;
	r = -errno;
	return err_set(err, r, "cannot attach the traffic counter to our cgroup: %s%s",
		       strerror(-r),
		       r == -EINVAL || r == -EOPNOTSUPP ? "; the kernel needs CONFIG_CGROUP_BPF"
		       : r == -EPERM			? "; it needs CAP_NET_ADMIN and CAP_BPF"
							: "");
}

static int load(struct net_count *n, struct err *err)
{
	int r;

	n->skel = governor_net_bpf__open();
	if (!n->skel)
		return err_set(err, -errno, "cannot open the traffic counter: %s", strerror(errno));
	r = governor_net_bpf__load(n->skel);
	if (r < 0)
		return err_set(err, r, "cannot load the traffic counter: %s%s", strerror(-r),
			       r == -EPERM ? "; it needs CAP_BPF and CAP_NET_ADMIN" : "");
	return 0;
}

int net_count_new(struct net_count **ret, int cgroup_fd, struct err *err)
{
	_cleanup_(net_count_freep) struct net_count *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return err_set(err, -ENOMEM, "out of memory");
	n->n_cpus = libbpf_num_possible_cpus();
	if (n->n_cpus <= 0)
		return err_set(err, n->n_cpus ? n->n_cpus : -EIO, "cannot count the possible CPUs");
	n->cpus = calloc(n->n_cpus, sizeof(*n->cpus));
	if (!n->cpus)
		return err_set(err, -ENOMEM, "out of memory");
	r = load(n, err);
	if (r < 0)
		return r;
	r = attach(n, cgroup_fd, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(n);
	return 0;
}

int net_count_read(struct net_count *n, uint64_t *ret_rx, uint64_t *ret_tx)
{
	uint32_t key = 0;
	uint64_t rx = 0, tx = 0;

	if (bpf_map_lookup_elem(bpf_map__fd(n->skel->maps.governor_net), &key, n->cpus) < 0)
		return -errno;
	for (int i = 0; i < n->n_cpus; i++) {
		rx += n->cpus[i].rx;
		tx += n->cpus[i].tx;
	}
	*ret_rx = rx;
	*ret_tx = tx;
	return 0;
}

uint64_t net_count_run_ns(const struct net_count *n)
{
	const int fds[] = {bpf_program__fd(n->skel->progs.net_ingress),
			   bpf_program__fd(n->skel->progs.net_egress)};
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		struct bpf_prog_info info = {0};
		uint32_t len = sizeof(info);

		if (!bpf_obj_get_info_by_fd(fds[i], &info, &len))
			sum += info.run_time_ns;
	}
	return sum;
}

void net_count_free(struct net_count *n)
{
	if (!n)
		return;
	bpf_link__destroy(n->ingress);
	bpf_link__destroy(n->egress);
	governor_net_bpf__destroy(n->skel);
	free(n->cpus);
	free(n);
}
