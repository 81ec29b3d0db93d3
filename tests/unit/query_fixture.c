// SPDX-License-Identifier: Apache-2.0
/* The query tests' ring: two sealed flow segments, a live one in WAL, a live audit segment. */
#include "query_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "store/schema.h"

struct flow_row {
	uint64_t ts;
	uint32_t pid;
	char process_name[16];
	struct ip_addr dst_ip;
	uint16_t dst_port;
	uint64_t bytes_read;
	double ratio;
	uint8_t transport;
	uint8_t loopback;
};

struct shell_row {
	uint64_t ts;
	uint32_t uid;
	struct str cmd;
};

struct loss_row {
	uint64_t ts;
	struct str table_name, plugin, stage;
	uint64_t lost;
};

struct conn_row {
	uint32_t pid;
	struct ip_addr dst_ip;
	char state[16];
	uint64_t rtt;
	struct str note;
};

static const char *const transports[] = {"tcp", "udp", NULL};

static const struct field flow_fields[] = {
	FIELD(flow_row, ts, U64, TIME, TAG, "ns", "end"),
	FIELD(flow_row, pid, U32, INT64, TAG, "", "process"),
	FIELD(flow_row, process_name, CHARS, TEXT, TAG, "", "its name", .dict = true),
	FIELD(flow_row, dst_ip, IP, IP, TAG, "", "peer", .dict = true),
	FIELD(flow_row, dst_port, U16, INT64, TAG, "", "peer's port", .null = NULL_ZERO),
	FIELD(flow_row, bytes_read, U64, INT64, DELTA, "By", "bytes"),
	FIELD(flow_row, ratio, F64, DOUBLE, GAUGE, "1", "a fraction"),
	FIELD(flow_row, transport, ENUM, TEXT, TAG, "", "protocol", .names = transports),
	FIELD(flow_row, loopback, U8, BOOL, TAG, "", "stays here"),
};

static const struct field shell_fields[] = {
	FIELD(shell_row, ts, U64, TIME, TAG, "ns", "when"),
	FIELD(shell_row, uid, U32, INT64, TAG, "", "who"),
	FIELD(shell_row, cmd, STR, TEXT, TAG, "", "what"),
};

static const struct field loss_fields[] = {
	FIELD(loss_row, ts, U64, TIME, TAG, "ns", "when"),
	FIELD(loss_row, table_name, STR, TEXT, TAG, "", "table", .dict = true),
	FIELD(loss_row, plugin, STR, TEXT, TAG, "", "plugin", .dict = true),
	FIELD(loss_row, stage, STR, TEXT, TAG, "", "where", .dict = true),
	FIELD(loss_row, lost, U64, INT64, DELTA, "{row}", "rows"),
};

static const struct field conn_fields[] = {
	FIELD(conn_row, pid, U32, INT64, TAG, "", "process"),
	FIELD(conn_row, dst_ip, IP, IP, TAG, "", "peer", .null = NULL_ZERO),
	FIELD(conn_row, state, CHARS, TEXT, TAG, "", "state"),
	FIELD(conn_row, rtt, U64, INT64, GAUGE, "us", "round trip", .null = NULL_MAX),
	FIELD(conn_row, note, STR, TEXT, TAG, "", "text"),
};

const struct table test_flow = TABLE(flow_row, FLOW, "netflow", "flows", flow_fields);
const struct table test_shell = TABLE(shell_row, AUDIT, "bash", "lines", shell_fields);
const struct table test_loss = TABLE(loss_row, AUDIT, "loss", "lost rows", loss_fields);
const struct table test_conns = TABLE(conn_row, LIVE, "connections", "open now", conn_fields);

static const struct table *const tables[] = {&test_flow, &test_shell, &test_loss, &test_conns,
					     NULL};

static void exec(sqlite3 *db, const char *sql)
{
	char *msg = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &msg) != SQLITE_OK)
		fail_msg("%s: %s", sql, msg);
}

static sqlite3 *make_segment(const struct fixture *f, const char *name,
			     const struct table *const *held)
{
	struct buf sql = {};
	char path[160];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(chmod(path, 0600), 0);
	buf_printf(
		&sql,
		"PRAGMA journal_mode=WAL; PRAGMA application_id=%d; PRAGMA user_version=%d; BEGIN;",
		SCHEMA_APPLICATION_ID, SCHEMA_VERSION);
	schema_segment_sql(&sql);
	for (; *held; held++)
		schema_table_sql(&sql, *held);
	buf_puts(&sql, "COMMIT;");
	exec(db, sql.data);
	buf_free(&sql);
	return db;
}

static void seal(const struct fixture *f, const char *name, sqlite3 *db)
{
	char path[160];

	exec(db, "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE");
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	assert_int_equal(chmod(path, 0440), 0);
}

/* Row n: pid 1000 + n % 7, 10.0.<n % 3>.1, port n % 5 * 100 (NULL when 0), n bytes. Names by id or
 * as they are. */
