// SPDX-License-Identifier: Apache-2.0
/* Several reads of one moment, written as a snapshot and read back; files that aren't what they
 * say. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "query_fixture.h"
#include "store/snapshot.h"

#define SCRIPT \
	"SELECT * FROM netflow ORDER BY ts; SELECT * FROM bash ORDER BY ts;\n SELECT * FROM loss"

/* A script's results into a file, while the ring goes on. */
struct pin {
	struct fixture *f;
	struct snapshot_writer *out;
	const struct table *const *next;
	uint64_t rows[3];
	unsigned int done;
};

static int pin_columns(void *arg, const struct query_column *cols, size_t ncols)
{
	struct pin *p = arg;
	struct err err = {0};

	assert_string_equal(cols[0].name, "ts");
	assert_int_equal(ncols, (*p->next)->nfields);
	assert_int_equal(snapshot_table(p->out, *p->next, &err), 0);
	fixture_write(p->f, 7); /* nobody who reads now may see them */
	return 0;
}

static int pin_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	struct pin *p = arg;
	struct err err = {0};

	for (size_t i = 0; i < nrows; i++)
		assert_int_equal(snapshot_row(p->out, values + i * ncols, ncols, &err), 0);
	p->rows[p->done] += nrows;
	return 0;
}

static int pin_done(void *arg, const struct query_stats *stats)
{
	struct pin *p = arg;
	struct snapshot_table_end end = {.since = T0, .ring_since = stats->loss[0].since_ns};
	struct err err = {0};

	assert_int_equal(stats->rows, p->rows[p->done]);
	assert_false(stats->truncated);
	assert_int_equal(stats->nloss, 1);
	assert_string_equal(stats->loss[0].table, (*p->next)->name);
	assert_int_equal(snapshot_table_end(p->out, &end, &err), 0);
	p->done++;
	p->next++;
	return 0;
}

