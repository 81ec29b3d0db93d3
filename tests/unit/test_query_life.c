// SPDX-License-Identifier: Apache-2.0
/* Queries that end early, run side by side, or meet a ring that changes under them. */
#include "query_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"

static struct result res;

static void test_deadline(void **state)
{
	struct fixture *f = *state;
	static const char endless[] =
		"WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) ";
	char sql[160];

	snprintf(sql, sizeof(sql), "%s SELECT count(*) FROM r", endless);
	result_run(f, &res, sql, &(struct how){.timeout_ms = 500});
	assert_int_equal(res.r, -ETIMEDOUT);
	assert_non_null(strstr(res.err.msg, "deadline"));
	assert_in_range(res.ms, 400, 1500);
	/* A deadline that is past already. */
	result_run(f, &res, "SELECT 1", &(struct how){.timeout_ms = 1});
	if (res.r < 0)
		assert_int_equal(res.r, -ETIMEDOUT);
	result_free(&res);
	/* Rows that came before it are delivered without waiting for a full frame. */
	result_run(f, &res,
		   "SELECT 1 UNION ALL SELECT count(*) FROM (WITH RECURSIVE r(i) AS (SELECT 1 "
		   "UNION ALL"
		   " SELECT i + 1 FROM r) SELECT i FROM r)",
		   &(struct how){.timeout_ms = 800});
	assert_int_equal(res.r, -ETIMEDOUT);
	assert_int_equal(res.nrows, 1);
	result_free(&res);
	/* A slow client: the sink blocks, the query ends at its deadline. */
	res.sink_sleep_ms = 100;
	snprintf(sql, sizeof(sql), "%s SELECT i FROM r", endless);
	result_run(f, &res, sql, &(struct how){.timeout_ms = 700});
	assert_int_equal(res.r, -ETIMEDOUT);
	assert_in_range(res.ms, 600, 1700);
	assert_in_range(res.nframes, 1, 12);
	result_free(&res);
	res.sink_sleep_ms = 0;
	/* A client that is gone. */
	res.sink_fails = -EPIPE;
	result_run(f, &res, sql, NULL);
	assert_int_equal(res.r, -EPIPE);
	assert_int_equal(res.nframes, 1);
	result_free(&res);
	res.sink_fails = 0;
	assert_no_children();
}

struct background {
	pthread_t thread;
	struct fixture *f;
	struct result res;
	atomic_bool cancelled;
	const char *sql;
};

static void *background_main(void *arg)
{
	struct background *b = arg;
	struct how how = {.cancelled = &b->cancelled};

	result_run(b->f, &b->res, b->sql, &how);
	return NULL;
}

static void background_start(struct background *b, struct fixture *f, const char *sql)
{
	b->f = f;
	b->sql = sql;
	assert_int_equal(pthread_create(&b->thread, NULL, background_main, b), 0);
}

static void test_cancel_and_max_workers(void **state)
{
	static const char endless[] = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
				      "FROM r) SELECT max(i) FROM r";
	struct background *b = calloc(4, sizeof(*b));
	struct fixture *f = *state;
	uint64_t start;

	for (int i = 0; i < 4; i++)
		background_start(&b[i], f, endless);
	usleep(300000);
	assert_refused(f, "SELECT 1", -ENOBUFS, "4 queries are running");
	start = clock_mono_ns();
	for (int i = 0; i < 4; i++)
		b[i].cancelled = true;
	for (int i = 0; i < 4; i++) {
		pthread_join(b[i].thread, NULL);
		assert_int_equal(b[i].res.r, -ECANCELED);
	}
	/* Promised: 50 ms; the machine may be busy. */
	assert_in_range(clock_mono_ns() - start, 0, 500 * NSEC_PER_MSEC);
	assert_no_children();
	assert_query(f, "SELECT 1", "1");
	free(b);
}

static void *many_main(void *arg)
{
	struct result *r = calloc(1, sizeof(*r));
	struct fixture *f = arg;

	for (int i = 0; i < 12; i++) {
		result_run(f, r,
			   "SELECT count(*) FROM netflow n, connections c WHERE n.pid = c.pid",
			   NULL);
		assert_int_equal(r->r, 0);
		assert_string_equal(r->cell[0], "865");
		result_free(r);
	}
	free(r);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t t[4];

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, many_main, *state), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	assert_no_children();
}

static void test_writer_goes_on(void **state)
{
	static const char slow[] = "SELECT count(*) FROM netflow a, netflow b, netflow c";
	struct fixture *f = *state;
	struct background *b = calloc(1, sizeof(*b));

	background_start(b, f, slow);
	usleep(200000);
	for (int i = 0; i < 50; i++)
		fixture_write(f, 20);
	b->cancelled = true;
	pthread_join(b->thread, NULL);
	assert_int_equal(b->res.r, -ECANCELED);
	assert_query(f, "SELECT count(*) FROM netflow", "2211");
	free(b);
}

static void test_ring_missing_or_damaged(void **state)
{
	struct fixture *f = *state;
	char path[160], sql[64];
	FILE *file;

	/* Garbage under a segment's name: told to the log, the rest is answered. */
	snprintf(path, sizeof(path), "%s/flow-00000040.db", f->dir);
	file = fopen(path, "w");
	for (int i = 0; i < 4096; i++)
		fputs("garbage!", file);
	fclose(file);
	assert_query(f, "SELECT count(*) FROM netflow", "1211");
	/* An evicted segment. */
	snprintf(path, sizeof(path), "%s/flow-00000041.db", f->dir);
	assert_int_equal(unlink(path), 0);
	assert_query(f, "SELECT count(*) FROM netflow", "711");
	/* No ring at all yet. */
	f->dir[strlen(f->dir) - 1] ^= 1;
	assert_int_equal(fixture_engine(f, 4, NULL, NULL), 0);
	f->dir[strlen(f->dir) - 1] ^= 1;
	assert_query(f, "SELECT count(*) FROM netflow", "0");
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM connections");
	assert_query(f, sql, "5");
}

static void test_engine_options(void **state)
{
	struct fixture *f = *state;
	struct err err = {};

	assert_int_equal(fixture_engine(f, 4, "no-such-user-here", &err), -ENOENT);
	assert_non_null(strstr(err.msg, "no-such-user-here"));
	assert_int_equal(fixture_engine(f, 0, NULL, &err), -EINVAL);
	assert_int_equal(fixture_engine(f, 1, NULL, &err), 0);
	assert_query(f, "SELECT 1", "1");
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], QUERY_WORKER_NAME))
		query_worker_main(argc, argv);

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_deadline),	T(test_cancel_and_max_workers),	 T(test_threads),
		T(test_writer_goes_on), T(test_ring_missing_or_damaged), T(test_engine_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
