// SPDX-License-Identifier: Apache-2.0
/* Rows of the exec plugin: programs started, processes ended, processes that are there. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bpf/exec/exec_priv.h"
#include "bpf/exec/exec_text.h"

struct exec_row {
	PROCESS_COLUMNS;
	uint32_t euid, argc, error_raw;
	char parent[PROCESS_COMM_SIZE];
	struct str user, ancestry, capabilities, filename, exe, sha256, cwd, argv, env, error;
	uint8_t truncated, deleted;
};

PROCESS_ROW_CHECK(exec_row);

static const struct field exec_fields[] = {
	PROCESS_FIELDS(exec_row, "when the new program began"),
	FIELD(exec_row, user, STR, TEXT, TAG, "", "name of uid in the process's own passwd",
	      .null = NULL_ZERO, .dict = true),
	FIELD(exec_row, euid, U32, INT64, TAG, "", "user whose rights it has"),
	FIELD(exec_row, capabilities, STR, TEXT, TAG, "",
	      "effective ones (cap_net_raw,cap_sys_admin), or all; NULL: none", .null = NULL_ZERO,
	      .dict = true),
	FIELD(exec_row, parent, CHARS, TEXT, TAG, "", "name of its parent", .null = NULL_ZERO,
	      .dict = true),
	FIELD(exec_row, ancestry, STR, TEXT, TAG, "",
	      "its parents with their numbers, the first of them first: "
	      "systemd(1)/sshd(811)/bash(1204)",
	      .null = NULL_ZERO, .dict = true),
	FIELD(exec_row, filename, STR, TEXT, TAG, "",
	      "the file as the call named it: for a script, the script", .null = NULL_ZERO,
	      .dict = true),
	FIELD(exec_row, exe, STR, TEXT, TAG, "",
	      "the executable that runs, from the root of its mount namespace", .null = NULL_ZERO,
	      .dict = true),
	FIELD(exec_row, sha256, STR, TEXT, TAG, "",
	      "digest of the executable, with the option sha256", .null = NULL_ZERO, .dict = true),
	FIELD(exec_row, deleted, U8, BOOL, TAG, "",
	      "no name leads to the executable: deleted, or made in memory"),
	FIELD_CONTENT(exec_row, argv, STR, TEXT, TAG, "",
		      "the arguments, joined by spaces and quoted for a shell; NULL: unreadable",
		      .null = NULL_ZERO),
	FIELD(exec_row, argc, U32, INT64, GAUGE, "", "how many arguments there were"),
	FIELD(exec_row, truncated, U8, BOOL, TAG, "", "argv had more bytes than args_max"),
	FIELD(exec_row, cwd, STR, TEXT, TAG, "",
	      "working directory, from the root of the mount namespace", .null = NULL_ZERO,
	      .dict = true),
	FIELD_CONTENT(exec_row, env, STR, TEXT, TAG, "",
		      "variables of the environment that the option env names", .null = NULL_ZERO),
	FIELD(exec_row, error, STR, TEXT, TAG, "",
	      "why the call failed (ENOENT); NULL: it didn't. With the option failed",
	      .null = NULL_ZERO, .dict = true),
	FIELD(exec_row, error_raw, U32, INT64, TAG, "", "the same as a number", .null = NULL_ZERO),
};

const struct table exec_table =
	TABLE(exec_row, AUDIT, "exec", "Programs started, one row each exec", exec_fields);

struct exit_row {
	PROCESS_COLUMNS;
	uint16_t status;
	uint8_t signal, core_dumped;
	uint64_t duration, utime, stime, maxrss;
};

PROCESS_ROW_CHECK(exit_row);

static const struct field exit_fields[] = {
	PROCESS_FIELDS(exit_row, "when its last thread ended"),
	FIELD(exit_row, status, U16, INT64, GAUGE, "", "exit status; NULL: ended by a signal",
	      .null = NULL_MAX),
	FIELD(exit_row, signal, U8, INT64, TAG, "", "signal that ended it", .null = NULL_ZERO),
	FIELD(exit_row, core_dumped, U8, BOOL, TAG, "", "it left a core dump"),
	FIELD(exit_row, duration, U64, INT64, GAUGE, "ns", "since the process was made"),
	FIELD(exit_row, utime, U64, INT64, GAUGE, "ns",
	      "processor time of all its threads in user mode, up to the kernel's last look (a "
	      "timer tick)"),
	FIELD(exit_row, stime, U64, INT64, GAUGE, "ns", "the same in the kernel"),
	FIELD(exit_row, maxrss, U64, INT64, GAUGE, "By", "most memory resident at a time"),
};

const struct table exit_table =
	TABLE(exit_row, AUDIT, "exit", "Processes ended, one row each", exit_fields);

enum process_state {
	STATE_RUNNING = 1,
	STATE_SLEEPING,
	STATE_DISK_SLEEP,
	STATE_STOPPED,
	STATE_TRACED,
	STATE_ZOMBIE,
	STATE_DEAD,
	STATE_IDLE,
	STATE_PARKED,
	STATE_X_MAX,
};

static const char *const state_names[] = {"",	     "running", "sleeping", "disk_sleep",
					  "stopped", "traced",	"zombie",   "dead",
					  "idle",    "parked",	NULL};

static_assert(sizeof(state_names) / sizeof(state_names[0]) == STATE_X_MAX + 1, "a name for each");

struct processes_row {
	PROCESS_COLUMNS;
	uint8_t state, kernel;
	uint32_t threads;
	uint64_t cpu_time;
};

PROCESS_ROW_CHECK(processes_row);

static const struct field processes_fields[] = {
	PROCESS_FIELDS(processes_row, "when it was made"),
	FIELD(processes_row, state, ENUM, TEXT, TAG, "", "of its first thread",
	      .names = state_names),
	FIELD(processes_row, threads, U32, INT64, GAUGE, "{thread}", "threads alive"),
	FIELD(processes_row, kernel, U8, BOOL, TAG, "", "a thread of the kernel"),
	FIELD(processes_row, cpu_time, U64, INT64, COUNTER, "ns",
	      "processor time of its first thread and of those that ended"),
};

const struct table processes_table =
	TABLE(processes_row, LIVE, "processes", "Processes as they are now", processes_fields);

static struct str take_text(struct instance *in, struct buf *text)
{
	struct str s = {0};

	if (buf_status(text) < 0) {
		in->count.rows_lost++;
		buf_free(text);
		return s;
	}
	s = instance_str(in, EXEC_TABLE, text->data, text->len);
	buf_reset(text);
	return s;
}

static struct str path_text(struct instance *in, const char *data, size_t len, bool cut)
{
	struct exec_state *st = in->state;

	exec_path_add(&st->text, data, len, cut);
	return take_text(in, &st->text);
}

static struct str env_text(struct instance *in, const char *data, size_t len)
{
	struct exec_state *st = in->state;
	const char *name;

	for (size_t i = 0; len && (name = opt_item(in->opts, "env", i)); i++)
		exec_env_add(&st->text, data, len, name);
	return st->text.len ? take_text(in, &st->text) : (struct str){0};
}

/* As the kernel names it for the new program: relative to a directory that only the caller knows.
 */