static void write_flows(sqlite3 *db, uint64_t *next_ts, unsigned int n)
{
	struct buf sql = {};

	buf_puts(&sql, "BEGIN; INSERT OR IGNORE INTO strings VALUES(1, 'curl'),(2, 'nginx'),(3, "
		       "'10.0.0.1'),"
		       "(4, '10.0.1.1'),(5, 'fd00::1'),(6, 'tcp'),(7, 'udp');");
	for (unsigned int i = 0; i < n; i++) {
		uint64_t row = (*next_ts - T0) / NSEC_PER_MSEC;

		buf_printf(&sql,
			   "INSERT INTO netflow_data VALUES(%" PRIu64 ", %u, %s, %u, %s, %" PRIu64
			   ", 0.5, %u, %u);",
			   *next_ts, (unsigned int)(1000 + row % 7), row % 2 ? "1" : "'nginx'",
			   (unsigned int)(3 + row % 3), row % 5 ? "443" : "NULL", row,
			   (unsigned int)(6 + row % 2), (unsigned int)(row % 2));
		*next_ts += NSEC_PER_MSEC;
	}
	buf_printf(&sql,
		   "UPDATE segment_tables SET rows = rows + %u, ts_max = %" PRIu64
		   ", lost = lost + 1,"
		   " ts_min = (SELECT min(ts) FROM netflow_data) WHERE name = 'netflow'; COMMIT;",
		   n, *next_ts - (uint64_t)NSEC_PER_MSEC);
	exec(db, sql.data);
	buf_free(&sql);
}

void fixture_write(struct fixture *f, unsigned int n)
{
	write_flows(f->live, &f->next_ts, n);
}

static void write_audit(struct fixture *f)
{
	static const struct table *const held[] = {&test_shell, &test_loss, NULL};
	sqlite3 *db = make_segment(f, "audit-00000001.db", held);
	char sql[512];

	exec(db, "INSERT INTO bash_data VALUES(5, 0, 'ls -l'),(6, 1000, 'echo ü€'),(7, 1000, "
		 "CAST(x'6162ff63' AS TEXT))");
	snprintf(
		sql, sizeof(sql),
		"INSERT INTO loss_data VALUES(%llu, 'netflow', 'netflow', 'kernel', 40),"
		"(%llu, 'netflow', 'netflow', 'store', 2),(9, 'netflow', 'netflow', 'kernel', 999)",
		T0 + 1, T0 + 2);
	exec(db, sql);
	f->audit = db;
}

static int snapshot(void *ctx, const struct table *table, struct batch **ret, struct err *err)
{
	struct fixture *f = ctx;
	struct batch *b;

	f->snapshots++;
	assert_ptr_equal(table, &test_conns);
	if (f->snapshot_fails)
		return err_set(err, f->snapshot_fails, "no connections today");
	b = batch_new(table, 8);
	for (unsigned int i = 0; i < 5; i++) {
		struct conn_row *c = batch_add(b);

		c->pid = 1000 + i;
		if (i) {
			c->dst_ip.family = 4;
			memcpy(c->dst_ip.addr, "\x0a\0\0\x01", 4);
			c->dst_ip.addr[2] = i % 2;
		}
		snprintf(c->state, sizeof(c->state), "%s", i ? "ESTABLISHED" : "LISTEN");
		c->rtt = i ? i * 100 : UINT64_MAX;
		c->note = batch_str(b, "sn\xff!", 4);
	}
	batch_seal(b, NULL);
	*ret = b;
	return 0;
}

int fixture_engine(struct fixture *f, unsigned int max_workers, const char *user, struct err *err)
{
	struct query_engine_options o = {
		.ring_dir = f->dir,
		.tables = tables,
		.max_workers = max_workers,
		.max_deadline_ns = 120 * NSEC_PER_SEC,
		.default_deadline_ns = 15 * NSEC_PER_SEC,
		.max_rows = 3000000,
		.worker_user = user,
		.heap_bytes = f->heap_bytes,
		.spill_bytes = f->spill_bytes,
		.reserve_bytes = f->reserve_bytes,
		.snapshot = snapshot,
		.ctx = f,
	};

	query_engine_free(f->engine);
	f->engine = NULL;
	return query_engine_new(&f->engine, &o, err);
}

int fixture_setup(void **state)
{
	static const struct table *const held[] = {&test_flow, NULL};
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err = {};
	sqlite3 *db;

	snprintf(f->dir, sizeof(f->dir), "/tmp/test-query-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->next_ts = T0;
	db = make_segment(f, "flow-00000041.db", held);
	write_flows(db, &f->next_ts, SEALED_ROWS);
	seal(f, "flow-00000041.db", db);
	db = make_segment(f, "flow-00000042.db", held);
	write_flows(db, &f->next_ts, SEALED_ROWS);
	seal(f, "flow-00000042.db", db);
	f->live = make_segment(f, "flow-00000043.db", held);
	write_flows(f->live, &f->next_ts, LIVE_ROWS);
	write_audit(f);
	if (fixture_engine(f, 4, geteuid() == 0 ? "nobody" : NULL, &err) < 0)
		fail_msg("%s", err.msg);
	*state = f;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];

	assert_no_children();
	query_engine_free(f->engine);
	sqlite3_close(f->live);
	sqlite3_close(f->audit);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", f->dir);
	assert_int_equal(system(cmd), 0);
	free(f);
	return 0;
}

