// SPDX-License-Identifier: Apache-2.0
/* The query engine in the daemon: one worker process per statement, watched, fed, believed only as
 * far as checked. */
#include "store/query.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOG_MODULE "query"
#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "base/utf8.h"
#include "store/query_answer.h"
#include "store/query_spawn.h"

/* The worker sees its deadline itself and says so with a better sentence; this is for one that is
 * stuck in a call. */
#define DEADLINE_GRACE_NS (100 * NSEC_PER_MSEC)
/* A cancelled query ends within that. */
#define POLL_MS	      40
#define READ_CHUNK    (64u << 10)
#define FIRST_FREE_FD 10

static int check_options(const struct query_engine_options *o, struct err *err)
{
	size_t n = 0;

	while (o->tables[n])
		n++;
	if (n > QUERY_MAX_TABLES)
		return err_set(err, -E2BIG, "%zu tables are more than the %d that queries can name",
			       n, QUERY_MAX_TABLES);
	for (size_t i = 0; i < n; i++)
		if (o->tables[i]->nfields > SCHEMA_MAX_COLUMNS)
			return err_set(err, -E2BIG, "table %s has more than %d columns",
				       o->tables[i]->name, SCHEMA_MAX_COLUMNS);
	if (!o->max_workers || !o->max_deadline_ns || !o->default_deadline_ns || !o->max_rows)
		return err_set(err, -EINVAL,
			       "a query engine without workers, time or rows answers nothing");
	return 0;
}

static int find_user(struct query_engine *e, const char *name, struct err *err)
{
	struct passwd pw, *found = NULL;
	char scratch[4096];
	int r;

	e->uid = e->gid = UINT32_MAX;
	if (!name || !name[0])
		return 0;
	r = getpwnam_r(name, &pw, scratch, sizeof(scratch), &found);
	if (!found)
		return err_set(err, r ? -r : -ENOENT, "there is no user '%s' for queries to run as",
			       name);
	e->uid = pw.pw_uid;
	e->gid = pw.pw_gid;
	return 0;
}

/* Above what the worker has as its own from the start, standard streams and socket: these are made
 * before it's executed. */
static int open_worker(const char *path)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);

	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
}

int query_engine_new(struct query_engine **ret, const struct query_engine_options *options,
		     struct err *err)
{
	struct query_engine *e;
	int r;

	r = check_options(options, err);
	if (r < 0)
		return r;
	e = calloc(1, sizeof(*e));
	if (!e)
		return err_set(err, -ENOMEM, "out of memory");
	e->options = *options;
	e->exe_fd = -1;
	if (options->worker_exe)
		e->exe_fd = open_worker(options->worker_exe);
	e->ring_dir = strdup(options->ring_dir ? options->ring_dir : "");
	while (options->tables[e->ntables])
		e->ntables++;
	wire_put_tables(&e->tables, options->tables);
	e->services_file = strdup(options->services_file ? options->services_file : "");
	e->file = strdup(options->file ? options->file : "");
	r = !e->ring_dir || !e->services_file || !e->file || buf_status(&e->tables) < 0
		    ? err_set(err, -ENOMEM, "out of memory")
		    : 0;
	if (!r)
		r = find_user(e, options->worker_user, err);
	if (r < 0) {
		query_engine_free(e);
		return r;
	}
	*ret = e;
	return 0;
}

void query_engine_free(struct query_engine *e)
{
	if (!e)
		return;
	if (e->exe_fd >= 0)
		close(e->exe_fd);
	buf_free(&e->tables);
	free(e->ring_dir);
	free(e->services_file);
	free(e->file);
	free(e);
}

static int check_query(const struct query *q, struct err *err)
{
	size_t len = strlen(q->sql), bytes = 0;

	if (len >= QUERY_MAX_SQL)
		return err_set(err, -EINVAL, "the statement is longer than %d KiB",
			       QUERY_MAX_SQL / 1024);
	if (!utf8_valid(q->sql, len))
		return err_set(err, -EINVAL, "the statement is not valid UTF-8");
	if (q->nparams > QUERY_MAX_PARAMS)
		return err_set(err, -EINVAL, "%zu parameters are more than %d", q->nparams,
			       QUERY_MAX_PARAMS);
	for (size_t i = 0; i < q->nparams; i++)
		if (q->params[i].kind == VALUE_TEXT || q->params[i].kind == VALUE_BYTES)
			bytes += q->params[i].len;
	if (bytes >= QUERY_MAX_CELL)
		return err_set(err, -EINVAL, "the parameters are larger than %d KiB",
			       QUERY_MAX_CELL / 1024);
	return 0;
}

