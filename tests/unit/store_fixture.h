// SPDX-License-Identifier: Apache-2.0
/* Tables, rows and a scratch directory for the store's tests. */
#pragma once

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/clock.h"
#include "store/schema.h"
#include "store/store.h"

/* One column of every representation and null rule. */
struct sample_row {
	uint64_t ts;
	uint32_t pid;
	char comm[16];
	struct str note;
	struct str domain;
	struct ip_addr ip;
	uint8_t proto;
	uint8_t ok;
	int32_t exit_status;
	int64_t delta;
	double load;
	uint8_t mac[6];
	uint16_t port;
	uint64_t big;
};

extern const struct table sample_table;	     /* "sample", flow ring */
extern const struct table sample_wide_table; /* "sample" with one column more */
extern const struct table shell_table;	     /* "shell", audit ring */

struct shell_row {
	uint64_t ts;
	uint32_t uid;
	struct str cmd;
};

struct fixture {
	char dir[64];  /* made by mktemp, removed at the end */
	char ring[80]; /* dir/ring */
	pthread_mutex_t lock;
	char events[16][400]; /* under lock */
	unsigned int nevents;
	struct store_options options;
	struct store *store;
};

int fixture_setup(void **state);
int fixture_teardown(void **state);
/* A store with these tables, NULL-terminated; the defaults are roomy. */
void fixture_open(struct fixture *f, const struct table *const *tables);
void fixture_close(struct fixture *f);
/* True if such an event is told within five seconds. */
bool fixture_event(struct fixture *f, const char *event);

/* n rows with ts from first on, step apart; values derive from ts. Not sealed. */
struct batch *sample_batch(const struct table *t, uint32_t n, uint64_t first, uint64_t step);
/* Pushes n rows in batches of 500 and flushes; waits out a full queue. */
void push_rows(struct fixture *f, const struct table *t, uint32_t n, uint64_t first, uint64_t step);

/* A reader's connection with every segment attached and a view per table. */
sqlite3 *reader_open(const struct fixture *f, const struct table *const *tables);
int64_t query_int(sqlite3 *db, const char *sql);
/* Path of the n-th segment of the flow ring, oldest first; its bytes. */
struct segment_file segment_at(const struct fixture *f, unsigned int idx);
unsigned int segment_count(const struct fixture *f);
uint64_t directory_bytes(const char *dir);
