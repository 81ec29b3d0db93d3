// SPDX-License-Identifier: Apache-2.0
/* The signal plugin: one row for each signal made, with sender, target and what became of it. */
#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/macro.h"
#include "bpf/process.h"
#include "bpf/signal.skel.h"
#include "bpf/signal/signal.h"

struct signal_row {
	PROCESS_COLUMNS;
	int32_t signal, code, sig_errno;
	uint8_t name, kernel, group, result;
	uint32_t tpid, ttid, tuid;
	char tcomm[PROCESS_COMM_SIZE];
};

PROCESS_ROW_CHECK(signal_row);

/* By number, as Linux has them everywhere but on MIPS, SPARC and Alpha. */
static const char *const signal_names[] = {
	"",	     "SIGHUP",	   "SIGINT",	"SIGQUIT",     "SIGILL",      "SIGTRAP",
	"SIGABRT",   "SIGBUS",	   "SIGFPE",	"SIGKILL",     "SIGUSR1",     "SIGSEGV",
	"SIGUSR2",   "SIGPIPE",	   "SIGALRM",	"SIGTERM",     "SIGSTKFLT",   "SIGCHLD",
	"SIGCONT",   "SIGSTOP",	   "SIGTSTP",	"SIGTTIN",     "SIGTTOU",     "SIGURG",
	"SIGXCPU",   "SIGXFSZ",	   "SIGVTALRM", "SIGPROF",     "SIGWINCH",    "SIGIO",
	"SIGPWR",    "SIGSYS",	   "SIG32",	"SIG33",       "SIGRTMIN",    "SIGRTMIN+1",
	"SIGRTMIN+2",  "SIGRTMIN+3",  "SIGRTMIN+4",	"SIGRTMIN+5",  "SIGRTMIN+6",
	"SIGRTMIN+7",  "SIGRTMIN+8",  "SIGRTMIN+9",	"SIGRTMIN+10", "SIGRTMIN+11",
	"SIGRTMIN+12", "SIGRTMIN+13", "SIGRTMIN+14",	"SIGRTMIN+15", "SIGRTMIN+16",
	"SIGRTMIN+17", "SIGRTMIN+18", "SIGRTMIN+19",	"SIGRTMIN+20", "SIGRTMIN+21",
	"SIGRTMIN+22", "SIGRTMIN+23", "SIGRTMIN+24",	"SIGRTMIN+25", "SIGRTMIN+26",
	"SIGRTMIN+27", "SIGRTMIN+28", "SIGRTMIN+29",	"SIGRTMAX",    NULL,
};

static_assert(ARRAY_SIZE(signal_names) == SIGNAL_MAX + 2, "a name for each");

/* TRACE_SIGNAL_* of include/trace/events/signal.h, from 0; one more stands for what is unknown. */
static const char *const result_names[] = {"delivered",	    "ignored",	 "already_pending",
					   "overflow_fail", "lose_info", "unknown",
					   NULL};

#define RESULT_UNKNOWN (ARRAY_SIZE(result_names) - 2)

static const struct field signal_fields[] = {
	PROCESS_FIELDS(signal_row, "when the signal was made"),
	FIELD(signal_row, signal, I32, INT64, TAG, "", "number of the signal"),
	FIELD(signal_row, name, ENUM, TEXT, TAG, "", "its name", .names = signal_names),
	FIELD(signal_row, code, I32, INT64, TAG, "",
	      "si_code: 0 kill, -6 tkill and tgkill, -1 sigqueue, 128 kernel; others by signal"),
	FIELD(signal_row, sig_errno, I32, INT64, TAG, "", "si_errno", .null = NULL_ZERO),
	FIELD(signal_row, kernel, U8, BOOL, TAG, "",
	      "made by the kernel: pid is whoever ran then (for SIGCHLD, the child)"),
	FIELD(signal_row, tpid, U32, INT64, TAG, "", "process that it is for"),
	FIELD(signal_row, ttid, U32, INT64, TAG, "", "its thread"),
	FIELD(signal_row, tuid, U32, INT64, TAG, "", "its user"),
	FIELD(signal_row, tcomm, CHARS, TEXT, TAG, "", "its name", .dict = true),
	FIELD(signal_row, group, U8, BOOL, TAG, "", "for the whole process, not for one thread"),
	FIELD(signal_row, result, ENUM, TEXT, TAG, "", "what became of it",
	      .names = result_names),
};

