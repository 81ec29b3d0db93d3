// SPDX-License-Identifier: Apache-2.0
/* Frames of an untrusted worker: lengths, order, counts and text checked before anybody else sees
 * them. */
#include "store/query_answer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOG_MODULE "query"
#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"

int query_answer_broken(struct err *err)
{
	return err_set(err, -EIO, "the query worker's answer makes no sense and was thrown away");
}

static void forget_columns(struct query_run *run)
{
	free(run->columns);
	free(run->names);
	free(run->values);
	run->columns = NULL;
	run->names = NULL;
	run->values = NULL;
	run->has_columns = false;
}

void query_answer_free(struct query_run *run)
{
	buf_free(&run->in);
	forget_columns(run);
}

/* The sink's own failure has no text yet. */
static int sink_result(int r, struct err *err)
{
	return r < 0 ? err_set(err, r, "the answer could not be delivered: %s", strerror(-r)) : 0;
}

/* One per segment and a few of the sandbox. */
#define MAX_NOTES 32

/* Before the columns only, and not for ever: a sandboxed worker has nothing to tell the log. */
static int take_note(struct query_run *run, struct wire *w, struct err *err)
{
	const char *msg = wire_get_str(w, sizeof(((struct err *)0)->msg));

	if (!wire_done(w) || run->has_columns || run->statements || ++run->notes > MAX_NOTES)
		return query_answer_broken(err);
	if (log_ratelimit("query.worker", 3))
		log_warn("%s", msg);
	return 0;
}

static int alloc_columns(struct query_run *run, uint32_t n, struct err *err)
{
	run->columns = calloc(n, sizeof(*run->columns));
	run->names = calloc(n, QUERY_MAX_NAME * 3 + 1);
	run->values = calloc((size_t)n * QUERY_BATCH_ROWS, sizeof(*run->values));
	if (!run->columns || !run->names || !run->values)
		return err_set(err, -ENOMEM, "out of memory");
	run->ncols = n;
	run->has_columns = true;
	return 0;
}

static int take_columns(struct query_run *run, struct wire *w, struct err *err)
{
	uint32_t n = wire_get_u32(w);
	char *name;
	int r;

	if (w->bad || run->has_columns || !n || n > QUERY_MAX_COLUMNS)
		return query_answer_broken(err);
	r = alloc_columns(run, n, err);
	if (r < 0)
		return r;
	name = run->names;
	for (uint32_t i = 0; i < n; i++) {
		const char *text = wire_get_str(
			w, QUERY_MAX_NAME * 3); /* tripled where it had to be made UTF-8 */
		uint32_t t = wire_get_u32(w), c = wire_get_u32(w);
		const struct field *f = NULL;

		if (t < run->engine->ntables && c < run->engine->options.tables[t]->nfields)
			f = &run->engine->options.tables[t]->fields[c];
		else if (t != UINT32_MAX)
			return query_answer_broken(err);
		run->columns[i] = (struct query_column){.name = name,
							.type = f ? f->type : COLUMN_X_MAX,
							.unit = f && f->unit ? f->unit : ""};
		name = stpcpy(name, text) + 1;
	}
	if (!wire_done(w))
		return query_answer_broken(err);
	return sink_result(run->sink->columns(run->sink->arg, run->columns, n), err);
}

static int take_rows(struct query_run *run, struct wire *w, struct err *err)
{
	uint32_t n = wire_get_u32(w);

	if (!run->has_columns || w->bad || !n || n > QUERY_BATCH_ROWS ||
	    run->rows + n > run->max_rows)
		return query_answer_broken(err);
	for (size_t i = 0; i < (size_t)n * run->ncols; i++)
		wire_get_value(w, &run->values[i]);
	if (!wire_done(w))
		return query_answer_broken(err);
	run->rows += n;
	return sink_result(run->sink->rows(run->sink->arg, run->values, n, run->ncols), err);
}

static int take_snapshot(struct query_run *run, struct wire *w, struct err *err)
{
	uint32_t i = wire_get_u32(w);

	if (!wire_done(w) || i >= run->engine->ntables || run->served[i] ||
	    table_is_history(run->engine->options.tables[i]))
		return query_answer_broken(err);
	run->served[i] = true;
	return query_serve_snapshot(run, run->engine->options.tables[i], err);
}

static int take_done(struct query_run *run, struct wire *w, struct err *err)
{
	struct query_stats stats = {
		.rows = wire_get_u64(w), .truncated = wire_get_u8(w), .nloss = wire_get_u32(w)};
	bool more;
	int r;

	if (w->bad || !run->has_columns || stats.rows != run->rows ||
	    stats.nloss > ARRAY_SIZE(stats.loss))
		return query_answer_broken(err);
	for (unsigned int i = 0; i < stats.nloss; i++) {
		uint32_t t = wire_get_u32(w);

		if (t >= run->engine->ntables)
			return query_answer_broken(err);
		stats.loss[i].table = run->engine->options.tables[t]->name;
		stats.loss[i].rows = wire_get_u64(w);
		stats.loss[i].since_ns = wire_get_u64(w);
		stats.loss[i].from_ns = wire_get_u64(w);
		stats.loss[i].until_ns = wire_get_u64(w);
		stats.loss[i].held = wire_get_u64(w);
		snprintf(stats.loss[i].why, sizeof(stats.loss[i].why), "%s",
			 wire_get_str(w, sizeof(stats.loss[i].why)));
	}
	more = wire_get_u8(w);
	if (!wire_done(w) || (more && !run->query->script))
		return query_answer_broken(err);
	stats.elapsed_ns = clock_mono_ns() - run->started_ns;
	r = sink_result(run->sink->done(run->sink->arg, &stats), err);
	if (r < 0 || !more)
		return r < 0 ? r : 1;
	forget_columns(run);
	run->rows = 0;
	run->statements++;
	return 0;
}

static int take_error(struct wire *w, struct err *err)
{
	static const int codes[] = {EINVAL, EPERM,  EIO,   E2BIG,    ETIMEDOUT,
				    ENOMEM, EACCES, EBUSY, ESHUTDOWN};
	uint32_t code = wire_get_u32(w);
	const char *msg = wire_get_str(w, 3 * sizeof(err->msg));

	if (!wire_done(w))
		return query_answer_broken(err);
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if ((uint32_t)codes[i] == code)
			return err_set(err, -codes[i], "%s", msg);
	return err_set(err, -EIO, "%s", msg);
}

int query_answer_frame(struct query_run *run, uint32_t type, const uint8_t *p, size_t len,
		       struct err *err)
{
	struct wire w = {.p = p, .end = p + len};

	switch (type) {
	case QUERY_FRAME_NOTE:
		return take_note(run, &w, err);
	case QUERY_FRAME_COLUMNS:
		return take_columns(run, &w, err);
	case QUERY_FRAME_ROWS:
		return take_rows(run, &w, err);
	case QUERY_FRAME_SNAPSHOT:
		return take_snapshot(run, &w, err);
	case QUERY_FRAME_DONE:
		return take_done(run, &w, err);
	case QUERY_FRAME_ERROR:
		return take_error(&w, err);
	}
	return query_answer_broken(err);
}
