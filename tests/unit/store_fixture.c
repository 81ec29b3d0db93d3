// SPDX-License-Identifier: Apache-2.0
/* Tables, rows and a scratch directory for the store's tests. */
#include "unit/store_fixture.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const proto_names[] = {"", "tcp", "udp", NULL};

#define SAMPLE_FIELDS                                                                              \
	FIELD(sample_row, ts, U64, TIME, TAG, "ns", "time"),                                       \
		FIELD(sample_row, pid, U32, INT64, TAG, "", "process", .null = NULL_ZERO),         \
		FIELD(sample_row, comm, CHARS, TEXT, TAG, "", "name", .dict = true),               \
		FIELD(sample_row, note, STR, TEXT, TAG, "", "free text"),                          \
		FIELD(sample_row, domain, STR, TEXT, TAG, "", "name of a host", .dict = true,      \
		      .null = NULL_ZERO),                                                          \
		FIELD(sample_row, ip, IP, IP, TAG, "", "address", .null = NULL_ZERO),              \
		FIELD(sample_row, proto, ENUM, TEXT, TAG, "", "protocol", .names = proto_names,    \
		      .null = NULL_ZERO),                                                          \
		FIELD(sample_row, ok, U8, BOOL, TAG, "", "went well"),                             \
		FIELD(sample_row, exit_status, I32, INT64, GAUGE, "", "status", .null = NULL_MAX), \
		FIELD(sample_row, delta, I64, INT64, DELTA, "By", "signed"),                       \
		FIELD(sample_row, load, F64, DOUBLE, GAUGE, "", "load"),                           \
		FIELD(sample_row, mac, CHARS, BYTES, TAG, "", "bytes"),                            \
		FIELD(sample_row, port, U16, INT64, TAG, "", "port", .null = NULL_MAX),            \
		FIELD(sample_row, big, U64, INT64, GAUGE, "", "beyond int64")

static const struct field sample_fields[] = {SAMPLE_FIELDS};
/* The same row with a second view of one member: what a new version of a plugin may do. */
static const struct field sample_wide_fields[] = {
	SAMPLE_FIELDS,
	{.name = "pid_again",
	 .type = COLUMN_INT64,
	 .repr = REPR_U32,
	 .off = offsetof(struct sample_row, pid),
	 .size = 4,
	 .kind = KIND_TAG,
	 .sensitivity = SENSITIVITY_META,
	 .unit = "",
	 .help = "added later"},
};
static const struct field shell_fields[] = {
	FIELD(shell_row, ts, U64, TIME, TAG, "ns", "time"),
	FIELD(shell_row, uid, U32, INT64, TAG, "", "user"),
	FIELD(shell_row, cmd, STR, TEXT, TAG, "", "line"),
};

const struct table sample_table = TABLE(sample_row, FLOW, "sample", "one of each", sample_fields);
const struct table sample_wide_table =
	TABLE(sample_row, FLOW, "sample", "one of each", sample_wide_fields);
const struct table shell_table = TABLE(shell_row, AUDIT, "shell", "lines", shell_fields);

static void on_event(void *arg, const char *event, const char *detail)
{
	struct fixture *f = arg;

	pthread_mutex_lock(&f->lock);
	if (f->nevents < 16)
		snprintf(f->events[f->nevents++], sizeof(f->events[0]), "%s: %s", event, detail);
	pthread_mutex_unlock(&f->lock);
}

bool fixture_event(struct fixture *f, const char *event)
{
	bool found = false;

	for (unsigned int turn = 0; turn < 500 && !found; turn++) {
		pthread_mutex_lock(&f->lock);
		for (unsigned int i = 0; i < f->nevents; i++)
			found |= !strncmp(f->events[i], event, strlen(event));
		pthread_mutex_unlock(&f->lock);
		if (!found)
			usleep(10000);
	}
	return found;
}

