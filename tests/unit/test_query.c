// SPDX-License-Identifier: Apache-2.0
/* Queries as a client sees them: columns, rows, types, limits, deadlines, live tables,
 * completeness. */
#include "query_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"

static struct result res;

static void run(struct fixture *f, const char *sql, const struct how *how)
{
	result_run(f, &res, sql, how);
	if (res.r < 0)
		fail_msg("%s: %s", sql, res.err.msg);
}

static void test_values(void **state)
{
	struct fixture *f = *state;

	run(f, "SELECT 1, -9223372036854775807 - 1, 1.5, 'a', x'0001ff', NULL, '', x''", NULL);
	assert_int_equal(res.ncols, 8);
	assert_int_equal(res.nrows, 1);
	assert_string_equal(res.name[0], "1");
	assert_string_equal(res.cell[0], "1");
	assert_string_equal(res.cell[1], "-9223372036854775808");
	assert_int_equal(res.kind[2], VALUE_REAL);
	assert_string_equal(res.cell[2], "1.5");
	assert_int_equal(res.kind[3], VALUE_TEXT);
	assert_int_equal(res.kind[4], VALUE_BYTES);
	assert_int_equal(res.bytes, 1 + 3);
	assert_int_equal(res.kind[5], VALUE_NULL);
	assert_int_equal(res.kind[6], VALUE_TEXT);
	assert_string_equal(res.cell[6], "");
	assert_int_equal(res.kind[7], VALUE_BYTES);
	assert_int_equal(res.type[0], COLUMN_X_MAX);
	assert_int_equal(res.stats.nloss, 0);
	result_free(&res);
	run(f, "VALUES (1, 2), (3, 4), (5, 6);  -- nothing behind", NULL);
	assert_int_equal(res.nrows, 3);
	assert_string_equal(res.cell[5], "6");
	result_free(&res);
	run(f, "SELECT 1 WHERE 0", NULL);
	assert_int_equal(res.ncols, 1);
	assert_int_equal(res.nrows, 0);
	result_free(&res);
}

static void test_history(void **state)
{
	struct fixture *f = *state;
	char sql[256];

	run(f, "SELECT * FROM netflow ORDER BY ts", NULL);
	assert_int_equal(res.nrows, FLOW_ROWS);
	assert_int_equal(res.ncols, 9);
	assert_int_equal(res.type[0], COLUMN_TIME);
	assert_string_equal(res.unit[0], "ns");
	assert_int_equal(res.type[1], COLUMN_INT64);
	assert_int_equal(res.type[2], COLUMN_TEXT);
	assert_int_equal(res.type[3], COLUMN_IP);
	assert_string_equal(res.unit[5], "By");
	assert_int_equal(res.type[6], COLUMN_DOUBLE);
	assert_int_equal(res.type[7], COLUMN_TEXT);
	assert_int_equal(res.type[8], COLUMN_BOOL);
	assert_string_equal(res.cell[2], "nginx");
	assert_string_equal(res.cell[3], "10.0.0.1");
	assert_null(res.cell[4]);
	assert_string_equal(res.cell[9 + 2], "curl");
	assert_string_equal(res.cell[9 + 3], "10.0.1.1");
	assert_string_equal(res.cell[9 + 4], "443");
	assert_string_equal(res.cell[9 + 7], "udp");
	assert_string_equal(res.cell[18 + 3], "fd00::1");
	result_free(&res);
	assert_query(f, "SELECT count(*) FROM netflow", "1211");
	assert_query(f, "SELECT count(*) FROM netflow a JOIN netflow b USING (ts)", "1211");
	assert_query(f,
		     "SELECT count(*) FROM netflow a NATURAL JOIN netflow b WHERE a.dst_port = 443",
		     "968");
	assert_query(f, "SELECT count(*) FROM netflow a JOIN connections c USING (pid, dst_ip)",
		     "231");
	assert_query(f, "WITH x AS (SELECT * FROM netflow) SELECT count(*) FROM x", "1211");
	assert_query(f, "SELECT sum(bytes_read) FROM NetFlow", "732655");
	snprintf(sql, sizeof(sql),
		 "SELECT sum(bytes_read) FROM netflow WHERE ts >= %llu AND ts < %llu",
		 T0 + 499000000, T0 + 502000000);
	assert_query(f, sql, "1500");
	assert_query(f,
		     "SELECT group_concat(transport) FROM (SELECT DISTINCT transport FROM "
		     "\"netflow\" ORDER BY 1)",
		     "tcp,udp");
	/* The writer goes on, the next query sees it. */
	fixture_write(f, 7);
	assert_query(f, "SELECT count(*) FROM netflow", "1218");
}

