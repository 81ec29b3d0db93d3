// SPDX-License-Identifier: Apache-2.0
/* The query worker's main: what must be opened is opened with the daemon's rights, then the
 * sandbox, then the SQL. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "store/query.h"
#include "store/query_sandbox.h"
#include "store/query_spill.h"
#include "store/query_worker.h"

#define SOCKET_FD 3
/* A sort or a hash of a few million rows; the daemon's own limit is set with a few workers in mind.
 */
#define MEMORY_MAX (512ull << 20)
/* What one sort keeps in memory before it goes to disk: 64 MiB. */
#define SORT_SHARE 6
/* 10 segments with -wal and -shm, the socket, the spill file, a memfd at a time. */
#define MAX_FDS 48

static _Noreturn void fail(struct query_session *s, const struct err *err)
{
	query_io_fail(s, err->code, err->msg);
}

/* vfs: for temporary files; NULL: they are kept in memory. */
static int open_db(sqlite3 **ret, const char *vfs, uint64_t sort_bytes)
{
	char sql[128];
	int rc = sqlite3_open_v2(":memory:", ret,
				 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY |
					 SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX |
					 SQLITE_OPEN_PRIVATECACHE,
				 vfs);

	/* The sorter's memory is the size of the page cache of main, which has no pages here. */
	snprintf(sql, sizeof(sql),
		 "PRAGMA temp_store=%s; PRAGMA main.cache_size=-%" PRIu64 "; PRAGMA cell_size_check=1",
		 vfs ? "FILE" : "MEMORY", sort_bytes / 1024);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(*ret, sql, NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return -ENOMEM;
	sqlite3_busy_timeout(*ret, 100);
	return 0;
}

/* Every table by name, with its columns and no rows. */
static int fill_shape(struct query_session *s)
{
	_cleanup_buf_ struct buf ddl = {0};

	for (uint32_t i = 0; i < s->req.ntables; i++) {
		query_table_ddl(&ddl, s->req.tables[i]);
		buf_puts(&ddl, ";");
	}
	if (buf_status(&ddl) < 0 ||
	    (ddl.data && sqlite3_exec(s->shape, ddl.data, NULL, NULL, NULL) != SQLITE_OK))
		return -ENOMEM;
	return 0;
}

static int open_all(struct query_session *s, struct err *err)
{
	uint64_t sort = query_heap_max(s) / SORT_SHARE;
	int r;

	/* Statements that read no history stay without files. */
	if (!*s->req.file && query_history_named(s))
		query_spill_open(s->req.ring_dir, s->req.spill_bytes, s->req.reserve_bytes);
	if ((r = open_db(&s->db, query_spill_vfs(), sort)) < 0 ||
	    (r = open_db(&s->shape, NULL, sort)) < 0 || (r = fill_shape(s)) < 0 ||
	    (r = query_func_register(s->db, &s->now_ns)) < 0 ||
	    (r = query_func_register(s->shape, &s->now_ns)) < 0 || (r = query_vtab_register(s)) < 0 ||
	    (r = query_service_register(s)) < 0)
		return err_set(err, r, "the query worker cannot set up SQLite: %s", strerror(-r));
	return *s->req.file ? query_file_open(s, err) : query_history_open(s, err);
}

/* What a library opens or asks for when it's first used is used now. */
static void prime(void)
{
	uint64_t seed;

	tzset(); /* /etc/localtime; localtime_r() doesn't look again */
	sqlite3_randomness(sizeof(seed), &seed); /* /dev/urandom */
	sysconf(_SC_PAGESIZE);
}

static void enter_sandbox(struct query_session *s)
{
	struct query_sandbox box = {
		.uid = s->req.uid,
		.gid = s->req.gid,
		.memory_bytes = MEMORY_MAX,
		.deadline_ns = s->req.deadline_ns,
		.max_fds = MAX_FDS,
		.spill_fd = query_spill_fd(),
		.spill_bytes = query_spill_max(),
	};
	struct err err = {0};
	char note[256];

	if (query_sandbox_enter(&box, note, sizeof(note), &err) < 0)
		fail(s, &err);
	if (note[0])
		query_io_note(s, note);
}

void query_worker_main(int argc, char **argv)
{
	/* For the life of the process, which ends by _exit. */
	static struct query_session session = {.sock = SOCKET_FD};
	static struct buf request;
	struct query_session *s = &session;
	struct err err = {0};
	struct wire w;
	int r;

	(void)argc;
	(void)argv;
	prctl(PR_SET_NAME, QUERY_WORKER_NAME); /* exec by descriptor left its number there */
	close_range(SOCKET_FD + 1, ~0u, 0);
	if (chdir("/") < 0)
		_exit(errno);
	r = query_io_read(s->sock, QUERY_FRAME_REQUEST, &request, NULL);
	if (r < 0)
		_exit(-r); /* nobody there to be told */
	w = (struct wire){.p = (uint8_t *)request.data,
			  .end = (uint8_t *)request.data + request.len};
	r = wire_get_request(&w, &s->req);
	if (r < 0)
		query_io_fail(s, -EIO, "the query worker does not understand its daemon");
	sqlite3_config(SQLITE_CONFIG_SINGLETHREAD); /* one thread: no mutexes */
	query_spill_config();
	s->now_ns = s->req.now_ns ? s->req.now_ns : clock_real_ns();
	r = open_all(s, &err);
	if (r < 0)
		fail(s, &err);
	prime();
	enter_sandbox(s);
	query_session_run(s);
}
