// SPDX-License-Identifier: Apache-2.0
/* The dnsflow plugin: who asks which DNS server for what, what comes back and how fast. */
#include "bpf/plugin.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "bpf/cgroup2.h"
#include "bpf/dnsflow/dnsflow_priv.h"
#include "bpf/dnsflow.skel.h"

static const struct opt dnsflow_options[] = {
	{.key = "ports",
	 .type = OPT_LIST,
	 .def = "53",
	 .restart = true,
	 .help = "ports that DNS is spoken on, eight at the most"},
	{.key = "mdns",
	 .type = OPT_BOOL,
	 .def = "false",
	 .restart = true,
	 .help = "see this host's multicast DNS queries, too (port 5353)"},
	{.key = "servers",
	 .type = OPT_BOOL,
	 .def = "true",
	 .help = "rows for queries that processes of this host answer, too"},
	{.key = "query_names",
	 .type = OPT_BOOL,
	 .def = "true",
	 .help = "rows by name and type; false: by process, server and status only, which is far "
		 "fewer"},
	{.key = "log", .type = OPT_BOOL, .def = "false", .help = "a row in dnslog for each query"},
	{.key = "timeout",
	 .type = OPT_DURATION,
	 .def = "6s",
	 .min = "100ms",
	 .max = "60s",
	 .help = "an answer that takes longer counts as none"},
	{.key = "max_rows",
	 .type = OPT_INT,
	 .def = "65536",
	 .min = "256",
	 .max = "1048576",
	 .restart = true,
	 .help = "rows gathered in an interval; when there are more they are written before it "
		 "ends"},
	{.key = "max_pending",
	 .type = OPT_INT,
	 .def = "65536",
	 .min = "256",
	 .max = "1048576",
	 .restart = true,
	 .help = "queries that may wait for an answer; beyond that the oldest is forgotten"},
	{.key = "max_connections",
	 .type = OPT_INT,
	 .def = "4096",
	 .min = "16",
	 .max = "65536",
	 .restart = true,
	 .help = "TCP connections followed; beyond that the least used is forgotten"},
	{},
};

/* What this kernel can do, best first. */
struct variant {
	bool seed;  /* find the owners of sockets that are older (5.11) */
	bool plain; /* programs on control groups may not read kernel memory */
};

static int parse_port(const char *text, uint16_t *ret, struct err *err)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (!*text || *end || v < 1 || v > 65535)
		return err_set(err, -EINVAL, "ports: '%s' is no port, use 1 to 65535", text);
	*ret = (uint16_t)v;
	return 0;
}

static int read_ports(const struct opt_set *opts, uint16_t ports[DNSFLOW_PORTS_MAX],
		      struct err *err)
{
	unsigned int n = 0;
	const char *item;
	int r;

	memset(ports, 0, DNSFLOW_PORTS_MAX * sizeof(ports[0]));
	for (size_t i = 0; (item = opt_item(opts, "ports", i)); i++) {
		if (n == DNSFLOW_PORTS_MAX - 1u)
			return err_set(err, -EINVAL, "ports: more than %u, leave some out",
				       DNSFLOW_PORTS_MAX - 1u);
		r = parse_port(item, &ports[n++], err);
		if (r < 0)
			return r;
	}
	if (opt_bool(opts, "mdns"))
		ports[n++] = DNSFLOW_MDNS_PORT;
	return n ? 0 : err_set(err, -EINVAL, "ports: there are none, give one or more");
}

static void configure(struct dnsflow_bpf *s, const struct variant *v,
		      const uint16_t ports[DNSFLOW_PORTS_MAX])
{
	s->rodata->plain = v->plain;
	for (size_t i = 0; i < DNSFLOW_PORTS_MAX; i++)
		s->rodata->ports[i] = ports[i];
	bpf_program__set_autoload(s->progs.dns_seed, v->seed);
	bpf_program__set_autoload(s->progs.dns_recvmsg4, !v->seed);
	bpf_program__set_autoload(s->progs.dns_recvmsg6, !v->seed);
}

static int try_load(const struct variant *v, const uint16_t ports[DNSFLOW_PORTS_MAX])
{
	struct dnsflow_bpf *s = dnsflow_bpf__open();
	int r;

	if (!s)
		return -errno;
	configure(s, v, ports);
	r = dnsflow_bpf__load(s);
	dnsflow_bpf__destroy(s);
	return r;
}

