// SPDX-License-Identifier: Apache-2.0
/* Field tables of what Ringside says about itself. */
#include "daemon/tables.h"

#include <errno.h>

#include "bpf/plugin.h"
#include "daemon/names.h"
#include "daemon/table_rows.h"

#define TAG(st, m, r, t, h, ...) FIELD(st, m, r, t, TAG, "", h, ##__VA_ARGS__)

/* Order of enum plugin_state, less one. */
static const char *const plugin_states[] = {"disabled", "starting",    "running", "degraded",
					    "failed",	"unsupported", NULL};
static const char *const ring_names[] = {"flow", "audit", NULL};

static const struct field plugins_fields[] = {
	TAG(plugins_row, name, STR, TEXT, "plugin"),
	TAG(plugins_row, state, ENUM, TEXT,
	    "disabled, starting, running, degraded, failed or unsupported", .names = plugin_states),
	TAG(plugins_row, reason, STR, TEXT, "one sentence for every state but running",
	    .null = NULL_ZERO),
	TAG(plugins_row, hook, STR, TEXT, "hooks in use", .null = NULL_ZERO),
	FIELD(plugins_row, enabled_at, U64, TIME, GAUGE, "ns", "since when it runs",
	      .null = NULL_ZERO),
	FIELD(plugins_row, disable_at, U64, TIME, GAUGE, "ns",
	      "when it is disabled again by itself", .null = NULL_ZERO),
	TAG(plugins_row, persisted, U8, BOOL, "enabled again after a restart"),
	FIELD(plugins_row, events, U64, INT64, COUNTER, "{event}",
	      "samples read from its ring buffer"),
	FIELD(plugins_row, rows, U64, INT64, COUNTER, "{row}", "rows that it made"),
	FIELD(plugins_row, kernel_drops, U64, INT64, COUNTER, "{event}",
	      "lost in the kernel: ring buffer or maps full, memory unreadable"),
	FIELD(plugins_row, decode_errors, U64, INT64, COUNTER, "{event}",
	      "samples that it could not make sense of"),
	FIELD(plugins_row, filtered, U64, INT64, COUNTER, "{event}",
	      "left out as its options say"),
	FIELD(plugins_row, rows_dropped, U64, INT64, COUNTER, "{row}",
	      "rows that a sink refused or no memory was left for"),
	FIELD(plugins_row, sampled, U64, INT64, COUNTER, "{event}",
	      "events left out on purpose, to stay within a limit"),
	FIELD(plugins_row, rows_redacted, U64, INT64, COUNTER, "{row}",
	      "rows in which a secret was replaced or a column emptied, as redact.* says"),
	FIELD(plugins_row, programs, U32, INT64, GAUGE, "{program}", "BPF programs loaded"),
	FIELD(plugins_row, run_count, U64, INT64, COUNTER, "{run}", "runs of its BPF programs"),
	FIELD(plugins_row, run_time, U64, INT64, COUNTER, "ns", "time in its BPF programs"),
	FIELD(plugins_row, user_time, U64, INT64, COUNTER, "ns",
	      "time in the daemon: reading, decoding, ticks"),
	FIELD(plugins_row, rows_stored, U64, INT64, COUNTER, "{row}",
	      "rows of it that the store committed"),
	FIELD(plugins_row, bytes_stored, U64, INT64, COUNTER, "By",
	      "what files grew by for them: see plugin_cost"),
	FIELD(plugins_row, missed_runs, U64, INT64, COUNTER, "{run}",
	      "runs that the kernel left out: the same program was running on that CPU"),
	FIELD(plugins_row, map_bytes, U64, INT64, GAUGE, "By",
	      "memory of its BPF maps as the kernel charges it"),
	FIELD(plugins_row, ring_bytes, U64, INT64, GAUGE, "By", "size of its ring buffer"),
};

