// SPDX-License-Identifier: Apache-2.0
/* From the bus to the watchers: producers leave batches in a bounded inbox, the engine's thread encodes and hands them out. */
#define LOG_MODULE "api"
#include <errno.h>
#include <string.h>

#include "api/watch.h"
#include "base/log.h"

#define INBOX_BATCHES 1024
/* About a second of the busiest host (512 rows a batch). */
#define INBOX_ROWS 131072
#define RUN_BATCHES 32

static void hub_run(struct rpc_task *task);

int hub_new(struct api_server *s)
{
	const struct table *const *tables = s->options.ops->tables(s->options.ctx);
	struct hub *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	s->hub = h;
	h->s = s;
	h->task.run = hub_run;
	pthread_mutex_init(&h->mu, NULL);
	while (tables[h->ntables])
		h->ntables++;
	h->tables = calloc(h->ntables + 1, sizeof(*h->tables));
	h->inbox = calloc(INBOX_BATCHES, sizeof(struct batch *));
	if (!h->tables || !h->inbox)
		return -ENOMEM;
	for (size_t i = 0; i < h->ntables; i++)
		h->tables[i].table = tables[i];
	return 0;
}

static struct batch *take(struct hub *h)
{
	struct batch *b = NULL;

	pthread_mutex_lock(&h->mu);
	if (h->inbox_len) {
		b = h->inbox[h->inbox_head];
		h->inbox_head = (h->inbox_head + 1) % INBOX_BATCHES;
		h->inbox_len--;
		h->inbox_rows -= b->nrows;
	}
	pthread_mutex_unlock(&h->mu);
	return b;
}

void hub_free(struct api_server *s)
{
	struct hub *h = s->hub;
	struct batch *b;

	if (!h)
		return;
	while (h->inbox && (b = take(h)))
		batch_unref(b);
	pthread_mutex_destroy(&h->mu);
	free(h->inbox);
	free(h->tables);
	free(h);
}

struct hub_table *hub_find(struct hub *h, const char *name)
{
	for (size_t i = 0; i < h->ntables; i++)
		if (strcmp(h->tables[i].table->name, name) == 0)
			return &h->tables[i];
	return NULL;
}

static struct hub_table *find_table(struct hub *h, const struct table *table)
{
	for (size_t i = 0; i < h->ntables; i++)
		if (h->tables[i].table == table)
			return &h->tables[i];
	return NULL;
}

static const char *text_of(const struct batch *b, uint32_t row, int col, struct value *v)
{
	if (col < 0)
		return "";
	batch_get(b, row, (uint32_t)col, v);
	return v->kind == VALUE_TEXT ? v->text : "";
}

/* What the table "loss" says of other tables; what watchers missed themselves they are told anyway. Lock held. */
static void note_losses(struct hub *h, const struct batch *b)
{
	int table = table_find(b->table, "table_name"), stage = table_find(b->table, "stage");
	int lost = table_find(b->table, "lost");

	for (uint32_t row = 0; lost >= 0 && row < b->nrows; row++) {
		struct value name, where, n;
		const char *text = text_of(b, row, table, &name);

		for (size_t i = 0; *text && i < h->ntables; i++) {
			struct hub_table *t = &h->tables[i];

			if (strlen(t->table->name) != name.len || strncmp(t->table->name, text, name.len))
				continue;
			text = text_of(b, row, stage, &where);
			if (where.len == strlen("watchers") && !strncmp(text, "watchers", where.len))
				break;
			batch_get(b, row, (uint32_t)lost, &n);
			t->rows_lost += n.kind == VALUE_INT && n.i > 0 ? (uint64_t)n.i : 0;
			break;
		}
	}
}

/* Any thread. */
int hub_push(struct api_server *s, struct batch *batch)
{
	struct hub *h = s->hub;
	struct hub_table *t = find_table(h, batch->table);
	bool post = false;
	int r = 0;

	if (!t)
		return -ENOENT;
	pthread_mutex_lock(&h->mu);
	if (batch->ts_max > t->last_ts)
		t->last_ts = batch->ts_max;
	if (strcmp(batch->table->name, "loss") == 0)
		note_losses(h, batch);
	if (atomic_load(&t->watchers) == 0) {
		/* Nobody looks. */
	} else if (h->inbox_len == INBOX_BATCHES || h->inbox_rows + batch->nrows > INBOX_ROWS) {
		t->dropped += batch->nrows;
		r = -ENOBUFS;
	} else {
		h->inbox[(h->inbox_head + h->inbox_len++) % INBOX_BATCHES] = batch_ref(batch);
		h->inbox_rows += batch->nrows;
		post = !h->posted;
		h->posted = true;
	}
	pthread_mutex_unlock(&h->mu);
	if (post && rpc_post(s->rpc, &h->task) < 0)
		r = -ESHUTDOWN; /* what lies in the inbox is dropped with the hub */
	return r;
}

