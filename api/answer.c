// SPDX-License-Identifier: Apache-2.0
/* Streams that a worker thread fills: two slots between it and the peer, so memory stays bounded
 * and a slow peer slows the worker. */
#include "api/answer.h"

#include <errno.h>
#include <string.h>

#include "api/wire.h"

/* A message: large enough to amortise its cost, small enough to start painting at once. */
#define MESSAGE_ROWS  64
#define MESSAGE_BYTES (32 << 10)

static void answer_unref(struct answer *a)
{
	if (--a->refs)
		return;
	for (unsigned int i = 0; i < a->nslots; i++)
		buf_free(&a->slots[i]);
	buf_free(&a->values);
	pthread_cond_destroy(&a->room);
	pthread_mutex_destroy(&a->mu);
	free(a);
}

/* Waits until the stream has taken a message away; -ECANCELED when nobody will. Takes m. */
static int hand_over(struct answer *a, struct buf *m)
{
	bool post = false;
	int r = buf_status(m);

	pthread_mutex_lock(&a->mu);
	while (r == 0 && a->nslots == ANSWER_SLOTS && !atomic_load(&a->cancelled))
		pthread_cond_wait(&a->room, &a->mu);
	if (atomic_load(&a->cancelled))
		r = -ECANCELED;
	if (r == 0) {
		a->slots[a->nslots++] = *m;
		*m = (struct buf){};
		post = !a->posted;
		a->posted = true;
	}
	pthread_mutex_unlock(&a->mu);
	buf_free(m);
	if (post && rpc_post(a->s->rpc, &a->task) < 0)
		return -ESHUTDOWN;
	return r;
}

int answer_flush(struct answer *a)
{
	struct buf m = {};

	if (!a->nrows)
		return 0;
	if (buf_status(&a->values) < 0)
		return -ENOMEM;
	wire_put_tag(&m, a->rows_part, WIRE_BYTES);
	wire_put_varint(&m, 1 + wire_varint_size(a->nrows) + a->values.len);
	wire_put_uint(&m, 1, a->nrows);
	buf_add(&m, a->values.data, a->values.len);
	atomic_fetch_add_explicit(&a->s->rows_sent, a->nrows, memory_order_relaxed);
	rpc_call_add_rows(a->call, a->nrows);
	buf_reset(&a->values);
	a->nrows = 0;
	return hand_over(a, &m);
}

int answer_put(struct answer *a, uint32_t part, const ProtobufCMessage *message)
{
	_cleanup_free_ void *data = NULL;
	struct buf m = {};
	size_t len;
	int r = answer_flush(a);

	if (r < 0)
		return r;
	if (pack_message(message, &data, &len) < 0)
		return -ENOMEM;
	wire_put_bytes(&m, part, data, len);
	return hand_over(a, &m);
}

int answer_rows(struct answer *a, const struct value *values, size_t nrows, size_t ncols)
{
	for (size_t row = 0; row < nrows; row++) {
		for (size_t col = 0; col < ncols; col++)
			wire_put_row_value(&a->values, &values[row * ncols + col]);
		a->nrows++;
		if (a->nrows >= MESSAGE_ROWS || a->values.len >= MESSAGE_BYTES) {
			int r = answer_flush(a);

			if (r < 0)
				return r;
		}
	}
	return atomic_load(&a->cancelled) ? -ECANCELED : 0;
}

static void answer_run(struct pool_job *job)
{
	struct answer *a = container_of(job, struct answer, pool_job);
	int r = a->run(a);
	bool post;

	pthread_mutex_lock(&a->mu);
	a->r = r;
	a->done = true;
	post = !a->posted;
	a->posted = true;
	pthread_mutex_unlock(&a->mu);
	/* Can't be refused: the engine ends only after the call that we hold. */
	if (post)
		rpc_post(a->s->rpc, &a->task);
}

static void pump(struct answer *a)
{
	struct buf m = {};
	bool over;

	pthread_mutex_lock(&a->mu);
	if (a->nslots && rpc_call_writable(a->call)) {
		m = a->slots[0];
		a->slots[0] = a->slots[1];
		a->nslots--;
		pthread_cond_signal(&a->room);
	}
	over = a->done && !a->nslots;
	pthread_mutex_unlock(&a->mu);
	if (m.data) {
		rpc_send_bytes(a->call, m.data, m.len);
		buf_free(&m);
	} else if (over && a->r < 0) {
		rpc_finish_err(a->call, a->r, &a->err);
	} else if (over && rpc_call_writable(a->call)) {
		rpc_finish(a->call, RPC_OK, NULL);
	}
}

static void on_task(struct rpc_task *task)
{
	struct answer *a = container_of(task, struct answer, task);
	struct rpc_call *call = a->call;
	bool done;

	pthread_mutex_lock(&a->mu);
	a->posted = false;
	done = a->done;
	pthread_mutex_unlock(&a->mu);
	pump(a);
	if (done) {
		answer_unref(a);
		rpc_call_unref(call);
	}
}

void answer_start(struct rpc_call *call, const ProtobufCMessage *request,
		  int (*run)(struct answer *a), uint32_t rows_part, const char *busy)
{
	struct api_server *s = rpc_call_ctx(call);
	struct answer *a = calloc(1, sizeof(*a));
	int r;

	if (!a) {
		rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory for an answer");
		return;
	}
	a->pool_job.run = answer_run;
	a->task.run = on_task;
	a->s = s;
	a->call = call;
	a->request = request;
	a->run = run;
	a->rows_part = rows_part;
	a->refs = 1;
	pthread_mutex_init(&a->mu, NULL);
	pthread_cond_init(&a->room, NULL);
	r = pool_submit(s->query, &a->pool_job);
	if (r < 0) {
		if (r == -ENOBUFS)
			rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "%s", busy);
		else
			rpc_finish_err(call, r, NULL);
		answer_unref(a);
		return;
	}
	a->refs++;
	rpc_call_ref(call);
	rpc_call_set_state(call, a);
}

void answer_ready(struct rpc_call *call)
{
	struct answer *a = rpc_call_state(call);

	if (a)
		pump(a);
}

void answer_closed(struct rpc_call *call)
{
	struct answer *a = rpc_call_state(call);

	if (!a)
		return;
	rpc_call_set_state(call, NULL);
	pthread_mutex_lock(&a->mu);
	atomic_store(&a->cancelled, true);
	pthread_cond_signal(&a->room);
	pthread_mutex_unlock(&a->mu);
	answer_unref(a);
}