static const struct field plugin_programs_fields[] = {
	TAG(plugin_programs_row, plugin, STR, TEXT, "plugin"),
	TAG(plugin_programs_row, program, STR, TEXT, "BPF program"),
	TAG(plugin_programs_row, section, STR, TEXT, "where it is attached"),
	TAG(plugin_programs_row, attached, U8, BOOL, "whether it is attached right now"),
	TAG(plugin_programs_row, prog_id, U32, INT64, "id as bpftool shows it"),
	FIELD(plugin_programs_row, run_count, U64, INT64, COUNTER, "{run}",
	      "runs; estimated between the times in which the kernel measures (bpf_stats)"),
	FIELD(plugin_programs_row, run_time, U64, INT64, COUNTER, "ns",
	      "time of all runs, estimated likewise"),
	FIELD(plugin_programs_row, run_time_avg, F64, DOUBLE, GAUGE, "ns",
	      "time of one run on average"),
	FIELD(plugin_programs_row, missed_runs, U64, INT64, COUNTER, "{run}",
	      "runs that the kernel left out: the same program was running on that CPU"),
};

static const struct field sinks_fields[] = {
	TAG(sinks_row, name, STR, TEXT, "who takes rows: store_flow, store_audit, watchers"),
	TAG(sinks_row, state, STR, TEXT, "ok, or what is wrong"),
	FIELD(sinks_row, batches, U64, INT64, COUNTER, "{batch}", "batches taken"),
	FIELD(sinks_row, rows, U64, INT64, COUNTER, "{row}", "rows taken"),
	FIELD(sinks_row, rows_dropped, U64, INT64, COUNTER, "{row}",
	      "rows refused because the queue was full, or given up after errors"),
	FIELD(sinks_row, queue_len, U32, INT64, GAUGE, "{batch}", "batches that wait"),
	FIELD(sinks_row, queue_cap, U32, INT64, GAUGE, "{batch}", "batches that may wait"),
	FIELD(sinks_row, bytes, U64, INT64, GAUGE, "By", "disk in use"),
	FIELD(sinks_row, errors, U64, INT64, COUNTER, "{error}", "errors that were survived"),
};

static const struct field governor_fields[] = {
	TAG(governor_row, resource, STR, TEXT, "cpu, mem, net or kernel_cpu (BPF programs alone)"),
	TAG(governor_row, state, STR, TEXT, "ok, sample, disable or exit"),
	FIELD(governor_row, usage, U64, INT64, GAUGE, "", "millicores, bytes or bytes per second",
	      .null = NULL_MAX),
	FIELD(governor_row, limit_value, U64, INT64, GAUGE, "", "in the same unit; NULL: none",
	      .null = NULL_ZERO),
	TAG(governor_row, unit, STR, TEXT, "m, By or By/s"),
	TAG(governor_row, scope, STR, TEXT, "whose usage is counted", .null = NULL_ZERO),
	TAG(governor_row, action, STR, TEXT, "shed, exit or report"),
	TAG(governor_row, cgroup, STR, TEXT, "where we are and what the kernel limits"),
};

static const struct field capabilities_fields[] = {
	TAG(capabilities_row, name, STR, TEXT, "what the kernel or the host may offer"),
	TAG(capabilities_row, available, U8, BOOL, "whether it does"),
	TAG(capabilities_row, detail, STR, TEXT, "one sentence; what is lost without it"),
};

static const struct field segments_fields[] = {
	TAG(segments_row, ring, ENUM, TEXT, "flow or audit", .names = ring_names),
	TAG(segments_row, number, U64, INT64, "grows with every segment"),
	TAG(segments_row, live, U8, BOOL, "rows are being added"),
	FIELD(segments_row, ts_min, U64, TIME, GAUGE, "ns", "its oldest row", .null = NULL_ZERO),
	FIELD(segments_row, ts_max, U64, TIME, GAUGE, "ns", "its newest row", .null = NULL_ZERO),
	FIELD(segments_row, rows, U64, INT64, GAUGE, "{row}", "rows in it"),
	FIELD(segments_row, bytes, U64, INT64, GAUGE, "By", "its size on disk"),
	TAG(segments_row, path, STR, TEXT, "the SQLite file"),
};

