// SPDX-License-Identifier: Apache-2.0
/* The form on disk: lists, views over segments and how SQLite runs them, attach.sql, dictionary. */
#include "unit/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/decode.h"
#include "store/dict.h"

#define T0 1700000000000000000ull

static const struct table *const both[] = {&sample_table, &shell_table, NULL};

static void make_segments(struct fixture *f, unsigned int n)
{
	f->options.limits[RING_FLOW].max_rows = 7 * 500;
	fixture_open(f, both);
	for (unsigned int i = 0; i < n; i++)
		push_rows(f, &sample_table, 500, T0 + i * 10000000ull, 1000);
	push_rows(f, &shell_table, 11, T0, 1000);
	fixture_close(f);
}

static void touch(const char *dir, const char *name, mode_t mode)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_CREAT | O_WRONLY, mode);
	assert_true(fd >= 0);
	close(fd);
}

static void test_list(void **state)
{
	struct fixture *f = *state;
	struct segment_file files[32];

	assert_int_equal(schema_list(f->ring, files, 32, NULL), -ENOENT);
	assert_int_equal(mkdir(f->ring, 0700), 0);
	for (unsigned int i = 1; i <= 12; i++) {
		char name[32];

		snprintf(name, sizeof(name), "flow-%08u.db", 9 * i);
		touch(f->ring, name, i == 12 ? 0600 : 0440);
	}
	touch(f->ring, "audit-00000002.db", 0440);
	touch(f->ring, "audit-123456789.db", 0600);
	touch(f->ring, "flow-00000001.db-wal", 0600);
	touch(f->ring, "flow-1.db", 0600);
	touch(f->ring, "flow-0000000x.db", 0600);
	touch(f->ring, "flow-99999999999999999999.db", 0600);
	touch(f->ring, "attach.sql", 0600);
	touch(f->ring, "flow.next", 0600);
	assert_int_equal(schema_list(f->ring, files, 32, NULL), 14);
	assert_int_equal(files[0].number, 9);
	assert_true(files[0].sealed);
	assert_string_equal(files[0].schema, "flow9");
	assert_int_equal(files[11].number, 108);
	assert_false(files[11].sealed);
	assert_int_equal(files[12].ring, RING_AUDIT);
	assert_int_equal(files[13].number, 123456789);
	/* A reader's ten: the oldest flow segments are left out. */
	assert_int_equal(schema_list(f->ring, files, 10, NULL), 10);
	assert_int_equal(files[0].number, 45);
	assert_int_equal(files[8].number, 2);
	assert_int_equal(schema_list(f->ring, files, 1, NULL), 1);
	assert_int_equal(files[0].number, 123456789);
}

/* The plan's lines, joined. */
static char *plan_of(sqlite3 *db, const char *query)
{
	sqlite3_stmt *st = NULL;
	struct buf b = {}, sql = {};

	buf_printf(&sql, "EXPLAIN QUERY PLAN %s", query);
	if (sqlite3_prepare_v2(db, sql.data, -1, &st, NULL) != SQLITE_OK)
		fail_msg("%s: %s", query, sqlite3_errmsg(db));
	while (sqlite3_step(st) == SQLITE_ROW)
		buf_printf(&b, "%s\n", sqlite3_column_text(st, 3));
	sqlite3_finalize(st);
	buf_free(&sql);
	return b.data;
}

static unsigned int count_of(const char *text, const char *what)
{
	unsigned int n = 0;

	for (const char *p = text; (p = strstr(p, what)); p++)
		n++;
	return n;
}

/* A condition on ts is a rowid range in each segment, whatever stands above it. */
static void test_pushdown(void **state)
{
	static const char *const queries[] = {
		"SELECT * FROM sample WHERE ts > 1700000000000500000",
		"SELECT ip, domain, sum(delta) FROM sample WHERE ts > 1700000000000500000 GROUP BY "
		"ip, domain "
		"ORDER BY 3 DESC LIMIT 10",
		"SELECT count(*) FROM sample WHERE ts BETWEEN 5 AND 1700000000000500000 AND comm = "
		"'proc-1'",
		"SELECT ts, comm FROM sample WHERE ts > 1700000000000500000 ORDER BY ts DESC LIMIT "
		"3",
		"SELECT a.ts FROM sample a JOIN sample b ON a.ts = b.ts WHERE a.ts > "
		"1700000000020000000",
	};
	struct fixture *f = *state;
	sqlite3 *db;

	make_segments(f, 4);
	db = reader_open(f, both);
	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
		char *plan = plan_of(db, queries[i]);
		unsigned int searches = count_of(plan, "SEARCH d USING INTEGER PRIMARY KEY");

		/* No data table is read from end to end, and none is left out. */
		if (searches < segment_count(f) || count_of(plan, "SCAN d"))
			fail_msg("%s:\n%s", queries[i], plan);
		free(plan);
	}
	assert_int_equal(
		query_int(db, "SELECT count(*) FROM sample WHERE ts >= 1700000000010000000"), 1500);
	assert_int_equal(query_int(db, "SELECT ts FROM sample ORDER BY ts DESC LIMIT 1"),
			 T0 + 30499000);
	sqlite3_close(db);
}