int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	pthread_mutex_init(&f->lock, NULL);
	snprintf(f->dir, sizeof(f->dir), "/tmp/ringside-store-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->ring, sizeof(f->ring), "%s/ring", f->dir);
	f->options = (struct store_options){
		.dir = f->ring,
		.limits = {[RING_FLOW] = {.max_bytes = 256 << 20},
			   [RING_AUDIT] = {.max_bytes = 64 << 20}},
		.queue_batches = 64,
		.flush_ns = 20 * NSEC_PER_MSEC,
		.on_event = on_event,
		.arg = f,
	};
	*state = f;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	fixture_close(f);
	nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

void fixture_open(struct fixture *f, const struct table *const *tables)
{
	struct err err = {};

	if (store_new(&f->store, &f->options, &err) < 0)
		fail_msg("store_new: %s", err.msg);
	for (; *tables; tables++)
		if (store_add_table(f->store, *tables, &err) < 0)
			fail_msg("store_add_table: %s", err.msg);
	if (store_start(f->store, &err) < 0)
		fail_msg("store_start: %s", err.msg);
}

void fixture_close(struct fixture *f)
{
	if (f->store)
		store_stop(f->store, 5 * NSEC_PER_SEC);
	store_free(f->store);
	f->store = NULL;
}

static void fill_sample(struct batch *b, struct sample_row *row, uint64_t ts)
{
	char text[64];
	uint64_t k = ts / 1000;

	row->ts = ts;
	row->pid = (uint32_t)(k % 7);
	snprintf(row->comm, sizeof(row->comm), "proc-%u", (unsigned int)(k % 13));
	if (k % 11 == 3)
		memcpy(row->comm, "bad\xff\xfe", 6);
	snprintf(text, sizeof(text), "note %llu", (unsigned long long)k);
	row->note = batch_str(b, text, k % 5 ? strlen(text) : 0);
	snprintf(text, sizeof(text), "host%u.example.org", (unsigned int)(k % 31));
	row->domain = batch_str(b, text, k % 3 ? strlen(text) : 0);
	row->ip.family = (uint8_t)((const uint8_t[]){4, 6, 0}[k % 3]);
	row->ip.addr[0] = 10;
	row->ip.addr[3] = (uint8_t)(k % 200);
	row->proto = (uint8_t)(k % 3);
	row->ok = k % 2;
	row->exit_status = (int32_t)(k % 4) - 1;
	row->delta = -(int64_t)k;
	row->load = (double)k / 8;
	memcpy(row->mac, &k, 6);
	row->port = k % 9 ? (uint16_t)k : UINT16_MAX;
	row->big = k % 17 ? k : UINT64_MAX;
}

struct batch *sample_batch(const struct table *t, uint32_t n, uint64_t first, uint64_t step)
{
	struct batch *b = batch_new(t, n);

	for (uint32_t i = 0; i < n; i++) {
		uint64_t ts = first + i * step;
		void *row = batch_add(b);

		if (t->class == TABLE_AUDIT) {
			((struct shell_row *)row)->ts = ts;
			((struct shell_row *)row)->uid = (uint32_t)(ts % 1000);
			((struct shell_row *)row)->cmd = batch_str(b, "ls -l /etc", 10);
		} else {
			fill_sample(b, row, ts);
		}
	}
	return b;
}

void push_rows(struct fixture *f, const struct table *t, uint32_t n, uint64_t first, uint64_t step)
{
	for (uint32_t done = 0; done < n;) {
		uint32_t part = n - done < 500 ? n - done : 500;
		struct batch *b = sample_batch(t, part, first + done * step, step);
		int r;

		batch_seal(b, NULL);
		while ((r = store_push(f->store, b)) == -ENOBUFS)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		assert_int_equal(r, 0);
		batch_unref(b);
		done += part;
	}
	assert_int_equal(store_flush(f->store, 30 * NSEC_PER_SEC), 0);
}

/* Attaches all that is there; false: one was evicted after it was listed. */
static bool reader_attach(sqlite3 *db, const struct segment_file *files, int n)
{
	for (int i = 0; i < n; i++) {
		struct err err = {};
		int r = schema_attach(db, &files[i], &err);

		if (r == -ENOENT)
			return false;
		if (r < 0)
			fail_msg("schema_attach: %s", err.msg);
	}
	return true;
}

sqlite3 *reader_open(const struct fixture *f, const struct table *const *tables)
{
	struct segment_file files[SCHEMA_MAX_SEGMENTS];
	struct schema_arm arms[SCHEMA_MAX_SEGMENTS];
	struct err err = {};
	sqlite3 *db = NULL;
	int n = 0;

	for (bool all = false; !all;) {
		sqlite3_close(db);
		assert_int_equal(sqlite3_open_v2(":memory:", &db,
						 SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL),
				 SQLITE_OK);
		sqlite3_busy_timeout(db, 5000); /* sealing locks a file for a moment */
		n = schema_list(f->ring, files, SCHEMA_MAX_SEGMENTS, &err);
		assert_true(n >= 0);
		all = reader_attach(db, files, n);
	}
	for (; *tables; tables++) {
		struct buf sql = {};
		size_t narms = 0;

		for (int i = 0; i < n; i++) {
			struct segment_table info;

			if (files[i].ring != schema_ring(*tables))
				continue;
			if (schema_read_table(db, files[i].schema, *tables, &info, &err) < 0)
				fail_msg("schema_read_table: %s", err.msg);
			arms[narms++] = (struct schema_arm){.schema = files[i].schema,
							    .columns = info.columns};
		}
		schema_view_sql(&sql, *tables, arms, narms, NULL);
		assert_int_equal(buf_status(&sql), 0);
		if (sqlite3_exec(db, sql.data, NULL, NULL, NULL) != SQLITE_OK)
			fail_msg("%s: %s", sqlite3_errmsg(db), sql.data);
		buf_free(&sql);
	}
	return db;
}

int64_t query_int(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *st = NULL;
	int64_t v;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	if (sqlite3_step(st) != SQLITE_ROW)
		fail_msg("%s: no row: %s", sql, sqlite3_errmsg(db));
	v = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return v;
}

unsigned int segment_count(const struct fixture *f)
{
	struct segment_file files[64];
	int n = schema_list(f->ring, files, 64, NULL), flow = 0;

	for (int i = 0; i < n; i++)
		flow += files[i].ring == RING_FLOW;
	return (unsigned int)flow;
}

struct segment_file segment_at(const struct fixture *f, unsigned int idx)
{
	struct segment_file files[64];
	int n = schema_list(f->ring, files, 64, NULL);

	assert_true((int)idx < n);
	assert_int_equal(files[idx].ring, RING_FLOW);
	return files[idx];
}

static uint64_t bytes_found;

static int add_bytes(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	const char *shm = strstr(path, "-shm");

	(void)ftw;
	/* Shared memory that SQLite happens to keep in a file; not data. */
	if (flag == FTW_F && !shm)
		bytes_found += (uint64_t)st->st_size;
	return 0;
}

uint64_t directory_bytes(const char *dir)
{
	bytes_found = 0;
	nftw(dir, add_bytes, 16, FTW_PHYS);
	return bytes_found;
}
