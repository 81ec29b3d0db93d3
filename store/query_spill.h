// SPDX-License-Identifier: Apache-2.0
/* Where a query's sorts go when they outgrow its memory: one bounded file without a name, opened
 * before the sandbox. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * All of a query's temporary files are parts of one file, so that what the worker can be made to
 * write is one descriptor, and what it can take of the disk is RLIMIT_FSIZE.
 */

/*
 * Opens it in dir ("": nowhere) and registers a VFS that is the default one but for files without a
 * name, which it makes of parts of that file. max: bytes, 0 for the default; never more than a
 * quarter of what the disk has free above reserve. Where it can't, query_spill_missing() says why.
 * Once a process.
 */
void query_spill_open(const char *dir, uint64_t max, uint64_t reserve);
/* Before SQLite is first used: without it the tables that a statement makes are slow on disk. */
void query_spill_config(void);
/* All of the ring is open; what is opened from now on is temporary. heap: the hard limit. */
void query_spill_begin(uint64_t heap);
/* The name of the VFS; NULL: nothing was opened, temporary files are to be kept in memory. */
const char *query_spill_vfs(void);
/* -1: nothing was opened. */
int query_spill_fd(void);
/* What it may grow to; 0 where nothing was opened. */
uint64_t query_spill_max(void);
/* "": nothing is missing, or dir was "". */
const char *query_spill_missing(void);
/* 0, or why a write was refused. */
int query_spill_error(struct err *err);
