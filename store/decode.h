// SPDX-License-Identifier: Apache-2.0
/* A fast way to read dictionary cells of an attached segment: a function with a cache instead of a
 * subquery per cell. */
#pragma once

#include <sqlite3.h>

struct decoder;

/*
 * Registers the SQL function "<schema>_text"(cell) on db: the text of an id, anything else as it
 * is. Strings are read when they are first asked for, by sqlite3_blob: no statement is prepared, no
 * authorizer called, no file opened. One thread's. SQLite result code.
 */
int decoder_new(struct decoder **ret, sqlite3 *db, const char *schema);
/* Before sqlite3_close() or DETACH, when no statement that uses the function is left. */
void decoder_free(struct decoder *d);
