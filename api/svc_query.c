// SPDX-License-Identifier: Apache-2.0
/* QueryService: a thread runs the statement and fills two slots; the stream empties them at the peer's speed. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "api/service.h"
#include "api/wire.h"
#include "base/clock.h"
#include "ringside/v1/query.pb-c.h"

/* A message: large enough to amortise its cost, small enough to start painting at once. */
#define MESSAGE_ROWS 64
#define MESSAGE_BYTES (32 << 10)
#define SLOTS 2
/* SQLite's own limit on ?N. */
#define MAX_PARAMETERS 999
/* QueryResponse. */
enum { PART_COLUMNS = 1, PART_ROWS = 2, PART_STATS = 3 };

struct query_state {
	struct pool_job pool_job;
	struct rpc_task task;
	struct api_server *s;
	struct rpc_call *call; /* a reference, until the thread is done */
	const Ringside__V1__QueryRequest *request;
	atomic_bool cancelled;
	/* Thread only. */
	struct buf values; /* encoded, of the message being filled */
	uint32_t nrows;

	pthread_mutex_t mu;
	pthread_cond_t room;
	struct buf slots[SLOTS];
	unsigned int nslots;
	bool posted, done;
	struct err err;
	int r;

	unsigned int refs; /* engine thread: the call and the job */
};

static void query_unref(struct query_state *q)
{
	if (--q->refs)
		return;
	for (unsigned int i = 0; i < q->nslots; i++)
		buf_free(&q->slots[i]);
	buf_free(&q->values);
	pthread_cond_destroy(&q->room);
	pthread_mutex_destroy(&q->mu);
	free(q);
}

/* Waits until the stream has taken a message away; -ECANCELED when nobody will. Takes m. */
static int hand_over(struct query_state *q, struct buf *m)
{
	bool post = false;
	int r = buf_status(m);

	pthread_mutex_lock(&q->mu);
	while (r == 0 && q->nslots == SLOTS && !atomic_load(&q->cancelled))
		pthread_cond_wait(&q->room, &q->mu);
	if (atomic_load(&q->cancelled))
		r = -ECANCELED;
	if (r == 0) {
		q->slots[q->nslots++] = *m;
		*m = (struct buf){};
		post = !q->posted;
		q->posted = true;
	}
	pthread_mutex_unlock(&q->mu);
	buf_free(m);
	if (post && rpc_post(q->s->rpc, &q->task) < 0)
		return -ESHUTDOWN;
	return r;
}

static int flush_rows(struct query_state *q)
{
	struct buf m = {};

	if (!q->nrows)
		return 0;
	if (buf_status(&q->values) < 0)
		return -ENOMEM;
	wire_put_tag(&m, PART_ROWS, WIRE_BYTES);
	wire_put_varint(&m, 1 + wire_varint_size(q->nrows) + q->values.len);
	wire_put_uint(&m, 1, q->nrows);
	buf_add(&m, q->values.data, q->values.len);
	atomic_fetch_add_explicit(&q->s->rows_sent, q->nrows, memory_order_relaxed);
	buf_reset(&q->values);
	q->nrows = 0;
	return hand_over(q, &m);
}

static int put_message(struct query_state *q, uint32_t part, const ProtobufCMessage *message)
{
	_cleanup_free_ void *data = NULL;
	struct buf m = {};
	size_t len;

	if (pack_message(message, &data, &len) < 0)
		return -ENOMEM;
	wire_put_bytes(&m, part, data, len);
	return hand_over(q, &m);
}

