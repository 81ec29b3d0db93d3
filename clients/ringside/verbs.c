// SPDX-License-Identifier: Apache-2.0
/* The verb table: usage, help, completion and the manual page are all made from it. */
#include "clients/ringside/cli.h"

#define MANY SIZE_MAX

static const struct verb_option global_options[] = {
	{"socket", 's', "PATH", "@file", false,
	 "socket of the daemon; also RINGSIDE_SOCKET (default /run/ringside/ringside.sock)"},
	{"address", 0, "HOST:PORT", NULL, false,
	 "a daemon over TLS instead; needs the three --tls options"},
	{"tls-ca", 0, "FILE", "@file", false,
	 "PEM file of the authority that signed the daemon's certificate"},
	{"tls-cert", 0, "FILE", "@file", false, "PEM file of our own certificate"},
	{"tls-key", 0, "FILE", "@file", false, "PEM file of its key"},
	{"output", 'o', "FORMAT", "table|json|csv|tsv", false,
	 "table (for people), json (one object a line), csv (RFC 4180) or tsv"},
	{"timeout", 0, "DURATION", NULL, false,
	 "give up after that long: 500ms, 30s (default 30s; sql: the daemon's)"},
	{"services", 0, NULL, NULL, false,
	 "tables: ports by the names of /etc/services rather than numbers"},
	{"services-file", 0, "FILE", "@file", false,
	 "the same; names of this file go before those"},
	{"no-color", 0, NULL, NULL, false, "no colours; also NO_COLOR"},
	{"help", 'h', NULL, NULL, false, "help, for each verb too"},
	{"version", 'V', NULL, NULL, false, "print the version"},
	{0},
};

static const struct verb_option enable_options[] = {
	{"persist", 0, NULL, NULL, false,
	 "keep it, options included, over a restart of the daemon"},
	{"for", 0, "DURATION", NULL, false, "disable it again after that long: 5m"},
	{"check", 0, NULL, NULL, false, "only check name and options, change nothing"},
	{0},
};
static const struct verb_option disable_options[] = {
	{"persist", 0, NULL, NULL, false, "keep it disabled over a restart of the daemon"},
	{0},
};
static const struct verb_option set_options[] = {
	{"persist", 0, NULL, NULL, false, "keep the change over a restart of the daemon"},
	{"check", 0, NULL, NULL, false, "only check the values, change nothing"},
	{0},
};

static const struct verb plugin_verbs[] = {
	{.name = "list",
	 .summary = "all plugins of this build, their state and cost",
	 .run = verb_plugin_list},
	{.name = "show",
	 .args = "NAME",
	 .min_args = 1,
	 .max_args = 1,
	 .words = "@plugin",
	 .summary = "one plugin: options, programs, figures",
	 .run = verb_plugin_show},
	{.name = "enable",
	 .args = "NAME [KEY=VALUE...]",
	 .min_args = 1,
	 .max_args = MANY,
	 .words = "@plugin",
	 .more_words = "@option",
	 .summary = "load and attach a plugin",
	 .options = enable_options,
	 .run = verb_plugin_enable,
	 .help = "Enabling a plugin that runs is not an error: options that differ are applied.\n\n"
		 "Example: ringside plugin enable netflow interval=5s --for 10m"},
	{.name = "disable",
	 .args = "NAME",
	 .min_args = 1,
	 .max_args = 1,
	 .words = "@plugin",
	 .summary = "detach and unload a plugin",
	 .options = disable_options,
	 .run = verb_plugin_disable},
	{.name = "set",
	 .args = "NAME KEY=VALUE...",
	 .min_args = 2,
	 .max_args = MANY,
	 .words = "@plugin",
	 .more_words = "@option",
	 .summary = "change options of a plugin",
	 .options = set_options,
	 .run = verb_plugin_set,
	 .help = "KEY= with nothing behind it sets the option back to its default. "
		 "The plugin is restarted only if one of the options needs it, and the answer says "
		 "so."},
	{.name = "check",
	 .args = "NAME",
	 .min_args = 1,
	 .max_args = 1,
	 .words = "@plugin",
	 .summary = "whether this kernel can carry the plugin; loads nothing",
	 .run = verb_plugin_check},
	{0},
};

static const struct verb_option sql_options[] = {
	{"param", 'p', "VALUE", NULL, true,
	 "value of ?1, ?2, ... in order: 42, 1.5, null, or text; 'quoted' is always text"},
	{"max-rows", 'n', "N", NULL, false, "stop after N rows"},
	{"file", 'f', "FILE", "@file", false,
	 "read a snapshot, or a segment of a ring, instead of asking a daemon"},
	{0},
};