static struct str filename_text(struct instance *in, const struct exec_event *e)
{
	struct exec_state *st = in->state;
	size_t len = strnlen(e->data, e->filename_len);

	if (e->kind == EXEC_FAILED && e->dirfd != EXEC_FDCWD && *e->data != '/') {
		buf_printf(&st->text, "/dev/fd/%d%s", e->dirfd, len ? "/" : "");
		buf_add(&st->text, e->data, len);
		return take_text(in, &st->text);
	}
	return instance_str(in, EXEC_TABLE, e->data, len);
}

/* The host's passwd for a process that sees that, though it may be gone already. */
static struct str user_text(struct instance *in, const struct exec_event *e)
{
	const struct exec_state *st = in->state;
	bool host = e->flags & EXEC_ROOT_TOP && e->p.mntns_id && e->p.mntns_id == st->host_mntns;
	const char *user =
		in->enrich->user_name(in->enrich_ctx, host ? st->host_pid : e->p.pid, e->p.uid);

	return instance_str(in, EXEC_TABLE, user, strlen(user));
}

static struct str caps_text(struct instance *in, uint64_t caps)
{
	struct exec_state *st = in->state;

	if (caps != st->caps_of || buf_status(&st->caps) < 0) {
		buf_reset(&st->caps);
		exec_caps_add(&st->caps, caps);
		st->caps_of = caps;
	}
	if (buf_status(&st->caps) < 0) {
		in->count.rows_lost++;
		return (struct str){0};
	}
	return instance_str(in, EXEC_TABLE, st->caps.data, st->caps.len);
}

static void add_origin(struct instance *in, struct exec_row *row, const struct exec_event *e)
{
	struct exec_state *st = in->state;

	row->user = user_text(in, e);
	if (e->ancestors)
		memcpy(row->parent, e->chain[0].comm,
		       strnlen(e->chain[0].comm, sizeof(row->parent) - 1));
	exec_ancestry_add(&st->text, e->chain, e->ancestors);
	if (e->ancestors)
		row->ancestry = take_text(in, &st->text);
	row->capabilities = caps_text(in, e->capabilities);
}

