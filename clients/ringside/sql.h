// SPDX-License-Identifier: Apache-2.0
/* Running one statement, for the verb and for the shell. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "clients/ringside/cli.h"
#include "ringside/v1/query.pb-c.h"

#define SQL_MAX_STATEMENT \
	(1u << 20) /* longer than any statement that a person or a report writes */
/* Of sql_run() alone, never an exit code: Ctrl-C ended the statement. */
#define SQL_INTERRUPTED 130

struct sql_file;

struct sql_session {
	struct cli *cli;
	struct out *out;
	Ringside__V1__Value *values; /* --param */
	Ringside__V1__Value **params;
	size_t nparams;
	uint64_t max_rows;
	struct sql_file *file; /* instead of a daemon; NULL: none */
	bool summary; /* "12 rows (3 ms)" after each result */
};

/* Runs text[0..len) and writes its rows; 0, an exit code with the sentence printed, or
 * SQL_INTERRUPTED. */
int sql_run(struct sql_session *s, const char *text, size_t len);
/* Runs all statements of text; the last one needs no semicolon. Stops at the first that fails. */
int sql_run_all(struct sql_session *s, const char *text, size_t len);
/* The interactive shell. Returns the exit code. */
int shell_run(struct sql_session *s);
