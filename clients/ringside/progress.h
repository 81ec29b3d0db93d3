// SPDX-License-Identifier: Apache-2.0
/* A line on the terminal's standard error for whatever takes more than two seconds. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what; /* "loading netflow" */
	bool running;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool done, shown;
	_Atomic uint64_t rows; /* the caller counts; shown when not 0 */
};

/* show: false makes everything here a no-op (no terminal). The struct must stay where it is until
 * progress_end(). */
void progress_begin(struct progress *p, bool show, const char *what);
/* Removes the line. Twice is harmless. */
void progress_end(struct progress *p);
