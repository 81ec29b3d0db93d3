// SPDX-License-Identifier: Apache-2.0
/* The nth call of each kind fails, for every n until the operation passes: open, push, rotate,
 * index and seal, query. */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/clock.h"
#include "base/macro.h"
#include "fault/fault_libc.h"
#include "fault/fault_vfs.h"
#include "fault/store_nth.h"
#include "lib/flow_rows.h"
#include "store/query.h"
#include "store/schema.h"
#include "store/store.h"

#define T0	   UINT64_C(1700000000000000000)
#define BATCH_ROWS 100u
/* Between two ns from there on: a start makes thousands of allocations, most of them alike. */
#define STRIDE(n) (1 + (n) / 5)
#define N_MAX	  20000u
#define FOREVER	  1000000u

struct kind {
	const char *name;
	bool libc;
	int what;
	uint64_t count;
	int error; /* errno, or SQLite's code */
};

/* count: one call fails, or all of them while the operation lasts. */
static const struct kind kinds[] = {
	{"malloc", true, LIBC_MALLOC, 1, 0},
	{"malloc, all", true, LIBC_MALLOC, FOREVER, 0},
	{"SQLite's malloc", true, LIBC_SQLITE_MALLOC, 1, 0},
	{"SQLite's malloc, all", true, LIBC_SQLITE_MALLOC, FOREVER, 0},
	{"write", true, LIBC_WRITE, 1, EIO},
	{"write: disk full", true, LIBC_WRITE, FOREVER, ENOSPC},
	{"fsync", true, LIBC_FSYNC, FOREVER, EIO},
	{"open", true, LIBC_OPEN, 1, EMFILE},
	{"open, all", true, LIBC_OPEN, FOREVER, EMFILE},
	{"rename", true, LIBC_RENAME, FOREVER, ENOSPC},
	{"unlink", true, LIBC_UNLINK, FOREVER, EROFS},
	{"SQLite's open", false, FAULT_OPEN, 1, SQLITE_CANTOPEN},
	{"SQLite's read", false, FAULT_READ, 1, SQLITE_IOERR_READ},
	{"SQLite's write", false, FAULT_WRITE, 1, SQLITE_IOERR_WRITE},
	{"SQLite's write, all", false, FAULT_WRITE, FOREVER, SQLITE_IOERR_WRITE},
	{"SQLite's write: disk full", false, FAULT_WRITE, 1, SQLITE_FULL},
	{"SQLite's write: disk full, all", false, FAULT_WRITE, FOREVER, SQLITE_FULL},
	{"SQLite's fsync", false, FAULT_SYNC, 1, SQLITE_IOERR_FSYNC},
	{"SQLite's fsync, all", false, FAULT_SYNC, FOREVER, SQLITE_IOERR_FSYNC},
	{"SQLite's truncate", false, FAULT_TRUNCATE, FOREVER, SQLITE_IOERR_TRUNCATE},
	{"SQLite's lock", false, FAULT_LOCK, 1, SQLITE_IOERR_LOCK},
	{"SQLite's shared memory", false, FAULT_SHM, 1, SQLITE_IOERR_SHMMAP},
	{"SQLite's unlink", false, FAULT_DELETE, FOREVER, SQLITE_IOERR_DELETE},
};

struct test {
	char ring[128], fault_file[64];
	struct store *store;
	struct flow_rows rows;
	uint64_t max_rows;
	uint64_t told;	/* events, of any kind */
	char last[400]; /* the last of them */
	struct query_engine *engine;
};

static struct test t;
static const struct kind *kind;
static const char *scenario;
static uint64_t nth;
static int64_t late;	   /* how far the monotonic clock is ahead: a second needs no waiting */
static bool worker_failed; /* what hit it is seen there alone */

_Noreturn void nth_die(const char *what, const char *why)
{
	fprintf(stderr, "store_nth: %s, %s, call %" PRIu64 ": %s: %s\n", scenario,
		kind ? kind->name : "no fault", nth, what, why);
	exit(1);
}