static int on_columns(void *arg, const struct api_query_column *cols, size_t ncols)
{
	struct query_state *q = arg;
	Ringside__V1__QueryColumns m = RINGSIDE__V1__QUERY_COLUMNS__INIT;
	_cleanup_free_ Ringside__V1__Column *list = calloc(ncols + 1, sizeof(*list));
	_cleanup_free_ Ringside__V1__Column **pointers = calloc(ncols + 1, sizeof(*pointers));

	if (!list || !pointers)
		return -ENOMEM;
	for (size_t i = 0; i < ncols; i++) {
		ringside__v1__column__init(&list[i]);
		list[i].name = (char *)cols[i].name;
		list[i].unit = (char *)(cols[i].unit ?: "");
		if (cols[i].type < COLUMN_X_MAX)
			list[i].type = (Ringside__V1__ColumnType)cols[i].type;
		pointers[i] = &list[i];
	}
	m.n_columns = ncols;
	m.columns = pointers;
	return put_message(q, PART_COLUMNS, &m.base);
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	struct query_state *q = arg;

	for (size_t row = 0; row < nrows; row++) {
		for (size_t col = 0; col < ncols; col++)
			wire_put_row_value(&q->values, &values[row * ncols + col]);
		q->nrows++;
		if (q->nrows >= MESSAGE_ROWS || q->values.len >= MESSAGE_BYTES) {
			int r = flush_rows(q);

			if (r < 0)
				return r;
		}
	}
	return atomic_load(&q->cancelled) ? -ECANCELED : 0;
}

static int on_done(void *arg, uint64_t rows, bool truncated, uint64_t elapsed_ns, const struct api_query_loss *loss,
		   size_t nloss)
{
	struct query_state *q = arg;
	Ringside__V1__QueryStats m = RINGSIDE__V1__QUERY_STATS__INIT;
	Google__Protobuf__Duration elapsed = GOOGLE__PROTOBUF__DURATION__INIT;
	_cleanup_free_ Ringside__V1__Completeness *list = calloc(nloss + 1, sizeof(*list));
	_cleanup_free_ Ringside__V1__Completeness **pointers = calloc(nloss + 1, sizeof(*pointers));
	int r = flush_rows(q);

	if (!list || !pointers)
		return -ENOMEM;
	if (r < 0)
		return r;
	for (size_t i = 0; i < nloss; i++) {
		ringside__v1__completeness__init(&list[i]);
		list[i].table = (char *)loss[i].table;
		list[i].rows_lost = loss[i].rows;
		list[i].since = (int64_t)loss[i].since_ns;
		pointers[i] = &list[i];
	}
	elapsed.seconds = (int64_t)(elapsed_ns / NSEC_PER_SEC);
	elapsed.nanos = (int32_t)(elapsed_ns % NSEC_PER_SEC);
	m.rows = rows;
	m.truncated = truncated;
	m.elapsed = &elapsed;
	m.n_completeness = nloss;
	m.completeness = pointers;
	return put_message(q, PART_STATS, &m.base);
}

static struct value convert(const Ringside__V1__Value *v)
{
	switch (v->kind_case) {
	case RINGSIDE__V1__VALUE__KIND_INTEGER:
		return (struct value){.kind = VALUE_INT, .i = v->integer};
	case RINGSIDE__V1__VALUE__KIND_REAL:
		return (struct value){.kind = VALUE_REAL, .d = v->real};
	case RINGSIDE__V1__VALUE__KIND_TEXT:
		return (struct value){.kind = VALUE_TEXT, .text = v->text, .len = strlen(v->text)};
	case RINGSIDE__V1__VALUE__KIND_BLOB:
		return (struct value){.kind = VALUE_BYTES, .text = (const char *)v->blob.data, .len = v->blob.len};
	default:
		return (struct value){.kind = VALUE_NULL};
	}
}

static int run(struct query_state *q)
{
	const Ringside__V1__QueryRequest *req = q->request;
	const struct api_query_sink sink = {.columns = on_columns, .rows = on_rows, .done = on_done, .arg = q};
	_cleanup_free_ struct value *params = calloc(req->n_parameters + 1, sizeof(*params));

	if (!params)
		return err_set(&q->err, -ENOMEM, "no memory for the parameters");
	for (size_t i = 0; i < req->n_parameters; i++)
		params[i] = convert(req->parameters[i]);
	return q->s->options.ops->query(q->s->options.ctx, req->sql, params, req->n_parameters, req->max_rows,
					rpc_call_deadline_ns(q->call), &q->cancelled, &sink, &q->err);
}

