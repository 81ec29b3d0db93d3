// SPDX-License-Identifier: Apache-2.0
/* Hostile SQL: each statement is refused, or dead in time, and leaves nothing behind. */
#include "query_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/macro.h"

static struct result res;

/* A text of n copies. */
static char *repeat(const char *before, const char *open, unsigned int n, const char *mid,
		    const char *close, const char *after)
{
	struct buf b = {};

	buf_puts(&b, before);
	for (unsigned int i = 0; i < n; i++)
		buf_puts(&b, open);
	buf_puts(&b, mid);
	for (unsigned int i = 0; i < n; i++)
		buf_puts(&b, close);
	buf_puts(&b, after);
	return b.data;
}

/* x0 is one row, x(i) is x(i-1) cross itself: 2^n tables after expansion. */
static char *exponential_cte(unsigned int n)
{
	struct buf b = {};

	buf_puts(&b, "WITH x0 AS (SELECT 1 AS a)");
	for (unsigned int i = 1; i <= n; i++)
		buf_printf(&b, ", x%u AS (SELECT l.a FROM x%u l, x%u r)", i, i - 1, i - 1);
	buf_printf(&b, " SELECT count(*) FROM x%u", n);
	return b.data;
}

static char *wide_join(unsigned int n)
{
	struct buf b = {};

	buf_puts(&b, "SELECT count(*) FROM netflow t0");
	for (unsigned int i = 1; i < n; i++)
		buf_printf(&b, ", netflow t%u", i);
	return b.data;
}

#define OK 1

struct attack {
	const char *sql;
	int codes[4]; /* any of them; OK: success */
};

#define ENDLESS "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) "
/* A text of 2^n letters made without a function that is refused. */
#define BIG(n, letter)                                                 \
	"(WITH RECURSIVE g(s, k) AS (SELECT '" letter                  \
	"', 0 UNION ALL SELECT s || s, k + 1 FROM g WHERE k < " #n ")" \
	" SELECT s FROM g ORDER BY k DESC LIMIT 1)"