/* Loading it is the only proof: distributions carry features back, and lockdown takes them away. */
static int choose_variant(const uint16_t ports[DNSFLOW_PORTS_MAX], struct variant *ret)
{
	static const struct variant all[] = {
		{.seed = true}, {}, {.seed = true, .plain = true}, {.plain = true}};
	int r = -EOPNOTSUPP;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		r = try_load(&all[i], ports);
		if (r == 0) {
			*ret = all[i];
			return 0;
		}
	}
	return r;
}

static void read_options(struct instance *in)
{
	struct dnsflow *d = dnsflow(in);

	d->query_names = opt_bool(in->opts, "query_names");
	d->log = opt_bool(in->opts, "log");
	d->timeout_ns = (uint64_t)opt_i64(in->opts, "timeout");
	d->skel->bss->opt_no_servers = !opt_bool(in->opts, "servers");
}

static int make_tables(struct dnsflow *d, const struct opt_set *opts)
{
	int r = pending_init(&d->pending, (uint32_t)opt_i64(opts, "max_pending"));

	exchanges_init(&d->exchanges, (uint32_t)opt_i64(opts, "max_rows"));
	return r < 0 ? r : tcp_conns_init(&d->tcp, (uint32_t)opt_i64(opts, "max_connections"));
}

static int dnsflow_setup(struct instance *in, struct err *err)
{
	struct dnsflow *d = dnsflow(in);
	uint16_t ports[DNSFLOW_PORTS_MAX];
	struct variant v = {};
	char why[160];
	int r;

	d->skel = in->skel;
	d->cgroup_fd = -1;
	r = read_ports(in->opts, ports, err);
	if (r < 0)
		return r;
	r = make_tables(d, in->opts);
	if (r < 0)
		return err_set(err, r, "cannot make its tables: %s", strerror(-r));
	d->cgroup_fd = cgroup2_open_root(why, sizeof(why));
	if (d->cgroup_fd < 0)
		return err_set(err, -EOPNOTSUPP, "it needs the root of a cgroup2 hierarchy: %s",
			       why);
	r = choose_variant(ports, &v);
	if (r < 0)
		return err_set(err, r,
			       "the kernel refuses its programs: %s; it needs CAP_BPF, CAP_PERFMON "
			       "and CAP_NET_ADMIN",
			       strerror(-r));
	snprintf(in->degraded, sizeof(in->degraded), "%s%s%s", why, why[0] && v.plain ? "; " : "",
		 v.plain ? "no network namespaces: programs on control groups may not read kernel "
			   "memory here"
			 : "");
	d->seed = v.seed;
	d->log_seed = hash_seed();
	d->mdns = opt_bool(in->opts, "mdns");
	configure(d->skel, &v, ports);
	read_options(in);
	return 0;
}

/* The last two only without the iterator. */
#define HOOKS	   10
#define HOOKS_SEED 8

/* Owners before packets, so that none is seen without its owner. */
static void list_hooks(struct dnsflow_bpf *s, struct cgroup2_hook hooks[HOOKS])
{
	const struct cgroup2_hook all[HOOKS] = {
		{s->progs.dns_bind4, &s->links.dns_bind4},
		{s->progs.dns_bind6, &s->links.dns_bind6},
		{s->progs.dns_connect4, &s->links.dns_connect4},
		{s->progs.dns_connect6, &s->links.dns_connect6},
		{s->progs.dns_sendmsg4, &s->links.dns_sendmsg4},
		{s->progs.dns_sendmsg6, &s->links.dns_sendmsg6},
		{s->progs.dns_out, &s->links.dns_out},
		{s->progs.dns_in, &s->links.dns_in},
		{s->progs.dns_recvmsg4, &s->links.dns_recvmsg4},
		{s->progs.dns_recvmsg6, &s->links.dns_recvmsg6},
	};

	memcpy(hooks, all, sizeof(all));
}

