// SPDX-License-Identifier: Apache-2.0
/* Failures of the C library and of SQLite's allocator, at the nth call; for tests only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum libc_fault {
	LIBC_MALLOC, /* malloc, calloc, realloc, strdup of everything that is linked statically */
	LIBC_SQLITE_MALLOC,
	LIBC_WRITE,
	LIBC_FSYNC,
	LIBC_OPEN,
	LIBC_RENAME,
	LIBC_UNLINK,
	LIBC_X_MAX,
};

/* Before SQLite is used. */
void fault_libc_init(void);
/* The nth call from now on fails, and count - 1 more after it: with error where errno is set. Calls
 * of a thread that is exempt don't count. */
void fault_libc_arm(enum libc_fault what, uint64_t nth, uint64_t count, int error);
/* True if a call failed. */
bool fault_libc_disarm(void);
/* The calling thread. */
void fault_libc_exempt(bool exempt);
/* What clock_mono_ns() and clock_real_ns() say from now on, against the truth; mono: whole
 * seconds. */
void fault_clock_mono(int64_t offset_ns);
void fault_clock_real(int64_t offset_ns);
