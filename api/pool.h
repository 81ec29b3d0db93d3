// SPDX-License-Identifier: Apache-2.0
/* Worker threads for handlers that may block: started when needed, bounded in number and in backlog. */
#pragma once

#include <stddef.h>

struct pool;

struct pool_job {
	void (*run)(struct pool_job *job);
	struct pool_job *next;
};

/* name: at most 13 bytes; threads are called name-0, name-1, ... backlog 0: a job is taken only if a thread is free. */
int pool_new(struct pool **ret, const char *name, unsigned int max_threads, size_t backlog);
/* -ENOBUFS when all threads are busy and the backlog is full, -ESHUTDOWN after pool_stop. The job stays the caller's. */
int pool_submit(struct pool *p, struct pool_job *job);
/* Runs what is queued, then ends the threads and waits for them. */
void pool_stop(struct pool *p);
void pool_free(struct pool *p);
