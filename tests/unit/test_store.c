// SPDX-License-Identifier: Apache-2.0
/* The store: every kind of cell comes back as it went in, acknowledgement, order, loss, several
 * threads. */
#include "unit/store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/dict.h"

#define T0 1700000000000000000ull

static const struct table *const both[] = {&sample_table, &shell_table, NULL};

static void check_cell(sqlite3_stmt *st, int col, const struct value *want, const struct field *f)
{
	int type = sqlite3_column_type(st, col);

	switch (want->kind) {
	case VALUE_NULL:
		if (type != SQLITE_NULL)
			fail_msg("%s: want NULL, have %s", f->name, sqlite3_column_text(st, col));
		break;
	case VALUE_INT:
		assert_int_equal(type, SQLITE_INTEGER);
		assert_int_equal(sqlite3_column_int64(st, col), want->i);
		break;
	case VALUE_REAL:
		assert_int_equal(type, SQLITE_FLOAT);
		assert_true(sqlite3_column_double(st, col) == want->d);
		break;
	case VALUE_TEXT:
	case VALUE_BYTES:
		if (type != (want->kind == VALUE_TEXT ? SQLITE_TEXT : SQLITE_BLOB))
			fail_msg("%s: type %d", f->name, type);
		assert_int_equal(sqlite3_column_bytes(st, col), want->len);
		if (want->len)
			assert_memory_equal(sqlite3_column_blob(st, col), want->text, want->len);
		break;
	}
}

/* Every cell of every row equals what batch_get() says of the batch. */
static void check_rows(sqlite3 *db, const struct batch *b)
{
	sqlite3_stmt *st = NULL;

	assert_int_equal(sqlite3_prepare_v2(db, "SELECT * FROM sample ORDER BY ts", -1, &st, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_column_count(st), b->table->nfields);
	for (uint32_t row = 0; row < b->nrows; row++) {
		assert_int_equal(sqlite3_step(st), SQLITE_ROW);
		for (uint32_t col = 0; col < b->table->nfields; col++) {
			struct value v;

			assert_string_equal(sqlite3_column_name(st, (int)col),
					    b->table->fields[col].name);
			batch_get(b, row, col, &v);
			check_cell(st, (int)col, &v, &b->table->fields[col]);
		}
	}
	assert_int_equal(sqlite3_step(st), SQLITE_DONE);
	sqlite3_finalize(st);
}

static void test_round_trip(void **state)
{
	struct fixture *f = *state;
	struct batch *b = sample_batch(&sample_table, 1009, T0, 1000);
	struct store_stats stats;
	sqlite3 *db;

	batch_seal(b, NULL);
	fixture_open(f, both);
	assert_int_equal(store_push(f->store, b), 0);
	assert_int_equal(store_flush(f->store, 10 * NSEC_PER_SEC), 0);
	/* Acknowledged: another connection sees it while the writer goes on. */
	db = reader_open(f, both);
	check_rows(db, b);
	sqlite3_close(db);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_int_equal(stats.rows, 1009);
	assert_int_equal(stats.batches, 1);
	assert_int_equal(stats.transactions, 1);
	assert_int_equal(stats.rows_bumped, 0);
	assert_string_equal(stats.state, "ok");
	assert_int_equal(store_last_ts(f->store, &sample_table), b->ts_max);

	/* And again after a restart, from the closed file. */
	fixture_close(f);
	fixture_open(f, both);
	db = reader_open(f, both);
	check_rows(db, b);
	assert_int_equal(query_int(db, "SELECT count(*) FROM shell"), 0);
	sqlite3_close(db);
	batch_unref(b);
	if (f->nevents)
		fail_msg("an event nobody expects: %s", f->events[0]);
}

/* A restart goes on in the live file with its dictionary; ids are not given twice. */
static void test_reopen_goes_on(void **state)
{
	struct fixture *f = *state;
	sqlite3 *db;

	for (unsigned int run = 0; run < 4; run++) {
		fixture_open(f, both);
		push_rows(f, &sample_table, 997, T0 + run * 1000000000, 1000);
		fixture_close(f);
	}
	assert_int_equal(segment_count(f), 1);
	db = reader_open(f, both);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample"), 4 * 997);
	/* Nothing twice; but bytes that were cleaned on their way in aren't recognised by their
	 * cleaned form. */
	assert_int_equal(query_int(db, "SELECT count(*) - count(DISTINCT s) FROM flow1.strings "
				       "WHERE s NOT LIKE 'bad%'"),
			 0);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample WHERE ip NOT LIKE '10.%' AND "
				       "ip NOT LIKE 'a00:%'"),
			 0);
	assert_int_equal(query_int(db, "SELECT rows FROM flow1.segment_tables WHERE name='sample'"),
			 4 * 997);
	assert_int_equal(
		query_int(db, "SELECT ts_min FROM flow1.segment_tables WHERE name='sample'"), T0);
	sqlite3_close(db);
}