static const struct verb_option snapshot_options[] = {
	{"since", 0, "WHEN", NULL, false,
	 "rows from then on: 5m (that long ago) or 2026-11-22T00:10:00 (default: all)"},
	{"until", 0, "WHEN", NULL, false, "rows up to then, written the same (default: now)"},
	{"table", 't', "NAME", "@table", true, "only this table; may be given again (default: all)"},
	{"force", 0, NULL, NULL, false, "replace FILE if it is there"},
	{0},
};

static const struct verb_option watch_options[] = {
	{"where", 'w', "EXPR", NULL, false,
	 "only rows for which this SQL expression holds (one table)"},
	{"sql", 0, "SELECT", NULL, false,
	 "stream the new rows of a SELECT over one history table instead"},
	{"columns", 'c', "A,B,...", NULL, false, "show only these columns, in this order"},
	{"since", 0, "DURATION", NULL, false, "begin with the rows of the last 5m"},
	{"max-rows", 'n', "N", NULL, false, "end after N rows"},
	{"interval", 'i', "DURATION", NULL, false, "how often live tables are sent (default 1s)"},
	{"for", 0, "DURATION", NULL, false, "end after that long"},
	{0},
};

static const struct verb_option top_options[] = {
	{"interval", 'i', "DURATION", NULL, false, "time between two frames (default 2s)"},
	{"window", 0, "DURATION", NULL, false, "sum flows over that long (default 30s)"},
	{"rows", 'n', "N", NULL, false,
	 "flows to show (default: what fits; 15 without a terminal)"},
	{"for", 0, "DURATION", NULL, false, "end after that long"},
	{0},
};

static const struct verb limits_verbs[] = {
	{.name = "set",
	 .args = "KEY=VALUE...",
	 .min_args = 1,
	 .max_args = MANY,
	 .words = "@limit",
	 .more_words = "@limit",
	 .summary = "change limits; in force within a second",
	 .options = set_options,
	 .run = verb_limits_set,
	 .help = "Keys: cpu_limit (2.0, 150%), kernel_cpu_limit (0.05: the BPF programs alone), "
		 "mem_limit (128MiB), net_limit (100MiB/s), "
		 "limit_action (shed, exit, "
		 "report), net_limit_scope (self, nic). A key with nothing behind the sign removes "
		 "that limit."},
	{0},
};

static const struct verb config_verbs[] = {
	{.name = "show",
	 .args = "[KEY...]",
	 .max_args = MANY,
	 .summary = "every option with its value and where that came from",
	 .run = verb_config_show,
	 .help = "KEY may be the beginning of one: 'store.' shows all of the store."},
	{.name = "check",
	 .args = "[FILE]",
	 .max_args = 1,
	 .words = "@file",
	 .summary = "check a configuration file without applying it",
	 .run = verb_config_check,
	 .help = "Without FILE the running daemon checks the file that it was started with. With "
		 "FILE the ringsided "
		 "beside this program is run as 'ringsided --check-config --config FILE'; no "
		 "daemon is needed."},
	{.name = "reload",
	 .summary = "have the daemon read its configuration and TLS files again",
	 .run = verb_config_reload},
	{0},
};

