// SPDX-License-Identifier: Apache-2.0
/* The ring: rotation, retention, sealing, recovery from damage, schema changes, readers in the way.
 */
#include "unit/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define T0 1700000000000000000ull

static const struct table *const both[] = {&sample_table, &shell_table, NULL};
static const struct table *const wide[] = {&sample_wide_table, &shell_table, NULL};

/* Waits until every segment but the live one is sealed, which happens behind the writer's back. */
static void wait_sealed(const struct fixture *f)
{
	for (unsigned int i = 0; i < 500; i++) {
		struct segment_file files[16];
		int n = schema_list(f->ring, files, 16, NULL), open = 0;

		for (int k = 0; k < n; k++)
			open += files[k].ring == RING_FLOW && !files[k].sealed;
		if (open <= 1)
			return;
		usleep(10000);
	}
	fail_msg("segments are not sealed after 5 s");
}

static void test_rotation_by_rows(void **state)
{
	struct fixture *f = *state;
	struct segment_file oldest, live;
	struct store_stats stats;
	struct stat st;
	sqlite3 *db;

	f->options.limits[RING_FLOW].max_rows = 7000;
	fixture_open(f, both);
	for (unsigned int i = 0; i < 23; i++) {
		push_rows(f, &sample_table, 1000, T0 + i * 10000000ull, 1000);
		wait_sealed(f); /* the one before, or it may be told that rows come too fast */
	}
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_int_equal(stats.rows, 23000);
	assert_true(stats.segments <= 7 && stats.segments >= 6);
	/* 23 full ones, and perhaps the next already. */
	assert_true(stats.evicted + stats.segments == 23 || stats.evicted + stats.segments == 24);
	oldest = segment_at(f, 0);
	assert_true(oldest.sealed);
	assert_int_equal(stat(oldest.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0440);
	push_rows(f, &sample_table, 1, T0 + 230000000, 1000); /* into a live one */
	live = segment_at(f, segment_count(f) - 1);
	assert_false(live.sealed);
	assert_int_equal(stat(live.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	db = reader_open(f, both);
	/* The newest rows, without a hole. */
	assert_int_equal(query_int(db, "SELECT max(ts) FROM sample"), T0 + 230000000);
	assert_true(query_int(db, "SELECT count(*) FROM sample") >= 5000);
	assert_true(query_int(db, "SELECT count(*) FROM sample") <= 7000);
	assert_int_equal(query_int(db, "SELECT count(*) % 1000 FROM sample"), 1);
	sqlite3_close(db);
	fixture_close(f);

	/* All of it is found again. */
	fixture_open(f, both);
	assert_int_equal(store_last_ts(f->store, &sample_table), T0 + 230000000);
	if (f->nevents)
		fail_msg("an event nobody expects: %s", f->events[0]);
}

static void test_retention_by_bytes(void **state)
{
	struct fixture *f = *state;
	const uint64_t max = 7 << 20;
	struct store_stats stats;
	uint64_t most = 0;

	f->options.limits[RING_FLOW].max_bytes = max;
	f->options.limits[RING_AUDIT].max_bytes = 2 << 20;
	fixture_open(f, both);
	for (unsigned int i = 0; i < 150; i++) {
		uint64_t bytes;

		push_rows(f, &sample_table, 1500, T0 + i * 10000000ull, 1000);
		bytes = directory_bytes(f->ring);
		if (bytes > most)
			most = bytes;
	}
	wait_sealed(f);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_true(stats.evicted > 3);
	/* The empty audit ring's two files and attach.sql lie beside it. */
	if (most > max + (300 << 10))
		fail_msg("%llu bytes on disk", (unsigned long long)most);
	assert_true(stats.bytes <= max);
	assert_true(stats.bytes > max / 2);
	/* What the store says is what lies there. */
	store_get_stats(f->store, RING_AUDIT, &stats);
	assert_true(stats.bytes < 300 << 10);
}

static void test_retention_by_age(void **state)
{
	struct fixture *f = *state;
	struct store_stats stats;
	uint64_t now = clock_real_ns();

	f->options.limits[RING_FLOW].max_age_ns = 7 * NSEC_PER_SEC;
	fixture_open(f, both);
	push_rows(f, &sample_table, 100, now - 20 * NSEC_PER_SEC, 1000); /* old when it comes */
	push_rows(f, &sample_table, 100, now, 1000);
	/* Without a row more: the timer rotates, then evicts. */
	for (unsigned int i = 0; i < 40; i++) {
		store_get_stats(f->store, RING_FLOW, &stats);
		if (stats.evicted)
			break;
		usleep(100000);
	}
	assert_int_equal(stats.evicted, 1);
}

static void test_limits_at_run_time(void **state)
{
	struct fixture *f = *state;
	struct store_stats stats;

	fixture_open(f, both);
	push_rows(f, &sample_table, 30000, T0, 1000);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_int_equal(stats.segments, 1);
	assert_int_equal(
		store_set_limits(f->store, RING_FLOW,
				 &(struct ring_limits){.max_bytes = 64 << 20, .max_rows = 7000}),
		0);
	push_rows(f, &sample_table, 1000, T0 + 1000000000, 1000);
	push_rows(f, &sample_table, 1000, T0 + 2000000000, 1000);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_true(stats.evicted >= 1);
}

/* The audit history stays whatever the flow ring does. */
static void test_rings_apart(void **state)
{
	struct fixture *f = *state;
	struct store_stats stats;
	sqlite3 *db;

	f->options.limits[RING_FLOW].max_rows = 3500;
	fixture_open(f, both);
	push_rows(f, &shell_table, 53, T0, 1000);
	for (unsigned int i = 0; i < 30; i++)
		push_rows(f, &sample_table, 1000, T0 + i * 10000000ull, 1000);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_true(stats.evicted > 10);
	db = reader_open(f, both);
	assert_int_equal(query_int(db, "SELECT count(*) FROM shell WHERE cmd = 'ls -l /etc'"), 53);
	sqlite3_close(db);
}

/* A table with other columns starts a new segment; the old rows answer NULL for what they lack. */
static void test_schema_change(void **state)
{
	struct fixture *f = *state;
	sqlite3 *db;

	fixture_open(f, both);
	push_rows(f, &sample_table, 100, T0, 1000);
	fixture_close(f);
	assert_int_equal(segment_count(f), 1);

	fixture_open(f, wide);
	assert_int_equal(store_last_ts(f->store, &sample_wide_table), T0 + 99000);
	push_rows(f, &sample_wide_table, 50, T0 + 1000000, 1000);
	assert_int_equal(segment_count(f), 2);
	db = reader_open(f, wide);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample"), 150);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample WHERE pid_again IS NULL AND ts "
				       "< 1700000000001000000"),
			 100);
	assert_int_equal(
		query_int(db, "SELECT count(*) FROM sample WHERE pid_again = ifnull(pid, 0)"), 50);
	sqlite3_close(db);
	fixture_close(f);

	/* And back: the older daemon reads both and starts its own. */
	fixture_open(f, both);
	push_rows(f, &sample_table, 10, T0 + 2000000, 1000);
	assert_int_equal(segment_count(f), 3);
	db = reader_open(f, both);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample"), 160);
	sqlite3_close(db);
}

static void overwrite(const char *path, off_t off, const void *p, size_t len)
{
	int fd;

	assert_int_equal(chmod(path, 0600), 0);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, p, len, off), len);
	close(fd);
}