static void write_snapshot(struct fixture *f, const char *path)
{
	static const struct table *const order[] = {&test_flow, &test_shell, &test_loss, NULL};
	struct pin p = {.f = f, .next = order};
	const struct query_sink sink = {
		.columns = pin_columns, .rows = pin_rows, .done = pin_done, .arg = &p};
	const struct query q = {.sql = SCRIPT, .script = true};
	struct err err = {0};
	uint64_t lost = 0;
	int fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0600);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(snapshot_create(&p.out, path, &err), 0);
	if (query_run(f->engine, &q, &sink, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(p.done, 3);
	assert_int_equal(p.rows[0], FLOW_ROWS);
	assert_int_equal(snapshot_info_text(p.out, "host", "h\"ost", &err), 0);
	assert_int_equal(snapshot_info_int(p.out, "until", (int64_t)(T0 + 5), &err), 0);
	assert_int_equal(snapshot_rows(p.out), p.rows[0] + p.rows[1] + p.rows[2]);
	if (snapshot_finish(p.out, &lost, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(lost > 0);
	snapshot_free(p.out);
}

static int open_engine(struct query_engine **ret, struct snapshot **file, const char *path,
		       struct err *err)
{
	struct query_engine_options o = {.max_workers = 1,
					 .max_deadline_ns = 60000000000ull,
					 .default_deadline_ns = 60000000000ull,
					 .max_rows = 1000000};
	int r = snapshot_open(file, path, err);

	if (r < 0)
		return r;
	o.tables = (*file)->tables;
	o.file = (*file)->path;
	o.file_is_snapshot = !(*file)->is_segment;
	o.now_ns = (*file)->end_ns;
	return query_engine_new(ret, &o, err);
}

/* The same statement over ring and file: cells, types and units. */
static void compare(struct fixture *f, struct query_engine *engine, const char *over_ring,
		    const char *over_file)
{
	struct query_engine *ring = f->engine;
	static struct result a, b;

	result_run(f, &a, over_ring, NULL);
	f->engine = engine;
	result_run(f, &b, over_file, NULL);
	f->engine = ring;
	if (a.r < 0 || b.r < 0)
		fail_msg("%s %s", a.err.msg, b.err.msg);
	assert_int_equal(a.nrows, b.nrows);
	assert_int_equal(a.ncols, b.ncols);
	assert_int_equal(a.ncells, b.ncells);
	for (unsigned int i = 0; i < a.ncols; i++) {
		assert_string_equal(a.name[i], b.name[i]);
		assert_int_equal(a.type[i], b.type[i]);
		assert_string_equal(a.unit[i], b.unit[i]);
	}
	for (unsigned int i = 0; i < a.ncells; i++) {
		assert_int_equal(a.kind[i], b.kind[i]);
		if (a.cell[i])
			assert_string_equal(a.cell[i], b.cell[i]);
	}
	result_free(&a);
	result_free(&b);
}

static void test_same_rows(void **state)
{
	struct fixture *f = *state;
	struct query_engine *engine = NULL, *ring = f->engine;
	struct snapshot *file = NULL;
	struct err err = {0};
	char path[128], old[160];

	snprintf(path, sizeof(path), "%s/a.db", f->dir);
	write_snapshot(f, path);
	if (open_engine(&engine, &file, path, &err) < 0)
		fail_msg("%s", err.msg);
	assert_false(file->is_segment);
	assert_int_equal(file->end_ns, T0 + 5);
	snprintf(old, sizeof(old), "SELECT * FROM netflow WHERE ts < %llu ORDER BY ts LIMIT 300",
		 T0 + FLOW_ROWS * 1000000ull);
	compare(f, engine, old, "SELECT * FROM netflow ORDER BY ts LIMIT 300");
	compare(f, engine, "SELECT * FROM bash", "SELECT * FROM bash");
	compare(f, engine, "SELECT b.cmd, l.lost FROM bash b JOIN loss l ORDER BY 1, 2",
		"SELECT b.cmd, l.lost FROM bash b JOIN loss l ORDER BY 1, 2");
	f->engine = engine;
	assert_query(f, "SELECT now_ns() - value FROM snapshot_info WHERE key = 'until'", "0");
	assert_query(f, "SELECT value FROM snapshot_info WHERE key = 'host'", "h\"ost");
	assert_query(f, "SELECT count(*) FROM snapshot_tables", "3");
	assert_query(f, "SELECT unit FROM snapshot_columns WHERE name = 'bytes_read'", "By");
	assert_refused(f, "SELECT * FROM sqlite_master", -EPERM, "cannot be read");
	assert_refused(f, "SELECT * FROM connections", -EINVAL, "no such table");
	f->engine = ring;
	query_engine_free(engine);
	snapshot_close(file);
}

static void test_segment(void **state)
{
	struct fixture *f = *state;
	struct query_engine *engine = NULL, *ring = f->engine;
	struct snapshot *file = NULL;
	struct err err = {0};
	char path[128];

	snprintf(path, sizeof(path), "%s/flow-00000041.db", f->dir);
	if (open_engine(&engine, &file, path, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(file->is_segment);
	assert_true(file->end_ns >= T0);
	f->engine = engine;
	assert_query(f, "SELECT count(*) FROM netflow", "500");
	f->engine = ring;
	compare(f, engine, "SELECT ts, process_name, transport, dst_ip || '' FROM netflow LIMIT 50",
		"SELECT ts, process_name, transport, dst_ip || '' FROM netflow LIMIT 50");
	query_engine_free(engine);
	snapshot_close(file);
}

static void refuse(const char *path, int code, const char *part)
{
	struct snapshot *file = NULL;
	struct err err = {0};

	assert_int_equal(snapshot_open(&file, path, &err), code);
	if (!strstr(err.msg, part))
		fail_msg("'%s' isn't in '%s'", part, err.msg);
}

static void damage(const char *from, const char *to, const char *sql)
{
	char cmd[400];
	sqlite3 *db;

	snprintf(cmd, sizeof(cmd), "cp '%s' '%s'", from, to);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(sqlite3_open(to, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void test_other_files(void **state)
{
	struct fixture *f = *state;
	char good[128], bad[128];

	snprintf(good, sizeof(good), "%s/good.db", f->dir);
	snprintf(bad, sizeof(bad), "%s/bad.db", f->dir);
	write_snapshot(f, good);
	refuse("/nowhere/at/all", -ENOENT, "No such file");
	refuse("/etc/hosts", -EBADMSG, "not a snapshot");
	damage(good, bad, "PRAGMA user_version = 2");
	refuse(bad, -EPROTONOSUPPORT, "newer version");
	damage(good, bad, "PRAGMA application_id = 1");
	refuse(bad, -EBADMSG, "application_id 1");
	damage(good, bad, "DROP TABLE snapshot_columns");
	refuse(bad, -EBADMSG, "not a snapshot");
	damage(good, bad,
	       "DROP TABLE snapshot_tables; CREATE VIEW snapshot_tables AS WITH RECURSIVE c(n) AS "
	       "(SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n name FROM c WHERE n < 0");
	refuse(bad, -EBADMSG, "not a snapshot");
	damage(good, bad,
	       "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300) "
	       "INSERT INTO snapshot_tables(name) SELECT 't' || n FROM c");
	refuse(bad, -EBADMSG, "tables that no ring has");
}

/* Names from the other end of a connection are names, never SQL. */
static void test_hostile_names(void **state)
{
	struct fixture *f = *state;
	static const struct field fields[] = {
		{.name = "ts", .type = COLUMN_TIME, .kind = KIND_TAG, .unit = "ns", .help = ""},
		{.name = "a\" TEXT); DROP TABLE snapshot_info; --",
		 .type = COLUMN_TEXT,
		 .unit = "",
		 .help = ""},
	};
	const struct table t = {.name = "x\"; DROP TABLE snapshot_info; --",
				.summary = "'",
				.class = TABLE_FLOW,
				.nfields = 2,
				.fields = fields};
	const struct table again = {.name = "snapshot_info",
				    .summary = "",
				    .class = TABLE_LIVE,
				    .nfields = 1,
				    .fields = fields};
	struct value row[2] = {{.kind = VALUE_INT, .i = 1},
			       {.kind = VALUE_TEXT, .text = "v", .len = 1}};
	struct snapshot_writer *w = NULL;
	struct err err = {0};
	char path[128];

	snprintf(path, sizeof(path), "%s/h.db", f->dir);
	close(open(path, O_CREAT | O_EXCL | O_RDWR, 0600));
	assert_int_equal(snapshot_create(&w, path, &err), 0);
	assert_int_equal(snapshot_row(w, row, 2, &err), -EPROTO);
	assert_int_equal(snapshot_table(w, &t, &err), 0);
	assert_int_equal(snapshot_row(w, row, 2, &err), 0);
	assert_int_equal(snapshot_row(w, row, 1, &err), -EPROTO);
	assert_int_equal(snapshot_table_end(w, &(struct snapshot_table_end){0}, &err), 0);
	assert_int_equal(snapshot_info_text(w, "still", "there", &err), 0);
	assert_int_equal(snapshot_table(w, &again, &err), -EIO);
	snapshot_free(w);
}

static void test_script_refused(void **state)
{
	struct fixture *f = *state;
	const struct query_sink none = {0};
	struct err err = {0};
	struct query q = {.sql = "SELECT 1; DELETE FROM netflow", .script = true};

	assert_int_equal(query_run(f->engine, &q, &none, &err), -EPERM);
	assert_non_null(strstr(err.msg, "only reads"));
	assert_refused(f, "SELECT 1; SELECT 2", -EINVAL, "one statement at a time");
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], QUERY_WORKER_NAME))
		query_worker_main(argc, argv);

	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same_rows, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_segment, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_other_files, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_hostile_names, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(test_script_refused, fixture_setup,
						fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
