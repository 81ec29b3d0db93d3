// SPDX-License-Identifier: Apache-2.0
/* What the files of store_nth share: complaints, and the scenario of sealing with indexes. */
#pragma once

#include <stdint.h>

#include <sqlite3.h>

/* Says which call of what failed, too. */
_Noreturn void nth_die(const char *what, const char *why);
/* The one number that the statement answers. */
int64_t nth_ask(sqlite3 *db, const char *sql);

/* store_nth_index.c; enough rows for indexes */
#define NTH_INDEX_ROWS 1200
/* The ring's first segment, which the store left open, is what is sealed each time. */
void nth_index_begin(const char *ring);
void nth_index_restore(void);
/* With the fault armed: it may fail. */
void nth_index_seal(void);
void nth_index_check(void);