static const struct field names_fields[] = {
	TAG(names_row, netns, U32, INT64, "inode of the network namespace in which it holds",
	    .null = NULL_ZERO),
	TAG(names_row, ip, IP, IP, "address"),
	TAG(names_row, name, STR, TEXT, "name that led to it last"),
	TAG(names_row, origin, ENUM, TEXT, "how it is known: dns, sni or host",
	    .names = domain_origin_names),
	FIELD(names_row, learned_at, U64, TIME, GAUGE, "ns", "when it was learned or renewed"),
	FIELD(names_row, expires_at, U64, TIME, GAUGE, "ns", "until when it holds; use extends it"),
	FIELD(names_row, hits, U64, INT64, COUNTER, "{lookup}", "rows that it was put into"),
};

#define NAMES_STAT(m, h) FIELD(names_stats, m, U64, INT64, COUNTER, "{name}", h)

static const struct field names_stats_fields[] = {
	FIELD(names_stats, entries, U64, INT64, GAUGE, "{name}", "addresses with a name now"),
	NAMES_STAT(learned, "new ones"),
	NAMES_STAT(renewed, "learned again"),
	NAMES_STAT(replaced, "by another name for the same address"),
	NAMES_STAT(evicted, "dropped because the table was full"),
	NAMES_STAT(expired, "dropped because their time was over"),
	NAMES_STAT(refused, "too long, empty or for no address"),
	NAMES_STAT(no_memory, "lost because there was no memory"),
	NAMES_STAT(hits, "lookups that found one"),
	NAMES_STAT(misses, "lookups that found none"),
};

static const struct field tags_fields[] = {
	TAG(tags_row, key, STR, TEXT, "name of the tag"),
	TAG(tags_row, value, STR, TEXT, "what every row that leaves this host says for it"),
};

static const struct field loss_fields[] = {
	FIELD(loss_row, ts, U64, TIME, TAG, "ns", "end of the second in which it was lost"),
	TAG(loss_row, table_name, STR, TEXT, "whose rows are missing", .dict = true),
	TAG(loss_row, plugin, STR, TEXT, "whose events or rows they were", .null = NULL_ZERO,
	    .dict = true),
	TAG(loss_row, stage, STR, TEXT,
	    "where: ring_full, map_full, kernel_error in the kernel; decode, no_memory in the "
	    "daemon; queue_full, disk in the store; watchers: only watchers missed it; sampled: "
	    "left out on purpose, by the governor or because the ring buffer was too small",
	    .dict = true),
	FIELD(loss_row, lost, U64, INT64, DELTA, "{row}", "events or rows lost"),
};

#define COUNT(m, u, h) FIELD(ledger_row, m, U64, INT64, DELTA, u, h)

static const struct field ledger_fields[] = {
	FIELD(ledger_row, ts, U64, TIME, TAG, "ns", "end of the time that it is about"),
	TAG(ledger_row, plugin, STR, TEXT, "plugin", .dict = true),
	FIELD(ledger_row, seconds, U32, INT64, GAUGE, "s", "how long that time is"),
	COUNT(seen, "{event}",
	      "events in the kernel: submitted + ring_full + map_full + kernel_error + filtered + "
	      "sampled"),
	COUNT(submitted, "{event}", "put into the ring buffer"),
	COUNT(ring_full, "{event}", "lost: the ring buffer was full"),
	COUNT(map_full, "{event}", "lost: a map was full"),
	COUNT(kernel_error, "{event}", "lost: memory couldn't be read"),
	COUNT(filtered, "{event}", "left out in the kernel as the options say"),
	COUNT(sampled, "{event}", "left out in the kernel to cost less"),
	COUNT(received, "{event}",
	      "read from the ring buffer: submitted, but for what is in it; where rows are events "
	      "they are rows + decode_errors + left_out + no_memory"),
	COUNT(decode_errors, "{event}", "lost: made no sense"),
	COUNT(left_out, "{event}", "left out in the daemon as the options say"),
	COUNT(no_memory, "{row}", "lost: no memory for the row, or for a text of it"),
	COUNT(rows, "{row}", "made: stored + queue_full + disk, but for what waits"),
	COUNT(stored, "{row}", "committed to the ring"),
	COUNT(queue_full, "{row}", "lost: the store's queue was full"),
	COUNT(disk, "{row}", "lost: the disk wouldn't take them"),
	FIELD(ledger_row, waiting, U64, INT64, GAUGE, "{row}",
	      "made and neither stored nor lost, at the end"),
};

