// SPDX-License-Identifier: Apache-2.0
/* The conntrack plugin: tells the other plugins which connections the host translates, and to whom.
 */
#include "bpf/plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/conntrack/conntrack_priv.h"
#include "bpf/ends.h"

#define LOG_MODULE "conntrack"
#include "base/log.h"

/* What was there before is waited for at the start, so that no row goes without it; 65,536 take
 * some 150 ms. */
#define FIRST_DUMP_NS (2 * NSEC_PER_SEC)
/* Processes come and go; a namespace that nobody uses any more is held that long at most. */
#define SCAN_NS (10 * NSEC_PER_SEC)
/* Entries that are older than our subscription end without an event. */
#define RESYNC_NS (60 * NSEC_PER_SEC)
/* Sockets read in one turn. */
#define TURN 32

enum namespaces {
	NAMESPACES_HOST,
	NAMESPACES_ALL,
};

static const char *const namespaces_names[] = {"host", "all", NULL};

static const struct opt conntrack_options[] = {
	{.key = "namespaces",
	 .type = OPT_ENUM,
	 .def = "host",
	 .choices = namespaces_names,
	 .restart = true,
	 .help = "host: translations done in the daemon's network namespace, those of containers "
		 "and pods that leave through it "
		 "included; all: in every namespace that has a process or a name"},
	{.key = "max_entries",
	 .type = OPT_INT,
	 .def = "65536",
	 .min = "256",
	 .max = "4194304",
	 .restart = true,
	 .help = "translated connections held at a time, 168 bytes each; the oldest goes when "
		 "there are more"},
	{.key = "max_namespaces",
	 .type = OPT_INT,
	 .def = "256",
	 .min = "1",
	 .max = "16384",
	 .restart = true,
	 .help = "namespaces watched at a time with namespaces=all: one socket each"},
	{.key = "buffer",
	 .type = OPT_BYTES,
	 .def = "8MiB",
	 .min = "64KiB",
	 .max = "1GiB",
	 .restart = true,
	 .help = "kernel memory that events of one namespace may take while they wait; what "
		 "doesn't fit is counted and read again"},
	{},
};

static int source_add(struct instance *in, int fd, uint32_t netns)
{
	struct conntrack *ct = conntrack(in);
	struct source *s = &ct->sources[ct->nsources];
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = ct->nsources};

	if (epoll_ctl(ct->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	*s = (struct source){.fd = fd, .netns = netns, .present = true};
	ct->nsources++;
	return 0;
}

/* The last moves into its place. */
static void source_remove(struct instance *in, uint32_t i)
{
	struct conntrack *ct = conntrack(in);
	struct source *s = &ct->sources[i];
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};

	nat_sweep(in->nat, s->netns, s->pass + 1, clock_mono_ns());
	ct->overruns_gone += s->overruns;
	close(s->fd); /* out of the epoll with it, and the namespace may go */
	*s = ct->sources[--ct->nsources];
	if (i < ct->nsources && epoll_ctl(ct->epoll, EPOLL_CTL_MOD, s->fd, &ev) < 0)
		log_warn_errno(-errno, "cannot go on watching namespace %u", s->netns);
}

static int read_sources(struct instance *in)
{
	struct conntrack *ct = conntrack(in);
	struct epoll_event ev[TURN];
	int n = epoll_wait(ct->epoll, ev, TURN, 0), r = 0, q;

	for (int i = 0; i < n; i++) {
		q = source_read(in, &ct->sources[ev[i].data.u32]);
		if (q < 0)
			r = q;
	}
	return r;
}

/* A failure stays: it will be met again by the loop, which logs it. */
static void refill(void *arg)
{
	(void)read_sources(arg);
}

static void account(struct instance *in)
{
	struct conntrack *ct = conntrack(in);
	struct nat_stats st;
	uint64_t overruns = ct->overruns_gone;

	for (uint32_t i = 0; i < ct->nsources; i++)
		overruns += ct->sources[i].overruns;
	nat_get_stats(in->nat, &st);
	in->count.kernel[PLUGIN_STAT_RING_FULL] = overruns;
	in->count.kernel[PLUGIN_STAT_MAP_FULL] = st.evictions + st.no_memory;
}

static bool source_known(const struct conntrack *ct, uint32_t netns)
{
	for (uint32_t i = 0; i < ct->nsources; i++)
		if (ct->sources[i].netns == netns)
			return true;
	return false;
}