static const struct table signal_table =
	TABLE(signal_row, AUDIT, "signal", "Signals made, by sender and target", signal_fields);

static const struct opt signal_options[] = {
	{.key = "signals",
	 .type = OPT_LIST,
	 .help = "only these signals, as names (TERM, SIGTERM) or numbers; all by default"},
	{.key = "exclude_signals",
	 .type = OPT_LIST,
	 .help = "not these signals; SIGCHLD is the most frequent"},
	PROCESS_OPTIONS,
	{},
};

static int parse_signal(const char *text, struct err *err)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end != text && !*end && n >= 1 && n <= SIGNAL_MAX)
		return (int)n;
	for (int i = 1; i <= SIGNAL_MAX; i++)
		if (strcasecmp(text, signal_names[i]) == 0 ||
		    strcasecmp(text, signal_names[i] + 3) == 0)
			return i;
	return err_set(err, -EINVAL, "'%.32s' isn't a signal: TERM, SIGTERM or 15 would be one",
		       text);
}

static int list_mask(const struct instance *in, const char *key, uint64_t *mask, struct err *err)
{
	const char *text;

	*mask = 0;
	for (size_t i = 0; (text = opt_item(in->opts, key, i)); i++) {
		int n = parse_signal(text, err);

		if (n < 0)
			return n;
		*mask |= 1ull << (n - 1);
	}
	return 0;
}

static int apply_mask(struct instance *in, struct err *err)
{
	struct signal_bpf *skel = in->skel;
	uint64_t only, without, mask;
	uint32_t zero = 0;
	int r;

	r = list_mask(in, "signals", &only, err);
	if (r == 0)
		r = list_mask(in, "exclude_signals", &without, err);
	if (r < 0)
		return r;
	mask = (only ? only : UINT64_MAX) & ~without;
	if (bpf_map_update_elem(bpf_map__fd(skel->maps.signal_mask), &zero, &mask, BPF_ANY) < 0)
		return err_set(err, -errno, "cannot hand its options to the kernel: %s",
			       strerror(errno));
	return 0;
}

static int signal_start(struct instance *in, struct err *err)
{
	int r = apply_mask(in, err);

	return r < 0 ? r : process_filter_apply(in, err);
}

static int signal_update(struct instance *in, const char *key, struct err *err)
{
	return process_filter_has(key) ? process_filter_apply(in, err) : apply_mask(in, err);
}

static int signal_event(struct instance *in, const void *ev, size_t len)
{
	const struct signal_event *e = ev;
	struct signal_row *row;

	if (len != sizeof(*e) || e->sig < 1 || e->sig > SIGNAL_MAX)
		return -EBADMSG;
	row = instance_row(in, 0);
	if (!row)
		return 0;
	process_fill(in, 0, row, &e->p);
	row->signal = e->sig;
	row->name = (uint8_t)e->sig;
	row->code = e->code;
	row->sig_errno = e->error;
	row->kernel = !!e->kernel;
	row->tpid = e->target_pid;
	row->ttid = e->target_tid;
	row->tuid = e->target_uid;
	memcpy(row->tcomm, e->target_comm, strnlen(e->target_comm, sizeof(row->tcomm) - 1));
	row->group = !!e->group;
	row->result = (uint8_t)(e->result < RESULT_UNKNOWN ? e->result : RESULT_UNKNOWN);
	return 0;
}

PLUGIN(signal, .help = "Signals, with sender, target, cause and what became of them",
       .needs = "BTF and the tracepoint signal_generate, CAP_BPF and CAP_PERFMON",
       TABLES(&signal_table), .options = signal_options, .start = signal_start,
       .update = signal_update, .event = signal_event, .default_ring_bytes = 512 * 1024,
       .shed = instance_shed_sampling, .default_priority = 70);