static const struct field governor_decisions_fields[] = {
	FIELD(governor_decisions_row, ts, U64, TIME, TAG, "ns", "when it was decided"),
	TAG(governor_decisions_row, from_state, STR, TEXT, "state before", .dict = true),
	TAG(governor_decisions_row, to_state, STR, TEXT, "state from then on", .dict = true),
	TAG(governor_decisions_row, act, STR, TEXT,
	    "what was done: sample, disable, enable, unsample, restore; NULL: nothing but what the "
	    "states say",
	    .null = NULL_ZERO, .dict = true),
	TAG(governor_decisions_row, plugin, STR, TEXT,
	    "plugin that was disabled or came back; or, in a row behind that of a step, that samples "
	    "one cgroup more than others, or did until then",
	    .null = NULL_ZERO, .dict = true),
	TAG(governor_decisions_row, cgroup_id, U64, INT64, "the cgroup that makes most of its events",
	    .null = NULL_ZERO),
	TAG(governor_decisions_row, cgroup, STR, TEXT, "its path", .null = NULL_ZERO),
	FIELD(governor_decisions_row, cgroup_events, F64, DOUBLE, GAUGE, "{event}/s",
	      "events of that cgroup: those that rows stand for", .null = NULL_ZERO),
	FIELD(governor_decisions_row, events, F64, DOUBLE, GAUGE, "{event}/s",
	      "events of all cgroups, likewise", .null = NULL_ZERO),
	FIELD(governor_decisions_row, cgroup_rate, U32, INT64, GAUGE, "{event}",
	      "one event in so many of that cgroup becomes a row from then on", .null = NULL_ZERO),
	FIELD(governor_decisions_row, rate, U32, INT64, GAUGE, "{event}",
	      "one in so many of all others", .null = NULL_ZERO),
	TAG(governor_decisions_row, resource, STR, TEXT,
	    "cpu, mem, net or kernel_cpu: what led to it",
	    .dict = true),
	FIELD(governor_decisions_row, value, U64, INT64, GAUGE, "",
	      "measured: millicores, bytes or bytes per second"),
	FIELD(governor_decisions_row, limit_value, U64, INT64, GAUGE, "",
	      "allowed, in the same unit"),
	TAG(governor_decisions_row, breach, U8, BOOL, "the limit was exceeded"),
	TAG(governor_decisions_row, message, STR, TEXT, "the same in one sentence"),
};

#define RATE(m, u, h) FIELD(plugin_cost_row, m, F64, DOUBLE, GAUGE, u, h)

/* clang-format off */
#define COST_FIELDS                                                                            \
	TAG(plugin_cost_row, plugin, STR, TEXT, "plugin", .dict = true),                       \
	RATE(events, "{event}/s", "samples read from its ring buffer"),                        \
	RATE(runs, "{run}/s", "runs of its BPF programs"),                                     \
	RATE(run_time_avg, "ns", "time of one run on average"),                                \
	RATE(kernel_cpu, "m{cpu}",                                                             \
	     "of one core in its BPF programs; other processes pay for it"),                   \
	RATE(user_cpu, "m{cpu}",                                                               \
	     "of one core in the daemon: reading, decoding, ticks; not what the store does "   \
	     "with the rows"),                                                                 \
	RATE(rows, "{row}/s", "rows that it made"),                                            \
	RATE(rows_stored, "{row}/s", "rows of it that the store committed"),                   \
	RATE(bytes_stored, "By/s",                                                             \
	     "what the ring's files grew by for them: pages of 4 KiB, each when it is begun, " \
	     "and texts that were new in a segment; not the indexes that a segment gets when " \
	     "it is full, nor the log in which SQLite writes all of it first"),                \
	FIELD(plugin_cost_row, map_bytes, U64, INT64, GAUGE, "By",                             \
	      "memory of its BPF maps as the kernel charges it"),                              \
	FIELD(plugin_cost_row, ring_bytes, U64, INT64, GAUGE, "By", "size of its ring buffer"), \
	FIELD(plugin_cost_row, shed_step, U32, INT64, GAUGE, "",                               \
	      "steps of sampling or longer intervals in force")
