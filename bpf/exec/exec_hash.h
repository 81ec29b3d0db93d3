// SPDX-License-Identifier: Apache-2.0
/* SHA-256 of executables: computed by a thread of its own, kept as long as the file stays the same.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bpf/lib/exe.h"

#define EXEC_HASH_SIZE 32

enum exec_hash_state {
	EXEC_HASH_NONE,	   /* there won't be one (counted) */
	EXEC_HASH_PENDING, /* ask again later */
	EXEC_HASH_READY,
};

/* What the kernel told of the program that a process runs. Nothing is opened by the caller. */
struct exec_hash_ask {
	struct exe_id id;
	uint32_t pid;
	/* From the root of the host's mount namespace, for a process that is gone already; "":
	 * unknown */
	const char *path;
};

/* Why there is none. */
struct exec_hash_stats {
	uint64_t hashed;    /* files */
	uint64_t too_large; /* programs, from here on */
	uint64_t remote;    /* on a file system that somebody else answers for, who may never do */
	uint64_t gone;	    /* file or process couldn't be found again, or it has changed */
	uint64_t busy;	    /* too many at a time */
};

struct exec_hash;

/* Loop thread, all of them. */
/* host_pid: a process whose root is the host's, for paths. */
int exec_hash_new(struct exec_hash **ret, uint32_t host_pid, uint64_t max_bytes, struct err *err);
/* Waits for the thread, which looks up after each 128 KiB. */
void exec_hash_free(struct exec_hash *h);
void exec_hash_limit(struct exec_hash *h, uint64_t max_bytes);
/* READY fills digest. The first call for a file hands it to the thread. */
enum exec_hash_state exec_hash_get(struct exec_hash *h, const struct exec_hash_ask *ask,
				   uint8_t digest[static EXEC_HASH_SIZE]);
/* Takes what the thread has done. */
void exec_hash_poll(struct exec_hash *h);
void exec_hash_get_stats(const struct exec_hash *h, struct exec_hash_stats *ret);
