// SPDX-License-Identifier: Apache-2.0
/* The bash plugin: every line typed at an interactive bash, one row each, with what became of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "bpf/bash.skel.h"
#include "bpf/bash/bash.h"
#include "bpf/bash/bash_watch.h"
#include "bpf/plugin.h"
#include "bpf/process.h"

/* Looks for a bash that a package upgrade has put in the old one's place. */
#define RESCAN_NS (10 * NSEC_PER_SEC)
/* A command that ends within this time is told with its status; a longer one is told at once without. */
#define WAIT_NS (500 * NSEC_PER_MSEC)
#define TICK_NS (250 * NSEC_PER_MSEC)
/* Lines waiting for their end: 4 MiB at most. More than that within half a second isn't typed by people; they go without. */
#define PENDING_MAX 1024

struct bash_row {
	uint64_t ts;
	uint32_t pid, ppid, uid, loginuid, session_id;
	struct str user;
	char comm[PROCESS_COMM_SIZE], tty[BASH_TTY_SIZE];
	struct str cwd, container_id, cmd;
	uint16_t exit_status;
	uint64_t duration;
	uint8_t truncated;
	struct str message;
};

static const struct field bash_fields[] = {
	FIELD(bash_row, ts, U64, TIME, TAG, "ns", "when the line was entered"),
	FIELD(bash_row, pid, U32, INT64, TAG, "", "process of the shell", .indexed = true),
	FIELD(bash_row, ppid, U32, INT64, TAG, "", "its parent"),
	FIELD(bash_row, uid, U32, INT64, TAG, "", "user of the shell"),
	FIELD(bash_row, user, STR, TEXT, TAG, "", "its name in the shell's own passwd",
	      .null = NULL_ZERO, .dict = true),
	FIELD(bash_row, loginuid, U32, INT64, TAG, "",
	      "user who logged in, whatever became of it by su or sudo", .null = NULL_MAX),
	FIELD(bash_row, comm, CHARS, TEXT, TAG, "", "name of the shell (bash, zsh)", .dict = true),
	FIELD(bash_row, tty, CHARS, TEXT, TAG, "", "controlling terminal (pts/0)",
	      .null = NULL_ZERO, .dict = true),
	FIELD(bash_row, cwd, STR, TEXT, TAG, "", "working directory when the line was entered",
	      .null = NULL_ZERO, .dict = true),
	FIELD(bash_row, session_id, U32, INT64, TAG, "", "audit session", .null = NULL_MAX),
	FIELD(bash_row, container_id, STR, TEXT, TAG, "", "container of the shell",
	      .null = NULL_ZERO, .dict = true),
	FIELD_CONTENT(bash_row, cmd, STR, TEXT, TAG, "", "the line"),
	FIELD(bash_row, exit_status, U16, INT64, GAUGE, "",
	      "$? at the next prompt; NULL: not over within half a second", .null = NULL_MAX),
	FIELD(bash_row, duration, U64, INT64, GAUGE, "ns",
	      "until the next prompt; NULL: not over within half a second", .null = NULL_MAX),
	FIELD(bash_row, truncated, U8, BOOL, TAG, "", "the line was longer than 4 KiB"),
	FIELD_CONTENT(bash_row, message, STR, TEXT, TAG, "",
		      "time, pid, user and line in one text"),
};

static const struct table bash_table =
	TABLE(bash_row, AUDIT, "bash", "Lines typed at interactive shells, one row a line",
	      bash_fields);

static const struct opt bash_options[] = {
	{.key = "paths",
	 .type = OPT_LIST,
	 .def = "/bin/bash,/usr/bin/bash",
	 .restart = true,
	 .help = "bash executables to watch, separated by commas; paths of the same file count "
		 "once"},
	{.key = "programs",
	 .type = OPT_LIST,
	 .def = "bash",
	 .restart = true,
	 .help = "file names of executables to watch wherever they run, containers included: "
		 "bash, zsh, and programs with GNU readline (bc, gdb, python3.11) or with "
		 "readline() of libedit"},
	PROCESS_OPTIONS,
	{},
};