static void test_column_types_through_expressions(void **state)
{
	struct fixture *f = *state;

	run(f,
	    "WITH x AS (SELECT ts AS t, dst_ip, bytes_read * 2 AS twice FROM netflow)"
	    " SELECT t, x.dst_ip AS peer, twice, n.bytes_read AS \"Bytes\", ratio + 0 FROM x JOIN "
	    "netflow n ON n.ts = x.t LIMIT 1",
	    NULL);
	assert_int_equal(res.type[0], COLUMN_TIME);
	assert_string_equal(res.name[1], "peer");
	assert_int_equal(res.type[1], COLUMN_IP);
	assert_int_equal(res.type[2], COLUMN_X_MAX);
	assert_string_equal(res.unit[2], "");
	assert_string_equal(res.name[3], "Bytes");
	assert_string_equal(res.unit[3], "By");
	assert_int_equal(res.type[4], COLUMN_X_MAX);
	result_free(&res);
	run(f, "SELECT rtt, state FROM connections UNION ALL SELECT 1, 'x'", NULL);
	assert_int_equal(res.nrows, 6);
	result_free(&res);
}

static void test_live(void **state)
{
	struct fixture *f = *state;

	f->snapshots = 0;
	run(f, "SELECT *, 1 AS one FROM connections", NULL);
	assert_int_equal(res.nrows, 5);
	assert_int_equal(res.type[1], COLUMN_IP);
	assert_string_equal(res.unit[3], "us");
	assert_null(res.cell[1]);
	assert_string_equal(res.cell[2], "LISTEN");
	assert_null(res.cell[3]);
	assert_string_equal(res.cell[6 + 1], "10.0.1.1");
	assert_string_equal(res.cell[6 + 3], "100");
	assert_string_equal(res.cell[4], "sn\xef\xbf\xbd!");
	assert_int_equal(res.stats.nloss, 0);
	result_free(&res);
	assert_int_equal(f->snapshots, 1);
	/* One state however often the statement scans it. */
	assert_query(f,
		     "SELECT count(*) FROM connections a, connections b WHERE a.pid IN (SELECT pid "
		     "FROM connections)",
		     "25");
	assert_int_equal(f->snapshots, 2);
	assert_query(f, "SELECT 1", "1");
	assert_int_equal(f->snapshots, 2);
	assert_query(f,
		     "SELECT count(*) FROM connections c JOIN netflow n ON n.pid = c.pid AND "
		     "n.dst_ip = c.dst_ip",
		     "231");
	run(f, "EXPLAIN QUERY PLAN SELECT * FROM netflow n JOIN connections c ON n.pid = c.pid",
	    NULL);
	assert_true(result_has(&res, "SCAN c VIRTUAL TABLE"));
	assert_false(result_has(&res, "SCAN d"));
	result_free(&res);
	f->snapshot_fails = -ENOBUFS;
	assert_refused(f, "SELECT * FROM connections", -EINVAL,
		       "cannot read table connections: no connections today");
	f->snapshot_fails = 0;
}

static void test_params(void **state)
{
	struct fixture *f = *state;
	struct value v[] = {
		{.kind = VALUE_INT, .i = 41},
		{.kind = VALUE_TEXT,
		 .text = "a'; DROP TABLE x; --ü",
		 .len = strlen("a'; DROP TABLE x; --ü")},
		{.kind = VALUE_REAL, .d = 0.25},
		{.kind = VALUE_BYTES, .text = "\0\xff", .len = 2},
		{.kind = VALUE_NULL},
	};
	struct how how = {.params = v, .nparams = ARRAY_SIZE(v)};

	run(f, "SELECT ?1 + 1, ?2, ?3, hex(?4), ?5", &how);
	assert_string_equal(res.cell[0], "42");
	assert_string_equal(res.cell[1], v[1].text);
	assert_string_equal(res.cell[2], "0.25");
	assert_string_equal(res.cell[3], "00FF");
	assert_null(res.cell[4]);
	result_free(&res);
	how.nparams = 1;
	result_run(f, &res, "SELECT ?1, ?2", &how);
	assert_int_equal(res.r, -EINVAL);
	assert_string_equal(res.err.msg, "the statement has 2 parameters, but 1 value is given");
	result_run(f, &res, "SELECT 1", &how);
	assert_int_equal(res.r, -EINVAL);
}