static void on_event(void *arg, const char *event, const char *detail)
{
	(void)arg;
	t.told++;
	snprintf(t.last, sizeof(t.last), "%s %s", event, detail);
	if (!strcmp(event, "quarantined") || !strcmp(event, "damaged"))
		nth_die("an error that isn't damage was taken for it", detail);
}

static void arm(void)
{
	if (kind->libc)
		fault_libc_arm((enum libc_fault)kind->what, nth, kind->count, kind->error);
	else
		fault_vfs_arm((enum fault_op)kind->what, nth, kind->count, kind->error);
	fault_libc_exempt(false);
}

static bool disarm(void)
{
	bool libc = fault_libc_disarm(), vfs = fault_vfs_disarm();

	fault_libc_exempt(true);
	return libc || vfs;
}

/* Starting a store; what failed has to say why. */
static int try_open(struct err *err)
{
	struct store_options options = {
		.dir = t.ring,
		.limits = {[RING_FLOW] = {.max_bytes = 64 << 20, .max_rows = t.max_rows},
			   [RING_AUDIT] = {.max_bytes = 16 << 20}},
		.queue_batches = 64,
		.flush_ns = 5 * NSEC_PER_MSEC,
		.on_event = on_event,
	};
	int r = store_new(&t.store, &options, err);

	if (r == 0)
		r = store_add_table(t.store, &flow_rows_table, err);
	if (r == 0)
		r = store_start(t.store, err);
	if (r < 0 && !err->msg[0])
		nth_die("no reason was given", strerror(-r));
	return r;
}

static void close_store(void)
{
	if (t.store)
		store_stop(t.store, 5 * NSEC_PER_SEC);
	store_free(TAKE_PTR(t.store));
}

/* Right behind the last row, so that a hole is a row that was lost after its acknowledgement. */
static struct batch *new_batch(uint64_t *next)
{
	struct batch *b;

	fault_libc_exempt(true);
	b = flow_rows_batch(&t.rows, BATCH_ROWS, *next, 1);
	fault_libc_exempt(false);
	if (!b)
		nth_die("out of memory", "really");
	*next += BATCH_ROWS;
	return b;
}

static void push(unsigned int batches, bool must)
{
	struct store_stats before, after;
	uint64_t next = store_last_ts(t.store, &flow_rows_table);
	uint64_t told = t.told;
	int r;

	/* What waits for its next attempt is due. */
	late += 2 * NSEC_PER_SEC;
	fault_clock_mono(late);
	store_get_stats(t.store, RING_FLOW, &before);
	next = next ? next + 1 : T0;
	for (unsigned int i = 0; i < batches; i++) {
		struct batch *b = new_batch(&next);

		r = store_push(t.store, b);
		batch_unref(b);
		if (r < 0 && must)
			nth_die("cannot push", strerror(-r));
	}
	r = store_flush(t.store, 20 * NSEC_PER_SEC);
	store_get_stats(t.store, RING_FLOW, &after);
	if (r == -ETIMEDOUT)
		nth_die("flush", "no answer");
	if (r < 0 && must)
		nth_die("cannot store after the fault is over", t.last);
	if (after.rows + after.rows_lost + after.rows_refused - before.rows - before.rows_lost -
		    before.rows_refused !=
	    batches * BATCH_ROWS)
		nth_die("the ledger", "rows are neither stored nor lost nor refused");
	if (r == 0 && after.rows - before.rows != batches * BATCH_ROWS)
		nth_die("flush", "acknowledged what isn't stored");
	if (after.rows_lost > before.rows_lost && told == t.told && !strcmp(after.state, "ok"))
		nth_die("rows were lost", "and no event tells it");
}

int64_t nth_ask(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *st = NULL;
	int64_t v;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK ||
	    sqlite3_step(st) != SQLITE_ROW)
		nth_die(sql, sqlite3_errmsg(db));
	v = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return v;
}