/* A line that waits for the end of its command, in the order of entry. */
struct pending {
	struct pending *next;
	uint64_t ts;	     /* since the epoch */
	uint64_t expires_ns; /* boot time */
	uint64_t boot_ns, duration;
	bool over;
	uint16_t exit_status;
	uint32_t pid, ppid, uid, loginuid, session_id;
	char comm[PROCESS_COMM_SIZE], tty[BASH_TTY_SIZE], container_id[65], user[64];
	bool truncated;
	size_t cwd_len, len;
	char text[]; /* cwd, then the line */
};

struct bash_state {
	struct pending *head, **tail;
	unsigned int npending;
	struct bash_watch watch;
	uint64_t rescan_ns; /* boot time of the next */
};

static int bash_setup(struct instance *in, struct err *err)
{
	struct bash_state *st = in->state;

	st->tail = &st->head;
	st->rescan_ns = clock_boot_ns() + RESCAN_NS;
	return bash_watch_prepare(in, err);
}

/* The default names the two places where a bash may be; only a path that somebody gave is missed. */
static int watch_paths(struct instance *in, struct bash_watch *w, struct err *err)
{
	bool given = opt_origin(in->opts, "paths") != OPT_ORIGIN_DEFAULT;
	struct err why = {};
	int r = bash_watch_paths(in, w, &why);

	if (r < 0 && w->npaths && (r != -ENOENT || given))
		snprintf(in->degraded, sizeof(in->degraded), "%.200s", why.msg);
	if (r >= 0 || w->npaths)
		return 0;
	if (given || !opt_item(in->opts, "programs", 0))
		return err_set(err, r, "no bash to watch: %.200s; set the option paths", why.msg);
	return 0; /* one may come */
}

static int bash_start(struct instance *in, struct err *err)
{
	struct bash_state *st = in->state;
	int r = process_filter_apply(in, err);

	if (r < 0)
		return r;
	if (!opt_item(in->opts, "paths", 0) && !opt_item(in->opts, "programs", 0))
		return err_set(err, -EINVAL, "options paths and programs are empty: name a bash");
	r = watch_paths(in, &st->watch, err);
	return r < 0 ? r : bash_watch_start(in, &st->watch, err);
}

static int bash_update(struct instance *in, const char *key, struct err *err)
{
	return process_filter_has(key) ? process_filter_apply(in, err) : 0;
}

/* "pts0" as people know it; other terminals are named as in /dev. */
static void tty_name(char dst[static BASH_TTY_SIZE], const char *tty)
{
	if (!strncmp(tty, "pts", 3) && tty[3] >= '0' && tty[3] <= '9')
		snprintf(dst, BASH_TTY_SIZE, "pts/%.*s", BASH_TTY_SIZE - 5, tty + 3);
	else
		snprintf(dst, BASH_TTY_SIZE, "%.*s", BASH_TTY_SIZE - 1, tty);
}

static void add_message(struct instance *in, struct bash_row *row, const struct pending *p)
{
	char message[BASH_LINE_MAX + 256], when[40], uid[16];
	int n;

	snprintf(uid, sizeof(uid), "%u", p->uid);
	n = snprintf(message, sizeof(message), "%s pid:`%u` user:`%s` cmd:`%.*s`",
		     clock_format_rfc3339(when, p->ts), p->pid, p->user[0] ? p->user : uid,
		     (int)p->len, p->text + p->cwd_len);
	row->message = instance_str(in, 0, message, n);
}

static void emit(struct instance *in, const struct pending *p)
{
	struct bash_row *row = instance_row(in, 0);

	if (!row)
		return;
	row->ts = p->ts;
	row->pid = p->pid;
	row->ppid = p->ppid;
	row->uid = p->uid;
	row->loginuid = p->loginuid;
	row->session_id = p->session_id;
	memcpy(row->tty, p->tty, sizeof(row->tty));
	memcpy(row->comm, p->comm, strnlen(p->comm, sizeof(row->comm) - 1));
	row->user = instance_str(in, 0, p->user, strlen(p->user));
	row->cwd = instance_str(in, 0, p->text, p->cwd_len);
	row->container_id = instance_str(in, 0, p->container_id, strlen(p->container_id));
	row->cmd = instance_str(in, 0, p->text + p->cwd_len, p->len);
	row->truncated = p->truncated;
	row->exit_status = p->exit_status;
	row->duration = p->duration;
	add_message(in, row, p);
}

