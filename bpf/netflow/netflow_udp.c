// SPDX-License-Identifier: Apache-2.0
/* UDP: attaching to the root of the cgroup2 hierarchy and reading the flows of an interval. */
#include "bpf/netflow/netflow_priv.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/clock.h"
#include "bpf/netflow.skel.h"

/* Flows a batch; a bucket of the kernel's hash must fit, and it has more buckets than flows. */
#define BATCH 256u

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *path)
{
	char *out = path;

	for (const char *p = path; *p; out++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' &&
		    p[3] >= '0' && p[3] <= '7') {
			*out = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 4;
		} else {
			*out = *p++;
		}
	}
	*out = '\0';
}

/* The mount point of a line of mountinfo(5) if it is a cgroup2 mount of the hierarchy's root,
 * within the line; else NULL. */
static char *cgroup2_mount(char *line)
{
	char *sep = strstr(line, " - "), *save, *field = NULL, *root = NULL;

	if (!sep || strncmp(sep + 3, "cgroup2 ", 8) != 0)
		return NULL;
	*sep = '\0';
	for (int i = 0; i < 5; i++) { /* id, parent, device, root, mount point */
		field = strtok_r(i ? NULL : line, " ", &save);
		if (!field)
			return NULL;
		if (i == 3)
			root = field;
	}
	if (strcmp(root, "/") != 0)
		return NULL;
	unescape(field);
	return field;
}

int netflow_cgroup_root(char *why, size_t cap)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *dir = NULL;
	size_t size = 0;
	struct stat st;
	int fd = -1;

	if (!f) {
		snprintf(why, cap, "UDP is not seen: cannot read /proc/self/mountinfo: %s",
			 strerror(errno));
		return -1;
	}
	while (!dir && getline(&line, &size, f) > 0)
		dir = cgroup2_mount(line);
	if (dir)
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!dir)
		snprintf(why, cap, "UDP is not seen: no cgroup2 hierarchy is mounted");
	else if (fd < 0)
		snprintf(why, cap, "UDP is not seen: cannot open %.100s: %s", dir, strerror(errno));
	else if (fstat(fd, &st) == 0 && st.st_ino != 1) /* the root of a kernfs is node 1 */
		snprintf(why, cap,
			 "UDP is seen only below %.100s, which isn't the host's root: run in the "
			 "host's cgroup namespace",
			 dir);
	free(line);
	fclose(f);
	return fd;
}

struct hook {
	struct bpf_program *prog;
	struct bpf_link **link;
};

/* Owners before packets, so that none is counted without its owner. Returns how many. */
static size_t udp_hooks(struct netflow_bpf *s, struct hook hooks[10])
{
	const struct hook all[] = {
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

	memcpy(hooks, all, sizeof(all));
	return ARRAY_SIZE(all);
}

int netflow_udp_attach(struct instance *in, struct err *err)
{
	struct netflow *nf = netflow(in);
	struct hook hooks[10];
	size_t n = udp_hooks(nf->skel, hooks);

	for (size_t i = 0; i < n; i++) {
		*hooks[i].link = bpf_program__attach_cgroup(hooks[i].prog, nf->cgroup_fd);
		if (!*hooks[i].link)
			return err_set(err, -errno,
				       "cannot attach %s to the root of the cgroup2 hierarchy: %s",
				       bpf_program__name(hooks[i].prog), strerror(errno));
	}
	return 0;
}

void netflow_udp_detach(struct instance *in)
{
	struct netflow *nf = netflow(in);
	struct hook hooks[10];
	size_t n = udp_hooks(nf->skel, hooks);

	for (size_t i = 0; i < n; i++) {
		bpf_link__destroy(*hooks[i].link);
		*hooks[i].link = NULL;
	}
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
		.transport = IPPROTO_UDP,
		.cgroup_id = v->cgroup_id,
	};
	struct flow *f;

	memcpy(key.src, k->src, sizeof(key.src));
	memcpy(key.dst, k->dst, sizeof(key.dst));
	memcpy(key.comm, v->comm, strnlen(v->comm, sizeof(key.comm) - 1));
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
