// SPDX-License-Identifier: Apache-2.0
/* The same question to the ring, attached as the query worker does it, and to the plain table. */
#include "store_bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "lib/flow_rows.h"
#include "store/decode.h"
#include "store/schema.h"

#define TOP_TALKERS                                                                             \
	"SELECT dst_ip, process_name, sum(bytes_read + bytes_written) AS bytes, count(*) FROM " \
	"netflow "                                                                              \
	"WHERE ts > ?1 GROUP BY dst_ip, process_name ORDER BY bytes DESC LIMIT 10"

/* As the query worker does it: attach all, one view that decodes the columns in use. */
static sqlite3 *attach_ring(const char *dir, uint64_t *newest, struct decoder **decoders)
{
	struct segment_file files[SCHEMA_MAX_SEGMENTS];
	struct schema_arm arms[SCHEMA_MAX_SEGMENTS];
	struct column_set wanted = {};
	struct buf sql = {};
	struct err err = {};
	sqlite3 *db = NULL;
	size_t narms = 0;
	int n = schema_list(dir, files, SCHEMA_MAX_SEGMENTS, &err);

	must(db,
	     sqlite3_open_v2(":memory:", &db,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL),
	     "open");
	sqlite3_busy_timeout(db, 1000);
	for (int i = 0; i < n; i++) {
		struct segment_table info;

		if (files[i].ring != RING_FLOW || schema_attach(db, &files[i], &err) < 0 ||
		    schema_read_table(db, files[i].schema, &flow_rows_table, &info, &err) < 0)
			continue;
		if (info.ts_max > *newest)
			*newest = info.ts_max;
		must(db, decoder_new(&decoders[i], db, files[i].schema), "decoder");
		arms[narms++] = (struct schema_arm){.schema = files[i].schema,
						    .columns = info.columns,
						    .dict = info.dict};
	}
	for (uint32_t i = 0; i < flow_rows_table.nfields; i++)
		if (strstr(TOP_TALKERS, flow_rows_table.fields[i].name))
			column_set_add(&wanted, i);
	schema_view_sql(&sql, &flow_rows_table, arms, narms, &wanted);
	must(db, sqlite3_exec(db, sql.data, NULL, NULL, NULL), "view");
	buf_free(&sql);
	return db;
}

static sqlite3 *open_plain(const char *dir, uint64_t *newest)
{
	char path[300];
	sqlite3 *db = NULL;
	sqlite3_stmt *st = NULL;

	snprintf(path, sizeof(path), "%s/plain.db", dir);
	must(db, sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL),
	     path);
	sqlite3_busy_timeout(db, 1000);
	must(db, sqlite3_prepare_v2(db, "SELECT max(ts) FROM netflow", -1, &st, NULL), "max");
	sqlite3_step(st);
	*newest = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return db;
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void bench_query(const char *dir, bool plain, unsigned int count, unsigned int every_ms,
		 uint64_t window_ns)
{
	uint64_t times[256], scanned = 0, cpu;

	if (count > 256)
		count = 256;
	cpu = 0;
	for (unsigned int i = 0; i < count; i++) {
		uint64_t start = clock_mono_ns(), cpu_start = cpu_ns(), newest = 0;
		struct decoder *decoders[SCHEMA_MAX_SEGMENTS] = {};
		sqlite3 *db =
			plain ? open_plain(dir, &newest) : attach_ring(dir, &newest, decoders);
		sqlite3_stmt *st = NULL;
		unsigned int rows = 0;

		must(db, sqlite3_prepare_v2(db, TOP_TALKERS, -1, &st, NULL), "query");
		sqlite3_bind_int64(st, 1, (int64_t)(newest - window_ns));
		while (sqlite3_step(st) == SQLITE_ROW)
			rows++;
		sqlite3_finalize(st);
		times[i] = clock_mono_ns() - start;
		cpu += cpu_ns() - cpu_start;
		if (rows != 10)
			die("query", "ten rows expected");
		must(db,
		     sqlite3_prepare_v2(db, "SELECT count(*) FROM netflow WHERE ts > ?1", -1, &st,
					NULL),
		     "count");
		sqlite3_bind_int64(st, 1, (int64_t)(newest - window_ns));
		sqlite3_step(st);
		scanned = (uint64_t)sqlite3_column_int64(st, 0);
		sqlite3_finalize(st);
		for (unsigned int k = 0; k < SCHEMA_MAX_SEGMENTS; k++)
			decoder_free(decoders[k]);
		sqlite3_close(db);
		usleep(every_ms * 1000);
	}
	qsort(times, count, sizeof(times[0]), compare_u64);
	printf("{\"queries\":%u,\"scanned\":%" PRIu64
	       ",\"cpu_ms\":%.1f,\"p50_ms\":%.1f,\"min_ms\":%.1f,\"max_ms\":%.1f}\n",
	       count, scanned, (double)cpu / count / 1e6, (double)times[count / 2] / 1e6,
	       (double)times[0] / 1e6, (double)times[count - 1] / 1e6);
}