static void emit_head(struct instance *in)
{
	struct bash_state *st = in->state;
	struct pending *p = st->head;

	emit(in, p);
	st->head = p->next;
	if (!st->head)
		st->tail = &st->head;
	st->npending--;
	free(p);
}

/* In the order of entry: a line that is over waits for those before it, half a second at most. */
static void emit_ready(struct instance *in, uint64_t boot_now)
{
	struct bash_state *st = in->state;

	while (st->head && (st->head->over || boot_now >= st->head->expires_ns))
		emit_head(in);
}

/* The last line of that shell that isn't over. */
static struct pending *pending_of(const struct bash_state *st, uint32_t pid)
{
	struct pending *found = NULL;

	for (struct pending *p = st->head; p; p = p->next)
		if (p->pid == pid && !p->over)
			found = p;
	return found;
}

static int on_prompt(struct instance *in, const struct bash_prompt *e)
{
	struct pending *p = pending_of(in->state, e->pid);

	if (!p)
		return 0;
	p->over = true;
	/* A line of an unfinished command has run nothing. */
	if (!e->continuation) {
		p->duration = e->boot_ns > p->boot_ns ? e->boot_ns - p->boot_ns : 0;
		if (e->status != BASH_NO_STATUS)
			p->exit_status = e->status & 0xff;
	}
	emit_ready(in, clock_boot_ns());
	return 0;
}

/* For a bash that doesn't export its own: where the process is now. */
static size_t cwd_of(uint32_t pid, char *dst, size_t cap)
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%u/cwd", pid);
	n = readlink(link, dst, cap);
	return n > 0 && (size_t)n < cap ? n : 0;
}

static bool is_blank(const char *text, size_t len)
{
	while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	return !len;
}

/* At most this many bytes, without half a character at the end. */
static size_t cut_text(const char *text, size_t len)
{
	if (len <= BASH_LINE_MAX)
		return len;
	len = BASH_LINE_MAX;
	for (int back = 0; back < 3 && len && ((unsigned char)text[len] & 0xc0) == 0x80; back++)
		len--;
	return len;
}

/*
 * Now: in half a second the shell may be gone. After "exit" it is gone already, and its passwd with it; outside of
 * containers that is the one of its parent.
 */
static void find_owner(struct instance *in, struct pending *p, const struct bash_line *e)
{
	const struct enrich_ops *ops = in->enrich;
	const char *user;

	snprintf(p->container_id, sizeof(p->container_id), "%s",
		 process_container(in, &e->p));
	user = ops->user_name(in->enrich_ctx, e->p.pid, e->p.uid);
	if (!*user && !*p->container_id)
		user = ops->user_name(in->enrich_ctx, e->p.ppid, e->p.uid);
	snprintf(p->user, sizeof(p->user), "%s", user);
}

/* Text as zsh keeps it: a byte that has a meaning to it is 0x83 and the byte xor 32. */
static size_t unmetafy(char *dst, const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] == 0x83 && i + 1 < len)
			dst[n++] = (char)(text[++i] ^ 32);
		else
			dst[n++] = text[i];
	}
	while (n && dst[n - 1] == '\n')
		n--;
	return n;
}