static const struct attack attacks[] = {
	/* Big values out of nothing. */
	{"SELECT length(printf('%.*c', 900000000, 'x'))", {-EPERM}},
	{"SELECT length(format('%.*c', 900000000, 'x'))", {-EPERM}},
	{"SELECT length(PrintF('%900000000d', 1))", {-EPERM}},
	{"SELECT \"printf\"('%d', 1)", {-EPERM}},
	{"SELECT hex(zeroblob(400000000))", {-EPERM}},
	{"SELECT length(randomblob(1000000000))", {-EPERM}},
	{"SELECT length(group_concat(cmd, " BIG(19, "x") ")) FROM bash, netflow", {-E2BIG}},
	{"SELECT length(replace(" BIG(18, "a") ", 'a', " BIG(18, "b") "))", {-E2BIG}},
	{"SELECT length(s || s || s) FROM (SELECT " BIG(19, "x") " AS s)", {-E2BIG}},
	{ENDLESS "SELECT length(json_group_array(i)) FROM r", {-E2BIG, -ETIMEDOUT}},
	{"WITH RECURSIVE g(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM g) SELECT length(s) FROM "
	 "g",
	 {-E2BIG}},
	{"SELECT quote(" BIG(19, "''") ")", {-E2BIG}},
	/* Time. */
	{ENDLESS "SELECT count(*) FROM r", {-ETIMEDOUT}},
	{ENDLESS "SELECT i FROM r ORDER BY i DESC", {-ETIMEDOUT, -E2BIG}},
	{ENDLESS "SELECT DISTINCT i * 7 FROM r", {-ETIMEDOUT, -E2BIG, OK}},
	{ENDLESS "SELECT median(i) FROM r", {-ETIMEDOUT, -E2BIG}},
	{"SELECT count(*) FROM netflow a, netflow b, netflow c, netflow d", {-ETIMEDOUT}},
	{"SELECT count(*) FROM connections a, connections b, connections c, connections d, "
	 "connections e, connections f,"
	 " connections g, connections h, connections i, connections j, connections k, connections "
	 "l",
	 {-ETIMEDOUT}},
	{"SELECT sum(instr(x, y)) FROM (SELECT " BIG(19, "a") " AS x, " BIG(
		 18, "a") " || 'b' AS y), netflow",
	 {-ETIMEDOUT}},
	{"SELECT count(*) FROM netflow, (SELECT " BIG(
		 19,
		 "ab") " AS x) WHERE x LIKE"
		       " '%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%c%a%b%d%e'",
	 {-ETIMEDOUT, -E2BIG}},
	{"SELECT count(*) FROM netflow, (SELECT " BIG(
		 18, "a") " AS x) WHERE x GLOB '*a*a*a*a*a*a*a*a*a*b'",
	 {-ETIMEDOUT, OK}},
	{"SELECT sum(bytes_read) OVER (ORDER BY a.ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 "
	 "FOLLOWING EXCLUDE TIES),"
	 " percentile(a.bytes_read, 50) OVER (ORDER BY b.ts) FROM netflow a, netflow b",
	 {-EINVAL}},
	{"SELECT max(x) FROM (SELECT total(a.bytes_read) OVER (PARTITION BY b.pid ORDER BY a.ts "
	 "ROWS BETWEEN UNBOUNDED"
	 " PRECEDING AND CURRENT ROW EXCLUDE TIES) AS x FROM netflow a, netflow b)",
	 {-ETIMEDOUT, -E2BIG}},
	{"SELECT a.process_name || b.process_name || random() AS k FROM netflow a, netflow b, "
	 "netflow c ORDER BY k",
	 {-ETIMEDOUT, -E2BIG}},
	/* Files and extensions. */
	{"ATTACH '/etc/passwd' AS p", {-EPERM}},
	{"ATTACH ':memory:' AS p", {-EPERM}},
	{"DETACH flow41", {-EPERM}},
	{"VACUUM", {-EPERM}},
	{"VACUUM INTO '/tmp/test-query-evil.db'", {-EPERM}},
	{"VACUUM flow43 INTO '/tmp/test-query-evil.db'", {-EPERM}},
	{"SELECT load_extension('/tmp/x.so')", {-EPERM}},
	{"SELECT readfile('/etc/shadow')", {-EINVAL, -EPERM}},
	{"SELECT writefile('/tmp/test-query-evil', 'x')", {-EINVAL, -EPERM}},
	{"SELECT edit('x', 'vi')", {-EINVAL, -EPERM}},
	{"SELECT * FROM fsdir('/')", {-EINVAL, -EPERM}},
	/* Writes. */
	{"CREATE TABLE t(a)", {-EPERM}},
	{"CREATE TEMP TABLE t AS SELECT * FROM netflow", {-EPERM}},
	{"CREATE TEMP VIEW v AS SELECT 1", {-EPERM}},
	{"CREATE VIRTUAL TABLE t USING fts5(x)", {-EPERM}},
	{"INSERT INTO netflow(ts) VALUES (1)", {-EPERM}},
	{"REPLACE INTO flow43.netflow_data(ts) VALUES (1)", {-EPERM}},
	{"UPDATE netflow SET pid = 1", {-EPERM}},
	{"DELETE FROM flow43.netflow_data", {-EPERM}},
	{"WITH x AS (SELECT 1) DELETE FROM flow43.netflow_data", {-EPERM, -EINVAL}},
	{"WITH x AS (SELECT 1) INSERT INTO connections(pid) SELECT * FROM x", {-EPERM, -EINVAL}},
	{"EXPLAIN DELETE FROM netflow", {-EPERM}},
	{"DROP VIEW netflow", {-EPERM}},
	{"BEGIN IMMEDIATE", {-EPERM}},
	{"COMMIT", {-EPERM}},
	{"SAVEPOINT a", {-EPERM}},
	{"REINDEX", {-EPERM}},
	{"ANALYZE", {-EPERM}},
	{"ALTER TABLE flow43.netflow_data RENAME TO x", {-EPERM}},
	{"PRAGMA writable_schema = 1", {-EPERM}},
	{"PRAGMA flow43.journal_mode = DELETE", {-EPERM}},
	{"PRAGMA hard_heap_limit = 0", {-EPERM}},
	{"SELECT * FROM pragma_database_list", {-EPERM, -EINVAL}},
	{"SELECT count(*) FROM pragma_database_list", {-EPERM, -EINVAL}},
	{"SELECT * FROM pragma_table_info('netflow')", {-EPERM, -EINVAL}},
	{"SELECT * FROM pragma_journal_mode", {-EPERM, -EINVAL}},
	/* What lies below and beside. */
	{"SELECT * FROM sqlite_master", {-EPERM, -EINVAL}},
	{"SELECT count(*) FROM sqlite_schema", {-EPERM, -EINVAL}},
	{"SELECT sql FROM flow43.sqlite_master", {-EPERM, -EINVAL}},
	{"SELECT * FROM sqlite_temp_schema", {-EPERM, -EINVAL}},
	{"SELECT * FROM flow43.netflow_data", {-EPERM, -EINVAL}},
	{"SELECT * FROM strings, netflow", {-EPERM, -EINVAL}},
	{"SELECT count(*) FROM segment_tables, netflow", {-EPERM, -EINVAL}},
	{"SELECT * FROM netflow_data", {-EPERM, -EINVAL}},
	{"SELECT * FROM sqlite_stmt", {-EPERM, -EINVAL}},
	{"SELECT * FROM dbstat", {-EPERM, -EINVAL}},
	{"SELECT count(*) FROM dbstat", {-EPERM, -EINVAL}},
	{"SELECT * FROM bytecode('SELECT 1')", {-EPERM, -EINVAL}},
	{"SELECT fts3_tokenizer('simple')", {-EPERM}},
	{"SELECT fts3_tokenizer('x', x'4141414141414141')", {-EPERM}},
	{"SELECT sqlite_compileoption_get(1)", {-EPERM}},
	/* More than one statement, and things that hide in comments. */
	{"SELECT 1; ATTACH '/etc/passwd' AS p", {-EINVAL}},
	{"SELECT 1; /* */ ; SELECT 2", {-EINVAL}},
	{"/* SELECT */ PRAGMA user_version", {-EPERM}},
	{"-- SELECT\nVACUUM", {-EPERM}},
	{"; ; /**/ DETACH flow41", {-EPERM}},
	{"/* no end SELECT 1", {-EINVAL}},
	{"SELECT 1 /* no end", {OK}},
	{"SELECT/**/1--", {OK}},
	{"EXPLAIN EXPLAIN SELECT 1", {-EPERM, -EINVAL}},
	{"EXPLAIN QUERY PLAN VACUUM", {-EPERM}},
	{"SELECTED", {-EPERM}},
	{"\xef\xbb\xbfSELECT 1", {-EINVAL, OK}},
	/* Numbers at their edges. */
	{"SELECT substr('x', -9223372036854775808, 9223372036854775807)", {OK}},
	{"SELECT round(1e308, 2147483647), abs(-1e309), 1e999, -1e999, 9223372036854775807 + 1",
	 {OK}},
	{"SELECT json_extract('[1]', '$[99999999999999999999]')", {OK, -EINVAL}},
	{"SELECT rfc3339(9223372036854775807)", {OK}},
	{"SELECT ago('9999999999w')", {OK, -EINVAL}},
	{"SELECT char(1114112, 55296, 0, 65534), cast(x'edbfbf' AS text)", {OK}},
};

