// SPDX-License-Identifier: Apache-2.0
/* The netflow plugin: which processes talk to whom, how much and how well. */
#include "bpf/plugin.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "bpf/cgroup2.h"
#include "bpf/netflow/netflow_priv.h"
#include "bpf/netflow.skel.h"

static const char *const keep_names[] = {"auto", "storage", "hash", NULL};

enum keep {
	KEEP_AUTO,
	KEEP_STORAGE,
	KEEP_HASH,
};

static const struct opt netflow_options[] = {
	{.key = "udp",
	 .type = OPT_BOOL,
	 .def = "true",
	 .restart = true,
	 .help = "see UDP too; its hooks cost every TCP packet of the host a little"},
	{.key = "other",
	 .type = OPT_BOOL,
	 .def = "true",
	 .restart = true,
	 .help = "with udp: see ICMP, raw and SCTP sockets too"},
	{.key = "loopback",
	 .type = OPT_BOOL,
	 .def = "false",
	 .help = "rows for flows with a loopback address too; 'connections' always has them"},
	{.key = "ipv6", .type = OPT_BOOL, .def = "true", .help = "rows for IPv6 flows too"},
	{.key = "ephemeral_port",
	 .type = OPT_INT,
	 .def = "32768",
	 .min = "0",
	 .max = "65535",
	 .env = "ENV_INPUT_EBPF_EPHEMERAL_PORT",
	 .help = "clients' ports from here on are left out, so that connections of one client make "
		 "one row; 0: never"},
	{.key = "max_flows",
	 .type = OPT_INT,
	 .def = "65536",
	 .min = "256",
	 .max = "4194304",
	 .restart = true,
	 .help = "flows held at a time; when there are more, rows are written before the interval "
		 "ends"},
	{.key = "max_sockets",
	 .type = OPT_INT,
	 .def = "131072",
	 .min = "256",
	 .max = "4194304",
	 .restart = true,
	 .help = "open TCP connections followed; one beyond is reported when it ends, without an "
		 "owner"},
	{.key = "owners",
	 .type = OPT_ENUM,
	 .def = "auto",
	 .choices = keep_names,
	 .restart = true,
	 .help = "where the owner of a TCP socket is kept: in a hash of max_sockets entries, or in "
		 "the socket's own storage (5.11 and later), which has no limit and costs each "
		 "connection more"},
	{.key = "ports",
	 .type = OPT_STRING,
	 .help = "rows for these ports of services alone: 80 8000-8999 https, !53 leaves one out; "
		 "unset: all"},
	{.key = "ips",
	 .type = OPT_STRING,
	 .help = "rows for these remote addresses alone: 192.0.2.1 10.0.0.0/8 fd00::1-fd00::9, "
		 "!10.1.0.0/16 leaves some out; unset: all"},
	{.key = "hostnames",
	 .type = OPT_STRING,
	 .help = "rows for these remote names alone, as in dst_domain: *.example.org, "
		 "!www.example.org leaves one out; unset: all"},
	{},
};

/* What this kernel can do, best first. */
struct variant {
	bool hash, storage, udp, udp_plain;
};

static void set_udp_autoload(struct netflow_bpf *s, bool on)
{
	struct bpf_program *progs[] = {
		s->progs.udp_bind4,    s->progs.udp_bind6,	  s->progs.udp_connect4,
		s->progs.udp_connect6, s->progs.udp_sendmsg4,	  s->progs.udp_sendmsg6,
		s->progs.udp_recvmsg4, s->progs.udp_recvmsg6,	  s->progs.udp_out,
		s->progs.udp_in,       s->progs.udp_sockets_show,
	};

	for (size_t i = 0; i < ARRAY_SIZE(progs); i++)
		bpf_program__set_autoload(progs[i], on);
}