static void make_three(struct fixture *f)
{
	f->options.limits[RING_FLOW].max_rows = 7 * 1000;
	fixture_open(f, both);
	for (unsigned int i = 0; i < 3; i++)
		push_rows(f, &sample_table, 1000, T0 + i * 10000000ull, 1000);
	push_rows(f, &sample_table, 10, T0 + 50000000, 1000);
	wait_sealed(f);
	fixture_close(f);
	assert_int_equal(segment_count(f), 4);
}

static unsigned int quarantined(const struct fixture *f)
{
	char cmd[128];
	unsigned int n = 0;

	for (unsigned int i = 1; i < 20; i++) {
		/* Names begin with the second of the day they were moved at. */
		uint64_t now = clock_real_ns() / NSEC_PER_SEC;

		for (uint64_t s = now - 10; s <= now; s++) {
			snprintf(cmd, sizeof(cmd), "%s/quarantine/%llu-flow-%08u.db", f->ring,
				 (unsigned long long)s, i);
			n += access(cmd, F_OK) == 0;
		}
	}
	return n;
}

static void test_damaged_header(void **state)
{
	struct fixture *f = *state;
	struct segment_file second;
	struct store_stats stats;
	sqlite3 *db;

	make_three(f);
	second = segment_at(f, 1);
	overwrite(second.path, 0, "garbage!", 8);
	fixture_open(f, both);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_int_equal(stats.quarantined, 1);
	assert_int_equal(quarantined(f), 1);
	push_rows(f, &sample_table, 10, T0 + 60000000, 1000);
	assert_true(fixture_event(f, "quarantined"));
	db = reader_open(f, both);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample"), 2020);
	sqlite3_close(db);
}

/* The schema page of the live segment: a new one is started and nothing of the others is lost. */
static void test_damaged_live(void **state)
{
	struct fixture *f = *state;
	struct segment_file live;
	char junk[3000];
	sqlite3 *db;

	make_three(f);
	live = segment_at(f, 3);
	memset(junk, 0xa5, sizeof(junk));
	overwrite(live.path, 100, junk, sizeof(junk));
	fixture_open(f, both);
	push_rows(f, &sample_table, 10, T0 + 60000000, 1000);
	assert_true(fixture_event(f, "quarantined"));
	assert_int_equal(quarantined(f), 1);
	db = reader_open(f, both);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample"), 3010);
	sqlite3_close(db);
}