/* Every row from the oldest to the last acknowledged is there. The store is closed. */
static void check_files(uint64_t last)
{
	struct segment_file files[64];
	int n = schema_list(t.ring, files, 64, NULL);
	int64_t low = 0, high = 0, rows = 0;

	for (int i = 0; i < n; i++) {
		sqlite3 *db = NULL;
		int64_t count;

		if (files[i].ring != RING_FLOW)
			continue;
		if (sqlite3_open_v2(files[i].path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
			nth_die(files[i].path, "cannot open it");
		count = nth_ask(db, "SELECT count(*) FROM netflow_data");
		if (count != nth_ask(db, "SELECT rows FROM segment_tables"))
			nth_die(files[i].path, "its counter is not its rows");
		if (nth_ask(db, "SELECT count(*) FROM netflow WHERE dst_ip IS NULL"))
			nth_die(files[i].path, "ids that aren't in the dictionary");
		if (count && !low)
			low = nth_ask(db, "SELECT min(ts) FROM netflow_data");
		if (count)
			high = nth_ask(db, "SELECT max(ts) FROM netflow_data");
		rows += count;
		sqlite3_close(db);
	}
	if ((uint64_t)high != last)
		nth_die("the last row", "is not the last acknowledged");
	if (rows && rows != high - low + 1)
		nth_die("rows", "there is a hole");
}

/* Scenarios: with the fault armed; they may fail, in order. */

static void run_open(void)
{
	struct err err = {};

	arm();
	if (try_open(&err) < 0)
		close_store();
}

static void run_push(void)
{
	struct err err = {};

	if (try_open(&err) < 0)
		nth_die("cannot open", err.msg);
	arm();
	push(3, false);
}

/* Until all but the live one are sealed, or the fault has them wait for another second. */
static void wait_sealed(unsigned int ms)
{
	for (unsigned int i = 0; i < ms; i += 5) {
		struct segment_file files[64];
		int n = schema_list(t.ring, files, 64, NULL), open = 0;

		for (int k = 0; k < n; k++)
			open += files[k].ring == RING_FLOW && !files[k].sealed;
		if (open <= 1)
			return;
		usleep(5000);
	}
}

static void run_rotate(void)
{
	struct err err = {};

	if (try_open(&err) < 0)
		nth_die("cannot open", err.msg);
	arm();
	push(1, false); /* max_rows is one batch a segment */
	push(1, false);
	fault_libc_exempt(true);
	wait_sealed(20);
	fault_libc_exempt(false);
}

static void open_index(void)
{
	struct err err = {};

	if (try_open(&err) < 0)
		nth_die("cannot open", err.msg);
	push(NTH_INDEX_ROWS / BATCH_ROWS, true);
	close_store();
	nth_index_begin(t.ring);
}

static void run_index(void)
{
	nth_index_restore();
	arm();
	nth_index_seal();
}

static int on_columns(void *arg, const struct query_column *cols, size_t ncols)
{
	(void)arg, (void)cols, (void)ncols;
	return 0;
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	(void)values, (void)ncols;
	*(uint64_t *)arg += nrows;
	return 0;
}

static int on_done(void *arg, const struct query_stats *stats)
{
	(void)arg, (void)stats;
	return 0;
}

static int query(struct err *err)
{
	uint64_t rows = 0;
	struct query_sink sink = {on_columns, on_rows, on_done, &rows};
	struct query q = {.sql = "SELECT dst_ip, count(*) AS n FROM netflow GROUP BY dst_ip ORDER "
				 "BY n DESC LIMIT 3"};
	int r = query_run(t.engine, &q, &sink, err);

	if (r == 0 && rows != 3)
		nth_die("a query", "answered without an error and not with its three rows");
	if (r < 0 && !err->msg[0])
		nth_die("a query", "failed without a reason");
	return r;
}

static void run_query(void)
{
	struct err err = {};

	arm();
	query(&err);
}

/* The same faults inside the worker, which finds its orders in a file. */
static void run_worker(void)
{
	struct err err = {};
	FILE *f = fopen(t.fault_file, "we");

	if (!f)
		nth_die(t.fault_file, strerror(errno));
	fprintf(f, "%td %" PRIu64 "\n", kind - kinds, nth);
	fclose(f);
	fault_libc_exempt(true);
	worker_failed = query(&err) < 0;
	unlink(t.fault_file);
	if (worker_failed && strstr(err.msg, "signal"))
		nth_die("the worker crashed", err.msg);
}

static void worker_faults(void)
{
	char path[64];
	unsigned int k;
	FILE *f;

	fault_vfs_register();
	snprintf(path, sizeof(path), "/tmp/ringside-nth-%d", (int)getppid());
	f = fopen(path, "re");
	if (!f)
		return;
	if (fscanf(f, "%u %" SCNu64, &k, &nth) == 2 && k < ARRAY_SIZE(kinds)) {
		kind = &kinds[k];
		fclose(f);
		arm();
		return;
	}
	fclose(f);
}

/* After each: it opens, takes rows, and has all that it acknowledged. */
static void check_after(void)
{
	struct err err = {};
	uint64_t last;

	if (!t.store && try_open(&err) < 0)
		nth_die("cannot open after the fault is over", err.msg);
	push(1, true);
	last = store_last_ts(t.store, &flow_rows_table);
	close_store();
	check_files(last);
}

static void open_engine(void)
{
	static const struct table *const tables[] = {&flow_rows_table, NULL};
	struct query_engine_options options = {
		.ring_dir = t.ring,
		.tables = tables,
		.max_workers = 1,
		.max_deadline_ns = 20 * NSEC_PER_SEC,
		.default_deadline_ns = 20 * NSEC_PER_SEC,
		.max_rows = 1000,
		.worker_user = geteuid() == 0 ? "nobody" : NULL,
	};
	struct err err = {};

	if (try_open(&err) < 0)
		nth_die("cannot open", err.msg);
	push(3, true);
	close_store();
	if (query_engine_new(&t.engine, &options, &err) < 0 || query(&err) < 0)
		nth_die("the engine", err.msg);
}

static void check_query(void)
{
	struct err err = {};

	if (query(&err) < 0)
		nth_die("a query after the fault is over", err.msg);
}

static unsigned int run_kind(void (*run)(void), void (*check)(void))
{
	unsigned int runs = 0;

	for (nth = 1; nth < N_MAX; nth += STRIDE(nth)) {
		bool hit;

		worker_failed = false;
		run();
		hit = disarm() || worker_failed;
		runs++;
		check();
		if (!hit)
			break;
	}
	return runs;
}

static const struct {
	const char *name;
	void (*prepare)(void);
	void (*run)(void), (*check)(void);
	uint64_t max_rows;
} scenarios[] = {
	{"open", NULL, run_open, check_after, 3000},
	{"push", NULL, run_push, check_after, 3000},
	{"rotate", NULL, run_rotate, check_after, 7 * BATCH_ROWS},
	{"index", open_index, run_index, nth_index_check, 0},
	{"query", open_engine, run_query, check_query, 3000},
	{"worker", open_engine, run_worker, check_query, 3000},
};

/* store_nth DIR SCENARIO */
int main(int argc, char **argv)
{
	unsigned int runs = 0;

	fault_libc_exempt(true);
	fault_libc_init();
	if (!strcmp(argv[0], QUERY_WORKER_NAME)) {
		worker_faults();
		query_worker_main(argc, argv);
	}
	if (argc != 3) {
		fprintf(stderr, "usage: store_nth DIR open|push|rotate|index|query|worker\n");
		return 2;
	}
	fault_vfs_register();
	flow_rows_init(&t.rows);
	scenario = argv[2];
	snprintf(t.ring, sizeof(t.ring), "%s/ring", argv[1]);
	snprintf(t.fault_file, sizeof(t.fault_file), "/tmp/ringside-nth-%d", (int)getpid());
	for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++) {
		if (strcmp(scenarios[i].name, scenario))
			continue;
		t.max_rows = scenarios[i].max_rows;
		if (scenarios[i].prepare)
			scenarios[i].prepare();
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
			unsigned int n;

			kind = &kinds[k];
			n = run_kind(scenarios[i].run, scenarios[i].check);
			printf("%s, %s: passes at call %" PRIu64 ", %u runs\n", scenario,
			       kind->name, nth, n);
			fflush(stdout);
			runs += n;
		}
	}
	query_engine_free(t.engine);
	printf("%s: %u runs\n", scenario, runs);
	return runs ? 0 : 2;
}