static void query_run_job(struct pool_job *job)
{
	struct query_state *q = container_of(job, struct query_state, pool_job);
	int r = run(q);
	bool post;

	pthread_mutex_lock(&q->mu);
	q->r = r;
	q->done = true;
	post = !q->posted;
	q->posted = true;
	pthread_mutex_unlock(&q->mu);
	/* Can't be refused: the engine ends only after the call that we hold. */
	if (post)
		rpc_post(q->s->rpc, &q->task);
}

static void pump(struct query_state *q)
{
	struct buf m = {};
	bool over;

	pthread_mutex_lock(&q->mu);
	if (q->nslots && rpc_call_writable(q->call)) {
		m = q->slots[0];
		q->slots[0] = q->slots[1];
		q->nslots--;
		pthread_cond_signal(&q->room);
	}
	over = q->done && !q->nslots;
	pthread_mutex_unlock(&q->mu);
	if (m.data) {
		rpc_send_bytes(q->call, m.data, m.len);
		buf_free(&m);
	} else if (over && q->r < 0) {
		rpc_finish_err(q->call, q->r, &q->err);
	} else if (over && rpc_call_writable(q->call)) {
		rpc_finish(q->call, RPC_OK, NULL);
	}
}

static void on_task(struct rpc_task *task)
{
	struct query_state *q = container_of(task, struct query_state, task);
	struct rpc_call *call = q->call;
	bool done;

	pthread_mutex_lock(&q->mu);
	q->posted = false;
	done = q->done;
	pthread_mutex_unlock(&q->mu);
	pump(q);
	if (done) {
		query_unref(q);
		rpc_call_unref(call);
	}
}

static int check(const Ringside__V1__QueryRequest *req, struct err *err)
{
	if (!*req->sql)
		return err_set(err, -EINVAL, "sql is empty: give one SELECT");
	if (req->n_parameters > MAX_PARAMETERS)
		return err_set(err, -EINVAL, "%zu parameters: at most %d", req->n_parameters, MAX_PARAMETERS);
	return 0;
}

void query_message(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct api_server *s = rpc_call_ctx(call);
	struct query_state *q;
	struct err err = {};
	int r = check((const void *)request, &err);

	if (r < 0) {
		rpc_finish_err(call, r, &err);
		return;
	}
	q = calloc(1, sizeof(*q));
	if (!q) {
		rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory for a query");
		return;
	}
	q->pool_job.run = query_run_job;
	q->task.run = on_task;
	q->s = s;
	q->call = call;
	q->request = (const void *)request;
	q->refs = 1;
	pthread_mutex_init(&q->mu, NULL);
	pthread_cond_init(&q->room, NULL);
	r = pool_submit(s->query, &q->pool_job);
	if (r < 0) {
		if (r == -ENOBUFS)
			rpc_finish(call, RPC_RESOURCE_EXHAUSTED,
				   "%u queries run already, as many as may; try again", s->options.max_queries);
		else
			rpc_finish_err(call, r, NULL);
		query_unref(q);
		return;
	}
	q->refs++;
	rpc_call_ref(call);
	rpc_call_set_state(call, q);
}

void query_ready(struct rpc_call *call)
{
	struct query_state *q = rpc_call_state(call);

	if (q)
		pump(q);
}

void query_closed(struct rpc_call *call)
{
	struct query_state *q = rpc_call_state(call);

	if (!q)
		return;
	rpc_call_set_state(call, NULL);
	pthread_mutex_lock(&q->mu);
	atomic_store(&q->cancelled, true);
	pthread_cond_signal(&q->room);
	pthread_mutex_unlock(&q->mu);
	query_unref(q);
}
