// SPDX-License-Identifier: Apache-2.0
/* QueryService.Snapshot: a window of all tables, one after the other, as they stood in one moment.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "api/answer.h"
#include "api/convert.h"
#include "ringside/v1/query.pb-c.h"

/* SnapshotResponse. */
enum { PART_START = 1, PART_TABLE = 2, PART_ROWS = 3, PART_TABLE_END = 4, PART_END = 5 };

/* The largest description of a table that there is needs a twentieth of it. */
#define TABLE_ARENA ((size_t)1 << 20)

struct totals {
	struct answer *answer;
	const char *name; /* of the table that is being sent */
	uint64_t tables, rows;
};

static int on_start(void *arg, const struct api_window_start *start)
{
	struct totals *t = arg;
	Ringside__V1__SnapshotStart m = RINGSIDE__V1__SNAPSHOT_START__INIT;

	m.host = (char *)start->host;
	m.version = (char *)start->version;
	m.kernel = (char *)start->kernel;
	m.since = (int64_t)start->since_ns;
	m.until = (int64_t)start->until_ns;
	m.taken_at = (int64_t)start->taken_at_ns;
	return answer_put(t->answer, PART_START, &m.base);
}

static int on_table(void *arg, const struct table *table)
{
	struct totals *t = arg;
	struct arena arena = {.limit = TABLE_ARENA};
	Ringside__V1__Table *m = msg_table(&arena, table, "");
	int r = m ? answer_put(t->answer, PART_TABLE, &m->base) : -ENOMEM;

	arena_free(&arena);
	t->name = table->name;
	t->tables++;
	return r;
}

static int on_rows(void *arg, const struct value *values, size_t nrows, size_t ncols)
{
	struct totals *t = arg;

	t->rows += nrows;
	return answer_rows(t->answer, values, nrows, ncols);
}

static int on_table_end(void *arg, uint64_t rows, const struct api_query_loss *loss,
			const char *missing)
{
	struct totals *t = arg;
	Ringside__V1__SnapshotTableEnd m = RINGSIDE__V1__SNAPSHOT_TABLE_END__INIT;
	Ringside__V1__Completeness c = RINGSIDE__V1__COMPLETENESS__INIT;

	m.rows = rows;
	m.missing = (char *)missing;
	if (loss) {
		msg_completeness(&c, loss);
		c.table = (char *)t->name;
		m.completeness = &c;
	}
	return answer_put(t->answer, PART_TABLE_END, &m.base);
}

static int run(struct answer *a)
{
	const Ringside__V1__SnapshotRequest *req = a->request;
	Ringside__V1__SnapshotEnd m = RINGSIDE__V1__SNAPSHOT_END__INIT;
	struct totals t = {.answer = a};
	const struct api_window window = {
		.tables = (const char *const *)req->tables,
		.ntables = req->n_tables,
		.since = req->since,
		.until = req->until,
		.deadline_mono_ns = rpc_call_deadline_ns(a->call),
		.cancelled = &a->cancelled,
	};
	const struct api_window_sink sink = {.start = on_start,
					     .table = on_table,
					     .rows = on_rows,
					     .table_end = on_table_end,
					     .arg = &t};
	const struct api_server_options *o = &a->s->options;
	int r;

	if (!o->ops->window)
		return err_set(&a->err, -ENOSYS, "snapshots are not offered here");
	r = o->ops->window(o->ctx, &window, &sink, &a->err);
	if (r < 0)
		return r;
	m.tables = t.tables;
	m.rows = t.rows;
	return answer_put(a, PART_END, &m.base);
}

void snapshot_message(struct rpc_call *call, const ProtobufCMessage *request)
{
	answer_start(call, request, run, PART_ROWS,
		     "as many queries and snapshots run already as may; try again");
}

static void put_bound(struct buf *out, const char *word, int64_t bound)
{
	if (bound < 0)
		buf_printf(out, " %s %" PRIu64 " ns ago", word, (uint64_t)0 - (uint64_t)bound);
	else if (bound)
		buf_printf(out, " %s %" PRId64, word, bound);
}

void snapshot_text(const ProtobufCMessage *request, struct buf *out)
{
	const Ringside__V1__SnapshotRequest *q = (const void *)request;

	for (size_t i = 0; i < q->n_tables && out->len <= API_ACCESS_SQL; i++)
		buf_printf(out, "%sSELECT * FROM %s", i ? "; " : "", q->tables[i]);
	if (!q->n_tables)
		buf_puts(out, "every table");
	put_bound(out, "since", q->since);
	put_bound(out, "until", q->until);
}
