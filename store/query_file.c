// SPDX-License-Identifier: Apache-2.0
/* The worker's view of a file that lies on disk by itself: a segment, or a snapshot. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"
#include "store/decode.h"
#include "store/query_worker.h"
#include "store/snapshot.h"

#define FILE_SCHEMA "file"

/* As one of the ring's; sealed: nobody writes to it any more. */
static int attach_segment(struct query_session *s, struct err *err)
{
	struct segment_file *f = &s->segments[0];
	int r;

	*f = (struct segment_file){.ring = RING_FLOW, .sealed = true, .schema = FILE_SCHEMA};
	if (snprintf(f->path, sizeof(f->path), "%s", s->req.file) >= (int)sizeof(f->path))
		return err_set(err, -ENAMETOOLONG,
			       "the path '%.100s...' has more than %zu characters", s->req.file,
			       sizeof(f->path) - 1);
	r = schema_attach(s->db, f, err);
	if (r < 0)
		return r;
	if (decoder_new(&s->decoders[0], s->db, f->schema) != SQLITE_OK)
		return err_set(err, -ENOMEM, "out of memory");
	s->nsegments = 1;
	return 0;
}

static int attach_snapshot(struct query_session *s, struct err *err)
{
	_cleanup_buf_ struct buf uri = {0};
	sqlite3_stmt *st = NULL;
	int rc;

	schema_uri(&uri, s->req.file);
	if (buf_status(&uri) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	rc = sqlite3_prepare_v2(s->db, "ATTACH ?1 AS " FILE_SCHEMA, -1, &st, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_text(st, 1, uri.data, -1, SQLITE_STATIC);
		rc = sqlite3_step(st);
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_DONE)
		return err_set(err, -EIO, "cannot open '%s': %s", s->req.file,
			       sqlite3_errmsg(s->db));
	return 0;
}

int query_file_open(struct query_session *s, struct err *err)
{
	static const char *const schemas[] = {FILE_SCHEMA};
	bool snapshot = s->req.file_is_snapshot;
	int r = snapshot ? attach_snapshot(s, err) : attach_segment(s, err);

	return r < 0 ? r
		     : query_history_begin(s, schemas, ARRAY_SIZE(schemas),
					   snapshot ? SNAPSHOT_TABLES : "segment_tables", err);
}

void query_file_loss(struct query_session *s, uint32_t table, uint64_t *ret_lost,
		     uint64_t *ret_since)
{
	sqlite3_stmt *st = NULL;

	*ret_lost = *ret_since = 0;
	if (sqlite3_prepare_v2(s->db,
			       "SELECT rows_lost, since FROM " FILE_SCHEMA "." SNAPSHOT_TABLES
			       " WHERE name = ?1",
			       -1, &st, NULL) == SQLITE_OK) {
		sqlite3_bind_text(st, 1, s->req.tables[table]->name, -1, SQLITE_STATIC);
		if (sqlite3_step(st) == SQLITE_ROW) {
			*ret_lost = (uint64_t)sqlite3_column_int64(st, 0);
			*ret_since = (uint64_t)sqlite3_column_int64(st, 1);
		}
	}
	sqlite3_finalize(st);
}
