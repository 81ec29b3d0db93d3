// SPDX-License-Identifier: Apache-2.0
/* libbpf's print callback. */
#include "daemon/libbpf_log.h"

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"

#define LOG_MODULE "libbpf"
#include "base/log.h"

/* libbpf hands over a whole verifier log at once; its end holds the refusal. */
struct capture {
	char program[64];
	char reason[160];
};

/* Of the calling thread: the governor loads a program of its own while the loop may be loading a
 * plugin. */
static _Thread_local struct capture last;

static void keep_program(const char *text)
{
	const char *p = strstr(text, "prog '"), *end;

	if (!p || !strstr(text, "failed"))
		return;
	p += strlen("prog '");
	end = strchr(p, '\'');
	if (end && (size_t)(end - p) < sizeof(last.program))
		snprintf(last.program, sizeof(last.program), "%.*s", (int)(end - p), p);
}

/* The verifier's verdict is the last line of the log before its statistics ("processed 12 insns
 * ..."). */
static void keep_verdict(const char *line, size_t len)
{
	static const char *const noise[] = {"processed ",	 "-- END",	"-- BEGIN",
					    "verification time", "stack depth", "max_states",
					    "libbpf: "};

	if (len < 4 || len >= sizeof(last.reason))
		return;
	for (size_t i = 0; i < sizeof(noise) / sizeof(noise[0]); i++)
		if (strncmp(line, noise[i], strlen(noise[i])) == 0)
			return;
	snprintf(last.reason, sizeof(last.reason), "%.*s", (int)len, line);
}

static void keep_lines(const char *text)
{
	bool log = strstr(text, "BEGIN PROG LOAD LOG") != NULL;

	while (log && *text) {
		size_t len = strcspn(text, "\n");

		keep_verdict(text, len);
		text += len + (text[len] == '\n');
	}
}

__attribute__((format(printf, 2, 0))) static int on_print(enum libbpf_print_level level,
							  const char *fmt, va_list ap)
{
	_cleanup_free_ char *text = NULL;
	int len;

	if (level == LIBBPF_DEBUG) /* thousands of lines a load, one per relocation */
		return 0;
	len = vasprintf(&text, fmt, ap);
	if (len < 0) {
		text = NULL; /* undefined after a failure */
		return 0;
	}
	if (level == LIBBPF_WARN) {
		keep_program(text);
		keep_lines(text);
	}
	while (len && text[len - 1] == '\n')
		text[--len] = '\0';
	log_debug("%s", strncmp(text, "libbpf: ", 8) == 0 ? text + 8 : text);
	return len;
}

void libbpf_log_init(void)
{
	libbpf_set_print(on_print);
}

void libbpf_log_begin(void)
{
	memset(&last, 0, sizeof(last));
}

const char *libbpf_log_program(void)
{
	return last.program;
}

const char *libbpf_log_reason(void)
{
	return last.reason;
}
