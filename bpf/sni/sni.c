// SPDX-License-Identifier: Apache-2.0
/* The sni plugin: server names that TLS clients ask for, as rows and as names for addresses. */
#include "bpf/plugin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "bpf/cgroup2.h"
#include "bpf/decode/tls_hello.h"
#include "bpf/ends.h"
#include "bpf/sni.skel.h"
#include "bpf/sni/sni.h"

/* Hellos that wait for their rest: it follows within a round trip, if it comes at all. */
#define WAITING_MAX 128
#define WAITING_NS  (10 * NSEC_PER_SEC)

struct hello_row {
	uint64_t ts;
	uint32_t pid;
	char process_name[16];
	uint64_t cgroup_id;
	struct str container_id;
	uint32_t netns;
	uint8_t family;
	struct ip_addr src_ip;
	uint16_t src_port;
	struct ip_addr dst_ip;
	uint16_t dst_port;
	struct str server_name, alpn;
	char version[12];
	uint8_t encrypted;
	uint32_t sample_rate;
};

#define TAG(m, r, t, h, ...) FIELD(hello_row, m, r, t, TAG, "", h, ##__VA_ARGS__)

static const struct field hello_fields[] = {
	FIELD(hello_row, ts, U64, TIME, TAG, "ns", "when it was sent"),
	TAG(pid, U32, INT64, "process that connected", .null = NULL_ZERO, .indexed = true),
	TAG(process_name, CHARS, TEXT, "its name (comm of the thread-group leader)",
	    .null = NULL_ZERO, .dict = true),
	TAG(cgroup_id, U64, INT64, "its control group in the v2 hierarchy", .null = NULL_ZERO),
	TAG(container_id, STR, TEXT, "its container, by the name of the control group",
	    .null = NULL_ZERO, .dict = true),
	TAG(netns, U32, INT64, "inode of the socket's network namespace", .null = NULL_ZERO),
	TAG(family, ENUM, TEXT, "IPv4 or IPv6", .names = family_names, .dict = true),
	TAG(src_ip, IP, IP, "local address", .null = NULL_ZERO, .dict = true),
	TAG(src_port, U16, INT64, "local port"),
	TAG(dst_ip, IP, IP, "remote address, before NAT", .null = NULL_ZERO, .dict = true,
	    .indexed = true),
	TAG(dst_port, U16, INT64, "remote port"),
	TAG(server_name, STR, TEXT,
	    "name that the client wants to talk to, in lower case; NULL: it says none",
	    .null = NULL_ZERO, .dict = true),
	TAG(alpn, STR, TEXT, "protocols that it offers, best first", .null = NULL_ZERO,
	    .dict = true),
	TAG(version, CHARS, TEXT, "highest version that it offers", .null = NULL_ZERO,
	    .dict = true),
	TAG(encrypted, U8, BOOL,
	    "the hello has an encrypted one within (or pretends to): server_name may be a cover"),
	FIELD(hello_row, sample_rate, U32, INT64, GAUGE, "{connection}",
	      "connections that this row stands for: 1, or more while sampling leaves others out"),
};

/* Since the plugin started. */
struct sni_stats {
	uint64_t hellos, nameless, impostors, incomplete, lost, waiting;
};

#define STAT(m, k, h) FIELD(sni_stats, m, U64, INT64, k, "{connection}", h)

static const struct field stats_fields[] = {
	STAT(hellos, COUNTER, "hellos read to their end"),
	STAT(nameless, COUNTER, "of these without a server name"),
	STAT(impostors, COUNTER, "connections that only began like a hello"),
	STAT(incomplete, COUNTER, "hellos that never came to their end; what they said counts"),
	STAT(lost, COUNTER, "hellos lost: a part was missing, too many waited, or no memory"),
	STAT(waiting, GAUGE, "hellos that wait for their rest now"),
};

static const struct table hello_table =
	TABLE(hello_row, FLOW, "tls_hello", "server names that TLS clients ask for", hello_fields);
static const struct table stats_table =
	TABLE(sni_stats, LIVE, "sni_stats", "what the plugin sni has seen and lost", stats_fields);

enum {
	TABLE_HELLOS,
};

/* The beginning of one. */
struct waiting {
	struct waiting *next;  /* youngest first */
	struct payload_head h; /* of its first sample */
	uint32_t have;
	uint8_t data[SNI_STREAM_MAX];
};

struct sni {
	struct sni_bpf *skel;
	int cgroup_fd;
	struct waiting *waiting;
	struct sni_stats stats;
};

static struct sni *sni(struct instance *in)
{
	return in->state;
}

