// SPDX-License-Identifier: Apache-2.0
/* Log lines to standard error or the journal, written once, at the edge. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/macro.h"

enum log_level {
	LOG_LEVEL_ERR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_X_MAX,
};

/* Any thread, any time. The journal is used when standard error is connected to it (JOURNAL_STREAM). */
void log_init(enum log_level level);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* "err", "warning", "notice", "info", "debug"; -EINVAL with the list of names otherwise. */
int log_level_parse(const char *text, enum log_level *ret, struct err *err);
const char *log_level_name(enum log_level level);

/* Define LOG_MODULE before the include to name the part that speaks ("store"). */
#ifndef LOG_MODULE
#define LOG_MODULE NULL
#endif

void log_line(enum log_level level, const char *module, const char *fmt, ...) _printf_(3, 4);
/* As log_line with ": <strerror(-r)>" behind the text when r < 0; returns r. */
int log_errno_line(enum log_level level, const char *module, int r, const char *fmt, ...) _printf_(4, 5);
/* For sites that a peer can trigger: at most burst lines in 10 s, then one line that counts the rest. */
bool log_ratelimit(const char *site, unsigned int burst);

/* return log_err(r, "cannot open '%s'", path); */
#define log_err(r, ...) log_errno_line(LOG_LEVEL_ERR, LOG_MODULE, (r), __VA_ARGS__)
#define log_warn_errno(r, ...) log_errno_line(LOG_LEVEL_WARNING, LOG_MODULE, (r), __VA_ARGS__)
#define log_error(...) log_line(LOG_LEVEL_ERR, LOG_MODULE, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARNING, LOG_MODULE, __VA_ARGS__)
#define log_notice(...) log_line(LOG_LEVEL_NOTICE, LOG_MODULE, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, LOG_MODULE, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, LOG_MODULE, __VA_ARGS__)
