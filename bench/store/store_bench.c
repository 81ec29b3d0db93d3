// SPDX-License-Identifier: Apache-2.0
/* Writes Ringside's ring, or the one plain SQLite table that people start with; prints one JSON
 * object. */
#include "store_bench.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/queue.h"
#include "lib/flow_rows.h"
#include "store/store.h"

#define T0	   UINT64_C(1700000000000000000)
#define STEP_NS	   NSEC_PER_MSEC /* event time between rows: five minutes are 300,000 rows */
#define BATCH_ROWS 512		 /* as the daemon publishes */

#define TEMPLATES  64

struct run {
	const char *dir;
	uint64_t rows, rate; /* rate 0: as fast as it takes them */
	uint64_t keep;	     /* rows that the full ring holds */
	_Atomic uint64_t refused, queue_max;
	struct queue *queue; /* plain */
	struct store *store; /* ring */
	atomic_bool done;
};

void die(const char *what, const char *why)
{
	fprintf(stderr, "store_bench: %s: %s\n", what, why);
	exit(1);
}

/* CPU of all threads whose name begins with prefix, ns. */
static uint64_t thread_cpu(const char *prefix)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *de;
	uint64_t sum = 0, ns;

	while (d && (de = readdir(d))) {
		char path[300], name[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", de->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (!fgets(name, sizeof(name), f))
			name[0] = '\0';
		fclose(f);
		name[strcspn(name, "\n")] = '\0';
		if (strcmp(name, prefix))
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/schedstat", de->d_name);
		f = fopen(path, "re");
		if (f && fscanf(f, "%" SCNu64, &ns) == 1)
			sum += ns;
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
	return sum;
}

static int push(struct run *run, struct batch *b)
{
	int r;

	if (run->store)
		return store_push(run->store, b);
	batch_ref(b);
	r = queue_push(run->queue, b);
	if (r < 0)
		batch_unref(b);
	return r;
}

static uint64_t queue_now(struct run *run)
{
	struct store_stats stats;

	if (!run->store)
		return queue_len(run->queue);
	store_get_stats(run->store, RING_FLOW, &stats);
	return stats.queue_len;
}

/* A copy of a template with new times: making rows costs next to nothing beside storing them. */
static struct batch *stamp(struct batch *template, uint64_t first)
{
	struct batch *b = batch_new(template->table, template->nrows);

	for (uint32_t i = 0; b && i < template->nrows; i++) {
		struct flow_rows_row *row = batch_add(b);

		memcpy(row, batch_row(template, i), sizeof(*row));
		row->ts = first + i * STEP_NS;
	}
	if (!b)
		die("batch", "out of memory");
	b->arena = malloc(template->arena_len + 1);
	b->arena_len = b->arena_cap = template->arena_len;
	memcpy(b->arena, template->arena, template->arena_len);
	batch_seal(b, NULL);
	return b;
}

/* Pushes rows [from, to); paced or as fast as the queue takes them. */
static void produce(struct run *run, struct batch **templates, uint64_t from, uint64_t to,
		    uint64_t rate)
{
	uint64_t start = clock_mono_ns();

	for (uint64_t n = from; n < to; n += BATCH_ROWS) {
		struct batch *b = stamp(templates[n / BATCH_ROWS % TEMPLATES], T0 + n * STEP_NS);
		uint64_t due = rate ? start + (n - from) * NSEC_PER_SEC / rate : 0,
			 now = clock_mono_ns(), len;

		if (due > now)
			nanosleep(&(struct timespec){.tv_sec = (time_t)((due - now) / NSEC_PER_SEC),
						     .tv_nsec = (long)((due - now) % NSEC_PER_SEC)},
				  NULL);
		while (push(run, b) == -ENOBUFS) {
			if (rate) {
				run->refused += b->nrows;
				break;
			}
			nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
		}
		batch_unref(b);
		len = queue_now(run);
		if (rate && len > run->queue_max)
			run->queue_max = len;
	}
}

/* The alternative: one table of plain columns, an index on ts, the oldest deleted */

struct plain {
	struct run *run;
	sqlite3 *db;
	sqlite3_stmt *insert, *erase;
	_Atomic uint64_t rows, commit_max;
};

void must(sqlite3 *db, int rc, const char *what)
{
	if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
		die(what, sqlite3_errmsg(db));
}

static void plain_open(struct plain *p, const char *dir)
{
	struct buf sql = {}, insert = {};
	char path[300];

	snprintf(path, sizeof(path), "%s/plain.db", dir);
	must(p->db,
	     sqlite3_open_v2(path, &p->db,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
			     NULL),
	     path);
	buf_puts(&sql,
		 "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-4000;"
		 "CREATE TABLE netflow(id INTEGER PRIMARY KEY, ts INTEGER");
	buf_puts(&insert, "INSERT INTO netflow VALUES(NULL, ?");
	for (uint32_t i = 1; i < flow_rows_table.nfields; i++) {
		buf_printf(&sql, ", %s", flow_rows_table.fields[i].name);
		buf_puts(&insert, ", ?");
	}
	buf_puts(&sql, "); CREATE INDEX netflow_ts ON netflow(ts)");
	buf_puts(&insert, ")");
	must(p->db, sqlite3_exec(p->db, sql.data, NULL, NULL, NULL), "create");
	must(p->db,
	     sqlite3_prepare_v3(p->db, insert.data, -1, SQLITE_PREPARE_PERSISTENT, &p->insert,
				NULL),
	     "insert");
	must(p->db,
	     sqlite3_prepare_v3(p->db, "DELETE FROM netflow WHERE ts < ?", -1,
				SQLITE_PREPARE_PERSISTENT, &p->erase, NULL),
	     "delete");
	buf_free(&sql);
	buf_free(&insert);
}

static void plain_row(struct plain *p, struct batch *b, uint32_t row)
{
	for (uint32_t col = 0; col < b->table->nfields; col++) {
		struct value v;
		int n = (int)col + 1;

		batch_get(b, row, col, &v);
		switch (v.kind) {
		case VALUE_NULL:
			sqlite3_bind_null(p->insert, n);
			break;
		case VALUE_INT:
			sqlite3_bind_int64(p->insert, n, v.i);
			break;
		case VALUE_REAL:
			sqlite3_bind_double(p->insert, n, v.d);
			break;
		case VALUE_TEXT:
		case VALUE_BYTES:
			sqlite3_bind_text(p->insert, n, v.text, (int)v.len,
					  v.text == v.scratch ? SQLITE_TRANSIENT : SQLITE_STATIC);
			break;
		}
	}
	must(p->db, sqlite3_step(p->insert), "insert");
	sqlite3_reset(p->insert);
}

static void *plain_thread(void *arg)
{
	struct plain *p = arg;
	struct batch *pair[2];

	pthread_setname_np(pthread_self(), "plain");
	for (;;) {
		uint64_t start, rows = 0, last = 0, ns;
		unsigned int n = 0;

		while (n < 2 &&
		       (pair[n] = queue_pop(p->run->queue, n ? 250 * NSEC_PER_MSEC : NSEC_PER_SEC)))
			n++;
		if (!n && p->run->done)
			return NULL;
		if (!n)
			continue;
		start = clock_mono_ns();
		must(p->db, sqlite3_exec(p->db, "BEGIN IMMEDIATE", NULL, NULL, NULL), "begin");
		for (unsigned int i = 0; i < n; i++) {
			for (uint32_t row = 0; row < pair[i]->nrows; row++)
				plain_row(p, pair[i], row);
			rows += pair[i]->nrows;
			last = pair[i]->ts_max;
			batch_unref(pair[i]);
		}
		if (last - T0 > p->run->keep * STEP_NS) {
			sqlite3_bind_int64(p->erase, 1, (int64_t)(last - p->run->keep * STEP_NS));
			must(p->db, sqlite3_step(p->erase), "delete");
			sqlite3_reset(p->erase);
		}
		must(p->db, sqlite3_exec(p->db, "COMMIT", NULL, NULL, NULL), "commit");
		p->rows += rows;
		ns = clock_mono_ns() - start;
		if (ns > p->commit_max)
			p->commit_max = ns;
	}
}

/* Writing */

static uint64_t file_bytes(const char *dir, const char *name)
{
	char path[400];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void report(const struct run *run, const char *design, uint64_t rows, uint64_t ns,
		   uint64_t writer_ns, uint64_t sealer_ns, double bytes_row, uint64_t commit_max)
{
	printf("{\"design\":\"%s\",\"rows\":%" PRIu64
	       ",\"seconds\":%.2f,\"rows_s\":%.0f,\"writer_us\":%.3f,"
	       "\"sealer_us\":%.3f,\"bytes_row\":%.1f,\"queue_max\":%" PRIu64
	       ",\"refused\":%" PRIu64 ",\"commit_max_ms\":%.1f}\n",
	       design, rows, (double)ns / 1e9, (double)rows * 1e9 / (double)ns,
	       (double)writer_ns / 1e3 / (double)rows, (double)sealer_ns / 1e3 / (double)rows,
	       bytes_row, run->queue_max, run->refused, (double)commit_max / 1e6);
}

static double ring_bytes_per_row(struct store *s)
{
	struct segment_info infos[16];
	uint64_t bytes = 0, rows = 0;
	unsigned int n = store_segments(s, infos, 16);

	for (unsigned int i = 0; i < n; i++) {
		if (infos[i].live || infos[i].ring != RING_FLOW)
			continue;
		bytes += infos[i].bytes;
		rows += infos[i].rows;
	}
	return rows ? (double)bytes / (double)rows : 0;
}

static void write_ring(struct run *run, struct batch **templates)
{
	struct store_options options = {
		.dir = run->dir,
		.limits = {[RING_FLOW] = {.max_bytes = UINT64_C(4) << 30, .max_rows = run->keep},
			   [RING_AUDIT] = {.max_bytes = 64 << 20}},
		.queue_batches = 256,
		.flush_ns = 250 * NSEC_PER_MSEC,
	};
	uint64_t full = run->keep + run->keep / 7, start, writer, sealer, ns;
	struct store_stats stats;
	struct err err = {};

	if (store_new(&run->store, &options, &err) < 0 ||
	    store_add_table(run->store, &flow_rows_table, &err) < 0 ||
	    store_start(run->store, &err) < 0)
		die("store", err.msg);
	produce(run, templates, 0, full, 0);
	store_flush(run->store, 60 * NSEC_PER_SEC);
	printf("full\n");
	fflush(stdout);
	start = clock_mono_ns();
	writer = thread_cpu("store");
	sealer = thread_cpu("store-seal");
	produce(run, templates, full, full + run->rows, run->rate);
	store_flush(run->store, 60 * NSEC_PER_SEC);
	ns = clock_mono_ns() - start;
	writer = thread_cpu("store") - writer;
	sealer = thread_cpu("store-seal") - sealer;
	store_get_stats(run->store, RING_FLOW, &stats);
	if (stats.rows_bumped || stats.rows_lost)
		die("store", "rows were bumped or lost");
	report(run, "ring", run->rows, ns, writer, sealer, ring_bytes_per_row(run->store),
	       stats.commit_ns_max);
	store_stop(run->store, NSEC_PER_SEC);
	store_free(run->store);
}

static void write_plain(struct run *run, struct batch **templates)
{
	struct plain p = {.run = run};
	uint64_t full = run->keep + run->keep / 7, start, writer, ns;
	pthread_t thread;

	if (queue_new(&run->queue, 256) < 0)
		die("queue", "out of memory");
	plain_open(&p, run->dir);
	pthread_create(&thread, NULL, plain_thread, &p);
	produce(run, templates, 0, full, 0);
	while (p.rows < full)
		usleep(1000);
	printf("full\n");
	fflush(stdout);
	start = clock_mono_ns();
	writer = thread_cpu("plain");
	produce(run, templates, full, full + run->rows, run->rate);
	while (p.rows + run->refused < full + run->rows)
		usleep(1000);
	ns = clock_mono_ns() - start;
	writer = thread_cpu("plain") - writer;
	run->done = true;
	pthread_join(thread, NULL);
	report(run, "plain", run->rows, ns, writer, 0,
	       (double)file_bytes(run->dir, "plain.db") / (double)run->keep, p.commit_max);
	sqlite3_finalize(p.insert);
	sqlite3_finalize(p.erase);
	sqlite3_close(p.db);
	queue_free(run->queue);
}

int main(int argc, char **argv)
{
	struct batch *templates[TEMPLATES];
	struct flow_rows g;
	struct run run = {};

	if (argc == 7 && !strcmp(argv[1], "query")) {
		bench_query(argv[3], !strcmp(argv[2], "plain"), (unsigned int)atoi(argv[4]),
			    (unsigned int)atoi(argv[5]),
			    strtoull(argv[6], NULL, 10) * NSEC_PER_SEC);
		return 0;
	}
	if (argc != 7 || strcmp(argv[1], "write")) {
		fprintf(stderr,
			"usage: store_bench write ring|plain DIR KEEP ROWS RATE\n"
			"       store_bench query ring|plain DIR COUNT EVERY_MS WINDOW_SECONDS\n");
		return 2;
	}
	run.dir = argv[3];
	run.keep = strtoull(argv[4], NULL, 10);
	run.keep -= run.keep % (BATCH_ROWS * 7);
	run.rows = strtoull(argv[5], NULL, 10) / BATCH_ROWS * BATCH_ROWS;
	run.rate = strtoull(argv[6], NULL, 10);
	flow_rows_init(&g);
	for (unsigned int i = 0; i < TEMPLATES; i++)
		templates[i] = flow_rows_batch(&g, BATCH_ROWS, T0, STEP_NS);
	if (!strcmp(argv[2], "plain"))
		write_plain(&run, templates);
	else
		write_ring(&run, templates);
	for (unsigned int i = 0; i < TEMPLATES; i++)
		batch_unref(templates[i]);
	return 0;
}