static void test_functions(void **state)
{
	struct fixture *f = *state;

	assert_query(f, "SELECT in_cidr('10.1.2.3', '10.0.0.0/8')", "1");
	assert_query(f, "SELECT in_cidr('11.1.2.3', '10.0.0.0/8')", "0");
	assert_query(
		f,
		"SELECT in_cidr('10.1.2.3', '10.1.2.2/31') || in_cidr('10.1.2.4', '10.1.2.2/31')",
		"10");
	assert_query(f, "SELECT in_cidr('10.1.2.3', '0.0.0.0/0') || in_cidr('::1', '0.0.0.0/0')",
		     "10");
	assert_query(f, "SELECT in_cidr('fd00::5', 'fd00::/8')", "1");
	assert_query(f, "SELECT in_cidr('10.1.2.3', '10.1.2.3')", "1");
	assert_query(f, "SELECT in_cidr(NULL, '10.1.2.3')", NULL);
	assert_query(f, "SELECT service(99999, 'tcp')", NULL);
	assert_query(f, "SELECT service(NULL)", NULL);
	if (access("/etc/services", R_OK) == 0) {
		assert_query(f, "SELECT service(53, 'udp')", "domain");
		assert_query(f, "SELECT service(22) || service(22, 'tcp')", "sshssh");
	}
	assert_query(f, "SELECT in_cidr('x', '10.1.2.3')", NULL);
	assert_query(f, "SELECT count(*) FROM netflow WHERE in_cidr(dst_ip, '10.0.0.0/23')", "808");
	assert_refused(f, "SELECT in_cidr('1.2.3.4', '10/8')", -EINVAL,
		       "in_cidr: '10/8' is no network");
	assert_refused(f, "SELECT in_cidr('1.2.3.4', '10.0.0.0/33')", -EINVAL, "is no network");
	assert_query(f, "SELECT ip_family('10.0.0.1') || ip_family('::1')", "46");
	assert_query(f, "SELECT ip_family('here')", NULL);
	assert_query(f, "SELECT now_ns() - ago('5m')", "300000000000");
	assert_query(f, "SELECT count(DISTINCT ago('1h')) FROM netflow", "1");
	assert_query(f, "SELECT abs(now_ns() / 1000000000 - unixepoch('now')) < 5", "1");
	assert_refused(f, "SELECT ago('5 parsecs')", -EINVAL, "ago: ");
	assert_query(f, "SELECT substr(rfc3339(1700000000123456789), 5, 1)", "-");
	assert_query(f, "SELECT rfc3339(NULL)", NULL);
	assert_query(f, "SELECT median(column1) FROM (VALUES (3), (1), (2), (10))", "2.5");
	assert_query(f, "SELECT median(bytes_read) FROM netflow", "605");
	assert_query(f,
		     "SELECT percentile(bytes_read, 0) || ' ' || percentile(bytes_read, 100) FROM "
		     "netflow",
		     "0.0 1210.0");
	assert_query(f, "SELECT percentile(-bytes_read, 90) FROM netflow", "-121");
	assert_query(f, "SELECT median(NULL)", NULL);
	assert_refused(f, "SELECT percentile(1, 101)", -EINVAL, "from 0 to 100");
	assert_query(f, "SELECT length(datetime('now', 'localtime'))", "19");
	assert_query(f, "SELECT length(hex(random())) > 0", "1");
	assert_query(f, "SELECT count(*) FROM json_each('[1,2,3]')", "3");
}

static void test_text_is_utf8(void **state)
{
	struct fixture *f = *state;

	run(f, "SELECT cmd FROM bash ORDER BY ts", NULL);
	assert_int_equal(res.nrows, 3);
	assert_string_equal(res.cell[1], "echo ü€");
	assert_string_equal(res.cell[2], "ab\xef\xbf\xbd"
					 "c");
	result_free(&res);
	assert_query(f, "SELECT 'a' || char(0) || 'b'",
		     "a\xe2\x90\x80"
		     "b");
	run(f, "SELECT 1 AS \"größe €\"", NULL);
	assert_string_equal(res.name[0], "größe €");
	result_free(&res);
	assert_refused(f, "SELECT '\xff'", -EINVAL, "UTF-8");
}