static void put_row(struct instance *in, const struct payload_head *h,
		    const struct tls_hello *hello)
{
	struct hello_row *row = instance_row(in, TABLE_HELLOS);
	const char *container = instance_container(in, h->cgroup_id, h->pid);

	if (!row)
		return; /* counted */
	row->ts = clock_boot_to_real(h->boot_ns);
	row->pid = h->pid;
	memcpy(row->process_name, h->comm, strnlen(h->comm, sizeof(h->comm) - 1));
	row->cgroup_id = h->cgroup_id;
	row->container_id = instance_str(in, TABLE_HELLOS, container, strlen(container));
	row->netns = h->netns;
	row->family = h->family == 4 ? 1 : 2;
	ip_addr_set(&row->src_ip, h->local, h->family);
	row->src_port = h->local_port;
	ip_addr_set(&row->dst_ip, h->remote, h->family);
	row->dst_port = h->remote_port;
	row->server_name =
		instance_str(in, TABLE_HELLOS, hello->server_name, strlen(hello->server_name));
	row->alpn = instance_str(in, TABLE_HELLOS, hello->alpn, strlen(hello->alpn));
	if (hello->version)
		tls_version_text(row->version, hello->version);
	row->encrypted = hello->encrypted;
	row->sample_rate = 1u << (h->sample_shift & 31);
	instance_sampled(in, h->cgroup_id, row->sample_rate);
}

/* RFC 6066 forbids addresses there; clients send them all the same, and they name nothing. */
static bool is_name(const char *text)
{
	struct in6_addr any;

	return *text && inet_pton(AF_INET, text, &any) != 1 && !strchr(text, ':');
}

static void on_hello(struct instance *in, const struct payload_head *h,
		     const struct tls_hello *hello)
{
	struct ip_addr ip = {};

	if (!hello->server_name[0])
		sni(in)->stats.nameless++;
	put_row(in, h, hello);
	if (!in->enrich || !is_name(hello->server_name))
		return;
	ip_addr_set(&ip, h->remote, h->family);
	in->enrich->domain_learn(in->enrich_ctx, h->netns, &ip, hello->server_name, DOMAIN_SNI, 0);
}

static bool same_connection(const struct payload_head *a, const struct payload_head *b)
{
	return a->netns == b->netns && a->local_port == b->local_port &&
	       a->remote_port == b->remote_port &&
	       memcmp(a->local, b->local, sizeof(a->local)) == 0 &&
	       memcmp(a->remote, b->remote, sizeof(a->remote)) == 0;
}

static void drop(struct sni *s, struct waiting **at)
{
	struct waiting *w = *at;

	*at = w->next;
	free(w);
	s->stats.waiting--;
}

/* Gives up those from *at on: they are the oldest. What they said before they broke off stands. */
static void give_up(struct instance *in, struct waiting **at)
{
	struct sni *s = sni(in);
	struct tls_hello hello;

	while (*at) {
		s->stats.incomplete++;
		if (tls_hello_parse((*at)->data, (*at)->have, &hello) != -EINVAL &&
		    hello.server_name[0])
			on_hello(in, &(*at)->h, &hello);
		drop(s, at);
	}
}

static void expire(struct instance *in, uint64_t boot_ns)
{
	struct waiting **at = &sni(in)->waiting;
	unsigned int n = 0;

	while (*at && n < WAITING_MAX - 1 &&
	       (boot_ns < (*at)->h.boot_ns || boot_ns - (*at)->h.boot_ns < WAITING_NS)) {
		at = &(*at)->next;
		n++;
	}
	give_up(in, at);
}

static void wait_for_rest(struct instance *in, const struct payload_head *h, const uint8_t *data)
{
	struct sni *s = sni(in);
	struct waiting *w;

	expire(in, h->boot_ns);
	w = malloc(sizeof(*w));
	if (!w) {
		s->stats.lost++;
		return;
	}
	w->h = *h;
	w->have = h->cap;
	memcpy(w->data, data, h->cap);
	w->next = s->waiting;
	s->waiting = w;
	s->stats.waiting++;
}

static void on_first(struct instance *in, const struct payload_head *h, const uint8_t *data)
{
	struct sni *s = sni(in);
	struct tls_hello hello;
	int r = tls_hello_parse(data, h->cap, &hello);

	if (r == -EAGAIN) {
		wait_for_rest(in, h, data);
	} else if (r < 0) {
		s->stats.impostors++;
	} else {
		s->stats.hellos++;
		on_hello(in, h, &hello);
	}
}