/* It writes nothing: reading it to the end is what runs it. */
static int run_seed(struct dnsflow_bpf *s, struct err *err)
{
	struct bpf_link *link = bpf_program__attach_iter(s->progs.dns_seed, NULL);
	_cleanup_close_ int fd = -1;
	char none[64];
	ssize_t n = -1;

	if (!link)
		return err_set(err, -errno, "cannot make the iterator dns_seed: %s",
			       strerror(errno));
	fd = bpf_iter_create(bpf_link__fd(link));
	while (fd >= 0 && ((n = read(fd, none, sizeof(none))) > 0 ||
			   (n < 0 && (errno == EINTR || errno == EAGAIN))))
		;
	n = n < 0 ? -errno : 0;
	bpf_link__destroy(link);
	return n < 0 ? err_set(err, (int)n, "cannot look for the sockets that are open: %s",
			       strerror((int)-n))
		     : 0;
}

static int dnsflow_start(struct instance *in, struct err *err)
{
	struct dnsflow *d = dnsflow(in);
	struct cgroup2_hook hooks[HOOKS];
	int r;

	list_hooks(d->skel, hooks);
	r = cgroup2_attach(d->cgroup_fd, hooks, d->seed ? HOOKS_SEED : HOOKS, err);
	return r == 0 && d->seed ? run_seed(d->skel, err) : r;
}

static int dnsflow_event(struct instance *in, const void *ev, size_t len)
{
	const struct payload_head *h = ev;
	const uint8_t *data = (const uint8_t *)(h + 1);

	if (len < sizeof(*h) || h->cap > len - sizeof(*h) || (h->family != 4 && h->family != 6))
		return -EINVAL;
	if (h->transport == IPPROTO_TCP)
		dnsflow_tcp(in, h, data);
	else
		dnsflow_message(in, h, data, h->cap, h->size);
	return 0;
}

static int dnsflow_tick(struct instance *in, uint64_t now_ns)
{
	uint64_t boot_ns = clock_boot_ns();

	dnsflow_expire(in, boot_ns);
	dnsflow_tcp_expire(in, boot_ns);
	dnsflow_flush(in, now_ns);
	return 0;
}

static int dnsflow_update(struct instance *in, const char *key, struct err *err)
{
	(void)key;
	(void)err;
	read_options(in);
	return 0;
}

/* One in 64, as where the kernel half leaves out: below that sums of samples mean nothing. */
#define LOG_STEPS 6

/* Sums come less often; of the log each step leaves out half. Neither tears a query from its
 * answer, as leaving out samples in the kernel would. */
static int dnsflow_shed(struct instance *in, unsigned int step)
{
	struct dnsflow *d = dnsflow(in);
	int steps = instance_shed_interval(in, step);

	d->log_shift = step < LOG_STEPS ? step : LOG_STEPS;
	return d->log ? LOG_STEPS : steps;
}

static int dnsflow_snapshot(struct instance *in, const struct table *table, struct batch *batch)
{
	return table == &dnsflow_stats_table ? dnsflow_show_stats(in, batch) : -EINVAL;
}

static void dnsflow_stop(struct instance *in)
{
	struct dnsflow *d = dnsflow(in);
	struct cgroup2_hook hooks[HOOKS];

	list_hooks(in->skel, hooks);
	cgroup2_detach(hooks, HOOKS);
	exchanges_free(&d->exchanges);
	pending_free(&d->pending);
	tcp_conns_free(&d->tcp);
	closep(&d->cgroup_fd);
	d->cgroup_fd = -1;
}

PLUGIN(dnsflow,
       .help = "DNS queries by process: names, servers, status, latency; names for the addresses "
	       "of other tables",
       .needs = "Linux 5.10 or later with BTF; CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; a mounted "
		"cgroup2 hierarchy",
       TABLES(&dnsflow_table, &dnslog_table, &dnsflow_stats_table), .options = dnsflow_options,
       .state_size = sizeof(struct dnsflow), .default_interval_ns = 10 * NSEC_PER_SEC,
       .default_ring_bytes = 4 << 20, .default_priority = 60, .setup = dnsflow_setup,
       .start = dnsflow_start, .event = dnsflow_event, .tick = dnsflow_tick,
       .update = dnsflow_update, .snapshot = dnsflow_snapshot, .shed = dnsflow_shed,
       .stop = dnsflow_stop);
