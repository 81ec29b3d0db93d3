// SPDX-License-Identifier: Apache-2.0
/* Every option of the daemon with type, default, range and help. */
#include "daemon/options.h"

#include "governor/policy.h"

/* Order of enum log_level. */
static const char *const log_levels[] = {"err", "warning", "notice", "info", "debug", NULL};

/*
 * Limits are unset by default: a limit that nobody asked for must not end the daemon. Ring sizes: 1 GiB holds about 14 million
 * flow rows (73 bytes each), the audit ring is apart so that a flood of flows never evicts what people typed.
 */
const struct opt daemon_options[] = {
	{.key = "log_level", .type = OPT_ENUM, .def = "info", .choices = log_levels,
	 .help = "least important line that is logged"},
	{.key = "socket", .type = OPT_STRING, .def = "/run/ringside/ringside.sock", .restart = true,
	 .help = "unix socket of the gRPC API"},
	{.key = "socket_group", .type = OPT_STRING, .def = "ringside", .restart = true,
	 .help = "group that may use the socket; root alone if the group doesn't exist"},
	{.key = "state_dir", .type = OPT_STRING, .def = "/var/lib/ringside", .restart = true,
	 .help = "directory of the ring and of what is kept over a restart"},
	{.key = "enabled_plugins", .type = OPT_LIST, .env = "ENV_INPUT_EBPF_ENABLED_PLUGINS",
	 .help = "plugins that are enabled at start; the same as enabled = true in each [plugins.NAME]"},
	{.key = "cpu_limit", .type = OPT_CPU, .env = "ENV_INPUT_EBPF_CPU_LIMIT",
	 .help = "cores that the daemon and its BPF programs may use (\"2.0\"); unset or 0: no limit"},
	{.key = "mem_limit", .type = OPT_BYTES, .env = "ENV_INPUT_EBPF_MEM_LIMIT",
	 .help = "memory that the daemon may use (\"256MiB\"); unset or 0: no limit"},
	{.key = "net_limit", .type = OPT_RATE, .env = "ENV_INPUT_EBPF_NET_LIMIT",
	 .help = "network traffic in bytes per second (\"100MiB/s\"), counted as net_limit_scope says; unset or 0: no limit"},
	{.key = "net_limit_scope", .type = OPT_ENUM, .def = "self", .choices = net_scope_names,
	 .help = "self: traffic of the daemon's own sockets; nic: of the busiest interface of the host"},
	{.key = "limit_action", .type = OPT_ENUM, .def = "shed", .choices = limit_action_names,
	 .help = "shed: cost less first, exit as the last resort; exit: end at once with 81, 82 or 83; report: say so and go on"},
	{.key = "cgroup_manage", .type = OPT_BOOL, .def = "true", .restart = true,
	 .help = "make a cgroup of our own where this host allows it and set kernel limits on it"},
	{.key = "store.flow.max_bytes", .type = OPT_BYTES, .def = "1GiB", .min = "16MiB",
	 .help = "disk that flow and metric rows may take"},
	{.key = "store.flow.max_rows", .type = OPT_INT, .def = "0", .min = "0",
	 .help = "flow and metric rows that are kept; 0: bounded by size and age alone"},
	{.key = "store.flow.max_age", .type = OPT_DURATION, .def = "0", .min = "0",
	 .help = "age at which flow and metric rows go; 0: bounded by size and rows alone"},
	{.key = "store.audit.max_bytes", .type = OPT_BYTES, .def = "256MiB", .min = "16MiB",
	 .help = "disk that audit rows may take"},
	{.key = "store.audit.max_rows", .type = OPT_INT, .def = "0", .min = "0",
	 .help = "audit rows that are kept; 0: bounded by size and age alone"},
	{.key = "store.audit.max_age", .type = OPT_DURATION, .def = "0", .min = "0",
	 .help = "age at which audit rows go; 0: bounded by size and rows alone"},
	{.key = "store.reserve_bytes", .type = OPT_BYTES, .def = "64MiB", .restart = true,
	 .help = "free space that the ring leaves to others on its file system"},
	{.key = "store.queue_batches", .type = OPT_INT, .def = "256", .min = "16", .max = "65536", .restart = true,
	 .help = "batches of up to 512 rows that may wait for the disk, per ring; refused and counted beyond"},
	{.key = "store.flush", .type = OPT_DURATION, .def = "250ms", .min = "10ms", .max = "10s", .restart = true,
	 .help = "rows are committed after that at the latest"},
	{.key = "query.max_workers", .type = OPT_INT, .def = "4", .min = "1", .max = "64", .restart = true,
	 .help = "SQL statements that run at once; refused beyond"},
	{.key = "query.deadline", .type = OPT_DURATION, .def = "10s", .min = "100ms", .max = "1h", .restart = true,
	 .help = "time that a statement gets when its caller names none"},
	{.key = "query.max_deadline", .type = OPT_DURATION, .def = "5m", .min = "1s", .max = "1h", .restart = true,
	 .help = "most time that a statement can ask for"},
	{.key = "query.max_rows", .type = OPT_INT, .def = "1000000", .min = "1", .restart = true,
	 .help = "rows that one statement may return"},
	{.key = "query.user", .type = OPT_STRING, .def = "nobody", .restart = true,
	 .help = "unprivileged user that SQL statements run as"},
	{.key = "api.listen", .type = OPT_STRING, .restart = true,
	 .help = "host:port for gRPC over mutual TLS; unset: unix socket only"},
	{.key = "api.tls_ca", .type = OPT_STRING, .restart = true, .help = "PEM file: who signs the certificates of clients"},
	{.key = "api.tls_cert", .type = OPT_STRING, .restart = true, .help = "PEM file: our certificate"},
	{.key = "api.tls_key", .type = OPT_STRING, .restart = true, .help = "PEM file: our private key"},
	{.key = "api.max_connections", .type = OPT_INT, .def = "64", .min = "1", .max = "4096", .restart = true,
	 .help = "clients at once; refused beyond"},
	{.key = "api.max_calls", .type = OPT_INT, .def = "4096", .min = "1", .max = "65536", .restart = true,
	 .help = "calls at once, watchers included; refused beyond"},
	{.key = "api.max_calls_per_connection", .type = OPT_INT, .def = "2048", .min = "1", .max = "65536", .restart = true,
	 .help = "calls at once of one client; refused beyond"},
	{},
};
