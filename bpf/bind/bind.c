// SPDX-License-Identifier: Apache-2.0
/* The bind plugin: one row for each call of bind(2), with what the socket is bound to since or why
 * not. */
#include <assert.h>
#include <string.h>

#include "bpf/bind.skel.h"
#include "bpf/sockcall.h"

struct bind_row {
	PROCESS_COLUMNS;
	SOCKET_COLUMNS;
	struct ip_addr addr;
	int32_t port;
	uint8_t ephemeral;
};

PROCESS_ROW_CHECK(bind_row);
SOCKET_ROW_CHECK(bind_row);

static const struct field bind_fields[] = {
	PROCESS_FIELDS(bind_row, "when the call ended"),
	FIELD(bind_row, addr, IP, IP, TAG, "",
	      "address that it is bound to; that was asked for, if it failed", .null = NULL_ZERO),
	FIELD(bind_row, port, I32, INT64, TAG, "", "port, in the same way", .null = NULL_MAX),
	FIELD(bind_row, ephemeral, U8, BOOL, TAG, "", "the port was chosen by the kernel"),
	SOCKET_FIELDS(bind_row),
};

static const struct table bind_table =
	TABLE(bind_row, AUDIT, "bind", "Calls of bind(2), those that failed too", bind_fields);

static const struct opt bind_options[] = {
	PROCESS_OPTIONS,
	{},
};

static int bind_start(struct instance *in, struct err *err)
{
	return process_filter_apply(in, err);
}

static int bind_update(struct instance *in, const char *key, struct err *err)
{
	return process_filter_has(key) ? process_filter_apply(in, err) : 0;
}

static int bind_event(struct instance *in, const void *ev, size_t len)
{
	const struct sockcall_event *e = ev;
	struct sock_end end;
	struct bind_row *row;
	int r = sockcall_check(e, len, &end);

	if (r < 0)
		return r;
	row = instance_row(in, 0);
	if (!row)
		return 0;
	sockcall_fill(in, 0, row, e, &end);
	if (!e->error)
		sock_end_set(&end, &e->s, e->s.local, e->s.local_port);
	row->port = end.ip ? end.port : -1;
	row->addr = end.addr;
	row->ephemeral = !e->error && end.ip && end.port > 0 && !(e->flags & SOCKCALL_PORT_ASKED);
	return 0;
}

PLUGIN(bind,
       .help = "Addresses, ports and paths that sockets are bound to, and attempts that failed",
       .needs = "the tracepoints sys_enter_bind and sys_exit_bind (tracefs, mounted or by "
		"CAP_SYS_ADMIN), CAP_BPF and CAP_PERFMON",
       TABLES(&bind_table), .options = bind_options, .default_ring_bytes = 256 * 1024,
       .start = bind_start, .update = bind_update, .event = bind_event,
       .shed = instance_shed_sampling);
