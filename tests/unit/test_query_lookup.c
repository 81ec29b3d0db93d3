// SPDX-License-Identifier: Apache-2.0
/* Looking for one address or process: sealed segments answer by their indexes, and nothing else
 * than a scan would. */
#include "query_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "lib/flow_rows.h"
#include "store/schema.h"
#include "store/store.h"

#define ROWS_A_SEGMENT 6000u
#define SEALED	       3
#define ROWS	       (SEALED * ROWS_A_SEGMENT + 700u)
/* 1/1000 of all rows; a third; none */
#define COLD "'10.1.0.17'"
#define HOT  "'10.1.0.0'"
#define GONE "'10.200.0.1'"
/* In no dictionary, but in cells of a sealed segment and of the live one */
#define INLINED "'10.77.0.1'"

struct lookups {
	struct fixture f;
	struct store *store;
};

static struct result res;

static void push(struct store *s, struct flow_rows *g, uint64_t *ts, unsigned int rows)
{
	struct batch *b = flow_rows_batch(g, rows, *ts, NSEC_PER_MSEC);

	assert_non_null(b);
	assert_int_equal(store_push(s, b), 0);
	batch_unref(b);
	*ts += rows * NSEC_PER_MSEC;
	assert_int_equal(store_flush(s, 20 * NSEC_PER_SEC), 0);
}

static void wait_sealed(const char *ring)
{
	for (unsigned int i = 0; i < 1000; i++) {
		struct segment_file files[SCHEMA_MAX_SEGMENTS];
		int n = schema_list(ring, files, SCHEMA_MAX_SEGMENTS, NULL), sealed = 0;

		for (int k = 0; k < n; k++)
			sealed += files[k].ring == RING_FLOW && files[k].sealed;
		if (sealed == SEALED)
			return;
		usleep(10000);
	}
	fail_msg("segments are not sealed after 10 s");
}

