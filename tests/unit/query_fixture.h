// SPDX-License-Identifier: Apache-2.0
/* A small ring, an engine over it and a sink that keeps what it gets: for the query tests. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <setjmp.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/err.h"
#include "store/query.h"

#define T0	    1700000000000000000ull /* ts of the first row; one row a millisecond */
#define SEALED_ROWS 500u		   /* in each of two sealed segments */
#define LIVE_ROWS   211u
#define FLOW_ROWS   (2 * SEALED_ROWS + LIVE_ROWS)
/* For what must end at its deadline, and how long after it may be dead on a busy machine. */
#define DEADLINE_MS 800
#define SLACK_MS    3000
#define MAX_CELLS   4096
#define MAX_COLS    64

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
/* The process's memory may grow by that; freed memory waits in the address sanitizer's quarantine.
 */
#define RSS_GROWTH (SANITIZED ? 96 << 20 : 6 << 20)

struct fixture {
	char dir[64];
	struct query_engine *engine;
	sqlite3 *live, *audit; /* the writer's connections, open as the daemon's are */
	uint64_t next_ts;
	atomic_uint snapshots; /* asked for */
	int snapshot_fails;    /* -errno to answer with */
	uint64_t heap_bytes, spill_bytes, reserve_bytes; /* for the next fixture_engine() */
};

struct result {
	int r;
	struct err err;
	unsigned int ncols;
	char name[MAX_COLS][160];
	enum column_type type[MAX_COLS];
	char unit[MAX_COLS][16];
	uint64_t nrows, bytes;
	unsigned int ncells, nframes;
	enum value_kind kind[MAX_CELLS];
	char *cell[MAX_CELLS]; /* as text; NULL: NULL */
	bool done;
	struct query_stats stats;
	double ms;
	unsigned int sink_sleep_ms; /* a slow client */
	int sink_fails;
};

struct how {
	const struct value *params;
	size_t nparams;
	uint64_t max_rows, timeout_ms;
	const atomic_bool *cancelled;
};

extern const struct table test_flow, test_shell, test_loss, test_conns;

int fixture_setup(void **state);
int fixture_teardown(void **state);
/* Appends n rows to the live flow segment. */
void fixture_write(struct fixture *f, unsigned int n);
int fixture_engine(struct fixture *f, unsigned int max_workers, const char *user, struct err *err);

/* Clears *res (its slow-client settings stay), runs, keeps everything. result_free after each. */
void result_run(struct fixture *f, struct result *res, const char *sql, const struct how *how);
void result_free(struct result *res);
/* Some cell holds that text. */
bool result_has(const struct result *res, const char *part);
/* Must succeed; the only cell. */
void assert_query(struct fixture *f, const char *sql, const char *cell);
/* Must fail with that code and a text that holds part. */
void assert_refused(struct fixture *f, const char *sql, int code, const char *part);
/* No child process is left, dead or alive. */
void assert_no_children(void);
long rss_bytes(void);