static void test_limits(void **state)
{
	struct fixture *f = *state;
	struct how how = {.max_rows = 100};
	static char big[70000];

	run(f, "SELECT ts FROM netflow", &how);
	assert_int_equal(res.nrows, 100);
	assert_true(res.stats.truncated);
	result_free(&res);
	run(f, "SELECT ts FROM netflow LIMIT 100", &how);
	assert_int_equal(res.nrows, 100);
	assert_false(res.stats.truncated);
	result_free(&res);
	memset(big, ' ', sizeof(big) - 1);
	memcpy(big, "SELECT 1", 8);
	assert_refused(f, big, -EINVAL, "longer than 64 KiB");
	big[60000] = '\0';
	assert_query(f, big, "1");
	/* A cell of nearly 1 MiB goes through; frames of 64 rows or 32 KiB. */
	assert_query(f,
		     "WITH RECURSIVE r(s, n) AS (SELECT 'x', 0 UNION ALL SELECT s || s, n + 1 FROM "
		     "r WHERE n < 19)"
		     " SELECT length(max(s)) FROM r",
		     "524288");
	run(f,
	    "WITH RECURSIVE r(s, n) AS (SELECT 'x', 0 UNION ALL SELECT s || s, n + 1 FROM r WHERE "
	    "n < 19) SELECT s FROM r",
	    NULL);
	assert_int_equal(res.bytes, 1048575);
	result_free(&res);
}

static void test_completeness(void **state)
{
	struct fixture *f = *state;

	run(f, "SELECT sum(n.bytes_read) FROM netflow n LEFT JOIN bash b ON b.uid = n.pid", NULL);
	assert_int_equal(res.stats.nloss, 2);
	assert_string_equal(res.stats.loss[0].table, "netflow");
	/* 40 + 2 told since the oldest row that is held; the 999 before are of rows that are gone
	 * anyway. */
	assert_int_equal(res.stats.loss[0].rows, 42);
	assert_true(res.stats.loss[0].since_ns == T0);
	assert_string_equal(res.stats.loss[1].table, "bash");
	assert_int_equal(res.stats.loss[1].rows, 0);
	result_free(&res);
	/* Also when the result is cut, and for a table that is only counted. */
	run(f, "SELECT count(*) FROM netflow", &(struct how){.max_rows = 1});
	assert_int_equal(res.stats.nloss, 1);
	result_free(&res);
	run(f, "SELECT count(*) FROM netflow JOIN netflow b USING (ts)", NULL);
	assert_int_equal(res.stats.nloss, 1);
	result_free(&res);
	run(f, "SELECT 'loss', state AS netflow FROM connections", NULL);
	assert_int_equal(res.stats.nloss, 0);
	result_free(&res);
}

static void check_range(struct fixture *f, const char *sql, const struct how *how, uint64_t from,
			uint64_t until, uint64_t lost)
{
	run(f, sql, how);
	assert_int_equal(res.stats.nloss, 1);
	assert_int_equal(res.stats.loss[0].from_ns, from);
	assert_int_equal(res.stats.loss[0].until_ns, until);
	assert_int_equal(res.stats.loss[0].rows, lost);
	assert_true((res.stats.loss[0].why[0] != 0) == (lost != 0));
	result_free(&res);
}

