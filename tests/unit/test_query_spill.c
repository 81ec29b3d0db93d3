// SPDX-License-Identifier: Apache-2.0
/* Sorts that don't fit in a query's memory: right on disk, bounded there, and nothing is left. */
#include "query_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/macro.h"
#include "store/query_spill.h"

#define MIB (1ull << 20)
/* A sort begins at a sixth of it; the rows below are about twice as much. */
#define HEAP	     (16 * MIB)
#define OUTER	     150
#define PAIRS	     (OUTER * FLOW_ROWS)
#define STR_(x)	     #x
#define STR(x)	     STR_(x)
#define DISK	     "48m"
#define DISK_BYTES   (48 * MIB)
/* Each pair has a number of its own, 0 to PAIRS - 1. */
#define NUMBER	     "((a.ts - 1700000000000000000) / 1000000 * " STR(FLOW_ROWS_N) " + (b.ts - 1700000000000000000) / 1000000)"
#define FLOW_ROWS_N  1211
#define PAD	     "substr('" X50 X50 X50 "', 1, 100 + b.ts / 1000000 % 40)"
#define X50	     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define FROM_PAIRS   " FROM netflow a, netflow b WHERE a.ts < 1700000000150000000 "
#define SORT	     "SELECT " NUMBER " AS n" FROM_PAIRS "ORDER BY n DESC, b.ts || " PAD
#define GROUP	     "SELECT count(*), sum(c), sum(n) FROM (SELECT count(*) AS c, min(" NUMBER ") AS n" FROM_PAIRS \
	"GROUP BY " PAD " || b.ts || '-' || a.ts)"
#define DISTINCTLY   "SELECT count(*) FROM (SELECT DISTINCT b.ts || " PAD " || a.ts" FROM_PAIRS ")"

_Static_assert(FLOW_ROWS == FLOW_ROWS_N, "spelt in SQL");

static struct result res;

static void limits(struct fixture *f, uint64_t heap, uint64_t spill)
{
	struct err err = {};

	f->heap_bytes = heap;
	f->spill_bytes = spill;
	if (fixture_engine(f, 4, geteuid() == 0 ? "nobody" : NULL, &err) < 0)
		fail_msg("%s", err.msg);
}

static unsigned int nfiles(const char *dir)
{
	unsigned int n = 0;
	DIR *d = opendir(dir);

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void test_sorts(void **state)
{
	struct fixture *f = *state;
	unsigned int files = nfiles(f->dir);
	char text[32];

	limits(f, HEAP, 0);
	for (int round = 0; round < 2; round++) {
		result_run(f, &res, SORT, &(struct how){.timeout_ms = 100000});
		if (res.r < 0)
			fail_msg("%s", res.err.msg);
		assert_int_equal(res.nrows, PAIRS);
		for (unsigned int i = 0; i < res.ncells; i++) {
			snprintf(text, sizeof(text), "%u", PAIRS - 1 - i);
			assert_string_equal(res.cell[i], text);
		}
		result_free(&res);
	}
	result_run(f, &res, GROUP, &(struct how){.timeout_ms = 100000});
	if (res.r < 0)
		fail_msg("%s", res.err.msg);
	snprintf(text, sizeof(text), "%u", PAIRS);
	assert_string_equal(res.cell[0], text);
	assert_string_equal(res.cell[1], text);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)PAIRS * (PAIRS - 1) / 2);
	assert_string_equal(res.cell[2], text);
	result_free(&res);
	/* Not the sorter: a table that is written and read anywhere. */
	result_run(f, &res, DISTINCTLY, &(struct how){.timeout_ms = 100000});
	if (res.r < 0)
		fail_msg("%s", res.err.msg);
	snprintf(text, sizeof(text), "%u", PAIRS);
	assert_string_equal(res.cell[0], text);
	result_free(&res);
	assert_no_children();
	assert_int_equal(nfiles(f->dir), files);
}

