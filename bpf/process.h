// SPDX-License-Identifier: Apache-2.0
/* What all event plugins have in common: columns of the process, and filters by it. Loop thread. */
#pragma once

#include <stdint.h>

#include "bpf/lib/process.h"
#include "bpf/plugin.h"

/*
 * A row of an event plugin begins with these; PROCESS_COLUMNS is the first thing in its struct and
 * PROCESS_FIELDS(struct, what happened) the first in its field table.
 */
#define PROCESS_COLUMNS                                       \
	uint64_t ts;                                          \
	uint32_t pid, tid, ppid, uid, gid, loginuid;          \
	uint32_t session_id, mntns_id, pidns_id, sample_rate; \
	uint64_t cgroup_id;                                   \
	char comm[PROCESS_COMM_SIZE];                         \
	struct str container_id

#define PROCESS_FIELDS(st, when)                                                                  \
	FIELD(st, ts, U64, TIME, TAG, "ns", when),                                                \
		FIELD(st, pid, U32, INT64, TAG, "", "process", .indexed = true),                  \
		FIELD(st, tid, U32, INT64, TAG, "", "its thread that did it"),                    \
		FIELD(st, ppid, U32, INT64, TAG, "", "its parent"),                               \
		FIELD(st, uid, U32, INT64, TAG, "", "its user"),                                  \
		FIELD(st, gid, U32, INT64, TAG, "", "its group"),                                 \
		FIELD(st, loginuid, U32, INT64, TAG, "",                                          \
		      "user who logged in, whatever became of it by su or sudo",                  \
		      .null = NULL_MAX),                                                          \
		FIELD(st, session_id, U32, INT64, TAG, "", "audit session", .null = NULL_MAX),    \
		FIELD(st, comm, CHARS, TEXT, TAG, "", "name of the process", .dict = true),       \
		FIELD(st, cgroup_id, U64, INT64, TAG, "", "its cgroup in the unified hierarchy"), \
		FIELD(st, container_id, STR, TEXT, TAG, "", "its container", .null = NULL_ZERO,   \
		      .dict = true),                                                              \
		FIELD(st, mntns_id, U32, INT64, TAG, "", "its mount namespace",                   \
		      .null = NULL_ZERO),                                                         \
		FIELD(st, pidns_id, U32, INT64, TAG, "", "its pid namespace", .null = NULL_ZERO), \
		FIELD(st, sample_rate, U32, INT64, GAUGE, "{event}",                              \
		      "events that this row stands for: 1, or more while sampling leaves others " \
		      "out. Sums of it count events")

/* The part that all have, as process_fill() sees it. */
struct process_row {
	PROCESS_COLUMNS;
};

#define PROCESS_ROW_CHECK(st)                                                                  \
	static_assert(offsetof(struct st, container_id) ==                                     \
			      offsetof(struct process_row, container_id),                      \
		      "PROCESS_COLUMNS come first")

/* row: what instance_row() gave for that table. */
void process_fill(struct instance *in, unsigned int table, void *row,
		  const struct process_context *c);
/* The same for a row of a live table, all but the container's id: returned, valid until the next
 * call. */
const char *process_columns(struct instance *in, void *row, const struct process_context *c);

/* The container's id or "", valid until the next call. */
const char *process_container(struct instance *in, const struct process_context *c);

/* Entries for the option table of an event plugin; all live. */
/* clang-format off */
#define PROCESS_OPTIONS                                                                       \
	{.key = "pids", .type = OPT_LIST,                                                     \
	 .help = "only events of these processes"},                                           \
	{.key = "exclude_pids", .type = OPT_LIST,                                             \
	 .help = "no events of these processes"},                                             \
	{.key = "comms", .type = OPT_LIST,                                                    \
	 .help = "only events of processes of these names (the first 15 bytes count)"},       \
	{.key = "exclude_comms", .type = OPT_LIST,                                            \
	 .help = "no events of processes of these names"},                                    \
	{.key = "uids", .type = OPT_LIST,                                                     \
	 .help = "only events of these users, as numbers"},                                   \
	{.key = "exclude_uids", .type = OPT_LIST,                                             \
	 .help = "no events of these users"},                                                 \
	{.key = "cgroups", .type = OPT_LIST,                                                  \
	 .help = "only events in these cgroups and below: ids, or paths from the root of the " \
		 "unified hierarchy"},                                                        \
	{.key = "exclude_cgroups", .type = OPT_LIST,                                          \
	 .help = "no events in these cgroups and below"},                                     \
	{.key = "containers", .type = OPT_LIST,                                               \
	 .help = "only events in these containers, those to come too: names (Docker, Podman) " \
		 "or what their ids begin with, four digits at least"},                        \
	{.key = "exclude_containers", .type = OPT_LIST,                                       \
	 .help = "no events in these containers"}
/* clang-format on */

/*
 * A plugin with these has its one watched descriptor taken by them once it filters by container.
 * Hands the filters to the programs: from start, and from update when process_filter_has(key). All
 * of the new ones or, on failure, all of the old ones are in force.
 */
int process_filter_apply(struct instance *in, struct err *err);
bool process_filter_has(const char *key);
/* Host, when the instance's descriptor isn't watched any more. */
void process_filter_free(struct instance *in);