/* What is missing is counted in the time that the statement asks for, where that can be known. */
static void test_range(void **state)
{
	static const struct value now[] = {{.kind = VALUE_INT, .i = T0 + 2}};
	const struct how with = {.params = now, .nparams = 1};
	struct fixture *f = *state;
	char sql[256];

	run(f, "SELECT count(*) FROM netflow WHERE bytes_read > 0", NULL);
	assert_string_equal(res.stats.loss[0].why, "kernel 40, store 2");
	assert_true(res.stats.loss[0].held > 0 && res.stats.loss[0].held != UINT64_MAX);
	result_free(&res);
	check_range(f, "SELECT count(*) FROM netflow WHERE ts >= ?1", &with, T0 + 2, 0, 2);
	check_range(f, "SELECT count(*) FROM netflow n WHERE n.ts > ?1 + 0", &with, T0 + 3, 0, 0);
	check_range(f, "SELECT 1 FROM (SELECT * FROM netflow WHERE ts > ?1)", &with, T0 + 3, 0, 0);
	check_range(f, "SELECT max(netflow.ts) FROM netflow WHERE netflow.ts >= ?1", &with, T0 + 2,
		    0, 2);
	/* Rows of "loss" are about the second before them. */
	check_range(f, "SELECT 1 FROM netflow WHERE ts < ?1", &with, 0, T0 + 1, 42);
	check_range(f, "SELECT 1 FROM netflow WHERE ts = ?1", &with, T0 + 2, T0 + 2, 2);
	check_range(f, "SELECT 1 FROM netflow WHERE ts > ?1 OR ts = 7", &with, 7, 0, 42);
	/* Not known: all that there is. */
	check_range(f, "SELECT count(*) FROM netflow WHERE ts + 1 > ?1", &with, 0, 0, 42);
	check_range(f, "SELECT 1 FROM netflow a JOIN netflow b USING (ts) WHERE a.ts > ?1", &with, 0,
		    0, 42);
	check_range(f, "SELECT 1 FROM netflow WHERE ts > (SELECT 'text') AND pid > ?1", &with, 0, 0,
		    42);
	/* One that makes rows of nothing doesn't hold anybody up for long. */
	snprintf(sql, sizeof(sql),
		 "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2000000) "
		 "SELECT (SELECT count(*) FROM r), count(*) FROM netflow WHERE ts > %llu",
		 T0 + 2);
	check_range(f, sql, NULL, 0, 0, 42);
}

static void test_explain(void **state)
{
	struct fixture *f = *state;

	run(f, "EXPLAIN SELECT * FROM netflow", NULL);
	assert_int_equal(res.ncols, 8);
	assert_true(res.nrows > 10);
	result_free(&res);
	run(f, "explain /* ? */ query plan SELECT count(*) FROM netflow WHERE ts > ago('5m')",
	    NULL);
	assert_int_equal(res.ncols, 4);
	for (unsigned int i = 3; i < res.ncells; i += 4)
		if (strstr(res.cell[i], "netflow_data"))
			assert_non_null(strstr(res.cell[i], "INTEGER PRIMARY KEY (rowid>?)"));
	result_free(&res);
}

static void test_errors(void **state)
{
	struct fixture *f = *state;

	assert_refused(f, "", -EINVAL, "empty");
	assert_refused(f, " ; -- nothing\n /* at all */", -EINVAL, "empty");
	assert_refused(f, "SELECT * FORM netflow", -EINVAL,
		       "near \"FORM\": syntax error (at character 10)");
	assert_refused(f, "SELECT * FROM netflw", -EINVAL,
		       "no such table: netflw, did you mean 'netflow'?");
	assert_refused(f, "SELECT * FROM xyzzy", -EINVAL, "ringside tables");
	assert_refused(f, "SELECT n.byte_read FROM netflow n", -EINVAL,
		       "did you mean 'bytes_read'?");
	assert_refused(f, "SELECT mediam(1)", -EINVAL, "did you mean 'median'?");
	assert_refused(f, "SELECT * FROM netflow WHERE process_name = \"firefox\"", -EINVAL,
		       "single quotes");
	assert_refused(f, "SELECT 1; SELECT 2", -EINVAL, "a second one begins at character 10");
	assert_refused(f, "SELECT abs(-9223372036854775807 - 1)", -EINVAL, "integer overflow");
	assert_refused(f, "SELECT 'open", -EINVAL, "unrecognized token");
	assert_refused(f, "SELECT (", -EINVAL, "incomplete input");
	assert_refused(f, "SELECT json('{')", -EINVAL, "malformed JSON");
	assert_refused(f, "(SELECT 1)", -EINVAL, "begins with SELECT");
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], QUERY_WORKER_NAME))
		query_worker_main(argc, argv);

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_values),	      T(test_history), T(test_column_types_through_expressions),
		T(test_live),	      T(test_params),  T(test_functions),
		T(test_text_is_utf8), T(test_limits),  T(test_completeness), T(test_range),
		T(test_explain),      T(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