/* clang-format on */

static const struct field plugin_cost_fields[] = {
	COST_FIELDS,
	FIELD(plugin_cost_row, sampled, U64, INT64, COUNTER, "{event}",
	      "events left out on purpose since it was enabled"),
};

static const struct field plugin_cost_history_fields[] = {
	FIELD(plugin_cost_row, ts, U64, TIME, TAG, "ns", "end of the ten seconds"),
	COST_FIELDS,
	FIELD(plugin_cost_row, sampled, U64, INT64, DELTA, "{event}",
	      "events left out on purpose"),
};

static const struct field daemon_events_fields[] = {
	FIELD(daemon_events_row, ts, U64, TIME, TAG, "ns", "when it happened"),
	TAG(daemon_events_row, event, STR, TEXT,
	    "start, stop, plugin_enabled, plugin_disabled, plugin_failed, plugin_sampling, "
	    "limits_changed, ...",
	    .dict = true),
	TAG(daemon_events_row, subject, STR, TEXT, "plugin, ring or key it is about",
	    .null = NULL_ZERO, .dict = true),
	TAG(daemon_events_row, detail, STR, TEXT, "one sentence", .null = NULL_ZERO),
	TAG(daemon_events_row, actor, STR, TEXT,
	    "who asked: rpc, config, timer, signal or the part that noticed", .dict = true),
};

const struct table plugins_table =
	TABLE(plugins_row, LIVE, "plugins", "plugins, their state and their cost", plugins_fields);
const struct table plugin_programs_table =
	TABLE(plugin_programs_row, LIVE, "plugin_programs",
	      "what each BPF program of a running plugin costs", plugin_programs_fields);
const struct table plugin_cost_table =
	TABLE(plugin_cost_row, LIVE, "plugin_cost",
	      "what each running plugin costs: a second of the last three or so", plugin_cost_fields);
const struct table sinks_table =
	TABLE(sinks_row, LIVE, "sinks", "where rows go and what was refused there", sinks_fields);
const struct table governor_table =
	TABLE(governor_row, LIVE, "governor", "what the daemon uses and may use", governor_fields);
const struct table capabilities_table =
	TABLE(capabilities_row, LIVE, "capabilities", "what this kernel and host offer",
	      capabilities_fields);
const struct table segments_table =
	TABLE(segments_row, LIVE, "segments", "files of the ring", segments_fields);
const struct table names_table = TABLE(
	names_row, LIVE, "names", "names that led to addresses, as flows get them", names_fields);
const struct table names_stats_table =
	TABLE(names_stats, LIVE, "names_stats", "what became of the names that were learned",
	      names_stats_fields);
const struct table tags_table = TABLE(
	tags_row, LIVE, "tags", "what rows that leave this host say of it: [tags]", tags_fields);
const struct table loss_table = TABLE(
	loss_row, AUDIT, "loss", "events and rows that are missing in other tables", loss_fields);
const struct table ledger_table = TABLE(ledger_row, METRIC, "ledger",
					"what became of all events of each plugin: the equations "
					"behind the table loss",
					ledger_fields);
const struct table governor_decisions_table =
	TABLE(governor_decisions_row, AUDIT, "governor_decisions",
	      "what the governor decided and why", governor_decisions_fields);
