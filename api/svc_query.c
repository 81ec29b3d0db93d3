// SPDX-License-Identifier: Apache-2.0
/* QueryService.Query: one statement, its rows as they come. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/answer.h"
#include "api/convert.h"
#include "base/clock.h"
#include "ringside/v1/query.pb-c.h"

/* SQLite's own limit on ?N. */
#define MAX_PARAMETERS 999
/* QueryResponse. */
enum { PART_COLUMNS = 1, PART_ROWS = 2, PART_STATS = 3 };

static int on_columns(void *arg, const struct api_query_column *cols, size_t ncols)
{
	struct answer *a = arg;
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
	return answer_put(a, PART_COLUMNS, &m.base);
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	return answer_rows(arg, values, nrows, ncols);
}

static int on_done(void *arg, uint64_t rows, bool truncated, uint64_t elapsed_ns, const struct api_query_loss *loss,
		   size_t nloss)
{
	struct answer *a = arg;
	Ringside__V1__QueryStats m = RINGSIDE__V1__QUERY_STATS__INIT;
	Google__Protobuf__Duration elapsed = GOOGLE__PROTOBUF__DURATION__INIT;
	_cleanup_free_ Ringside__V1__Completeness *list = calloc(nloss + 1, sizeof(*list));
	_cleanup_free_ Ringside__V1__Completeness **pointers = calloc(nloss + 1, sizeof(*pointers));

	if (!list || !pointers)
		return -ENOMEM;
	for (size_t i = 0; i < nloss; i++) {
		msg_completeness(&list[i], &loss[i]);
		pointers[i] = &list[i];
	}
	elapsed.seconds = (int64_t)(elapsed_ns / NSEC_PER_SEC);
	elapsed.nanos = (int32_t)(elapsed_ns % NSEC_PER_SEC);
	m.rows = rows;
	m.truncated = truncated;
	m.elapsed = &elapsed;
	m.n_completeness = nloss;
	m.completeness = pointers;
	return answer_put(a, PART_STATS, &m.base);
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

static int run(struct answer *a)
{
	const Ringside__V1__QueryRequest *req = a->request;
	const struct api_query_sink sink = {.columns = on_columns, .rows = on_rows, .done = on_done, .arg = a};
	_cleanup_free_ struct value *params = calloc(req->n_parameters + 1, sizeof(*params));

	if (!params)
		return err_set(&a->err, -ENOMEM, "no memory for the parameters");
	for (size_t i = 0; i < req->n_parameters; i++)
		params[i] = convert(req->parameters[i]);
	return a->s->options.ops->query(a->s->options.ctx, req->sql, params, req->n_parameters, req->max_rows,
					rpc_call_deadline_ns(a->call), &a->cancelled, &sink, &a->err);
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
	struct err err = {};
	char busy[96];
	int r = check((const void *)request, &err);

	if (r < 0) {
		rpc_finish_err(call, r, &err);
		return;
	}
	snprintf(busy, sizeof(busy), "%u queries run already, as many as may; try again", s->options.max_queries);
	answer_start(call, request, run, PART_ROWS, busy);
}

void query_text(const ProtobufCMessage *request, struct buf *out)
{
	buf_puts(out, ((const Ringside__V1__QueryRequest *)request)->sql);
}
