// SPDX-License-Identifier: Apache-2.0
/* The openssl plugin: one row for each TLS handshake that a process makes with OpenSSL. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/openssl.skel.h"
#include "bpf/openssl/openssl_names.h"
#include "bpf/openssl/openssl_watch.h"
#include "bpf/process.h"

/* Libraries of programs that began are looked at in these steps. */
#define TICK_NS (250 * NSEC_PER_MSEC)

struct openssl_row {
	PROCESS_COLUMNS;
	uint8_t role, result;
	struct str version, cipher, error;
	uint32_t error_library, error_reason;
	int32_t ret;
	uint32_t calls;
	uint64_t latency_ns, ssl_ptr;
};

PROCESS_ROW_CHECK(openssl_row);

static const char *const role_names[] = {"", "client", "server", NULL};
static const char *const result_names[] = {"ok", "failed", "abandoned", "unknown", NULL};

static_assert(ARRAY_SIZE(role_names) == OPENSSL_ROLE_X_MAX + 1, "a name for each");
static_assert(ARRAY_SIZE(result_names) == OPENSSL_RESULT_X_MAX + 1, "a name for each");

static const struct field openssl_fields[] = {
	PROCESS_FIELDS(openssl_row, "end of the handshake"),
	FIELD(openssl_row, role, ENUM, TEXT, TAG, "",
	      "client or server; NULL: chosen before the plugin was there", .names = role_names,
	      .null = NULL_ZERO),
	FIELD(openssl_row, result, ENUM, TEXT, TAG, "",
	      "ok, failed, abandoned: freed before it was over, or unknown: freed, and this "
	      "library doesn't show whether it was",
	      .names = result_names),
	FIELD(openssl_row, version, STR, TEXT, TAG, "",
	      "what was agreed (TLSv1.3); NULL: this library doesn't show it", .null = NULL_ZERO,
	      .dict = true),
	FIELD(openssl_row, cipher, STR, TEXT, TAG, "", "likewise, as IANA names it",
	      .null = NULL_ZERO, .dict = true),
	FIELD(openssl_row, error, STR, TEXT, TAG, "", "what it failed for", .null = NULL_ZERO,
	      .dict = true),
	FIELD(openssl_row, error_library, U32, INT64, TAG, "",
	      "where it was found: 20 libssl, 2 a system call", .null = NULL_ZERO),
	FIELD(openssl_row, error_reason, U32, INT64, TAG, "",
	      "its reason; 1000 and more of libssl: an alert of the other side", .null = NULL_ZERO),
	FIELD(openssl_row, ret, I32, INT64, GAUGE, "",
	      "of the last call that made it: SSL_do_handshake()'s 1, or what SSL_read() or "
	      "SSL_write() returned"),
	FIELD(openssl_row, calls, U32, INT64, GAUGE, "{call}",
	      "that it took: more than 1 where the socket doesn't block"),
	FIELD(openssl_row, latency_ns, U64, INT64, GAUGE, "ns", "from the first call to the end"),
	FIELD(openssl_row, ssl_ptr, U64, INT64, TAG, "", "address of the connection's SSL"),
};

static const struct table openssl_table =
	TABLE(openssl_row, AUDIT, "openssl", "TLS handshakes made with OpenSSL", openssl_fields);

static const struct opt openssl_options[] = {
	{.key = "paths",
	 .type = OPT_LIST,
	 .restart = true,
	 .help = "more files to watch: programs that have OpenSSL inside and export its functions "
		 "(node); libssl and libcrypto are found"},
	{.key = "transfers",
	 .type = OPT_BOOL,
	 .def = "false",
	 .restart = true,
	 .help = "also handshakes that programs leave to SSL_read() and SSL_write(), never calling "
		 "SSL_do_handshake(); every call of these two traps then, about 1 us"},
	PROCESS_OPTIONS,
	{},
};

static int openssl_setup(struct instance *in, struct err *err)
{
	struct openssl_bpf *skel = in->skel;
	struct bpf_map *filter = skel->maps.process_filter;

	/* Programs of uprobes may only look into maps that are allocated beforehand (Linux 5.10).
	 */
	bpf_map__set_map_flags(filter, bpf_map__map_flags(filter) & ~(uint32_t)BPF_F_NO_PREALLOC);
	return openssl_watch_prepare(in, in->state, err);
}

static int openssl_start(struct instance *in, struct err *err)
{
	struct openssl_watch *w = in->state;
	int r = process_filter_apply(in, err);

	if (r < 0)
		return r;
	openssl_watch_all(in, w);
	if (w->why.code)
		snprintf(in->degraded, sizeof(in->degraded), "%.250s", w->why.msg);
	/* A host without OpenSSL may get one, with a container; one that refuses uprobes never. */
	if (!w->nfiles &&
	    (w->why.code == -EPERM || w->why.code == -EACCES || w->why.code == -EOPNOTSUPP))
		return err_set(err, w->why.code, "%s", w->why.msg);
	return 0;
}

static int openssl_update(struct instance *in, const char *key, struct err *err)
{
	(void)key;
	return process_filter_apply(in, err);
}

static struct str text(struct instance *in, const char *s)
{
	return instance_str(in, 0, s, strlen(s));
}

static int on_handshake(struct instance *in, const struct openssl_handshake *e)
{
	struct openssl_row *row;
	char number[16], error[64];

	if (e->role >= OPENSSL_ROLE_X_MAX || e->result >= OPENSSL_RESULT_X_MAX)
		return -EBADMSG;
	row = instance_row(in, 0);
	if (!row)
		return 0;
	process_fill(in, 0, row, &e->p);
	row->role = e->role;
	row->result = e->result;
	row->version = text(in, openssl_version_name(e->version, number));
	row->cipher = text(in, openssl_cipher_name(e->cipher, number));
	row->error = text(
		in, openssl_error_name(e->error_library, e->error_reason, error, sizeof(error)));
	row->error_library = e->error_library;
	row->error_reason = e->error_reason;
	row->ret = e->ret;
	row->calls = e->calls;
	row->latency_ns = e->ended_ns > e->begun_ns ? e->ended_ns - e->begun_ns : 0;
	row->ssl_ptr = e->ssl;
	return 0;
}

static int openssl_event(struct instance *in, const void *ev, size_t len)
{
	const struct openssl_handshake *h = ev;
	const struct openssl_exec *x = ev;

	if (len == sizeof(*h) && h->kind == OPENSSL_EVENT_HANDSHAKE)
		return on_handshake(in, h);
	if (len != sizeof(*x) || x->kind != OPENSSL_EVENT_EXEC)
		return -EBADMSG;
	openssl_watch_later(in->state, x->pid, clock_mono_ns());
	return 0;
}

static int openssl_tick(struct instance *in, uint64_t now_ns)
{
	(void)now_ns;
	openssl_watch_run(in, in->state, clock_mono_ns());
	return 0;
}

static void openssl_stop(struct instance *in)
{
	openssl_watch_stop(in->state);
}

PLUGIN(openssl, .help = "TLS handshakes made with OpenSSL: who, with what result, how long",
       .needs = "uprobes (CONFIG_UPROBE_EVENTS), BTF with the tracepoint sched_process_exec, "
		"CAP_BPF and CAP_PERFMON",
       TABLES(&openssl_table), .options = openssl_options,
       .state_size = sizeof(struct openssl_watch), .default_ring_bytes = 256 * 1024,
       .default_interval_ns = TICK_NS, .default_priority = 25, .setup = openssl_setup,
       .start = openssl_start, .update = openssl_update, .event = openssl_event,
       .tick = openssl_tick, .stop = openssl_stop);