static void change(const char *ring, unsigned int segment, const char *sql)
{
	struct segment_file files[SCHEMA_MAX_SEGMENTS];
	int n = schema_list(ring, files, SCHEMA_MAX_SEGMENTS, NULL);
	sqlite3 *db = NULL;

	for (int i = 0; i < n; i++)
		if (files[i].ring == RING_FLOW && !segment--)
			assert_int_equal(sqlite3_open(files[i].path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* As a dictionary without room leaves a cell: a text. */
#define INLINE(ip, row)                                                                          \
	"UPDATE netflow_data SET dst_ip = " ip " WHERE ts = (SELECT ts FROM netflow_data ORDER " \
	"BY ts LIMIT 1 OFFSET " row ")"

static void make_odd(const char *ring)
{
	for (unsigned int i = 0; i <= SEALED; i++)
		change(ring, i,
		       "UPDATE netflow_data SET pid = 300, dst_ip = (SELECT id FROM strings WHERE "
		       "s = " HOT ") WHERE ts / 1000000 % 3 = 0 AND dst_ip <> (SELECT id FROM "
		       "strings WHERE s = " COLD ")");
	change(ring, 1, INLINE(INLINED, "77"));
	change(ring, SEALED, INLINE(INLINED, "5"));
	change(ring, 2, INLINE(COLD, "9"));
}

static void open_store(struct lookups *l, const char *ring)
{
	struct store_options options = {
		.dir = ring,
		.limits = {[RING_FLOW] = {.max_bytes = 64 << 20, .max_rows = ROWS_A_SEGMENT * 7},
			   [RING_AUDIT] = {.max_bytes = 16 << 20}},
		.queue_batches = 16,
		.flush_ns = NSEC_PER_MSEC,
	};
	struct err err = {};

	if (store_new(&l->store, &options, &err) < 0 ||
	    store_add_table(l->store, &flow_rows_table, &err) < 0 ||
	    store_start(l->store, &err) < 0)
		fail_msg("%s", err.msg);
}

static int setup(void **state)
{
	static const struct table *const tables[] = {&flow_rows_table, NULL};
	struct query_engine_options o = {
		.tables = tables,
		.max_workers = 2,
		.max_deadline_ns = 60 * NSEC_PER_SEC,
		.default_deadline_ns = 60 * NSEC_PER_SEC,
		.max_rows = 100000,
		.worker_user = geteuid() == 0 ? "nobody" : NULL,
	};
	struct lookups *l = calloc(1, sizeof(*l));
	struct store_stats stats;
	uint64_t ts = T0;
	struct flow_rows g;
	struct err err = {};

	snprintf(l->f.dir, sizeof(l->f.dir), "/tmp/test-lookup-XXXXXX");
	assert_non_null(mkdtemp(l->f.dir));
	open_store(l, l->f.dir);
	flow_rows_init(&g);
	for (unsigned int i = 0; i < SEALED; i++)
		push(l->store, &g, &ts, ROWS_A_SEGMENT);
	push(l->store, &g, &ts, ROWS - SEALED * ROWS_A_SEGMENT);
	wait_sealed(l->f.dir);
	store_get_stats(l->store, RING_FLOW, &stats);
	assert_int_equal(stats.indexed, SEALED);
	assert_int_equal(stats.unindexed, 0);
	make_odd(l->f.dir);
	o.ring_dir = l->f.dir;
	if (query_engine_new(&l->f.engine, &o, &err) < 0)
		fail_msg("%s", err.msg);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	struct lookups *l = *state;
	char cmd[128];

	query_engine_free(l->f.engine);
	store_stop(l->store, NSEC_PER_SEC);
	store_free(l->store);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", l->f.dir);
	assert_int_equal(system(cmd), 0);
	free(l);
	return 0;
}

/* How many lines of the statement's plan hold that. */
static unsigned int plan_lines(struct lookups *l, const char *sql, const char *part)
{
	unsigned int n = 0;
	char text[512];

	snprintf(text, sizeof(text), "EXPLAIN QUERY PLAN %s", sql);
	result_run(&l->f, &res, text, NULL);
	if (res.r < 0)
		fail_msg("%s: %s", text, res.err.msg);
	for (unsigned int i = 3; i < res.ncells; i += 4)
		n += res.cell[i] && strstr(res.cell[i], part);
	result_free(&res);
	return n;
}

#define BY_IP  "USING INDEX netflow_by_dst_ip (dst_ip=?"
#define BY_PID "USING INDEX netflow_by_pid (pid=?"

static void test_plans(void **state)
{
	static const struct {
		const char *sql, *part;
		unsigned int lines;
	} plans[] = {
		{"SELECT * FROM netflow WHERE dst_ip = " COLD, BY_IP ")", SEALED},
		{"SELECT count(*) FROM netflow n WHERE n.dst_ip = " COLD,
		 "INDEX netflow_by_dst_ip (dst_ip=?)", SEALED},
		{"SELECT * FROM netflow WHERE " COLD " = dst_ip AND ts > 1700000000001000000",
		 BY_IP " AND rowid>?)", SEALED},
		{"SELECT x.b FROM (SELECT dst_ip AS a, bytes_read AS b FROM netflow) x WHERE x.a "
		 "= " COLD,
		 BY_IP, SEALED},
		/* Of two segments some cells are texts: which of them are in a network nobody
		 * knows. */
		{"SELECT * FROM netflow WHERE in_cidr(dst_ip, '10.1.0.16/30')", BY_IP, SEALED - 2},
		{"SELECT * FROM netflow WHERE pid = 23115", BY_PID ")", SEALED},
		{"SELECT ts, dst_ip FROM netflow WHERE pid = 23115 ORDER BY ts DESC LIMIT 3",
		 BY_PID, SEALED},
		{"SELECT ts FROM netflow WHERE pid = 23115 ORDER BY ts DESC LIMIT 3",
		 "USE TEMP B-TREE", 0},
		{"SELECT * FROM netflow WHERE pid IN (23115, 23232)", BY_PID, SEALED},
		/* A third of all rows: a scan is faster. */
		{"SELECT * FROM netflow WHERE dst_ip = " HOT, "INDEX", 0},
		{"SELECT * FROM netflow WHERE pid = 300", "INDEX", 0},
		{"SELECT * FROM netflow WHERE in_cidr(dst_ip, '10.0.0.0/8')", "INDEX", 0},
		/* Not there: of the sealed segments none is read. */
		{"SELECT * FROM netflow WHERE dst_ip = " GONE, "netflow_data", 0},
		{"SELECT * FROM netflow WHERE pid = 7", "SCAN d", 1},
		/* These may be nearly all rows. */
		{"SELECT * FROM netflow WHERE pid <> 300", "INDEX", 0},
		{"SELECT * FROM netflow WHERE pid > 300", "INDEX", 0},
		{"SELECT * FROM netflow WHERE pid IS NOT NULL", "INDEX", 0},
	};

	for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
		unsigned int n = plan_lines(*state, plans[i].sql, plans[i].part);

		if (n != plans[i].lines)
			fail_msg("%s: %u lines with '%s', not %u", plans[i].sql, n, plans[i].part,
				 plans[i].lines);
	}
}

/* "{column}" as it is, or as an expression that no index and no id can stand for. */
static void expand(char *to, const char *sql, bool scan)
{
	for (; *sql; sql++) {
		if (*sql == '{')
			to = stpcpy(to, scan ? "(" : "");
		else if (*sql == '}')
			to = stpcpy(to, scan ? " || '')" : "");
		else
			*to++ = *sql;
	}
	*to = '\0';
}

/* The rows of both are the same; returns how many. */
static uint64_t same_rows(struct lookups *l, const char *sql, const struct how *how)
{
	static struct result scan;
	char text[1024];
	uint64_t rows;

	expand(text, sql, false);
	result_run(&l->f, &res, text, how);
	if (res.r < 0)
		fail_msg("%s: %s", text, res.err.msg);
	expand(text, sql, true);
	result_run(&l->f, &scan, text, how);
	if (scan.r < 0)
		fail_msg("%s: %s", text, scan.err.msg);
	if (res.nrows != scan.nrows || res.ncells != scan.ncells)
		fail_msg("%s: %" PRIu64 " rows, a scan finds %" PRIu64, sql, res.nrows, scan.nrows);
	for (unsigned int i = 0; i < res.ncells; i++) {
		const char *a = res.cell[i] ? res.cell[i] : "NULL",
			   *b = scan.cell[i] ? scan.cell[i] : "NULL";

		if (strcmp(a, b))
			fail_msg("%s: cell %u is %s, by a scan %s", sql, i, a, b);
	}
	rows = res.nrows;
	result_free(&res);
	result_free(&scan);
	return rows;
}

#define FLOWS "SELECT ts, dst_ip, pid, bytes_read FROM netflow "

static void test_rows(void **state)
{
	static const char *const some[] = {
		FLOWS "WHERE {dst_ip} = " COLD " ORDER BY ts",
		FLOWS "WHERE {dst_ip} = " HOT " ORDER BY ts DESC LIMIT 20",
		FLOWS "WHERE {dst_ip} = " INLINED,
		FLOWS "WHERE {dst_ip} = " COLD " AND ts > 1700000005000000000 ORDER BY ts",
		FLOWS "WHERE {dst_ip} = " COLD " OR {dst_ip} = " INLINED " ORDER BY ts",
		FLOWS "WHERE {dst_ip} IN (" COLD ", " INLINED ") ORDER BY ts",
		FLOWS "WHERE {dst_ip} = '10.1.0.' || '17' ORDER BY ts",
		FLOWS "WHERE {dst_ip} = " COLD " COLLATE NOCASE ORDER BY ts",
		FLOWS "WHERE {dst_ip} > '10.1.0.1' AND {dst_ip} < '10.1.0.2' ORDER BY ts LIMIT 50",
		FLOWS "WHERE {dst_ip} IS " COLD " ORDER BY ts",
		FLOWS "WHERE {dst_ip} = (SELECT " COLD ") ORDER BY ts",
		FLOWS "WHERE in_cidr({dst_ip}, '10.1.0.16/30') ORDER BY ts",
		FLOWS "WHERE in_cidr({dst_ip}, '10.1.0.0/24') ORDER BY ts LIMIT 50",
		FLOWS "WHERE in_cidr({dst_ip}, '10.64.0.0/10')",
		FLOWS "WHERE in_cidr({dst_ip}, '10.0.0.0/8') ORDER BY ts LIMIT 50",
		FLOWS "WHERE {src_ip} = '10.0.0.3' ORDER BY ts LIMIT 50",
		FLOWS "WHERE pid > 300 AND {dst_ip} = " COLD " ORDER BY ts",
		FLOWS "WHERE {process_name} = 'curl' AND {dst_ip} = " HOT " ORDER BY ts LIMIT 50",
		FLOWS "WHERE {transport} = 'udp' ORDER BY ts LIMIT 50",
		FLOWS "WHERE {pid} = '23115' ORDER BY ts",
		FLOWS "WHERE {pid} || '' = '23115' AND {dst_domain} IS NULL LIMIT 50",
		"SELECT {dst_ip}, count(*) FROM netflow WHERE {dst_ip} = " COLD " GROUP BY 1",
		"SELECT DISTINCT process_name FROM netflow WHERE {dst_ip} = " COLD " ORDER BY 1",
		/* The table twice, or one scan that runs for several values. */
		"SELECT (SELECT count(*) FROM netflow WHERE {dst_ip} = " COLD
		"), (SELECT count(*) FROM netflow)",
		"SELECT count(*) FROM netflow WHERE {dst_ip} = " COLD
		" UNION ALL SELECT count(*) FROM netflow",
		"WITH n AS (SELECT ts, dst_ip, pid FROM netflow) SELECT count(*) FROM n a JOIN n b "
		"ON b.ts = a.ts + 1000000 WHERE {a.dst_ip} = " HOT,
		"WITH n AS MATERIALIZED (SELECT dst_ip FROM netflow WHERE {dst_ip} = " COLD
		") SELECT (SELECT count(*) FROM n), (SELECT count(*) FROM n WHERE {dst_ip} = " HOT
		")",
		"SELECT v.column1, (SELECT count(*) FROM netflow WHERE {dst_ip} = v.column1) FROM "
		"(VALUES(" COLD "), (" HOT "), (" GONE "), (" INLINED ")) v",
		"SELECT v.column1 FROM (VALUES(" GONE "), (" COLD "), (" HOT
		")) v WHERE NOT EXISTS "
		"(SELECT 1 FROM netflow WHERE {dst_ip} = v.column1) LIMIT 2",
		"SELECT count(*) FROM (VALUES(1)) v LEFT JOIN netflow n ON {n.dst_ip} = " COLD,
		"SELECT count(*), count(v.column1) FROM netflow n LEFT JOIN (VALUES(1)) v ON "
		"{n.dst_ip} = " COLD,
		"SELECT count(*) FROM (VALUES(1)) v LEFT JOIN netflow n ON {n.dst_ip} = " GONE
		" WHERE n.ts IS NULL",
		"SELECT count(*), count(v.column1) FROM (VALUES(1)) v RIGHT JOIN netflow n ON "
		"{n.dst_ip} = " COLD,
		"SELECT count(*), count(v.column1), count(n.ts) FROM netflow n RIGHT JOIN "
		"(VALUES(1), (2)) v ON {n.dst_ip} = " COLD,
		"SELECT count(*), count(v.column1), count(n.ts) FROM netflow n FULL JOIN "
		"(VALUES(1)) "
		"v ON {n.dst_ip} = " GONE,
		"SELECT count(*) FROM netflow GROUP BY {dst_ip} HAVING {dst_ip} = " COLD,
		"SELECT sum({dst_ip} = " COLD "), count(*) FROM netflow",
		"SELECT count(*) FROM netflow WHERE NOT {dst_ip} = " COLD,
		"SELECT count(*) FROM netflow WHERE ({dst_ip} = " COLD ") = 0",
		"SELECT count(*) FROM netflow WHERE CASE WHEN {dst_ip} = " COLD
		" THEN 0 ELSE 1 END",
		/* Names are the statement's own. */
		"SELECT count(*) FROM netflow AS \"x VIRTUAL TABLE INDEX 1:~way\" JOIN (VALUES(1)) "
		"WHERE {dst_ip} = " COLD,
		"SELECT count(*) FROM netflow AS a, netflow AS \"b VIRTUAL TABLE INDEX 1:\" WHERE "
		"{a.dst_ip} = " COLD " AND a.ts = \"b VIRTUAL TABLE INDEX 1:\".ts",
	};
	static const char *const none[] = {
		FLOWS "WHERE {dst_ip} = " GONE,
		FLOWS "WHERE {dst_ip} = " COLD " AND {dst_ip} = " HOT,
		FLOWS "WHERE {dst_ip} = 'it''s none'",
		FLOWS "WHERE {dst_ip} = ''",
		FLOWS "WHERE {dst_ip} = NULL",
		FLOWS "WHERE in_cidr({dst_ip}, '10.200.0.0/16')",
		FLOWS "WHERE {pid} = '7'",
	};

	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		if (!same_rows(*state, some[i], NULL))
			fail_msg("%s: no row, so it proves nothing", some[i]);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_int_equal(same_rows(*state, none[i], NULL), 0);
}

static void test_counts(void **state)
{
	static const struct value ip[] = {{.kind = VALUE_TEXT, .text = "10.77.0.1", .len = 9}};
	static const struct value nul[] = {{.kind = VALUE_TEXT, .text = "10.77.0.1\0x", .len = 11}};
	struct lookups *l = *state;
	struct how how = {.params = ip, .nparams = 1};
	char text[32];

	/* A sealed segment's cell and the live one's. */
	assert_query(&l->f, "SELECT count(*) FROM netflow WHERE dst_ip = " INLINED, "2");
	assert_query(&l->f, "SELECT count(*) FROM netflow WHERE in_cidr(dst_ip, '10.77.0.0/16')",
		     "2");
	snprintf(text, sizeof(text), "%u", ROWS);
	assert_query(&l->f, "SELECT count(*) FROM netflow", text);
	assert_query(&l->f,
		     "SELECT count(*) FROM netflow a JOIN netflow b USING(ts) WHERE a.dst_ip "
		     "= " INLINED,
		     "2");
	assert_int_equal(same_rows(l, FLOWS "WHERE {dst_ip} = ?1", &how), 2);
	assert_int_equal(same_rows(l, FLOWS "WHERE {dst_ip} = ?1 || ''", &how), 2);
	how.params = nul;
	assert_int_equal(same_rows(l, FLOWS "WHERE {dst_ip} = ?1", &how), 0);
	assert_refused(&l->f, "SELECT 1 FROM netflow WHERE in_cidr(dst_ip, '10.0.0.0/99')", -EINVAL,
		       "is no network");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plans),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_counts),
	};

	if (!strcmp(argv[0], QUERY_WORKER_NAME))
		query_worker_main(argc, argv);
	return cmocka_run_group_tests(tests, setup, teardown);
}