/* 0: go on. */
static int query_over(const struct query_run *run, struct err *err)
{
	if (run->query->cancelled &&
	    atomic_load_explicit(run->query->cancelled, memory_order_relaxed))
		return err_set(err, -ECANCELED, "the query was cancelled");
	if (clock_mono_ns() > run->deadline_ns + DEADLINE_GRACE_NS)
		return err_set(
			err, -ETIMEDOUT,
			"the query passed its deadline and was stopped: read less (a condition on "
			"ts is cheap) or allow more time");
	return 0;
}

/* Waits for events on the socket; 0 when there are some. */
static int wait_for(struct query_run *run, short events, struct err *err)
{
	struct pollfd p = {.fd = run->child.sock, .events = events};
	int r;

	for (;;) {
		r = query_over(run, err);
		if (r < 0)
			return r;
		r = poll(&p, 1, POLL_MS);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return err_set(err, -errno, "cannot wait for the query worker: %s",
				       strerror(errno));
	}
}

/* All of it, with fd (-1: none) on the first byte. The worker gone is left for the reading side to
 * find out. */
static int send_all(struct query_run *run, const struct buf *b, int fd, struct err *err)
{
	for (size_t sent = 0; sent < b->len;) {
		union {
			char buf[CMSG_SPACE(sizeof(int))];
			struct cmsghdr align;
		} control = {0};
		struct iovec iov = {.iov_base = b->data + sent, .iov_len = b->len - sent};
		struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
		ssize_t n;
		int r;

		if (fd >= 0 && !sent) {
			msg.msg_control = control.buf;
			msg.msg_controllen = sizeof(control.buf);
			*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
								.cmsg_type = SCM_RIGHTS,
								.cmsg_len = CMSG_LEN(sizeof(int))};
			memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
		}
		n = sendmsg(run->child.sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			sent += n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return 0;
		r = wait_for(run, POLLOUT, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int send_request(struct query_run *run, struct err *err)
{
	_cleanup_buf_ struct buf b = {0};
	struct query_request req = {
		.sql = run->query->sql,
		.ring_dir = run->engine->ring_dir,
		.services_file = run->engine->services_file,
		.file = run->engine->file,
		.file_is_snapshot = run->engine->options.file_is_snapshot,
		.now_ns = run->engine->options.now_ns,
		.script = run->query->script,
		.max_rows = run->max_rows,
		.deadline_ns = run->deadline_ns,
		.heap_bytes = run->engine->options.heap_bytes,
		.spill_bytes = run->engine->options.spill_bytes,
		.reserve_bytes = run->engine->options.reserve_bytes,
		.uid = run->engine->uid,
		.gid = run->engine->gid,
		.nparams = run->query->nparams,
		.params = (struct value *)run->query->params,
	};

	wire_put_request(&b, &req, &run->engine->tables);
	if (buf_status(&b) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (b.len > QUERY_MAX_FRAME)
		return err_set(err, -E2BIG,
			       "statement, parameters and tables are too large together");
	return send_all(run, &b, -1, err);
}

/* A sealed batch in a sealed memfd: the worker may look, nobody may write. */
static int image_fd(const struct batch *b, uint64_t *ret_size, struct err *err)
{
	_cleanup_close_ int fd = memfd_create("ringside-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t size = batch_image_size(b);
	void *p;

	if (fd < 0 || ftruncate(fd, size) < 0)
		return err_set(err, -errno, "cannot make the image of table %s: %s", b->table->name,
			       strerror(errno));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_set(err, -errno, "cannot map the image of table %s: %s", b->table->name,
			       strerror(errno));
	batch_to_image(b, p);
	munmap(p, size);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_set(err, -errno, "cannot seal the image of table %s: %s", b->table->name,
			       strerror(errno));
	*ret_size = size;
	return TAKE_FD(fd);
}

static int snapshot_fd(struct query_run *run, const struct table *t, uint64_t *ret_size,
		       struct err *err)
{
	const struct query_engine_options *o = &run->engine->options;
	_cleanup_(batch_unrefp) struct batch *b = NULL;
	int r;

	if (!o->snapshot)
		return err_set(err, -EOPNOTSUPP,
			       "live tables are answered by a running daemon only");
	r = o->snapshot(o->ctx, t, &b, err);
	return r < 0 ? r : image_fd(b, ret_size, err);
}

int query_serve_snapshot(struct query_run *run, const struct table *t, struct err *err)
{
	_cleanup_buf_ struct buf b = {0};
	_cleanup_close_ int fd = -1;
	struct err why = {0};
	uint64_t size = 0;
	size_t at;
	int r;

	r = snapshot_fd(run, t, &size, &why);
	if (r >= 0)
		fd = r;
	at = wire_open(&b, QUERY_FRAME_SNAPSHOT);
	wire_put_u32(&b, r < 0 ? -r : 0);
	wire_put_u64(&b, size);
	wire_put_text(&b, why.msg, r < 0 ? strlen(why.msg) : 0);
	wire_close(&b, at);
	if (buf_status(&b) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return send_all(run, &b, fd, err);
}

/* 1: bytes came; 0: the worker hung up. */
static int read_some(struct query_run *run, struct err *err)
{
	char chunk[READ_CHUNK];
	ssize_t n;
	int r;

	for (;;) {
		r = wait_for(run, POLLIN, err);
		if (r < 0)
			return r;
		n = recv(run->child.sock, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	if (n <= 0)
		return 0;
	buf_add(&run->in, chunk, n);
	return buf_status(&run->in) < 0 ? err_set(err, -ENOMEM, "out of memory") : 1;
}

/* Handles every whole frame; 1 after the last one. */
static int take_frames(struct query_run *run, struct err *err)
{
	size_t at = 0;
	int r = 0;

	while (!r && run->in.len - at >= sizeof(struct query_frame_header)) {
		struct query_frame_header h;

		memcpy(&h, run->in.data + at, sizeof(h));
		if (h.len > QUERY_MAX_FRAME)
			return query_answer_broken(err);
		if (run->in.len - at - sizeof(h) < h.len)
			break;
		r = query_answer_frame(run, h.type, (uint8_t *)run->in.data + at + sizeof(h), h.len,
				       err);
		at += sizeof(h) + h.len;
		if (!r)
			r = query_over(run, err); /* the sink may have taken its time */
	}
	memmove(run->in.data, run->in.data + at, run->in.len - at);
	run->in.len -= at;
	return r;
}

static int run_worker(struct query_run *run, struct err *err)
{
	int r;

	r = query_over(run, err);
	if (r < 0)
		return r;
	r = query_child_start(&run->child, run->engine->exe_fd, err);
	if (r < 0)
		return r;
	r = send_request(run, err);
	while (!r) {
		r = read_some(run, err);
		if (!r) {
			r = query_child_fate(&run->child, err);
			break;
		}
		if (r > 0)
			r = take_frames(run, err);
	}
	query_child_end(&run->child);
	return r < 0 ? r : 0;
}

static uint64_t rows_bound(const struct query_engine *e, const struct query *q)
{
	if (q->script)
		return UINT64_MAX;
	return q->max_rows && q->max_rows < e->options.max_rows ? q->max_rows : e->options.max_rows;
}

int query_run(struct query_engine *e, const struct query *q, const struct query_sink *sink,
	      struct err *err)
{
	uint64_t now = clock_mono_ns(), max = now + e->options.max_deadline_ns;
	uint64_t usual = q->script ? max : now + e->options.default_deadline_ns;
	struct query_run run = {
		.engine = e,
		.query = q,
		.sink = sink,
		.child = {.sock = -1, .pidfd = -1},
		.started_ns = now,
		.deadline_ns = q->deadline_ns ? q->deadline_ns : usual,
		.max_rows = rows_bound(e, q),
	};
	int r;

	if (run.deadline_ns > max)
		run.deadline_ns = max;
	r = check_query(q, err);
	if (r < 0)
		return r;
	if (atomic_fetch_add(&e->running, 1) >= e->options.max_workers)
		r = err_set(err, -ENOBUFS,
			    "%u queries are running already, which is the limit: try again when "
			    "one is done",
			    e->options.max_workers);
	else
		r = run_worker(&run, err);
	atomic_fetch_sub(&e->running, 1);
	query_answer_free(&run);
	return r;
}