static bool expected(const int codes[4], int r)
{
	for (int i = 0; i < 4; i++)
		if (codes[i] && codes[i] == (r ? r : OK))
			return true;
		else if (codes[i] == -E2BIG && r == -ETIMEDOUT)
			return true; /* a slow machine gets to the deadline first */
	return false;
}

static void attack(struct fixture *f, const char *sql, const int codes[4])
{
	result_run(f, &res, sql, &(struct how){.timeout_ms = DEADLINE_MS, .max_rows = 1000000});
	if (!expected(codes, res.r))
		fail_msg("%.100s: %d (%s) after %d rows", sql, res.r, res.err.msg, (int)res.nrows);
	if (res.ms > DEADLINE_MS + SLACK_MS)
		fail_msg("%.100s: took %d ms", sql, (int)res.ms);
	result_free(&res);
	assert_no_children();
}

static void test_attacks(void **state)
{
	struct fixture *f = *state;
	long before;

	assert_query(f, "SELECT count(*) FROM netflow", "1211");
	before = rss_bytes();
	for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
		attack(f, attacks[i].sql, attacks[i].codes);
		if (i % 8 == 0)
			assert_query(f, "SELECT 1", "1");
	}
	assert_query(f, "SELECT count(*) FROM netflow", "1211");
	assert_in_range(rss_bytes(), 0, before + RSS_GROWTH);
	assert_int_equal(access("/tmp/test-query-evil.db", F_OK), -1);
	assert_int_equal(access("/tmp/test-query-evil", F_OK), -1);
}

