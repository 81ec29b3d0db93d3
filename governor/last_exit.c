// SPDX-License-Identifier: Apache-2.0
/* Writes last_exit.json without allocating, and reads it back as one line. */
#include "governor/last_exit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/macro.h"

/* 16 levels of at most 200 bytes, each byte six when escaped, and the rest. */
#define FILE_MAX 32768
#define TMP_FILE LAST_EXIT_FILE ".new"

struct out {
	char *at, *end;
};

static void out_printf(struct out *o, const char *fmt, ...) _printf_(2, 3);
static void out_printf(struct out *o, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(o->at, o->end - o->at, fmt, ap);
	va_end(ap);
	o->at = n >= 0 && n < o->end - o->at ? o->at + n : o->end;
}

/* A JSON string; bytes that aren't ASCII come from names that others chose and are written as "?".
 */
static void out_string(struct out *o, const char *key, const char *s, const char *behind)
{
	out_printf(o, "\"%s\": \"", key);
	for (; *s; s++) {
		unsigned char c = *s;

		if (c == '"' || c == '\\')
			out_printf(o, "\\%c", c);
		else if (c < 0x20)
			out_printf(o, "\\u%04x", c);
		else
			out_printf(o, "%c", c < 0x7f ? c : '?');
	}
	out_printf(o, "\"%s", behind);
}

static void out_time(struct out *o, uint64_t ts)
{
	char when[40];

	out_printf(o, "\"ts\": %" PRIu64 ", ", ts);
	out_string(o, "time", clock_format_rfc3339(when, ts), ", ");
}

static void out_usage(struct out *o, const struct governor_usage *u)
{
	out_printf(o,
		   "  \"usage\": {\"cpu_user\": %" PRIu64 ", \"cpu_bpf\": %" PRIu64
		   ", \"mem\": %" PRIu64 ", \"rss\": %" PRIu64 ", \"bpf_maps\": %" PRIu64
		   ", \"net_rx\": %" PRIu64 ", \"net_tx\": %" PRIu64 ", ",
		   u->cpu_user_millicores, u->cpu_bpf_millicores, u->sample.value[RESOURCE_MEM],
		   u->rss_bytes, u->bpf_map_bytes, u->net_rx, u->net_tx);
	out_string(o, "net_interface", u->net_interface, "},\n");
}

static size_t format(char *dst, size_t cap, const struct last_exit *e)
{
	struct out o = {dst, dst + cap};

	out_printf(&o, "{\n  ");
	out_time(&o, e->ts);
	out_printf(&o, "\"exit_code\": %d,\n  ", e->exit_code);
	out_string(&o, "metric", e->metric, ", ");
	out_printf(&o, "\"value\": %" PRIu64 ", \"limit\": %" PRIu64 ", ", e->value, e->limit);
	out_string(&o, "unit", e->unit, ",\n  ");
	out_string(&o, "reason", e->text, ",\n");
	out_usage(&o, e->usage);
	out_printf(&o, "  \"levels\": [");
	for (size_t i = 0; i < e->n_history; i++) {
		out_printf(&o, "%s\n    {", i ? "," : "");
		out_time(&o, e->history[i].ts);
		out_string(&o, "level", governor_level_name(e->history[i].level), ", ");
		out_string(&o, "reason", e->history[i].text, "}");
	}
	out_printf(&o, "%s]\n}\n", e->n_history ? "\n  " : "");
	return o.at - dst;
}

static int write_all(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

int last_exit_write(int dir_fd, const struct last_exit *e)
{
	static char text[FILE_MAX]; /* the governor's thread alone, once; not on a stack that may
				       not be there yet */
	size_t len = format(text, sizeof(text), e);
	_cleanup_close_ int fd = -1;
	int r;

	if (len >= sizeof(text))
		return -E2BIG;
	fd = openat(dir_fd, TMP_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, len);
	if (r < 0) {
		unlinkat(dir_fd, TMP_FILE, 0);
		return r;
	}
	if (renameat(dir_fd, TMP_FILE, dir_fd, LAST_EXIT_FILE) < 0)
		return -errno;
	/* The name must survive a power cut too. */
	return fsync(dir_fd) < 0 ? -errno : 0;
}

static int open_file(const char *dir)
{
	_cleanup_close_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (dir_fd < 0)
		return -errno;
	fd = openat(dir_fd, LAST_EXIT_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* The file as an object, or NULL with *ret: -ENOENT there is none, -EINVAL it isn't ours. */
static json_t *load(const char *dir, int *ret)
{
	_cleanup_close_ int fd = open_file(dir);
	char text[FILE_MAX];
	json_t *root;
	ssize_t n;

	*ret = fd;
	if (fd < 0)
		return NULL;
	n = read(fd, text, sizeof(text));
	*ret = n < 0 ? -errno : -EINVAL;
	root = n < 0 ? NULL : json_loadb(text, n, 0, NULL);
	if (root)
		*ret = 0;
	return root;
}

int last_exit_read(const char *dir, char *summary, size_t cap)
{
	const char *when, *reason;
	json_int_t code;
	int r;
	json_auto_t *root = load(dir, &r);

	summary[0] = '\0';
	if (!root && r != -EINVAL)
		return r;
	if (!root || json_unpack(root, "{s:s, s:s, s:I}", "time", &when, "reason", &reason,
				 "exit_code", &code) < 0) {
		snprintf(summary, cap, "%s/%s can't be read as the reason of an exit", dir,
			 LAST_EXIT_FILE);
		return -EINVAL;
	}
	snprintf(summary, cap, "%s exit %d: %s", when, (int)code, reason);
	return 0;
}

bool last_exit_recent(const char *dir, uint64_t now_ns, uint64_t within_ns)
{
	json_int_t ts, code;
	int r;
	json_auto_t *root = load(dir, &r);

	if (!root || json_unpack(root, "{s:I, s:I}", "ts", &ts, "exit_code", &code) < 0)
		return false;
	if (code < policy_exit_code(RESOURCE_CPU) || code > policy_exit_code(RESOURCE_NET))
		return false;
	/* A time to come is of a clock that was set back: nobody knows how old it is. */
	return ts > 0 && (uint64_t)ts <= now_ns && now_ns - (uint64_t)ts < within_ns;
}