const struct table plugin_cost_history_table =
	TABLE(plugin_cost_row, METRIC, "plugin_cost_history",
	      "what each plugin cost in ten seconds", plugin_cost_history_fields);
const struct table daemon_events_table =
	TABLE(daemon_events_row, AUDIT, "daemon_events",
	      "what happened to the daemon and who asked for it", daemon_events_fields);

static const struct field redaction_fields[] = {
	TAG(redaction_row, rule, STR, TEXT,
	    "built-in rule, rule of [redact.rules], or class of columns that is dropped"),
	TAG(redaction_row, place, STR, TEXT, "columns that it is about"),
	FIELD(redaction_row, cells, U64, INT64, COUNTER, "{cell}", "texts in which it found something"),
};

static const struct field access_fields[] = {
	FIELD(access_row, ts, U64, TIME, TAG, "ns", "when the read ended; status STARTED: when it began"),
	TAG(access_row, method, STR, TEXT, "Query, WatchRows or Snapshot", .dict = true),
	TAG(access_row, transport, STR, TEXT, "unix or tls", .dict = true),
	TAG(access_row, uid, U32, INT64, "user at the other end of the socket; NULL: tls", .null = NULL_MAX),
	TAG(access_row, pid, U32, INT64, "process that opened the connection; NULL: tls, or of another pid namespace",
	    .null = NULL_ZERO),
	TAG(access_row, exe, STR, TEXT, "its executable when it asked", .null = NULL_ZERO, .dict = true),
	TAG(access_row, subject, STR, TEXT, "subject of the client's certificate; NULL: unix", .null = NULL_ZERO,
	    .dict = true),
	TAG(access_row, address, STR, TEXT, "where that client is; NULL: unix", .null = NULL_ZERO),
	FIELD_CONTENT(access_row, sql, STR, TEXT, TAG, "",
		      "what was read: the statement, or in SQL what the watch or snapshot is about"),
	TAG(access_row, truncated, U8, BOOL, "sql was longer than 1024 bytes"),
	FIELD(access_row, rows, U64, INT64, GAUGE, "{row}", "rows that were sent"),
	FIELD(access_row, bytes, U64, INT64, GAUGE, "By", "size of the messages that were sent"),
	FIELD(access_row, duration, U64, INT64, GAUGE, "ns", "from the request to the end"),
	TAG(access_row, status, STR, TEXT,
	    "OK, CANCELLED (by the client), or why it failed, as gRPC names it; STARTED: a watch that has "
	    "begun, whose end is another row (its ts less its duration is this ts)",
	    .dict = true),
};

const struct table redaction_table =
	TABLE(redaction_row, LIVE, "redaction", "rules that take secrets out of rows, and what they found",
	      redaction_fields);
const struct table access_log_table =
	TABLE(access_row, AUDIT, "access_log",
	      "who read what: each query, watch and snapshot when it ended, a watch also when it began",
	      access_fields);

const struct table *const self_tables[] = {
	&plugins_table,	     &plugin_cost_table, &plugin_programs_table,	&sinks_table,	      &governor_table,
	&tags_table,
	&capabilities_table, &segments_table,		&names_table,	      &names_stats_table,
	&loss_table,	     &ledger_table, &governor_decisions_table, &daemon_events_table, &plugin_cost_history_table,
	&redaction_table,    &access_log_table,		NULL,
};

int tables_all(const struct table ***ret)
{
	const struct table **list;
	size_t n = 0;

	for (size_t i = 0; plugins[i]; i++)
		for (size_t k = 0; plugins[i]->tables && plugins[i]->tables[k]; k++)
			n++;
	for (size_t i = 0; self_tables[i]; i++)
		n++;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	*ret = list;
	for (size_t i = 0; plugins[i]; i++)
		for (size_t k = 0; plugins[i]->tables && plugins[i]->tables[k]; k++)
			*list++ = plugins[i]->tables[k];
	for (size_t i = 0; self_tables[i]; i++)
		*list++ = self_tables[i];
	return 0;
}