static void on_rest(struct instance *in, struct waiting **at, const struct payload_head *h,
		    const uint8_t *data)
{
	struct waiting *w = *at;
	uint32_t start = h->seq + h->off - w->h.seq;
	struct sni *s = sni(in);
	struct tls_hello hello;
	int r;

	if (start < w->have)
		return; /* sent again */
	if (start > w->have || h->cap > sizeof(w->data) - w->have) {
		s->stats.lost++;
		drop(s, at);
		return;
	}
	memcpy(w->data + w->have, data, h->cap);
	w->have += h->cap;
	r = tls_hello_parse(w->data, w->have, &hello);
	if (r == -EAGAIN)
		return;
	if (r == 0) {
		s->stats.hellos++;
		on_hello(in, &w->h, &hello);
	} else {
		s->stats.impostors++;
	}
	drop(s, at);
}

static int sni_event(struct instance *in, const void *ev, size_t len)
{
	const struct payload_head *h = ev;
	const uint8_t *data = (const uint8_t *)(h + 1);
	struct waiting **at = &sni(in)->waiting;

	if (len < sizeof(*h) || h->cap > len - sizeof(*h) || (h->family != 4 && h->family != 6))
		return -EINVAL;
	while (*at && !same_connection(&(*at)->h, h))
		at = &(*at)->next;
	if (*at)
		on_rest(in, at, h, data);
	else if (tls_hello_begins(data, h->cap) && !h->off)
		on_first(in, h, data);
	/* Else the rest of a hello that was read already: several records are more than the kernel
	 * side counts. */
	return 0;
}

static int sni_tick(struct instance *in, uint64_t now_ns)
{
	(void)now_ns;
	expire(in, clock_boot_ns());
	return 0;
}

static int sni_snapshot(struct instance *in, const struct table *table, struct batch *batch)
{
	struct sni_stats *row;

	if (table != &stats_table)
		return -EINVAL;
	row = batch_add(batch);
	if (!row)
		return -ENOBUFS;
	*row = sni(in)->stats;
	return 0;
}

static int sni_setup(struct instance *in, struct err *err)
{
	struct sni *s = sni(in);
	struct sni_bpf *probe;
	char why[200];

	s->skel = in->skel;
	s->cgroup_fd = cgroup2_open_root(why, sizeof(why));
	if (s->cgroup_fd < 0)
		return err_set(err, -EOPNOTSUPP, "it needs the root of a cgroup2 hierarchy: %s",
			       why);
	/* Loading it is the only proof of what programs on control groups may read. */
	probe = sni_bpf__open();
	if (!probe)
		return err_set(err, -errno, "cannot open its BPF object: %s", strerror(errno));
	s->skel->rodata->plain = sni_bpf__load(probe) < 0;
	sni_bpf__destroy(probe);
	snprintf(in->degraded, sizeof(in->degraded), "%s", why);
	if (!why[0] && s->skel->rodata->plain)
		snprintf(in->degraded, sizeof(in->degraded),
			 "no network namespaces: programs on control groups may not read kernel "
			 "memory here");
	return 0;
}

#define HOOKS 3

static void list_hooks(struct sni_bpf *skel, struct cgroup2_hook hooks[HOOKS])
{
	const struct cgroup2_hook all[HOOKS] = {
		{skel->progs.sni_connect4, &skel->links.sni_connect4},
		{skel->progs.sni_connect6, &skel->links.sni_connect6},
		{skel->progs.sni_out, &skel->links.sni_out},
	};

	memcpy(hooks, all, sizeof(all));
}

static int sni_start(struct instance *in, struct err *err)
{
	struct cgroup2_hook hooks[HOOKS];

	list_hooks(sni(in)->skel, hooks);
	return cgroup2_attach(sni(in)->cgroup_fd, hooks, HOOKS, err);
}

static void sni_stop(struct instance *in)
{
	struct cgroup2_hook hooks[HOOKS];

	list_hooks(in->skel, hooks);
	cgroup2_detach(hooks, HOOKS);
	give_up(in, &sni(in)->waiting);
	closep(&sni(in)->cgroup_fd);
	sni(in)->cgroup_fd = -1;
}

PLUGIN(sni,
       .help = "server names that TLS clients ask for; names for the addresses of other tables",
       .needs = "Linux 5.10 or later with BTF; CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; a mounted "
		"cgroup2 hierarchy",
       TABLES(&hello_table, &stats_table), .state_size = sizeof(struct sni),
       .default_interval_ns = 10 * NSEC_PER_SEC, .setup = sni_setup, .start = sni_start,
       .default_priority = 30, .event = sni_event, .tick = sni_tick, .snapshot = sni_snapshot,
       .shed = instance_shed_sampling, .stop = sni_stop);