static void test_bump(void **state)
{
	struct fixture *f = *state;
	struct store_stats stats;
	sqlite3 *db;

	fixture_open(f, both);
	push_rows(f, &sample_table, 100, T0, 1000);
	push_rows(f, &sample_table, 50, T0, 1000); /* the clock went back */
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_int_equal(stats.rows_bumped, 50);
	fixture_close(f);

	fixture_open(f, both);
	assert_int_equal(store_last_ts(f->store, &sample_table), T0 + 99 * 1000 + 50);
	push_rows(f, &sample_table, 3, T0, 1); /* also over a restart */
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_int_equal(stats.rows_bumped, 3);
	db = reader_open(f, both);
	assert_int_equal(query_int(db, "SELECT count(DISTINCT ts) FROM sample"), 153);
	assert_int_equal(query_int(db, "SELECT max(ts) FROM sample"), T0 + 99 * 1000 + 53);
	sqlite3_close(db);
}

static void test_dictionary_full(void **state)
{
	struct fixture *f = *state;
	struct store_stats stats;
	const uint32_t n = DICT_MAX_STRINGS + 4001;
	sqlite3 *db;

	fixture_open(f, both);
	for (uint32_t done = 0; done < n;) {
		struct batch *b = batch_new(&sample_table, 1000);

		for (uint32_t i = 0; i < 1000 && done < n; i++, done++) {
			struct sample_row *row = batch_add(b);
			char text[32];

			row->ts = T0 + done;
			/* Only digits: an inline "123" must not be taken for an id. */
			row->domain = batch_str(
				b, text, (size_t)snprintf(text, sizeof(text), "%u", done + 1));
		}
		batch_seal(b, NULL);
		while (store_push(f->store, b) == -ENOBUFS)
			usleep(1000);
		batch_unref(b);
	}
	assert_int_equal(store_flush(f->store, 60 * NSEC_PER_SEC), 0);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_true(stats.dict_full > 4000);
	assert_int_equal(stats.rows, n);
	db = reader_open(f, both);
	assert_int_equal(query_int(db, "SELECT count(*) FROM flow1.strings"), DICT_MAX_STRINGS);
	assert_int_equal(query_int(db, "SELECT count(DISTINCT domain) FROM sample"), n);
	assert_int_equal(
		query_int(db, "SELECT count(*) FROM sample WHERE typeof(domain) != 'text'"), 0);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample WHERE CAST(domain AS INTEGER) "
				       "!= ts - 1700000000000000000 + 1"),
			 0);
	sqlite3_close(db);
	fixture_close(f);
	fixture_open(f, both); /* a full dictionary is read back */
	push_rows(f, &sample_table, 10, T0 + n, 1000);
	assert_int_equal(segment_count(f), 1);
}

/* A full queue refuses, counts, and the loss is in the segment for whoever asks what is missing. */
static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct err err = {};
	struct store_table_stats table_stats;
	struct store_stats stats;
	sqlite3 *db;

	f->options.queue_batches = 3;
	assert_int_equal(store_new(&f->store, &f->options, &err), 0);
	assert_int_equal(store_add_table(f->store, &sample_table, &err), 0);
	assert_int_equal(store_add_table(f->store, &sample_table, &err), -EEXIST);
	assert_int_equal(store_add_table(f->store, &shell_table, &err), 0);
	for (unsigned int i = 0; i < 5; i++) {
		struct batch *b = sample_batch(&sample_table, 7, T0 + i * 100000, 1000);

		batch_seal(b, NULL);
		assert_int_equal(store_push(f->store, b), i < 3 ? 0 : -ENOBUFS);
		batch_unref(b);
	}
	assert_int_equal(store_flush(f->store, NSEC_PER_MSEC), -ETIMEDOUT);
	assert_int_equal(store_start(f->store, &err), 0);
	assert_int_equal(store_flush(f->store, 10 * NSEC_PER_SEC), 0);
	store_get_stats(f->store, RING_FLOW, &stats);
	assert_int_equal(stats.rows, 21);
	assert_int_equal(stats.rows_refused, 14);
	assert_int_equal(stats.queue_cap, 3);
	store_table_stats(f->store, &sample_table, &table_stats);
	assert_int_equal(table_stats.stored, 21);
	assert_int_equal(table_stats.refused, 14);
	assert_int_equal(table_stats.given_up, 0);
	db = reader_open(f, both);
	assert_int_equal(query_int(db, "SELECT lost FROM flow1.segment_tables WHERE name='sample'"),
			 14);
	sqlite3_close(db);
	store_stop(f->store, NSEC_PER_SEC);
	struct batch *late = sample_batch(&shell_table, 1, T0, 1);

	assert_int_equal(store_push(f->store, late), -ESHUTDOWN);
	batch_unref(late);
}