static int configure(struct netflow_bpf *s, const struct variant *v, const struct opt_set *opts)
{
	uint32_t flows = v->udp ? (uint32_t)opt_i64(opts, "max_flows") : 1;
	bool other = v->udp && opt_bool(opts, "other");
	int r;

	s->rodata->use_hash = v->hash;
	s->rodata->has_storage = v->storage;
	s->rodata->use_udp = v->udp;
	s->rodata->udp_plain = v->udp_plain;
	bpf_program__set_autoload(s->progs.tcp_sockets, !v->hash);
	bpf_program__set_autoload(s->progs.tcp_sockets_hash, v->hash);
	s->rodata->use_other = other;
	set_udp_autoload(s, v->udp);
	bpf_program__set_autoload(s->progs.other_create, other);
	r = bpf_map__set_max_entries(s->maps.udp_flows_0, flows);
	if (r == 0)
		r = bpf_map__set_max_entries(s->maps.udp_flows_1, flows);
	if (r == 0 && v->hash)
		r = bpf_map__set_max_entries(s->maps.tcp_owners_by_addr,
					     (uint32_t)opt_i64(opts, "max_sockets"));
	return r;
}

/* Loading it is the only proof: distributions carry features back, and lockdown takes them away. */
static int try_load(const struct variant *v, const struct opt_set *opts)
{
	struct netflow_bpf *s = netflow_bpf__open();
	int r;

	if (!s)
		return -errno;
	r = configure(s, v, opts);
	if (r == 0)
		r = netflow_bpf__load(s);
	netflow_bpf__destroy(s);
	return r;
}

static int choose_variant(const struct opt_set *opts, bool cgroup, struct variant *ret)
{
	static const struct variant all[] = {
		{.udp = true, .storage = true, .hash = true},
		{.udp = true, .storage = true},
		{.udp = true, .hash = true},
		{.udp = true, .storage = true, .udp_plain = true, .hash = true},
		{.udp = true, .storage = true, .udp_plain = true},
		{.udp = true, .udp_plain = true, .hash = true},
		{.storage = true, .hash = true},
		{.storage = true},
		{.hash = true},
	};
	int64_t keep = opt_i64(opts, "owners");
	int r = -EOPNOTSUPP;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (all[i].udp && (!cgroup || !opt_bool(opts, "udp")))
			continue;
		if (keep != KEEP_AUTO && all[i].hash != (keep == KEEP_HASH))
			continue;
		r = try_load(&all[i], opts);
		if (r == 0) {
			*ret = all[i];
			return 0;
		}
	}
	return r;
}

static int load_failed(int r, struct err *err)
{
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		return err_set(err, -EOPNOTSUPP,
			       "this kernel has no BTF (/sys/kernel/btf/vmlinux): it needs "
			       "CONFIG_DEBUG_INFO_BTF");
	if (r == -EPERM || r == -EACCES)
		return err_set(err, r,
			       "not permitted: it needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN");
	return err_set(err, r,
		       "the kernel refuses its programs: %s; it needs BTF tracepoints and BPF "
		       "iterators (5.10 and later)",
		       strerror(-r));
}

static int read_options(struct instance *in, struct err *err)
{
	struct netflow *nf = netflow(in);
	int r = netflow_filter_read(in, err);

	if (r < 0)
		return r;
	nf->ephemeral_port = (uint16_t)opt_i64(in->opts, "ephemeral_port");
	nf->loopback = opt_bool(in->opts, "loopback");
	nf->ipv6 = opt_bool(in->opts, "ipv6");
	nf->skel->bss->opt_loopback = nf->loopback;
	nf->skel->bss->opt_ipv6 = nf->ipv6;
	return 0;
}

static void open_cgroup_root(struct instance *in)
{
	char why[200];
	int fd = cgroup2_open_root(why, sizeof(why));

	if (why[0])
		snprintf(in->degraded, sizeof(in->degraded), "UDP is %s: %s",
			 fd < 0 ? "not seen" : "seen in part", why);
	netflow(in)->cgroup_fd = fd < 0 ? -1 : fd;
}