static void test_bounds(void **state)
{
	struct fixture *f = *state;
	unsigned int files = nfiles(f->dir);

	limits(f, HEAP, 4 * MIB);
	assert_refused(f, SORT, -E2BIG, "more than the 4 MiB that it may put on disk");
	assert_refused(f, DISTINCTLY, -E2BIG, "more than the 4 MiB that it may put on disk");
	assert_query(f, "SELECT count(*) FROM netflow", STR(FLOW_ROWS_N));
	/* Too little to make a file at all: memory alone, as before. */
	limits(f, HEAP, 1);
	assert_refused(f, SORT, -E2BIG, "it cannot sort on disk here");
	assert_query(f, "SELECT count(*) FROM netflow", STR(FLOW_ROWS_N));
	assert_no_children();
	assert_int_equal(nfiles(f->dir), files);
}

/* On a disk of our own under the ring. */

static int disk_setup(void **state)
{
	*state = NULL;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("spill", "/tmp", "tmpfs", 0, "size=" DISK) < 0)
		return 0; /* the test is skipped */
	return fixture_setup(state);
}

static int disk_teardown(void **state)
{
	if (!*state)
		return 0;
	fixture_teardown(state);
	return umount("/tmp");
}

static uint64_t disk_free(void)
{
	struct statvfs v;

	assert_int_equal(statvfs("/tmp", &v), 0);
	return v.f_bavail * v.f_frsize;
}