void hub_last_ts(struct hub *h, const struct hub_table *t, uint64_t *ret)
{
	pthread_mutex_lock(&h->mu);
	*ret = t->last_ts;
	pthread_mutex_unlock(&h->mu);
}

uint64_t hub_rows_lost(struct hub *h, const struct hub_table *t)
{
	uint64_t n;

	pthread_mutex_lock(&h->mu);
	n = t->rows_lost;
	pthread_mutex_unlock(&h->mu);
	return n;
}

void hub_listen(struct hub *h, struct watch_table *t, uint64_t *last_ts)
{
	pthread_mutex_lock(&h->mu);
	if (!t->listening)
		atomic_fetch_add(&t->hub->watchers, 1);
	t->listening = true;
	*last_ts = t->hub->last_ts;
	pthread_mutex_unlock(&h->mu);
}

void hub_unlisten(struct watch_table *t)
{
	if (t->listening)
		atomic_fetch_sub(&t->hub->watchers, 1);
	t->listening = false;
}

static void drop(struct row_watch *rw, uint64_t rows)
{
	rw->dropped += rows;
	atomic_fetch_add_explicit(&rw->w.s->rows_dropped, rows, memory_order_relaxed);
}

/* Rows that wait during a catch-up are in the store as well: losing them costs another round, not a gap. */
static void lose_backlog(struct row_watch *rw, struct watch_table *t)
{
	uint64_t rows = chunk_queue_clear(&t->queue);

	if (t->mode == WATCH_CATCH_UP) {
		t->mode = WATCH_HISTORY;
		hub_unlisten(t);
	} else {
		drop(rw, rows);
	}
}

static void enqueue(struct row_watch *rw, struct watch_table *t, struct chunk *c)
{
	uint32_t nrows = c->nrows;

	while (t->mode == WATCH_LIVE && t->queue.head && t->queue.bytes + c->len > WATCH_MAX_BYTES)
		drop(rw, chunk_queue_drop_head(&t->queue));
	if (t->mode == WATCH_CATCH_UP && t->queue.bytes + c->len > WATCH_MAX_BYTES)
		lose_backlog(rw, t);
	if (!t->listening)
		return;
	if (chunk_queue_push(&t->queue, chunk_ref(c)) < 0)
		drop(rw, nrows);
}

/* Memory is short: the watcher that holds most of it is the one that reads slowest. */
static void relieve(struct hub *h)
{
	while (atomic_load_explicit(&h->chunk_bytes, memory_order_relaxed) > CHUNKS_MAX_BYTES) {
		struct row_watch *fattest = NULL;
		struct watch_table *table = NULL;

		FOR_EACH_WATCHER(w, h->s->row_watchers) {
			struct row_watch *rw = container_of(w, struct row_watch, w);

			for (size_t i = 0; i < rw->ntables; i++)
				if (rw->tables[i].queue.bytes > (table ? table->queue.bytes : 0)) {
					fattest = rw;
					table = &rw->tables[i];
				}
		}
		if (!fattest)
			break;
		lose_backlog(fattest, table);
	}
}

static struct watch_table *listener(struct row_watch *rw, const struct hub_table *t)
{
	for (size_t i = 0; i < rw->ntables; i++)
		if (rw->tables[i].hub == t && rw->tables[i].listening)
			return &rw->tables[i];
	return NULL;
}

static void hand_out(struct hub *h, struct hub_table *t, struct chunk_queue *chunks, uint64_t lost)
{
	struct chunk *c;

	while ((c = chunk_queue_head(chunks))) {
		FOR_EACH_WATCHER(w, h->s->row_watchers) {
			struct row_watch *rw = container_of(w, struct row_watch, w);
			struct watch_table *wt = listener(rw, t);

			if (wt)
				enqueue(rw, wt, c);
		}
		chunk_queue_drop_head(chunks);
	}
	FOR_EACH_WATCHER(w, h->s->row_watchers) {
		struct row_watch *rw = container_of(w, struct row_watch, w);
		struct watch_table *wt = lost ? listener(rw, t) : NULL;

		if (wt && wt->mode == WATCH_CATCH_UP)
			lose_backlog(rw, wt);
		else if (wt)
			drop(rw, lost);
	}
}