/* Only what is wanted is decoded; ts always. */
static void test_wanted(void **state)
{
	struct fixture *f = *state;
	struct segment_file file;
	struct segment_table info;
	struct schema_arm arm;
	struct column_set wanted = {};
	struct buf sql = {};
	sqlite3 *db;

	make_segments(f, 1);
	file = segment_at(f, 0);
	db = reader_open(f, both);
	assert_int_equal(schema_read_table(db, file.schema, &sample_table, &info, NULL), 0);
	assert_int_equal(info.rows, 500);
	assert_int_equal(info.ts_min, T0);
	assert_int_equal(info.ts_max, T0 + 499000);
	assert_int_equal(info.lost, 0);
	for (unsigned int i = 0; i < sample_table.nfields; i++)
		assert_true(column_set_has(&info.columns, i));
	assert_false(column_set_has(&info.columns, sample_table.nfields));
	assert_int_equal(schema_read_table(db, file.schema, &shell_table, &info, NULL), 0);
	assert_int_equal(info.rows, 0);
	assert_false(
		column_set_has(&info.columns, 0)); /* an audit table is not in a flow segment */

	assert_int_equal(schema_read_table(db, file.schema, &sample_table, &info, NULL), 0);
	arm = (struct schema_arm){.schema = file.schema, .columns = info.columns};
	column_set_add(&wanted, (unsigned int)table_find(&sample_table, "comm"));
	schema_view_sql(&sql, &sample_table, &arm, 1, &wanted);
	assert_int_equal(sqlite3_exec(db, "DROP VIEW sample", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql.data, NULL, NULL, NULL), SQLITE_OK);
	buf_free(&sql);
	assert_int_equal(query_int(db, "SELECT count(comm) FROM sample"), 500);
	assert_int_equal(query_int(db, "SELECT count(ts) FROM sample"), 500);
	assert_int_equal(query_int(db, "SELECT count(domain) FROM sample"), 0);
	char *plan = plan_of(db, "SELECT comm, count(*) FROM sample GROUP BY comm");

	/* Once as the group and once as the result, of five decoded columns. */
	assert_true(count_of(plan, "CORRELATED") <= 2);
	free(plan);
	sqlite3_close(db);
}

static int deny_all(void *arg, int action, const char *a, const char *b, const char *c,
		    const char *d)
{
	(void)arg, (void)a, (void)b, (void)c, (void)d;
	return action == SQLITE_SELECT || action == SQLITE_FUNCTION || action == SQLITE_READ
		       ? SQLITE_OK
		       : SQLITE_DENY;
}

/* The decoding function gives what the segment's own view gives, also under an authorizer, and
 * needs no subquery. */
