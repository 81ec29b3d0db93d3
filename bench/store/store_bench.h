// SPDX-License-Identifier: Apache-2.0
/* What both halves of the store's bench use. */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

/* Ends the bench with that sentence. */
void die(const char *what, const char *why);
/* Dies of what SQLite says, unless rc is fine. */
void must(sqlite3 *db, int rc, const char *what);
/* Asks for the top talkers of the newest window_ns, count times; prints one JSON object. */
void bench_query(const char *dir, bool plain, unsigned int count, unsigned int every_ms,
		 uint64_t window_ns);