/* All but so many bytes. */
static void disk_fill(uint64_t leave)
{
	int fd = open("/tmp/filler", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	uint64_t n = disk_free();

	assert_true(fd >= 0 && n > leave);
	assert_int_equal(posix_fallocate(fd, 0, (off_t)(n - leave)), 0);
	close(fd);
}

/* Our only child, with its spill file open. */
static pid_t wait_worker(void)
{
	char path[300], target[300];

	for (int i = 0; i < 2000; i++, usleep(1000)) {
		DIR *d = opendir("/proc/self/task");
		struct dirent *de;
		int pid = 0;

		while (!pid && (de = readdir(d))) {
			FILE *f;

			snprintf(path, sizeof(path), "/proc/self/task/%s/children", de->d_name);
			f = fopen(path, "re");
			if (f && fscanf(f, "%d", &pid) != 1)
				pid = 0;
			if (f)
				fclose(f);
		}
		closedir(d);
		for (int fd = 4; pid && fd < 16; fd++) {
			ssize_t n;

			snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
			n = readlink(path, target, sizeof(target) - 1);
			target[n < 0 ? 0 : n] = '\0';
			if (strstr(target, " (deleted)"))
				return pid;
		}
	}
	fail_msg("no query worker with a file appeared");
	return 0;
}

static void *run_slow(void *arg)
{
	/* Counts for a while before it sorts. */
	result_run(arg, &res, SORT ", (SELECT count(*) FROM netflow, netflow)",
		   &(struct how){.timeout_ms = 100000});
	return NULL;
}

/* kill: the worker is; else somebody fills the disk while it sorts. */
static void disk_test(struct fixture *f, bool kill_it)
{
	uint64_t before = disk_free();
	pthread_t thread;
	pid_t worker;

	assert_int_equal(pthread_create(&thread, NULL, run_slow, f), 0);
	worker = wait_worker();
	usleep(10000); /* it asks for the free space next */
	assert_int_equal(kill(worker, kill_it ? SIGKILL : SIGSTOP), 0);
	if (!kill_it) {
		disk_fill(0);
		assert_int_equal(kill(worker, SIGCONT), 0);
	}
	pthread_join(thread, NULL);
	if (res.r != -E2BIG || !strstr(res.err.msg, kill_it ? "SIGKILL" : "runs full while"))
		fail_msg("%d: %s", res.r, res.err.msg);
	result_free(&res);
	assert_no_children();
	if (!kill_it) /* and the worker's part is free again */
		assert_int_equal(unlink("/tmp/filler"), 0);
	assert_true(disk_free() + 64 * 1024 >= before);
	fixture_write(f, 1);
}

static void test_disk(void **state)
{
	struct fixture *f = *state;

	if (!f)
		skip();
	limits(f, HEAP, 0);
	/* A quarter of 48 MiB is less than it wants. */
	assert_refused(f, SORT, -E2BIG, "that it may put on disk");
	/* Nothing of what the store keeps free. */
	f->reserve_bytes = disk_free() - 4 * MIB + 64 * 1024;
	limits(f, HEAP, 0);
	assert_refused(f, SORT, -E2BIG, "it cannot sort on disk here");
	f->reserve_bytes = 0;
	limits(f, HEAP, 0);
	disk_test(f, false);
	disk_test(f, true);
	assert_query(f, "SELECT count(*) FROM netflow", "1213");
}

/* What SQLite may ask of its files, and a disk without room for a page that was promised. */
static void test_vfs(void **state)
{
	sqlite3_vfs *vfs;
	sqlite3_file *a, *b;
	struct err err = {};
	sqlite3_int64 size;
	char *page = malloc(3 * MIB), *back = malloc(3 * MIB);

	if (!*state)
		skip();
	query_spill_open("/tmp", 0, 0);
	vfs = sqlite3_vfs_find(query_spill_vfs());
	assert_non_null(vfs);
	assert_in_range(query_spill_max(), MIB, DISK_BYTES / 4);
	a = calloc(1, (size_t)vfs->szOsFile);
	b = calloc(1, (size_t)vfs->szOsFile);
	assert_int_equal(vfs->xOpen(vfs, NULL, a, SQLITE_OPEN_TEMP_JOURNAL, NULL), SQLITE_OK);
	assert_int_equal(vfs->xOpen(vfs, NULL, b, SQLITE_OPEN_TRANSIENT_DB, NULL), SQLITE_OK);
	for (size_t i = 0; i < 3 * MIB; i++)
		page[i] = (char)(i * 2654435761u >> 13);
	/* Interleaved, across chunks, with a hole. */
	assert_int_equal(a->pMethods->xWrite(a, page, 1500000, 100), SQLITE_OK);
	assert_int_equal(b->pMethods->xWrite(b, page + 7, 4096, 5 * MIB), SQLITE_OK);
	assert_int_equal(a->pMethods->xWrite(a, page + 1500000, 1000000, 1500100), SQLITE_OK);
	assert_int_equal(a->pMethods->xRead(a, back, 2500000, 100), SQLITE_OK);
	assert_memory_equal(back, page, 2500000);
	assert_int_equal(b->pMethods->xRead(b, back, 8192, 5 * MIB), SQLITE_IOERR_SHORT_READ);
	assert_memory_equal(back, page + 7, 4096);
	for (int i = 4096; i < 8192; i++)
		assert_int_equal(back[i], 0);
	assert_int_equal(b->pMethods->xRead(b, back, 16, 3 * MIB), SQLITE_OK);
	assert_int_equal(back[0], 0);
	a->pMethods->xFileSize(a, &size);
	assert_int_equal(size, 2500100);
	assert_int_equal(a->pMethods->xTruncate(a, MIB), SQLITE_OK);
	assert_int_equal(a->pMethods->xRead(a, back, 1, MIB), SQLITE_IOERR_SHORT_READ);
	/* Closed, all of it can be had by another. */
	assert_int_equal(a->pMethods->xClose(a), SQLITE_OK);
	for (sqlite3_int64 at = 0; at < (sqlite3_int64)query_spill_max(); at += MIB)
		assert_int_equal(b->pMethods->xWrite(b, page, 1, at), SQLITE_OK);
	assert_int_equal(query_spill_error(&err), 0);
	disk_fill(0);
	assert_int_equal(b->pMethods->xWrite(b, page, MIB, (sqlite3_int64)query_spill_max() - MIB),
			 SQLITE_FULL);
	assert_int_equal(query_spill_error(&err), -E2BIG);
	assert_non_null(strstr(err.msg, "runs full"));
	assert_int_equal(b->pMethods->xClose(b), SQLITE_OK);
	close(query_spill_fd());
	unlink("/tmp/filler");
	free(a);
	free(b);
	free(page);
	free(back);
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], QUERY_WORKER_NAME))
		query_worker_main(argc, argv);

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
#define D(fn) cmocka_unit_test_setup_teardown(fn, disk_setup, disk_teardown)
	const struct CMUnitTest tests[] = {T(test_sorts), T(test_bounds), D(test_disk), D(test_vfs)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