static void test_decoder(void **state)
{
	struct fixture *f = *state;
	struct schema_arm arms[SCHEMA_MAX_SEGMENTS];
	struct decoder *decoders[SCHEMA_MAX_SEGMENTS];
	struct segment_file files[SCHEMA_MAX_SEGMENTS];
	struct buf sql = {};
	unsigned int narms = 0;
	sqlite3 *db;
	int n;

	make_segments(f, 3);
	db = reader_open(f, both);
	assert_int_equal(
		sqlite3_exec(db, "CREATE TABLE slow AS SELECT * FROM sample; DROP VIEW temp.sample",
			     NULL, NULL, NULL),
		SQLITE_OK);
	n = schema_list(f->ring, files, SCHEMA_MAX_SEGMENTS, NULL);
	for (int i = 0; i < n; i++) {
		struct segment_table info;

		if (files[i].ring != RING_FLOW)
			continue;
		assert_int_equal(schema_read_table(db, files[i].schema, &sample_table, &info, NULL),
				 0);
		assert_true(column_set_has(&info.dict,
					   (unsigned int)table_find(&sample_table, "comm")));
		assert_true(
			column_set_has(&info.dict, (unsigned int)table_find(&sample_table, "ip")));
		assert_false(column_set_has(&info.dict,
					    (unsigned int)table_find(&sample_table, "note")));
		assert_false(column_set_has(&info.dict, 0));
		assert_int_equal(decoder_new(&decoders[narms], db, files[i].schema), SQLITE_OK);
		arms[narms++] = (struct schema_arm){.schema = files[i].schema,
						    .columns = info.columns,
						    .dict = info.dict};
	}
	schema_view_sql(&sql, &sample_table, arms, narms, NULL);
	assert_int_equal(sqlite3_exec(db, sql.data, NULL, NULL, NULL), SQLITE_OK);
	buf_free(&sql);
	sqlite3_set_authorizer(db, deny_all, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	char *plan = plan_of(db, "SELECT ip, domain, sum(delta) FROM sample WHERE ts > "
				 "1700000000000500000 GROUP BY 1, 2");

	assert_int_equal(count_of(plan, "CORRELATED"), 0);
	assert_true(count_of(plan, "SEARCH d USING INTEGER PRIMARY KEY") >= 3);
	free(plan);
	assert_int_equal(
		query_int(db,
			  "SELECT count(*) FROM (SELECT * FROM sample EXCEPT SELECT * FROM slow)"),
		0);
	assert_int_equal(
		query_int(db,
			  "SELECT count(*) FROM (SELECT * FROM slow EXCEPT SELECT * FROM sample)"),
		0);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample"), 1500);
	/* What is no id of the segment is no text; what is no integer is itself. */
	assert_int_equal(query_int(db, "SELECT flow1_text(60000) IS NULL AND flow1_text(-1) IS "
				       "NULL AND flow1_text(1 << 40) IS NULL "
				       "AND flow1_text('12') = '12' AND flow1_text(NULL) IS NULL "
				       "AND flow1_text(1) IS NOT NULL"),
			 1);
	for (unsigned int i = 0; i < narms; i++)
		decoder_free(decoders[i]);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* A segment that is gone or is none leaves nothing attached. */
static void test_attach_refused(void **state)
{
	struct fixture *f = *state;
	struct segment_file file = {.schema = "flow7"};
	struct err err = {};
	sqlite3 *db = NULL;

	assert_int_equal(
		sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL),
		SQLITE_OK);
	snprintf(file.path, sizeof(file.path), "%s/none.db", f->dir);
	assert_int_equal(schema_attach(db, &file, &err), -ENOENT);
	touch(f->dir, "none.db", 0600);
	assert_int_equal(schema_attach(db, &file, &err), -EBADMSG); /* empty */
	snprintf(file.path, sizeof(file.path), "%s/od'd %%23#?x.db", f->dir);
	int fd = open(file.path, O_CREAT | O_WRONLY, 0600);

	char junk[4096];

	memset(junk, 'n', sizeof(junk));
	assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
	close(fd);
	assert_int_equal(schema_attach(db, &file, &err), -EBADMSG);
	assert_int_equal(
		query_int(db, "SELECT count(*) FROM pragma_database_list WHERE name = 'flow7'"), 0);
	sqlite3_close(db);
}

/* attach.sql run by a connection like a shell's; ".read" is the shell's and is followed if live. */
static void run_script(sqlite3 *db, const char *dir, const char *name, bool live)
{
	char path[256], line[65536];
	FILE *in;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	in = fopen(path, "re");
	assert_non_null(in);
	while (fgets(line, sizeof(line), in)) {
		if (!strncmp(line, ".read ", 6)) {
			if (live)
				run_script(db, dir, "attach-live.sql", true);
			continue;
		}
		if (sqlite3_exec(db, line, NULL, NULL, NULL) != SQLITE_OK)
			fail_msg("%s: %s", line, sqlite3_errmsg(db));
	}
	fclose(in);
}

static void test_attach_sql(void **state)
{
	struct fixture *f = *state;
	char path[128];
	struct stat st;
	sqlite3 *db;

	make_segments(f, 3);
	assert_int_equal(
		sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL),
		SQLITE_OK);
	run_script(db, f->ring, "attach.sql", true);
	assert_int_equal(query_int(db, "SELECT count(*) FROM sample"), 1500);
	assert_int_equal(query_int(db, "SELECT count(*) FROM shell"), 11);
	assert_int_equal(sqlite3_exec(db, "DELETE FROM flow1.sample_data", NULL, NULL, NULL),
			 SQLITE_READONLY);
	sqlite3_close(db);
	/* As one who can't read the live ones. */
	assert_int_equal(
		sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL),
		SQLITE_OK);
	run_script(db, f->ring, "attach.sql", false);
	assert_true(query_int(db, "SELECT count(*) FROM sample") >= 1000);
	assert_int_equal(query_int(db, "SELECT count(*) FROM shell"), 0);
	sqlite3_close(db);
	snprintf(path, sizeof(path), "%s/attach.sql", f->ring);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0440);
	snprintf(path, sizeof(path), "%s/attach-live.sql", f->ring);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_dict(void **state)
{
	struct dict d = {};
	struct ip_addr v4 = {.family = 4, .addr = {192, 0, 2, 1}},
		       v6 = {.family = 6, .addr = {192, 0, 2, 1}};
	char scratch[DICT_MAX_LEN + 1];
	uint32_t len;

	(void)state;
	dict_reset(&d);
	assert_int_equal(dict_text(&d, "", 0), 1);
	assert_int_equal(dict_text(&d, "a", 1), 2);
	assert_int_equal(dict_text(&d, "", 0), 1);
	assert_int_equal(dict_ip(&d, &v4), 3);
	assert_int_equal(dict_ip(&d, &v6), 4);
	assert_int_equal(dict_text(&d, "192.0.2.1", 9), 5); /* a text of its own */
	assert_int_equal(dict_ip(&d, &v4), 3);
	assert_string_equal(dict_key_text(&d, 2, scratch, sizeof(scratch), &len), "192.0.2.1");
	memset(scratch, 'x', sizeof(scratch));
	for (int i = 0; i < 3; i++)
		assert_int_equal(dict_text(&d, scratch, DICT_MAX_LEN + 1), 0);
	/* A long one from its second time on. */
	assert_int_equal(dict_text(&d, scratch, DICT_ONCE_LEN), 6);
	assert_int_equal(dict_text(&d, scratch, DICT_MAX_LEN), 0);
	assert_int_equal(dict_text(&d, scratch, DICT_ONCE_LEN + 1), 0);
	assert_int_equal(dict_text(&d, scratch, DICT_MAX_LEN), 7);
	assert_int_equal(dict_text(&d, scratch, DICT_MAX_LEN), 7);
	assert_memory_equal(dict_key_text(&d, 6, NULL, 0, &len), scratch, DICT_MAX_LEN);
	assert_int_equal(len, DICT_MAX_LEN);
	assert_int_equal(d.full, 0);
	/* Read back: addresses are addresses again. */
	dict_reset(&d);
	assert_int_equal(dict_load(&d, 7, "192.0.2.1", 9), 0);
	assert_int_equal(dict_load(&d, 7, "x", 1), -EINVAL);
	assert_int_equal(dict_load(&d, 9, "x", 1), 0);
	assert_int_equal(dict_load(&d, 10, scratch, DICT_MAX_LEN + 1), -EINVAL);
	assert_int_equal(dict_load(&d, 10, scratch, DICT_MAX_LEN), 0);
	assert_int_equal(dict_text(&d, scratch, DICT_MAX_LEN), 10);
	assert_int_equal(dict_ip(&d, &v4), 7);
	assert_int_equal(dict_text(&d, "x", 1), 9);
	assert_int_equal(dict_text(&d, "y", 1), 11);
	assert_int_equal(d.saved, 3);
	for (uint32_t i = d.nkeys; i < DICT_MAX_STRINGS; i++)
		assert_true(dict_text(&d, scratch,
				      (uint32_t)snprintf(scratch, sizeof(scratch), "k%u", i)) > 0);
	assert_int_equal(dict_text(&d, "one more", 8), 0);
	assert_int_equal(dict_text(&d, "y", 1), 11);
	assert_true(d.full > 0);
	dict_free(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_list, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_pushdown, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_wanted, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_decoder, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_attach_refused, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_attach_sql, fixture_setup, fixture_teardown),
		cmocka_unit_test(test_dict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