static int netflow_setup(struct instance *in, struct err *err)
{
	struct netflow *nf = netflow(in);
	struct variant v = {};
	int r;

	nf->skel = in->skel;
	nf->cgroup_fd = -1;
	nf->buf = malloc(NETFLOW_BUF);
	r = nf->buf ? flows_init(&nf->flows, (uint32_t)opt_i64(in->opts, "max_flows")) : -ENOMEM;
	if (r < 0)
		return err_set(err, r, "cannot make its tables: %s", strerror(-r));
	seen_init(&nf->seen, (uint32_t)opt_i64(in->opts, "max_sockets"));
	if (opt_bool(in->opts, "udp"))
		open_cgroup_root(in);
	r = choose_variant(in->opts, nf->cgroup_fd >= 0, &v);
	if (r < 0)
		return load_failed(r, err);
	if (nf->cgroup_fd >= 0 && !v.udp)
		snprintf(in->degraded, sizeof(in->degraded),
			 "UDP is not seen: the kernel refuses programs on control groups");
	else if (v.udp_plain)
		snprintf(in->degraded, sizeof(in->degraded),
			 "UDP is seen without network namespaces: programs on control groups may "
			 "not read kernel memory here");
	nf->hash = v.hash;
	nf->udp = v.udp;
	nf->other = v.udp && opt_bool(in->opts, "other");
	nf->udp_plain = v.udp_plain;
	r = configure(nf->skel, &v, in->opts);
	if (r < 0)
		return err_set(err, r, "cannot size its maps: %s", strerror(-r));
	return read_options(in, err);
}

/* An iterator on one map, run each time that it is read. */
static int attach_iter(struct bpf_program *prog, const struct bpf_map *map, struct bpf_link **link,
		       struct err *err)
{
	union bpf_iter_link_info info = {};
	LIBBPF_OPTS(bpf_iter_attach_opts, opts);

	if (map) {
		info.map.map_fd = (uint32_t)bpf_map__fd(map);
		opts.link_info = &info;
		opts.link_info_len = sizeof(info);
	}
	*link = bpf_program__attach_iter(prog, &opts);
	if (!*link)
		return err_set(err, -errno, "cannot make the iterator %s: %s",
			       bpf_program__name(prog), strerror(errno));
	return 0;
}

static int attach_iters(struct netflow *nf, struct err *err)
{
	struct netflow_bpf *s = nf->skel;
	int r;

	if (nf->hash)
		r = attach_iter(s->progs.tcp_sockets_hash, s->maps.tcp_owners_by_addr,
				&s->links.tcp_sockets_hash, err);
	else
		r = attach_iter(s->progs.tcp_sockets, s->maps.tcp_owners, &s->links.tcp_sockets,
				err);
	if (r == 0 && nf->udp)
		r = attach_iter(s->progs.udp_sockets_show, s->maps.udp_sockets,
				&s->links.udp_sockets_show, err);
	if (r == 0)
		r = attach_iter(s->progs.seed_files, NULL, &s->links.seed_files, err);
	return r;
}

/* The host attaches these too, but only after start: a connection made between the look at what is
 * there and that would be missed. */
static int attach_tcp(struct netflow *nf, struct err *err)
{
	struct netflow_bpf *s = nf->skel;

	s->links.tcp_state = bpf_program__attach(s->progs.tcp_state);
	if (s->links.tcp_state)
		s->links.tcp_destroy = bpf_program__attach(s->progs.tcp_destroy);
	if (s->links.tcp_destroy)
		s->links.tcp_reader = bpf_program__attach(s->progs.tcp_reader);
	if (!s->links.tcp_reader)
		return err_set(err, -errno, "cannot attach to the kernel's TCP tracepoints: %s",
			       strerror(errno));
	return 0;
}

