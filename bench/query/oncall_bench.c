// SPDX-License-Identifier: Apache-2.0
/* Ten questions of somebody on call, to the ring and to one plain SQLite file with indexes that
 * holds the same rows; prints one JSON object. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/macro.h"
#include "lib/flow_rows.h"
#include "store/query.h"
#include "store/schema.h"
#include "store/store.h"

#define BATCH_ROWS   500u
#define DAY_NS	     (24 * 3600 * NSEC_PER_SEC)
#define T0	     UINT64_C(1700000000000000000)
#define ROUNDS	     3
#define PLAIN_COMMIT 1000 /* rows a transaction, as in the ring */
/* Six sealed segments and half of a live one. */
#define SEGMENT_ROWS(rows) ((rows)*2 / 13 / BATCH_ROWS * BATCH_ROWS)

struct question {
	const char *name, *sql;
};

/* The day ends at T0 + 24 h = 1700086400 s. */
#define LAST_5_MIN  "ts > 1700086100000000000"
#define LAST_15_MIN "ts > 1700085500000000000"
#define LAST_HOUR   "ts > 1700082800000000000"

static const struct question questions[] = {
	{"who takes the bandwidth, last 5 minutes",
	 "SELECT dst_ip, sum(bytes_read + bytes_written) AS b FROM netflow WHERE " LAST_5_MIN
	 " GROUP BY dst_ip ORDER BY b DESC, dst_ip LIMIT 10"},
	{"bytes of each process, last hour",
	 "SELECT process_name, sum(bytes_read), sum(bytes_written) FROM netflow WHERE " LAST_HOUR
	 " GROUP BY process_name ORDER BY 2 DESC, 1 LIMIT 20"},
	{"who talked to one address, all day",
	 "SELECT process_name, count(*), sum(bytes_written) FROM netflow WHERE dst_ip = "
	 "'10.1.3.232' GROUP BY process_name ORDER BY 2 DESC, 1"},
	{"the last 20 flows of one process",
	 "SELECT ts, dst_ip, dst_port, bytes_read FROM netflow WHERE pid = 1236 ORDER BY ts DESC "
	 "LIMIT 20"},
	{"retransmissions by destination, last hour",
	 "SELECT dst_ip, sum(retransmits) AS r, sum(packets_written) FROM netflow WHERE " LAST_HOUR
	 " GROUP BY dst_ip HAVING r > 0 ORDER BY r DESC, dst_ip LIMIT 20"},
	{"round trips by name, last hour",
	 "SELECT dst_domain, count(*), max(rtt), sum(rtt) / count(rtt) FROM netflow "
	 "WHERE " LAST_HOUR
	 " AND dst_domain IS NOT NULL GROUP BY dst_domain ORDER BY 3 DESC, 1 LIMIT 20"},
	{"new connections by port, last 15 minutes",
	 "SELECT dst_port, sum(tcp_established), sum(tcp_closed) FROM netflow WHERE " LAST_15_MIN
	 " AND transport = 'tcp' GROUP BY dst_port ORDER BY 2 DESC, 1"},
	{"bytes of each minute, last hour",
	 "SELECT ts / 60000000000 AS minute, sum(bytes_read), sum(bytes_written) FROM netflow "
	 "WHERE " LAST_HOUR " GROUP BY minute ORDER BY minute"},
	{"addresses of the last 5 minutes that were not there in the hour before",
	 "SELECT DISTINCT dst_ip FROM netflow WHERE " LAST_5_MIN
	 " AND dst_ip NOT IN (SELECT dst_ip "
	 "FROM netflow WHERE ts BETWEEN 1700082500000000000 AND 1700086100000000000) ORDER BY 1"},
	{"bytes of each container, all day",
	 "SELECT container_id, sum(bytes_read + bytes_written) AS b FROM netflow GROUP BY "
	 "container_id ORDER BY b DESC, container_id LIMIT 10"},
};

static const char *const indexes[] = {"pid", "dst_ip", "process_name", "container_id"};

struct answer {
	uint64_t rows, hash;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "oncall_bench: %s: %s\n", what, why);
	exit(1);
}

static void add_hash(struct answer *a, const void *p, size_t len)
{
	const uint8_t *c = p;

	for (size_t i = 0; i < len; i++)
		a->hash = (a->hash ^ c[i]) * UINT64_C(0x100000001b3);
	a->hash = (a->hash ^ 0xff) * UINT64_C(0x100000001b3);
}

static void add_value(struct answer *a, const struct value *v)
{
	switch (v->kind) {
	case VALUE_NULL:
		add_hash(a, "", 0);
		break;
	case VALUE_INT:
		add_hash(a, &v->i, sizeof(v->i));
		break;
	case VALUE_REAL:
		add_hash(a, &v->d, sizeof(v->d));
		break;
	case VALUE_TEXT:
	case VALUE_BYTES:
		add_hash(a, v->text, v->len);
		break;
	}
}