static const struct verb verbs[] = {
	{.name = "status",
	 .summary = "the daemon at a glance; also what a bare 'ringside' does",
	 .run = verb_status},
	{.name = "plugin",
	 .summary = "list plugins and switch them at run time",
	 .subs = plugin_verbs,
	 .run = verb_plugin_list},
	{.name = "tables", .summary = "tables of history and live state", .run = verb_tables},
	{.name = "schema",
	 .args = "TABLE",
	 .min_args = 1,
	 .max_args = 1,
	 .words = "@table",
	 .summary = "columns of a table: type, unit, meaning",
	 .run = verb_schema},
	{.name = "sql",
	 .args = "[QUERY]",
	 .max_args = 1,
	 .summary = "query history and live state with SQL",
	 .options = sql_options,
	 .run = verb_sql,
	 .help = "Without QUERY on a terminal it is a shell with history and completion (.help "
		 "lists its commands); "
		 "from a pipe it reads statements that end with a semicolon. Whenever rows are "
		 "known to be missing "
		 "from the answer, a line on standard error says how many.\n\n"
		 "With --file the answer comes from a file that 'ringside snapshot' made, or from a "
		 "segment of a ring; no daemon is needed. There ago() and now_ns() count from the "
		 "end of what the file holds.\n\n"
		 "Example: ringside sql \"SELECT process_name, sum(bytes_written) FROM netflow "
		 "GROUP BY 1 ORDER BY 2 "
		 "DESC LIMIT 10\""},
	{.name = "snapshot",
	 .args = "FILE",
	 .min_args = 1,
	 .max_args = 1,
	 .words = "@file",
	 .summary = "keep a window of the ring as one SQLite file",
	 .options = snapshot_options,
	 .run = verb_snapshot,
	 .help = "All rows of the window as they stand at one moment, while the ring moves on, and "
		 "live tables as they are now. Any sqlite3 reads the file; so does 'ringside sql "
		 "--file FILE', with the functions of Ringside. The tables snapshot_info, "
		 "snapshot_tables and snapshot_columns in it say of which host and time it is, how "
		 "complete, and what each column means. The file is there when it is whole, or not "
		 "at all; only its owner may read it.\n\n"
		 "Example: ringside snapshot --since 5m incident.db"},
	{.name = "watch",
	 .args = "TABLE...",
	 .max_args = MANY,
	 .words = "@table",
	 .more_words = "@table",
	 .summary = "rows as they happen; live tables refresh",
	 .options = watch_options,
	 .run = verb_watch,
	 .help = "Ends with Ctrl-C, --for or --max-rows. Several tables need -o table or -o json, "
		 "where each object "
		 "then begins with \"_table\".\n\n"
		 "Example: ringside watch netflow --where \"dst_port = 443\" --since 5m"},
	{.name = "top",
	 .summary = "a live view of top flows, plugin cost and limits",
	 .options = top_options,
	 .run = verb_top,
	 .help = "q or Ctrl-C ends it. Without a terminal it prints plain frames."},
	{.name = "history",
	 .summary = "how far back the rings reach, and how far they will at the present rate",
	 .run = verb_history,
	 .help = "reach is how long a row that comes now is kept; the rate is that of the last ten "
		 "minutes, or of as many segments as hold them, and reach is empty while that is too "
		 "little to tell. Each segment: ringside sql \"SELECT * "
		 "FROM segments\"."},
	{.name = "limits",
	 .summary = "what Ringside uses and may use",
	 .subs = limits_verbs,
	 .run = verb_limits},
	{.name = "config",
	 .summary = "options, their values and origins",
	 .subs = config_verbs,
	 .run = verb_config_show},
	{.name = "doctor",
	 .args = "[PLUGIN...]",
	 .max_args = MANY,
	 .words = "@plugin",
	 .more_words = "@plugin",
	 .summary = "what this kernel and host offer and lack, in sentences",
	 .run = verb_doctor,
	 .help = "Exit code 1 when something that a plugin requires is missing."},
	{.name = "log-level",
	 .args = "LEVEL",
	 .min_args = 1,
	 .max_args = 1,
	 .words = "err|warning|notice|info|debug",
	 .summary = "set how much the daemon logs",
	 .run = verb_log_level},
	{.name = "shutdown",
	 .summary = "stop the daemon in order: rows flushed, programs detached",
	 .run = verb_shutdown},
	{.name = "version", .summary = "print the version of this program", .run = verb_version},
	{.name = "completion",
	 .args = "SHELL",
	 .min_args = 1,
	 .max_args = 1,
	 .words = "bash|zsh|fish",
	 .summary = "print the completion script of a shell",
	 .run = verb_completion,
	 .help = "bash: source <(ringside completion bash)\n\nzsh: ringside completion zsh > "
		 "\"${fpath[1]}/_ringside\"\n\nfish: ringside completion fish | source"},
	{.name = "man",
	 .summary = "print the manual page as roff: ringside man | man -l -",
	 .run = verb_man},
	{.name = "help",
	 .args = "[VERB [VERB]]",
	 .max_args = 2,
	 .summary = "help for a verb",
	 .run = verb_help},
	{.name = "complete",
	 .args = "WORD...",
	 .max_args = MANY,
	 .summary = "candidates for the last word",
	 .run = verb_complete,
	 .hidden = true},
	{0},
};

const struct verb root_verb = {
	.name = "ringside",
	.summary = "watch a Linux host from the kernel: flows, shell lines and events, queried "
		   "with SQL",
	.options = global_options,
	.subs = verbs,
	.run = verb_status,
};