static void source_open(struct instance *in, const struct netns_ref *ref)
{
	struct conntrack *ct = conntrack(in);
	int fd = netns_socket(ref, ct->buffer), r;

	if (fd < 0) {
		/* Gone in the meantime is no matter. */
		if (fd != -ENOENT && fd != -ESRCH && fd != -ESTALE &&
		    log_ratelimit("conntrack netns", 3))
			log_warn_errno(fd, "cannot watch network namespace %u, skipping",
				       ref->inode);
		return;
	}
	r = source_add(in, fd, ref->inode);
	if (r < 0) {
		close(fd);
		log_warn_errno(r, "cannot watch network namespace %u, skipping", ref->inode);
		return;
	}
	r = source_dump(&ct->sources[ct->nsources - 1]);
	if (r < 0)
		log_warn_errno(r, "cannot read the connections of network namespace %u",
			       ref->inode);
}

/*
 * Our socket holds its namespace: one that is found no more by process or mount is let go, so that
 * watching keeps nothing alive. Without a whole picture nothing is closed.
 */
static int scan(struct instance *in)
{
	struct conntrack *ct = conntrack(in);
	struct netns_set set = {.max = ct->max_sources};
	_cleanup_free_ struct netns_ref *refs = calloc(set.max, sizeof(*refs));
	int r;

	if (!refs)
		return -ENOMEM;
	set.refs = refs;
	r = netns_scan(&set);
	if (r < 0)
		return r;
	for (uint32_t i = ct->nsources; set.left_out == 0 && i-- > 1;) {
		bool there = false;

		for (uint32_t k = 0; k < set.n && !there; k++)
			there = set.refs[k].inode == ct->sources[i].netns;
		if (!there)
			source_remove(in, i);
	}
	ct->left_out = set.left_out;
	for (uint32_t k = 0; k < set.n; k++) {
		if (source_known(ct, set.refs[k].inode))
			continue;
		if (ct->nsources == ct->max_sources) {
			ct->left_out++;
			continue;
		}
		source_open(in, &set.refs[k]);
	}
	return 0;
}

/* The host's own setting; other namespaces have their own, read only by who is inside. */
static bool events_are_off(void)
{
	_cleanup_close_ int fd =
		open("/proc/sys/net/netfilter/nf_conntrack_events", O_RDONLY | O_CLOEXEC);
	char c;

	return fd >= 0 && read(fd, &c, 1) == 1 && c == '0';
}

static int no_socket(int r, struct err *err)
{
	if (r == -EPERM || r == -EACCES)
		return err_set(
			err, r,
			"not permitted to follow connection tracking: it needs CAP_NET_ADMIN");
	if (r == -EPROTONOSUPPORT || r == -ENOENT || r == -EINVAL || r == -EOPNOTSUPP)
		return err_set(err, -EOPNOTSUPP,
			       "this kernel has no connection tracking over netlink: it needs "
			       "CONFIG_NF_CT_NETLINK "
			       "(module nf_conntrack_netlink)");
	return err_set(err, r, "cannot follow connection tracking: %s", strerror(-r));
}

static int conntrack_setup(struct instance *in, struct err *err)
{
	struct conntrack *ct = conntrack(in);

	ct->epoll = -1;
	if (!in->nat || !in->watch_fd)
		return err_set(err, -EOPNOTSUPP, "this host keeps no table of translations");
	ct->all = opt_i64(in->opts, "namespaces") == NAMESPACES_ALL;
	ct->max_sources = ct->all ? (uint32_t)opt_i64(in->opts, "max_namespaces") : 1;
	ct->buffer = (size_t)opt_i64(in->opts, "buffer");
	ct->sources = calloc(ct->max_sources, sizeof(*ct->sources));
	ct->bufs = calloc(CONNTRACK_MSGS, sizeof(*ct->bufs));
	ct->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!ct->sources || !ct->bufs || ct->epoll < 0)
		return err_set(err, -ENOMEM, "out of memory or descriptors");
	return 0;
}

static int open_own(struct instance *in, struct err *err)
{
	struct conntrack *ct = conntrack(in);
	uint32_t netns = netns_own();
	int fd, r;

	if (!netns)
		return err_set(err, -ENOENT,
			       "cannot tell its network namespace: is /proc mounted?");
	fd = conntrack_socket(ct->buffer);
	if (fd < 0)
		return no_socket(fd, err);
	r = source_add(in, fd, netns);
	if (r < 0) {
		close(fd);
		return err_set(err, r, "cannot watch its socket: %s", strerror(-r));
	}
	nat_open(in->nat, (uint32_t)opt_i64(in->opts, "max_entries"), netns, refill, in);
	r = source_dump(&ct->sources[0]);
	return r < 0 ? no_socket(r, err) : 0;
}

