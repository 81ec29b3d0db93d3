// SPDX-License-Identifier: Apache-2.0
/* Rows of the tables about Ringside itself. */
#pragma once

#include <stdint.h>

#include "bpf/table.h"

struct plugins_row {
	struct str name, reason, hook;
	uint64_t enabled_at, disable_at, events, rows, kernel_drops, decode_errors, filtered,
		rows_dropped, run_count, run_time, missed_runs, map_bytes, ring_bytes, sampled,
		rows_redacted, user_time, rows_stored, bytes_stored;
	uint32_t programs;
	uint8_t state; /* enum plugin_state - 1 */
	uint8_t persisted;
};

struct plugin_programs_row {
	struct str plugin, program, section;
	uint64_t run_count, run_time, missed_runs;
	double run_time_avg;
	uint32_t prog_id;
	uint8_t attached;
};

struct sinks_row {
	struct str name, state;
	uint64_t batches, rows, rows_dropped, bytes, errors;
	uint32_t queue_len, queue_cap;
};

struct governor_row {
	struct str resource, state, unit, scope, action, cgroup;
	uint64_t usage, limit_value;
};

struct capabilities_row {
	struct str name, detail;
	uint8_t available;
};

struct names_row {
	struct ip_addr ip;
	struct str name;
	uint64_t learned_at, expires_at, hits;
	uint32_t netns;
	uint8_t origin;
};

struct segments_row {
	struct str path;
	uint64_t number, ts_min, ts_max, rows, bytes;
	uint8_t ring, live;
};

struct tags_row {
	struct str key, value;
};

struct loss_row {
	uint64_t ts;
	struct str table_name, plugin, stage;
	uint64_t lost;
};

struct ledger_row {
	uint64_t ts;
	struct str plugin;
	uint64_t seen, submitted, ring_full, map_full, kernel_error, filtered, sampled, received,
		decode_errors, left_out, no_memory, rows, stored, queue_full, disk, waiting;
	uint32_t seconds;
};

struct governor_decisions_row {
	uint64_t ts;
	struct str from_state, to_state, act, plugin, resource, message, cgroup;
	uint64_t value, limit_value, cgroup_id;
	double cgroup_events, events;
	uint32_t cgroup_rate, rate;
	uint8_t breach;
};

/* Of both tables. */
struct plugin_cost_row {
	uint64_t ts; /* over time alone */
	struct str plugin;
	double events, runs, run_time_avg, kernel_cpu, user_cpu, rows, rows_stored, bytes_stored;
	uint64_t map_bytes, ring_bytes, sampled;
	uint32_t shed_step;
};

struct daemon_events_row {
	uint64_t ts;
	struct str event, subject, detail, actor;
};

struct redaction_row {
	struct str rule, place;
	uint64_t cells;
};

struct access_row {
	uint64_t ts;
	struct str method, transport, exe, subject, address, sql, status;
	uint64_t rows, bytes, duration;
	uint32_t uid, pid;
	uint8_t truncated;
};