static uint64_t take_lost(struct hub *h, struct hub_table *t)
{
	uint64_t lost;

	pthread_mutex_lock(&h->mu);
	lost = t->dropped;
	t->dropped = 0;
	pthread_mutex_unlock(&h->mu);
	return lost;
}

static void hand_out_batch(struct hub *h, struct batch *b)
{
	struct hub_table *t = find_table(h, b->table);
	struct chunk_queue chunks = {};
	uint64_t lost = 0;

	if (atomic_load(&t->watchers)) {
		if (chunk_write_batch(b, &h->chunk_bytes, &chunks) < 0)
			lost = b->nrows - chunks.rows;
		lost += take_lost(h, t);
		hand_out(h, t, &chunks, lost);
		relieve(h);
	}
	batch_unref(b);
}

/* Engine thread: what producers left, in portions so that calls are served meanwhile. */
static void hub_run(struct rpc_task *task)
{
	struct hub *h = container_of(task, struct hub, task);
	struct batch *b;
	bool more;

	for (unsigned int i = 0; i < RUN_BATCHES && (b = take(h)); i++)
		hand_out_batch(h, b);
	pthread_mutex_lock(&h->mu);
	more = h->inbox_len > 0;
	h->posted = more && rpc_post(h->s->rpc, &h->task) == 0;
	pthread_mutex_unlock(&h->mu);
	FOR_EACH_WATCHER(w, h->s->row_watchers)
		watch_pump(container_of(w, struct row_watch, w));
}

/* One snapshot for all watchers of a live table that are due. */
struct snapshot {
	struct pool_job pool_job;
	struct rpc_task task;
	struct hub *hub;
	struct hub_table *table;
	struct chunk_queue chunks;
	struct err err;
	int r;
};

static void snapshot_free(struct snapshot *sn)
{
	chunk_queue_clear(&sn->chunks);
	free(sn);
}

static void give(struct row_watch *rw, struct watch_table *wt, const struct snapshot *sn)
{
	struct chunk_queue copy = sn->chunks;

	wt->failures = 0;
	for (struct chunk *c; (c = chunk_queue_head(&copy)); chunk_queue_next(&copy))
		if (chunk_queue_push(&wt->page, chunk_ref(c)) < 0)
			drop(rw, c->nrows);
	wt->end_pending = true;
}

static void snapshot_done(struct rpc_task *task)
{
	struct snapshot *sn = container_of(task, struct snapshot, task);

	sn->table->loading = false;
	FOR_EACH_WATCHER(w, sn->hub->s->row_watchers) {
		struct row_watch *rw = container_of(w, struct row_watch, w);

		for (size_t i = 0; i < rw->ntables; i++) {
			struct watch_table *wt = &rw->tables[i];

			if (wt->hub != sn->table || !wt->want)
				continue;
			wt->want = false;
			/* A plugin that restarts is back in a moment. */
			if (sn->r < 0 && ++wt->failures >= WATCH_MAX_FAILURES)
				rpc_finish_err(w->call, sn->r, &sn->err);
			else if (sn->r == 0)
				give(rw, wt, sn);
		}
		watch_pump(rw);
	}
	snapshot_free(sn);
}

static void snapshot_run(struct pool_job *job)
{
	struct snapshot *sn = container_of(job, struct snapshot, pool_job);
	const struct api_server_options *o = &sn->hub->s->options;
	_cleanup_(batch_unrefp) struct batch *b = NULL;

	sn->r = o->ops->snapshot(o->ctx, sn->table->table, &b, &sn->err);
	if (sn->r == 0 && chunk_write_batch(b, &sn->hub->chunk_bytes, &sn->chunks) < 0)
		sn->r = err_set(&sn->err, -ENOMEM, "no memory for the rows of %s", sn->table->table->name);
	if (rpc_post(sn->hub->s->rpc, &sn->task) < 0)
		snapshot_free(sn);
}

void hub_snapshot(struct hub *h, struct hub_table *t)
{
	struct snapshot *sn;

	if (t->loading)
		return;
	sn = calloc(1, sizeof(*sn));
	if (!sn)
		return; /* want stays set: the next tick asks again */
	*sn = (struct snapshot){.pool_job.run = snapshot_run, .task.run = snapshot_done, .hub = h, .table = t};
	t->loading = pool_submit(h->s->watch, &sn->pool_job) == 0;
	if (!t->loading)
		free(sn);
}