static bool dumping(const struct conntrack *ct)
{
	for (uint32_t i = 0; i < ct->nsources; i++)
		if (ct->sources[i].dump != DUMP_NONE)
			return true;
	return false;
}

/* The own namespace must answer; others that don't are met again by the loop. */
static int first_dump(struct instance *in, struct err *err)
{
	struct conntrack *ct = conntrack(in);
	uint64_t end = clock_mono_ns() + FIRST_DUMP_NS;
	struct pollfd p = {.fd = ct->epoll, .events = POLLIN};
	int r;

	while (dumping(ct) && clock_mono_ns() < end) {
		if (poll(&p, 1, 100) <= 0)
			continue;
		r = read_sources(in);
		if (r < 0 && ct->sources[0].dump == DUMP_NONE && !ct->sources[0].resyncs)
			return no_socket(r, err);
	}
	if (ct->silent)
		snprintf(in->degraded, sizeof(in->degraded),
			 "the kernel sends no events (net.netfilter.nf_conntrack_events=0): "
			 "translations are read once a "
			 "minute");
	else if (dumping(ct))
		log_info("the connections that are there are still being read");
	return 0;
}

static int conntrack_start(struct instance *in, struct err *err)
{
	struct conntrack *ct = conntrack(in);
	int r;

	r = open_own(in, err);
	if (r < 0)
		return r;
	ct->silent = events_are_off();
	ct->scanned_ns = clock_mono_ns();
	if (ct->all) {
		r = scan(in);
		if (r < 0)
			return err_set(err, r, "cannot look for network namespaces: %s",
				       strerror(-r));
	}
	r = first_dump(in, err);
	if (r == 0) {
		r = in->watch_fd(in, ct->epoll, read_sources);
		if (r < 0)
			err_set(err, r, "cannot watch its sockets: %s", strerror(-r));
	}
	account(in);
	return r;
}

static int conntrack_tick(struct instance *in, uint64_t now_ns)
{
	struct conntrack *ct = conntrack(in);
	uint64_t now = clock_mono_ns();
	int r = 0, q;

	(void)now_ns;
	if (ct->all && now - ct->scanned_ns >= SCAN_NS) {
		ct->scanned_ns = now;
		r = scan(in);
	}
	for (uint32_t i = 0; i < ct->nsources; i++) {
		struct source *s = &ct->sources[i];
		uint64_t age = now - s->dumped_ns;

		/* source_read() asks again by itself when something comes; here when nothing does.
		 */
		if (!(s->want_dump && age >= NSEC_PER_SEC) &&
		    !(age >= RESYNC_NS && (ct->silent || nat_old(in->nat, s->netns))))
			continue;
		q = s->dump == DUMP_NONE ? source_dump(s) : 0;
		if (q < 0)
			r = q;
	}
	nat_expire(in->nat, now);
	account(in);
	return r;
}

static int conntrack_snapshot(struct instance *in, const struct table *table, struct batch *batch)
{
	int r = read_sources(in); /* what is asked for is the state now */

	if (r < 0)
		return r;
	account(in);
	return table == &conntrack_nat_table ? conntrack_show_nat(in, batch)
					     : conntrack_show_sources(in, batch);
}

static void conntrack_stop(struct instance *in)
{
	struct conntrack *ct = conntrack(in);

	for (uint32_t i = 0; i < ct->nsources; i++)
		close(ct->sources[i].fd);
	ct->nsources = 0;
	closep(&ct->epoll);
	ct->epoll = -1;
	free(ct->sources);
	free(ct->bufs);
	ct->sources = NULL;
	ct->bufs = NULL;
	if (in->nat)
		nat_close(in->nat);
}

PLUGIN_PLAIN(conntrack,
	     .help = "address translation: the true peer of connections through NAT, in netflow "
		     "and its connections",
	     .needs = "connection tracking over netlink (CONFIG_NF_CT_NETLINK) and CAP_NET_ADMIN; "
		      "other namespaces: CAP_SYS_ADMIN",
	     TABLES(&conntrack_nat_table, &conntrack_source_table), .options = conntrack_options,
	     .state_size = sizeof(struct conntrack), .default_interval_ns = NSEC_PER_SEC,
	     .default_priority = 60, .setup = conntrack_setup, .start = conntrack_start,
	     .tick = conntrack_tick, .snapshot = conntrack_snapshot, .stop = conntrack_stop);