static void test_bad_arguments(void **state)
{
	struct fixture *f = *state;
	struct err err = {};
	struct store *second = NULL;
	struct batch *other = sample_batch(&sample_wide_table, 1, T0, 1);

	f->options.limits[RING_FLOW].max_bytes = 1000;
	assert_int_equal(store_new(&f->store, &f->options, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "at least"));
	f->options.limits[RING_FLOW].max_bytes = 64 << 20;
	fixture_open(f, both);
	assert_int_equal(store_push(f->store, other), -ENOENT);
	batch_unref(other);
	assert_int_equal(store_new(&second, &f->options, &err), -EBUSY);
	assert_null(second);
	assert_int_equal(
		store_set_limits(f->store, RING_AUDIT, &(struct ring_limits){.max_bytes = 1}),
		-EINVAL);
}

/* Threads */

struct pusher {
	struct fixture *f;
	unsigned int idx;
	_Atomic uint64_t rows, refused;
	atomic_bool *stop;
};

static void *push_many(void *arg)
{
	struct pusher *p = arg;

	for (unsigned int i = 0; i < 100; i++) {
		const struct table *t = p->idx % 2 ? &shell_table : &sample_table;
		struct batch *b = sample_batch(t, 53, T0 + i * 1000000ull, 1000);

		batch_seal(b, NULL);
		if (store_push(p->f->store, b) == 0)
			p->rows += b->nrows;
		else
			p->refused += b->nrows;
		batch_unref(b);
		if (i % 10 == 0)
			store_flush(p->f->store, NSEC_PER_SEC);
	}
	return NULL;
}

static void *watch_many(void *arg)
{
	struct pusher *p = arg;

	while (!atomic_load(p->stop)) {
		struct segment_info infos[16];
		struct store_stats stats;

		store_get_stats(p->f->store, RING_FLOW, &stats);
		store_segments(p->f->store, infos, 16);
		store_last_ts(p->f->store, &sample_table);
		usleep(500);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct fixture *f = *state;
	struct pusher pushers[4] = {}, watcher = {.f = f};
	atomic_bool stop = false;
	pthread_t threads[4], watch;
	uint64_t rows = 0, refused = 0;
	struct store_stats flow, audit;
	sqlite3 *db;

	f->options.queue_batches = 8;
	f->options.limits[RING_FLOW].max_rows = 7 * 2000;
	fixture_open(f, both);
	watcher.stop = &stop;
	pthread_create(&watch, NULL, watch_many, &watcher);
	for (unsigned int i = 0; i < 4; i++) {
		pushers[i].f = f;
		pushers[i].idx = i;
		pthread_create(&threads[i], NULL, push_many, &pushers[i]);
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		rows += pushers[i].rows;
		refused += pushers[i].refused;
	}
	assert_int_equal(store_flush(f->store, 20 * NSEC_PER_SEC), 0);
	atomic_store(&stop, true);
	pthread_join(watch, NULL);
	store_get_stats(f->store, RING_FLOW, &flow);
	store_get_stats(f->store, RING_AUDIT, &audit);
	assert_int_equal(flow.rows + audit.rows, rows);
	assert_int_equal(flow.rows_refused + audit.rows_refused, refused);
	assert_int_equal(flow.rows_lost + audit.rows_lost, 0);
	db = reader_open(f, both);
	assert_int_equal(query_int(db, "SELECT count(*) FROM shell"), audit.rows);
	sqlite3_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_reopen_goes_on, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_bump, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_dictionary_full, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_refused, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_bad_arguments, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_threads, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
