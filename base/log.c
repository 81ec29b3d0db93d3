// SPDX-License-Identifier: Apache-2.0
/* Log lines to standard error or the journal, written once, at the edge. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>

#include "base/clock.h"

#define LINE_MAX_BYTES	    1024
#define RATELIMIT_WINDOW_NS (10 * NSEC_PER_SEC)
/* Sites are literals in our own code; when more than these are busy, the quietest gives up its place. */
#define RATELIMIT_SITES 64

static const char *const level_names[] = {
	[LOG_LEVEL_ERR] = "err",   [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
	[LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug",
};
static_assert(ARRAY_SIZE(level_names) == LOG_LEVEL_X_MAX, "a name for every level");

/* As in syslog(3), which the journal uses. */
static const int level_priorities[] = {
	[LOG_LEVEL_ERR] = 3,  [LOG_LEVEL_WARNING] = 4, [LOG_LEVEL_NOTICE] = 5,
	[LOG_LEVEL_INFO] = 6, [LOG_LEVEL_DEBUG] = 7,
};
static_assert(ARRAY_SIZE(level_priorities) == LOG_LEVEL_X_MAX, "a priority for every level");

static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic bool to_journal;

/* systemd.exec(5): JOURNAL_STREAM is "device:inode" of the stream that it connected to standard error. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2)
		return false;
	return !fstat(STDERR_FILENO, &st) && st.st_dev == dev && st.st_ino == ino;
}

void log_init(enum log_level level)
{
	log_set_level(level);
	atomic_store(&to_journal, stderr_is_journal());
}

void log_set_level(enum log_level level)
{
	atomic_store(&current_level, level);
}

enum log_level log_get_level(void)
{
	return atomic_load(&current_level);
}

int log_level_parse(const char *text, enum log_level *ret, struct err *err)
{
	for (int i = 0; i < LOG_LEVEL_X_MAX; i++) {
		if (!strcmp(text, level_names[i])) {
			*ret = i;
			return 0;
		}
	}
	return err_set(err, -EINVAL,
		       "log level '%.32s': unknown, use err, warning, notice, info or debug", text);
}

const char *log_level_name(enum log_level level)
{
	return (unsigned int)level < LOG_LEVEL_X_MAX ? level_names[level] : "?";
}

/* A peer's text must not forge lines or drive the terminal. */
static void defuse(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = *s == '\t' || *s == '\n' ? ' ' : '?';
}

static void emit(enum log_level level, const char *module, char *text)
{
	char line[LINE_MAX_BYTES + 128], when[40];
	ssize_t written;
	int n;

	defuse(text);
	if (atomic_load(&to_journal) &&
	    sd_journal_send("MESSAGE=%s%s%s", module ? module : "", module ? ": " : "", text,
			    "PRIORITY=%d", level_priorities[level], "RINGSIDE_MODULE=%s",
			    module ? module : "", NULL) >= 0)
		return;
	n = snprintf(line, sizeof(line), "%s %s %s%s%s\n",
		     clock_format_rfc3339(when, clock_real_ns()), level_names[level],
		     module ? module : "", module ? ": " : "", text);
	if (n >= (int)sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	/* One write a line keeps threads from mixing theirs. There is nowhere to report a failure to. */
	written = write(STDERR_FILENO, line, n);
	(void)written;
}

void log_line(enum log_level level, const char *module, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	int saved = errno;
	va_list ap;

	if ((int)level > atomic_load(&current_level))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	emit(level, module, text);
	errno = saved;
}

int log_errno_line(enum log_level level, const char *module, int r, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES], why[128];
	int saved = errno;
	size_t len;
	va_list ap;

	if ((int)level > atomic_load(&current_level))
		return r;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	len = strlen(text);
	if (r < 0)
		snprintf(text + len, sizeof(text) - len, ": %s", strerror_r(-r, why, sizeof(why)));
	emit(level, module, text);
	errno = saved;
	return r;
}

struct site {
	const char *name;
	uint64_t since_ns;
	unsigned int lines, left_out;
};

/* Under the lock. */
static struct site *site_find(struct site *sites, const char *name, uint64_t now)
{
	struct site *oldest = &sites[0];

	for (size_t i = 0; i < RATELIMIT_SITES; i++) {
		if (sites[i].name && !strcmp(sites[i].name, name))
			return &sites[i];
		if (sites[i].since_ns < oldest->since_ns)
			oldest = &sites[i];
	}
	*oldest = (struct site){.name = name, .since_ns = now};
	return oldest;
}

bool log_ratelimit(const char *name, unsigned int burst)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct site sites[RATELIMIT_SITES];
	uint64_t now = clock_mono_ns();
	unsigned int left_out = 0;
	struct site *s;
	bool ok;

	pthread_mutex_lock(&lock);
	s = site_find(sites, name, now);
	if (now - s->since_ns >= RATELIMIT_WINDOW_NS) {
		left_out = s->left_out;
		s->since_ns = now;
		s->lines = s->left_out = 0;
	}
	ok = s->lines < burst;
	if (ok)
		s->lines++;
	else
		s->left_out++;
	pthread_mutex_unlock(&lock);
	if (left_out)
		log_line(LOG_LEVEL_WARNING, NULL, "%s: %u similar lines left out", name, left_out);
	return ok;
}
