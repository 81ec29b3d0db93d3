// SPDX-License-Identifier: Apache-2.0
/* Statements over a file, a snapshot or a segment of a ring, without a daemon. */
#pragma once

#include "clients/ringside/sql.h"

struct progress;
struct sql_file;

/* 0, or an exit code with the sentence printed. */
int sql_file_open(struct sql_file **ret, const char *path);
void sql_file_close(struct sql_file *f);
/* Names of its tables, or with a table those of its columns: idx from 0 on, NULL behind the last.
 */
const char *sql_file_name(const struct sql_file *f, const char *table, size_t idx);
/* .tables, .schema TABLE of the shell. */
void sql_file_tables(const struct sql_file *f, struct sql_session *s);
void sql_file_schema(const struct sql_file *f, struct sql_session *s, const char *table);
/*
 * Runs one statement and writes its rows. *ret: how complete the answer is, valid until the next
 * statement. Negative with *err, or SQL_INTERRUPTED.
 */
int sql_file_run(struct sql_file *f, struct sql_session *s, const char *sql,
		 struct progress *progress, Ringside__V1__QueryStats **ret, struct err *err);