static int netflow_start(struct instance *in, struct err *err)
{
	struct netflow *nf = netflow(in);
	int r;

	r = attach_iters(nf, err);
	if (r == 0)
		r = attach_tcp(nf, err);
	if (r == 0 && nf->udp)
		r = netflow_udp_attach(in, err);
	if (r == 0)
		r = netflow_seed(in, err);
	if (r < 0)
		return r;
	r = netflow_tcp_baseline(in);
	if (r < 0)
		return err_set(err, r, "cannot read the sockets that are open: %s", strerror(-r));
	nf->started = true;
	return 0;
}

static int netflow_event(struct instance *in, const void *ev, size_t len)
{
	const struct netflow_conn *c = ev;

	if (len != sizeof(*c))
		return -EINVAL;
	return netflow_tcp_end(in, c);
}

struct flow *netflow_flow(struct instance *in, const struct flow_key *key)
{
	struct netflow *nf = netflow(in);
	struct flow *f = flows_get(&nf->flows, key);

	if (f)
		return f;
	/* Full, or no memory to grow: what is there becomes rows now, with sums still exact. */
	in->count.early_flushes++;
	netflow_flush(in, clock_real_ns());
	f = flows_get(&nf->flows, key);
	if (!f)
		in->count.rows_lost++;
	return f;
}

void netflow_find_peer(struct instance *in, struct flow_key *key)
{
	struct nat_tuple socket = {.sport = key->sport, .dport = key->dport};
	struct nat_peer peer;

	memcpy(socket.src, key->src, sizeof(socket.src));
	memcpy(socket.dst, key->dst, sizeof(socket.dst));
	if (!nat_lookup(in->nat, &socket, key->netns, key->family, key->transport, &peer))
		return;
	key->nat = 1;
	memcpy(key->nat_dst, peer.addr, sizeof(key->nat_dst));
	key->nat_dport = peer.port;
}

static int netflow_tick(struct instance *in, uint64_t now_ns)
{
	int r, q = 0;

	if (in->nat)
		nat_keep(in->nat, 2 * in->interval_ns); /* rows of this interval may be as late */
	r = netflow_tcp_tick(in);
	if (netflow(in)->udp)
		q = netflow_udp_tick(in);
	netflow_flush(in, now_ns);
	return r < 0 ? r : q;
}

static int netflow_update(struct instance *in, const char *key, struct err *err)
{
	(void)key;
	return read_options(in, err);
}

static int netflow_snapshot(struct instance *in, const struct table *table, struct batch *batch)
{
	if (table != &netflow_connections_table)
		return -EINVAL;
	return netflow_show_all(in, batch);
}

static void netflow_stop(struct instance *in)
{
	struct netflow *nf = netflow(in);

	if (nf->started && nf->udp) {
		netflow_udp_detach(in);
		if (netflow_udp_tick(in) == 0)
			netflow_flush(in, clock_real_ns());
	}
	flows_free(&nf->flows);
	seen_free(&nf->seen);
	netflow_match_free(nf->match);
	nf->match = NULL;
	free(nf->buf);
	closep(&nf->cgroup_fd);
	nf->buf = NULL;
	nf->cgroup_fd = -1;
	nf->started = false;
}

PLUGIN(netflow,
       .help = "TCP, UDP, ICMP, raw and SCTP flows by process: bytes, packets, round-trip times",
       .needs = "Linux 5.10 or later with BTF; CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; for UDP a "
		"mounted cgroup2 hierarchy",
       TABLES(&netflow_table, &netflow_connections_table), .options = netflow_options,
       .state_size = sizeof(struct netflow), .default_interval_ns = 10 * NSEC_PER_SEC,
       .setup = netflow_setup, .start = netflow_start, .event = netflow_event, .tick = netflow_tick,
       .update = netflow_update, .snapshot = netflow_snapshot, .stop = netflow_stop,
       .shed = instance_shed_interval, .default_priority = 80);