static void add_outcome(struct instance *in, struct exec_row *row, const struct exec_event *e,
			const uint8_t *digest)
{
	struct exec_state *st = in->state;
	const char *name;

	for (size_t i = 0; digest && i < EXEC_HASH_SIZE; i++)
		buf_printf(&st->text, "%02x", digest[i]);
	if (digest)
		row->sha256 = take_text(in, &st->text);
	if (e->kind != EXEC_FAILED)
		return;
	row->error_raw = (uint32_t)e->error;
	name = strerrorname_np(e->error);
	if (name)
		row->error = instance_str(in, EXEC_TABLE, name, strlen(name));
}

static bool is_consistent(const struct exec_event *e, size_t len)
{
	size_t used = (size_t)e->filename_len + e->exe_len + e->cwd_len + e->args_len + e->env_len;

	return used <= len - offsetof(struct exec_event, data) && e->ancestors <= EXEC_ANCESTORS;
}

int exec_row_add(struct instance *in, const struct exec_event *e, size_t len, const uint8_t *digest)
{
	struct exec_state *st = in->state;
	const char *data = e->data;
	struct exec_row *row;

	if (!is_consistent(e, len))
		return -EBADMSG;
	row = instance_row(in, EXEC_TABLE);
	if (!row)
		return 0;
	process_fill(in, EXEC_TABLE, row, &e->p);
	row->euid = e->euid;
	row->argc = e->argc;
	row->truncated = e->args_len < e->args_size && !(e->flags & EXEC_ARGS_UNREADABLE);
	row->truncated |= !!(e->flags & EXEC_ARGS_CUT);
	row->deleted = !!(e->flags & EXEC_DELETED);
	add_origin(in, row, e);
	row->filename = filename_text(in, e);
	data += e->filename_len;
	if (e->kind == EXEC_EXEC)
		row->exe = path_text(in, data, e->exe_len, e->flags & EXEC_EXE_CUT);
	data += e->exe_len;
	row->cwd = path_text(in, data, e->cwd_len, e->flags & EXEC_CWD_CUT);
	data += e->cwd_len;
	exec_args_add(&st->text, data, e->args_len, row->truncated);
	if (e->args_len)
		row->argv = take_text(in, &st->text);
	data += e->args_len;
	row->env = env_text(in, data, e->env_len);
	add_outcome(in, row, e, digest);
	return 0;
}

/*
 * The kernel samples what was user and what was system time, and knows the sum exactly; getrusage()
 * splits the sum in the ratio of the samples (cputime_adjust() in kernel/sched/cputime.c).
 */
static void split_time(const struct exec_exit *e, uint64_t *utime, uint64_t *stime)
{
	if (!e->stime)
		*stime = 0;
	else if (!e->utime)
		*stime = e->runtime;
	else
		*stime = (uint64_t)((unsigned __int128)e->runtime * e->stime /
				    (e->stime + e->utime));
	*utime = e->runtime - *stime;
}

int exec_exit_add(struct instance *in, const struct exec_exit *e)
{
	struct exit_row *row = instance_row(in, EXIT_TABLE);

	if (!row)
		return 0;
	process_fill(in, EXIT_TABLE, row, &e->p);
	row->signal = e->code & 0x7f;
	row->core_dumped = !!(e->code & 0x80);
	row->status = row->signal ? UINT16_MAX : e->code >> 8 & 0xff;
	row->duration = e->p.boot_ns > e->start_ns ? e->p.boot_ns - e->start_ns : 0;
	split_time(e, &row->utime, &row->stime);
	row->maxrss = e->maxrss * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

/* The bits of include/linux/sched.h, which have stayed the same since 4.14. */
static uint8_t state_of(const struct exec_process *e)
{
	if (e->exit_state)
		return e->exit_state & 0x20 ? STATE_ZOMBIE : STATE_DEAD;
	if (e->state & 4)
		return STATE_STOPPED;
	if (e->state & 8)
		return STATE_TRACED;
	if (e->state & 0x40)
		return STATE_PARKED;
	if (e->state & 2)
		return e->state & 0x400 ? STATE_IDLE : STATE_DISK_SLEEP;
	return e->state & 1 ? STATE_SLEEPING : STATE_RUNNING;
}

int exec_process_add(struct instance *in, struct batch *batch, const struct exec_process *e)
{
	struct processes_row *row = batch_add(batch);
	const char *container;

	if (!row)
		return -ENOBUFS;
	container = process_columns(in, row, &e->p);
	row->container_id = batch_str(batch, container, strlen(container));
	row->state = state_of(e);
	row->threads = e->threads;
	row->kernel = !!e->kthread;
	row->cpu_time = e->runtime;
	return *container && !row->container_id.len ? -ENOBUFS : 0;
}