static void test_made_attacks(void **state)
{
	struct fixture *f = *state;
	long before = rss_bytes();
	struct {
		char *sql;
		int codes[4];
	} made[] = {
		/* Parentheses alone are no depth once the parser's stack grows (SQLite 3.46). */
		{repeat("SELECT ", "(", 20000, "1", ")", ""), {OK, -EINVAL, -E2BIG}},
		{repeat("SELECT ", "(SELECT ", 6000, "1", ")", ""), {-EINVAL, -E2BIG}},
		{repeat("SELECT 1", " + 1", 12000, "", "", ""), {-EINVAL}},
		{repeat("SELECT 1", " UNION ALL SELECT 1", 3000, "", "", ""), {-EINVAL}},
		{repeat("SELECT 1", ", 1", 20000, "", "", ""), {-EINVAL}},
		{repeat("SELECT coalesce(1", ", 1", 20000, "", "", ")"), {-EINVAL}},
		{repeat("SELECT 1 WHERE 1 IN (1", ", 2", 20000, "", "", ")"), {OK, -EINVAL}},
		{repeat("SELECT ", "NOT ", 15000, "1", "", ""), {-EINVAL}},
		{repeat("SELECT ", "- ", 30000, "1", "", ""), {-EINVAL}},
		{repeat("SELECT * FROM json_each('", "[", 30000, "", "]", "')"), {OK, -EINVAL}},
		{repeat("SELECT 1 FROM (SELECT 1)", " JOIN (SELECT 1)", 3000, "", "", ""),
		 {-EINVAL}},
		{repeat("SELECT ?", ", ?", 5000, "", "", ""), {-EINVAL}},
		{exponential_cte(21), {-E2BIG, -ETIMEDOUT, -EINVAL}},
		{exponential_cte(40), {-E2BIG, -ETIMEDOUT, -EINVAL}},
		{wide_join(60), {-ETIMEDOUT, -E2BIG, -EINVAL}},
		{wide_join(65), {-EINVAL, -ETIMEDOUT, -E2BIG}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
		attack(f, made[i].sql, made[i].codes);
		free(made[i].sql);
		assert_query(f, "SELECT 1", "1");
	}
	assert_in_range(rss_bytes(), 0, before + RSS_GROWTH);
}

static void test_texts(void **state)
{
	struct fixture *f = *state;

	assert_refused(f, "SELECT printf('%d', 1)", -EPERM, "function 'printf' is not offered");
	assert_refused(f, "DELETE FROM netflow", -EPERM, "not with DELETE");
	assert_refused(f, "WITH x AS (SELECT 1) DELETE FROM netflow", -EPERM, "DELETE is refused");
	assert_refused(f, "SELECT * FROM sqlite_master", -EPERM, "ringside tables");
	assert_refused(f, "SELECT length(replace(" BIG(18, "a") ", 'a', 'bbbbbbbb'))", -E2BIG,
		       "larger than 1024 KiB");
}

/* Results far larger than the daemon may hold: a client that reads slowly costs it nothing. */
static void test_big_result_flat(void **state)
{
	struct fixture *f = *state;
	const struct how how = {.timeout_ms = 100000};
	long before;

	result_run(f, &res, "SELECT * FROM netflow a, netflow b LIMIT 20000", NULL);
	result_free(&res);
	before = rss_bytes();
	result_run(f, &res, "SELECT a.*, b.* FROM netflow a, netflow b LIMIT 400000", &how);
	assert_int_equal(res.r, 0);
	assert_int_equal(res.nrows, 400000);
	result_free(&res);
	assert_in_range(rss_bytes(), 0, before + RSS_GROWTH);
}

static void test_no_leaks(void **state)
{
	struct fixture *f = *state;
	unsigned int before = 0, after = 0;
	DIR *d;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 20; i++) {
			assert_query(f, "SELECT count(*) FROM connections", "5");
			assert_refused(f, "SELECT nowhere_there", -EINVAL, "no such column");
		}
		d = opendir("/proc/self/fd");
		after = 0;
		while (readdir(d))
			after++;
		closedir(d);
		if (!round)
			before = after;
	}
	assert_int_equal(before, after);
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], QUERY_WORKER_NAME))
		query_worker_main(argc, argv);

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_attacks),	 T(test_made_attacks), T(test_texts),
		T(test_big_result_flat), T(test_no_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