/* A byte in the middle of the live segment after an unclean stop: the background check finds it. */
static void test_damaged_leaf(void **state)
{
	struct fixture *f = *state;
	struct segment_file live;
	char junk[4096], wal[300];
	struct store_stats stats;
	int fd;

	f->options.flush_ns = NSEC_PER_MSEC;
	fixture_open(f, both);
	push_rows(f, &sample_table, 20000, T0, 1000);
	fixture_close(f);
	live = segment_at(f, 0);
	memset(junk, 0x5a, sizeof(junk));
	overwrite(live.path, 4096 * (off_t)(live.bytes / 8192), junk, sizeof(junk));
	/* What an unclean stop leaves: a WAL. This one is empty but for bytes that are no frame. */
	snprintf(wal, sizeof(wal), "%s-wal", live.path);
	fd = open(wal, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, junk, 32), 32);
	close(fd);

	fixture_open(f, both);
	for (unsigned int i = 0; i < 50; i++) {
		store_get_stats(f->store, RING_FLOW, &stats);
		if (stats.quarantined)
			break;
		usleep(100000);
	}
	assert_int_equal(stats.quarantined, 1);
	push_rows(f, &sample_table, 10, T0 + 60000000, 1000);
	assert_true(fixture_event(f, "damaged"));
	assert_int_equal(segment_at(f, 0).number, 2);
}

static void test_newer_version(void **state)
{
	struct fixture *f = *state;
	struct segment_file newest;
	struct err err = {};
	struct store_stats stats;
	sqlite3 *db = NULL;

	make_three(f);
	newest = segment_at(f, 3);
	overwrite(newest.path, 60, "\0\0\0\x63", 4);
	fixture_open(f, both);
	push_rows(f, &sample_table, 10, T0 + 60000000, 1000);
	assert_true(fixture_event(f, "newer_segment"));
	assert_int_equal(segment_count(f), 5);
	assert_int_equal(
		sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL),
		SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	assert_int_equal(schema_attach(db, &newest, &err), -EPROTONOSUPPORT);
	sqlite3_close(db);
	/* It goes in its turn like the others. */
	for (unsigned int i = 0; i < 12; i++)
		push_rows(f, &sample_table, 1000, T0 + 100000000 + i * 10000000ull, 1000);
	assert_int_equal(access(newest.path, F_OK), -1);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_int_equal(stats.quarantined, 0);
}

/* A reader that holds its snapshot keeps a segment from being sealed, never the ring from going on.
 */
static void test_pinned_reader(void **state)
{
	struct fixture *f = *state;
	struct segment_file first;
	sqlite3 *db;

	f->options.limits[RING_FLOW].max_rows = 7 * 1000;
	fixture_open(f, both);
	push_rows(f, &sample_table, 500, T0, 1000);
	first = segment_at(f, 0);
	assert_int_equal(sqlite3_open_v2(first.path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM sample", NULL, NULL, NULL),
			 SQLITE_OK);
	for (unsigned int i = 0; i < 4; i++)
		push_rows(f, &sample_table, 1000, T0 + 100000000 + i * 10000000ull, 1000);
	assert_false(segment_at(f, 0).sealed);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample"), 500);
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	sqlite3_close(db);
	wait_sealed(f);
	assert_true(segment_at(f, 0).sealed);
}

/* Somebody with the right to write takes the lock and keeps it: after two seconds the ring goes on
 * without that file. */
static void test_lock_held(void **state)
{
	struct fixture *f = *state;
	struct segment_file first;
	struct store_stats stats;
	sqlite3 *db;

	fixture_open(f, both);
	push_rows(f, &sample_table, 500, T0, 1000);
	first = segment_at(f, 0);
	assert_int_equal(sqlite3_open_v2(first.path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	push_rows(f, &sample_table, 500, T0 + 100000000, 1000);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_int_equal(stats.rows, 1000);
	assert_int_equal(stats.rows_lost, 0);
	assert_int_equal(stats.segments, 2);
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	sqlite3_close(db);
	store_flush(f->store, NSEC_PER_SEC);
	fixture_close(f);
	assert_true(fixture_event(f, "busy"));
}

/* Less space free than the reserve asks for: flow segments go, one a second, and it's said. */
static void test_reserve(void **state)
{
	struct fixture *f = *state;
	struct store_stats stats;

	make_three(f);
	f->options.reserve_bytes = INT64_MAX;
	fixture_open(f, both);
	for (unsigned int i = 0; i < 60; i++) {
		store_get_stats(f->store, RING_FLOW, &stats);
		if (stats.evicted >= 2)
			break;
		usleep(100000);
	}
	assert_int_equal(stats.evicted, 2);
	push_rows(f, &sample_table, 10, T0 + 60000000, 1000);
	assert_true(fixture_event(f, "reserve"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rotation_by_rows, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_retention_by_bytes, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_retention_by_age, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_limits_at_run_time, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_rings_apart, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_schema_change, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_header, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_live, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_leaf, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_newer_version, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_pinned_reader, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_lock_held, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_reserve, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