/* The ring */

static int on_columns(void *arg, const struct query_column *cols, size_t ncols)
{
	(void)arg, (void)cols, (void)ncols;
	return 0;
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	struct answer *a = arg;

	a->rows += nrows;
	for (size_t i = 0; i < nrows * ncols; i++)
		add_value(a, &values[i]);
	return 0;
}

static int on_done(void *arg, const struct query_stats *stats)
{
	(void)arg, (void)stats;
	return 0;
}

static double ask_ring(struct query_engine *e, const char *sql, struct answer *a)
{
	struct query_sink sink = {on_columns, on_rows, on_done, a};
	struct query q = {.sql = sql};
	uint64_t start = clock_mono_ns();
	struct err err = {};

	if (query_run(e, &q, &sink, &err) < 0)
		die(sql, err.msg);
	return (double)(clock_mono_ns() - start) / NSEC_PER_MSEC;
}

/* The plain file */

static void exec(sqlite3 *db, const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		die(sql, sqlite3_errmsg(db));
}

static void get_cell(sqlite3_stmt *st, int col, struct value *v)
{
	*v = (struct value){.kind = VALUE_NULL};
	switch (sqlite3_column_type(st, col)) {
	case SQLITE_INTEGER:
		v->kind = VALUE_INT;
		v->i = sqlite3_column_int64(st, col);
		break;
	case SQLITE_FLOAT:
		v->kind = VALUE_REAL;
		v->d = sqlite3_column_double(st, col);
		break;
	case SQLITE_TEXT:
		v->kind = VALUE_TEXT;
		v->text = (const char *)sqlite3_column_text(st, col);
		v->len = (uint32_t)sqlite3_column_bytes(st, col);
		break;
	default:
		break;
	}
}

/* With opening the file, as somebody with a shell would. */
static double ask_plain(const char *path, const char *sql, struct answer *a)
{
	uint64_t start = clock_mono_ns();
	sqlite3_stmt *st = NULL;
	sqlite3 *db = NULL;
	int rc;

	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
		die(sql, sqlite3_errmsg(db));
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		a->rows++;
		for (int i = 0; i < sqlite3_column_count(st); i++) {
			struct value v;

			get_cell(st, i, &v);
			add_value(a, &v);
		}
	}
	if (rc != SQLITE_DONE)
		die(sql, sqlite3_errmsg(db));
	sqlite3_finalize(st);
	sqlite3_close(db);
	return (double)(clock_mono_ns() - start) / NSEC_PER_MSEC;
}