static struct pending *pending_new(struct instance *in, const struct bash_line *e, const char *text,
				   size_t whole, bool truncated)
{
	char cwd[4096];
	const char *from = e->cwd_len ? e->cwd : cwd;
	size_t cwd_len = e->cwd_len ? e->cwd_len : cwd_of(e->p.pid, cwd, sizeof(cwd));
	size_t len = cut_text(text, whole);
	struct pending *p = calloc(1, sizeof(*p) + cwd_len + len);

	if (!p)
		return NULL;
	p->boot_ns = e->p.boot_ns;
	p->ts = clock_boot_to_real(e->p.boot_ns);
	p->expires_ns = e->p.boot_ns + WAIT_NS;
	p->pid = e->p.pid;
	p->ppid = e->p.ppid;
	p->uid = e->p.uid;
	p->loginuid = e->p.loginuid;
	p->session_id = e->p.session_id;
	memcpy(p->comm, e->p.comm, sizeof(p->comm));
	p->exit_status = UINT16_MAX;
	p->duration = UINT64_MAX;
	p->truncated = truncated;
	tty_name(p->tty, e->tty);
	find_owner(in, p, e);
	p->cwd_len = cwd_len;
	p->len = len;
	memcpy(p->text, from, cwd_len);
	memcpy(p->text + cwd_len, text, len);
	return p;
}

static int on_line(struct instance *in, const struct bash_line *e)
{
	struct bash_state *st = in->state;
	char plain[sizeof(e->text)];
	const char *text = e->text;
	size_t len = e->len;
	struct pending *p;

	if (!e->len || e->len >= sizeof(e->text) || e->cwd_len >= sizeof(e->cwd))
		return -EBADMSG;
	if (e->metafied) {
		len = unmetafy(plain, e->text, e->len);
		text = plain;
	}
	if (is_blank(text, len))
		return 0;
	/* The prompt between them was lost: what became of the line before stays unknown. */
	p = pending_of(st, e->p.pid);
	if (p)
		p->over = true;
	p = pending_new(in, e, text, len, e->len > BASH_LINE_MAX);
	if (!p) {
		in->count.rows_lost++;
		return 0;
	}
	if (st->npending == PENDING_MAX)
		emit_head(in);
	*st->tail = p;
	st->tail = &p->next;
	st->npending++;
	emit_ready(in, clock_boot_ns());
	return 0;
}

static int bash_event(struct instance *in, const void *ev, size_t len)
{
	uint32_t kind;

	if (len < sizeof(kind))
		return -EBADMSG;
	memcpy(&kind, ev, sizeof(kind));
	/* The kernel rounds samples up to eight bytes; both structs are multiples of that. */
	if (kind == BASH_EVENT_LINE && len == sizeof(struct bash_line))
		return on_line(in, ev);
	if (kind == BASH_EVENT_PROMPT && len == sizeof(struct bash_prompt))
		return on_prompt(in, ev);
	if (kind == BASH_EVENT_PROGRAM && len == sizeof(struct bash_program))
		return bash_watch_program(in, &((struct bash_state *)in->state)->watch, ev);
	return -EBADMSG;
}

static int bash_tick(struct instance *in, uint64_t now_ns)
{
	struct bash_state *st = in->state;
	uint64_t now = clock_boot_ns();
	struct err err = {};

	(void)now_ns;
	emit_ready(in, now);
	if (now < st->rescan_ns)
		return 0;
	st->rescan_ns = now + RESCAN_NS;
	if (bash_watch_rescan(in, &st->watch, &err) < 0 && log_ratelimit("bash rescan", 1))
		log_line(LOG_LEVEL_DEBUG, "bash", "%s, skipping", err.msg);
	return 0;
}

static void bash_stop(struct instance *in)
{
	struct bash_state *st = in->state;

	bash_watch_stop(&st->watch);
	while (st->head)
		emit_head(in);
}

PLUGIN(bash,
       .help = "Lines typed at interactive shells, with user, terminal, directory and exit "
	       "status",
       .needs = "uprobes (CONFIG_UPROBE_EVENTS), CAP_BPF and CAP_PERFMON, BTF with the tracepoint "
		"sched_process_exec",
       TABLES(&bash_table), .options = bash_options, .state_size = sizeof(struct bash_state),
       .default_ring_bytes = 512 * 1024, .default_interval_ns = TICK_NS, .default_priority = 90,
       .setup = bash_setup, .start = bash_start,
       .update = bash_update, .event = bash_event, .tick = bash_tick, .stop = bash_stop);