static int keep_columns(void *arg, const struct query_column *cols, size_t ncols)
{
	struct result *res = arg;

	assert_int_equal(res->ncols, 0);
	assert_true(ncols > 0);
	res->ncols = ncols;
	for (size_t i = 0; i < ncols && i < MAX_COLS; i++) {
		snprintf(res->name[i], sizeof(res->name[i]), "%s", cols[i].name);
		snprintf(res->unit[i], sizeof(res->unit[i]), "%s", cols[i].unit);
		res->type[i] = cols[i].type;
	}
	return 0;
}

static char *value_text(const struct value *v)
{
	char *s = NULL;

	switch (v->kind) {
	case VALUE_NULL:
		return NULL;
	case VALUE_INT:
		assert_true(asprintf(&s, "%" PRId64, v->i) >= 0);
		return s;
	case VALUE_REAL:
		assert_true(asprintf(&s, "%g", v->d) >= 0);
		return s;
	default:
		return strndup(v->text, v->len);
	}
}

static int keep_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	struct result *res = arg;

	assert_int_equal(ncols, res->ncols);
	assert_in_range(nrows, 1, 64);
	res->nrows += nrows;
	res->nframes++;
	for (size_t i = 0; i < nrows * ncols; i++) {
		if (values[i].kind == VALUE_TEXT || values[i].kind == VALUE_BYTES)
			res->bytes += values[i].len;
		if (res->ncells == MAX_CELLS)
			continue;
		res->kind[res->ncells] = values[i].kind;
		res->cell[res->ncells++] = value_text(&values[i]);
	}
	if (res->sink_sleep_ms)
		usleep(res->sink_sleep_ms * 1000);
	return res->sink_fails;
}

static int keep_done(void *arg, const struct query_stats *stats)
{
	struct result *res = arg;

	assert_false(res->done);
	res->done = true;
	res->stats = *stats;
	return 0;
}

void result_free(struct result *res)
{
	for (unsigned int i = 0; i < res->ncells; i++)
		free(res->cell[i]);
	res->ncells = 0;
}

bool result_has(const struct result *res, const char *part)
{
	for (unsigned int i = 0; i < res->ncells; i++)
		if (res->cell[i] && strstr(res->cell[i], part))
			return true;
	return false;
}

void result_run(struct fixture *f, struct result *res, const char *sql, const struct how *how)
{
	struct query_sink sink = {
		.columns = keep_columns, .rows = keep_rows, .done = keep_done, .arg = res};
	uint64_t start = clock_mono_ns();
	struct query q = {.sql = sql};

	if (how) {
		q.params = how->params;
		q.nparams = how->nparams;
		q.max_rows = how->max_rows;
		q.cancelled = how->cancelled;
		if (how->timeout_ms)
			q.deadline_ns = start + how->timeout_ms * NSEC_PER_MSEC;
	}
	memset(res, 0, offsetof(struct result, sink_sleep_ms));
	res->r = query_run(f->engine, &q, &sink, &res->err);
	res->ms = (double)(clock_mono_ns() - start) / NSEC_PER_MSEC;
	if (res->r < 0) {
		assert_int_equal(res->r, res->err.code);
		assert_true(res->err.msg[0]);
		assert_false(res->done);
	} else {
		assert_true(res->done);
		assert_int_equal(res->stats.rows, res->nrows);
	}
}

void assert_query(struct fixture *f, const char *sql, const char *cell)
{
	static struct result res;

	result_run(f, &res, sql, NULL);
	if (res.r < 0)
		fail_msg("%s: %s", sql, res.err.msg);
	if (res.nrows != 1 || res.ncols != 1)
		fail_msg("%s: %d rows of %u columns", sql, (int)res.nrows, res.ncols);
	if (cell ? !res.cell[0] || strcmp(cell, res.cell[0]) : !!res.cell[0])
		fail_msg("%s: wanted %s, got %s", sql, cell ? cell : "NULL",
			 res.cell[0] ? res.cell[0] : "NULL");
	result_free(&res);
}

void assert_refused(struct fixture *f, const char *sql, int code, const char *part)
{
	static struct result res;

	result_run(f, &res, sql, NULL);
	if (res.r != code || !strstr(res.err.msg, part))
		fail_msg("%.80s: wanted %s '%s', got %d: %s", sql, strerrorname_np(-code), part,
			 res.r, res.err.msg);
	result_free(&res);
}

void assert_no_children(void)
{
	siginfo_t info = {};

	assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), -1);
	assert_int_equal(errno, ECHILD);
}

long rss_bytes(void)
{
	long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_int_equal(fscanf(f, "%ld %ld", &size, &resident), 2);
	fclose(f);
	return resident * sysconf(_SC_PAGESIZE);
}