static sqlite3_stmt *open_plain(sqlite3 **db, const char *path)
{
	_cleanup_buf_ struct buf sql = {}, insert = {};
	const struct table *t = &flow_rows_table;
	sqlite3_stmt *st = NULL;

	if (sqlite3_open(path, db) != SQLITE_OK)
		die(path, "cannot open it");
	exec(*db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL");
	buf_puts(&sql, "CREATE TABLE netflow(ts INTEGER PRIMARY KEY");
	buf_puts(&insert, "INSERT INTO netflow VALUES(?");
	for (uint32_t i = 1; i < t->nfields; i++) {
		buf_printf(&sql, ", \"%s\"", t->fields[i].name);
		buf_puts(&insert, ",?");
	}
	buf_puts(&sql, ")");
	buf_puts(&insert, ")");
	if (buf_status(&sql) < 0 || buf_status(&insert) < 0)
		die("out of memory", "");
	exec(*db, sql.data);
	if (sqlite3_prepare_v2(*db, insert.data, -1, &st, NULL) != SQLITE_OK)
		die(insert.data, sqlite3_errmsg(*db));
	return st;
}

static void bind_cell(sqlite3_stmt *st, int col, const struct value *v)
{
	switch (v->kind) {
	case VALUE_NULL:
		sqlite3_bind_null(st, col);
		break;
	case VALUE_INT:
		sqlite3_bind_int64(st, col, v->i);
		break;
	case VALUE_REAL:
		sqlite3_bind_double(st, col, v->d);
		break;
	case VALUE_TEXT:
		sqlite3_bind_text(st, col, v->text, (int)v->len, SQLITE_STATIC);
		break;
	case VALUE_BYTES:
		sqlite3_bind_blob(st, col, v->text, (int)v->len, SQLITE_STATIC);
		break;
	}
}

static void insert_plain(sqlite3 *db, sqlite3_stmt *st, struct batch *b)
{
	struct value cells[SCHEMA_MAX_COLUMNS]; /* a text may be inside of its value */

	for (uint32_t row = 0; row < b->nrows; row++) {
		for (uint32_t col = 0; col < b->table->nfields; col++) {
			batch_get(b, row, col, &cells[col]);
			bind_cell(st, (int)col + 1, &cells[col]);
		}
		if (sqlite3_step(st) != SQLITE_DONE)
			die("insert", sqlite3_errmsg(db));
		sqlite3_reset(st);
	}
}

static double fill_plain(const char *path, uint64_t rows, uint64_t step, double *index_s)
{
	uint64_t start = clock_mono_ns(), loaded;
	struct flow_rows g;
	sqlite3 *db = NULL;
	sqlite3_stmt *st = open_plain(&db, path);

	flow_rows_init(&g);
	exec(db, "BEGIN");
	for (uint64_t done = 0; done < rows; done += BATCH_ROWS) {
		struct batch *b = flow_rows_batch(&g, BATCH_ROWS, T0 + done * step, step);

		insert_plain(db, st, b);
		batch_unref(b);
		if ((done + BATCH_ROWS) % PLAIN_COMMIT == 0)
			exec(db, "COMMIT; BEGIN");
	}
	exec(db, "COMMIT");
	sqlite3_finalize(st);
	loaded = clock_mono_ns();
	for (size_t i = 0; i < ARRAY_SIZE(indexes); i++) {
		char sql[128];

		snprintf(sql, sizeof(sql), "CREATE INDEX by_%s ON netflow(%s)", indexes[i],
			 indexes[i]);
		exec(db, sql);
	}
	exec(db, "PRAGMA wal_checkpoint(TRUNCATE)");
	sqlite3_close(db);
	*index_s = (double)(clock_mono_ns() - loaded) / NSEC_PER_SEC;
	return (double)(loaded - start) / NSEC_PER_SEC;
}

struct filled {
	double fill_s, seal_s;
	uint64_t sealed_rows, sealed_bytes, index_bytes, live_rows;
};

static void wait_sealed(struct store *s, struct filled *f)
{
	uint64_t start = clock_mono_ns();
	struct segment_file files[SCHEMA_MAX_SEGMENTS];
	int open;

	do {
		int n = schema_list(store_dir(s), files, SCHEMA_MAX_SEGMENTS, NULL);

		usleep(20000);
		open = 0;
		for (int i = 0; i < n; i++)
			open += files[i].ring == RING_FLOW && !files[i].sealed;
	} while (open > 1);
	f->seal_s += (double)(clock_mono_ns() - start) / NSEC_PER_SEC;
}

/* Faster than any host makes rows, so with a rest behind each segment for the sealer. */
static void fill_ring(struct store *s, uint64_t rows, uint64_t step, struct filled *f)
{
	uint64_t start = clock_mono_ns();
	struct flow_rows g;

	flow_rows_init(&g);
	for (uint64_t done = 0; done < rows; done += BATCH_ROWS) {
		struct batch *b = flow_rows_batch(&g, BATCH_ROWS, T0 + done * step, step);

		while (store_push(s, b) == -ENOBUFS)
			usleep(500);
		batch_unref(b);
		if (done % SEGMENT_ROWS(rows) >= BATCH_ROWS && done + BATCH_ROWS < rows)
			continue;
		if (store_flush(s, 120 * NSEC_PER_SEC) < 0)
			die("the ring", "not all rows were stored");
		wait_sealed(s, f);
	}
	f->fill_s = (double)(clock_mono_ns() - start) / NSEC_PER_SEC - f->seal_s;
}

static uint64_t index_bytes(const char *path)
{
	static const char sql[] = "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name IN "
				  "(SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS "
				  "NOT NULL)";
	sqlite3_stmt *st = NULL;
	sqlite3 *db = NULL;
	uint64_t bytes;

	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK ||
	    sqlite3_step(st) != SQLITE_ROW)
		die(path, sqlite3_errmsg(db));
	bytes = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return bytes;
}

