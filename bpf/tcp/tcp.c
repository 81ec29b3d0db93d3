// SPDX-License-Identifier: Apache-2.0
/* The tcp plugin: one row for each listen, accept and connect, and for the end of a connect in
 * progress. */
#include <assert.h>
#include <string.h>

#include "base/macro.h"
#include "bpf/sockcall.h"
#include "bpf/tcp.skel.h"

struct tcp_row {
	PROCESS_COLUMNS;
	SOCKET_COLUMNS;
	uint8_t event;
	int32_t new_fd, backlog;
	int32_t local_port, peer_port, remote_port;
	struct ip_addr local_addr, peer_addr, remote_addr;
};

PROCESS_ROW_CHECK(tcp_row);
SOCKET_ROW_CHECK(tcp_row);

static const char *const event_names[] = {"bind",      "listen",	 "accept", "connect",
					  "connected", "connect_failed", NULL};

static_assert(ARRAY_SIZE(event_names) == SOCKCALL_X_MAX + 1, "a name for each");

#define PORT(name, of)                                                                     \
	FIELD(tcp_row, name##_addr, IP, IP, TAG, "", "address of " of, .null = NULL_ZERO), \
		FIELD(tcp_row, name##_port, I32, INT64, TAG, "", "its port", .null = NULL_MAX)

static const struct field tcp_fields[] = {
	PROCESS_FIELDS(tcp_row, "when the call ended, or the answer came"),
	FIELD(tcp_row, event, ENUM, TEXT, TAG, "",
	      "listen, accept, connect; connected and connect_failed: how a connection went on "
	      "that "
	      "no call of connect waited for",
	      .names = event_names, .dict = true),
	PORT(remote, "the other end of what connects"),
	PORT(peer, "the other end of what was accepted"),
	PORT(local, "this end"),
	FIELD(tcp_row, new_fd, I32, INT64, TAG, "", "accept: the descriptor that it gave",
	      .null = NULL_MAX),
	FIELD(tcp_row, backlog, I32, INT64, GAUGE, "", "listen: as asked for", .null = NULL_MAX),
	SOCKET_FIELDS(tcp_row),
};

static const struct table tcp_table = TABLE(
	tcp_row, AUDIT, "tcp", "Connections listened for, accepted and asked for", tcp_fields);

static const struct opt tcp_options[] = {
	{.key = "tcp_only",
	 .type = OPT_BOOL,
	 .def = "false",
	 .help = "no rows of datagram, unix and other sockets, nor of what isn't a socket"},
	{.key = "would_block",
	 .type = OPT_BOOL,
	 .def = "true",
	 .help = "rows of accept() that found nobody waiting (EAGAIN)"},
	PROCESS_OPTIONS,
	{},
};

static void apply_options(struct instance *in)
{
	struct tcp_bpf *skel = in->skel;

	skel->bss->tcp_only = opt_bool(in->opts, "tcp_only");
	skel->bss->would_block = opt_bool(in->opts, "would_block");
}

static int tcp_start(struct instance *in, struct err *err)
{
	apply_options(in);
	return process_filter_apply(in, err);
}

static int tcp_update(struct instance *in, const char *key, struct err *err)
{
	apply_options(in);
	return process_filter_has(key) ? process_filter_apply(in, err) : 0;
}

static void put_end(struct ip_addr *addr, int32_t *port, const struct sock_end *end)
{
	if (!end->ip)
		return;
	*addr = end->addr;
	*port = end->port;
}

static void put_ends(struct tcp_row *row, const struct sockcall_event *e,
		     const struct sock_end *name)
{
	struct sock_end local = {0}, remote = *name;

	/* Not bound yet, or no more. */
	if (e->s.local_port)
		sock_end_set(&local, &e->s, e->s.local, e->s.local_port);
	put_end(&row->local_addr, &row->local_port, &local);
	if (e->kind == SOCKCALL_ACCEPT) {
		if (!e->error)
			sock_end_set(&remote, &e->s, e->s.remote, e->s.remote_port);
		put_end(&row->peer_addr, &row->peer_port, &remote);
	} else if (e->kind != SOCKCALL_LISTEN) {
		if (!e->name_len)
			sock_end_set(&remote, &e->s, e->s.remote, e->s.remote_port);
		put_end(&row->remote_addr, &row->remote_port, &remote);
	}
}

static int tcp_event(struct instance *in, const void *ev, size_t len)
{
	const struct sockcall_event *e = ev;
	struct sock_end name;
	struct tcp_row *row;
	int r = sockcall_check(e, len, &name);

	if (r < 0)
		return r;
	row = instance_row(in, 0);
	if (!row)
		return 0;
	sockcall_fill(in, 0, row, e, &name);
	row->event = (uint8_t)e->kind;
	row->local_port = row->peer_port = row->remote_port = -1;
	row->backlog = e->kind == SOCKCALL_LISTEN ? e->arg : -1;
	row->new_fd = e->kind == SOCKCALL_ACCEPT ? e->arg : -1;
	put_ends(row, e, &name);
	return 0;
}

PLUGIN(tcp, .help = "Connections listened for, accepted and asked for, with what became of them",
       .needs = "the tracepoints of listen, accept, accept4 and connect (tracefs, mounted or by "
		"CAP_SYS_ADMIN), BTF with inet_sock_set_state, CAP_BPF and CAP_PERFMON",
       TABLES(&tcp_table), .options = tcp_options, .default_ring_bytes = 256 * 1024,
       .start = tcp_start, .update = tcp_update, .event = tcp_event,
       .shed = instance_shed_sampling);