static void weigh(struct store *s, struct filled *f)
{
	struct segment_info segments[SCHEMA_MAX_SEGMENTS];
	unsigned int n = store_segments(s, segments, SCHEMA_MAX_SEGMENTS);

	for (unsigned int i = 0; i < n && i < SCHEMA_MAX_SEGMENTS; i++) {
		if (segments[i].live) {
			f->live_rows += segments[i].rows;
			continue;
		}
		f->sealed_rows += segments[i].rows;
		f->sealed_bytes += segments[i].bytes;
		f->index_bytes += index_bytes(segments[i].path);
	}
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print_times(const char *name, double *ms)
{
	qsort(ms, ROUNDS, sizeof(*ms), compare);
	printf(", \"%s\": [%.2f, %.2f, %.2f]", name, ms[0], ms[ROUNDS / 2], ms[ROUNDS - 1]);
}

/* A B A B A B; both have to say the same. */
static void ask_both(struct query_engine *e, const char *plain, const struct question *q)
{
	double ring_ms[ROUNDS], plain_ms[ROUNDS];
	struct answer a = {}, b = {};

	for (unsigned int i = 0; i < ROUNDS; i++) {
		a = b = (struct answer){};
		ring_ms[i] = ask_ring(e, q->sql, &a);
		plain_ms[i] = ask_plain(plain, q->sql, &b);
		if (a.rows != b.rows || a.hash != b.hash)
			die(q->name, "the ring and the plain file answer differently");
	}
	printf("%s{\"name\": \"%s\", \"rows\": %" PRIu64, q == questions ? "" : ",\n", q->name,
	       a.rows);
	print_times("ring", ring_ms);
	print_times("plain", plain_ms);
	printf("}");
}

static void open_ring(struct store **s, struct query_engine **e, const char *dir, uint64_t rows)
{
	static const struct table *const tables[] = {&flow_rows_table, NULL};
	struct store_options so = {
		.dir = dir,
		.limits = {[RING_FLOW] = {.max_bytes = 8ull << 30,
					  .max_rows = SEGMENT_ROWS(rows) * 7},
			   [RING_AUDIT] = {.max_bytes = 16 << 20}},
		.queue_batches = 64,
		.flush_ns = 250 * NSEC_PER_MSEC,
	};
	struct query_engine_options qo = {
		.ring_dir = dir,
		.tables = tables,
		.max_workers = 1,
		.max_deadline_ns = 300 * NSEC_PER_SEC,
		.default_deadline_ns = 300 * NSEC_PER_SEC,
		.max_rows = 10000000,
		.worker_user = geteuid() == 0 ? "nobody" : NULL,
	};
	struct err err = {};

	if (store_new(s, &so, &err) < 0 || store_add_table(*s, &flow_rows_table, &err) < 0 ||
	    store_start(*s, &err) < 0 || query_engine_new(e, &qo, &err) < 0)
		die(dir, err.msg);
}

/* oncall_bench DIR ROWS */
int main(int argc, char **argv)
{
	struct query_engine *e = NULL;
	struct store_stats stats;
	struct store *s = NULL;
	struct filled f = {};
	double plain_s, index_s;
	char ring[256], plain[256];
	uint64_t rows, step;
	struct stat st = {};

	if (!strcmp(argv[0], QUERY_WORKER_NAME))
		query_worker_main(argc, argv);
	if (argc != 3 || (rows = strtoull(argv[2], NULL, 10)) < BATCH_ROWS) {
		fprintf(stderr, "usage: oncall_bench DIR ROWS\n");
		return 2;
	}
	rows -= rows % PLAIN_COMMIT;
	step = DAY_NS / rows;
	snprintf(ring, sizeof(ring), "%s/ring", argv[1]);
	snprintf(plain, sizeof(plain), "%s/plain.db", argv[1]);
	open_ring(&s, &e, ring, rows);
	fill_ring(s, rows, step, &f);
	weigh(s, &f);
	plain_s = fill_plain(plain, rows, step, &index_s);
	store_get_stats(s, RING_FLOW, &stats);
	if (stat(plain, &st) < 0 || stats.rows != rows || stats.evicted)
		die("the data", "is not all there");
	if (stats.unindexed || stats.indexed + 1 != stats.segments)
		die("the ring", "some sealed segment has no indexes");
	printf("{\"rows\": %" PRIu64 ", \"ring_s\": %.1f, \"plain_s\": %.1f, \"index_s\": %.1f, "
	       "\"ring_bytes\": %" PRIu64 ", \"plain_bytes\": %lld,\n",
	       rows, f.fill_s, plain_s, index_s, stats.bytes, (long long)st.st_size);
	printf("\"segments\": %" PRIu64 ", \"sealed_rows\": %" PRIu64 ", \"live_rows\": %" PRIu64
	       ", \"sealed_bytes\": %" PRIu64 ", \"sealed_index_bytes\": %" PRIu64
	       ", \"seal_s\": %.1f,\n\"questions\": [",
	       stats.segments, f.sealed_rows, f.live_rows, f.sealed_bytes, f.index_bytes, f.seal_s);
	for (size_t i = 0; i < ARRAY_SIZE(questions); i++)
		ask_both(e, plain, &questions[i]);
	printf("]}\n");
	query_engine_free(e);
	store_stop(s, NSEC_PER_SEC);
	store_free(s);
	return 0;
}
