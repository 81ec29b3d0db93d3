// SPDX-License-Identifier: Apache-2.0
/* Ids to text through an array; a miss costs one row of the segment's strings table. */
#include "store/decode.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/dict.h"

struct decoder {
	sqlite3 *db;
	char schema[24];
	sqlite3_blob *blob; /* stays on the strings table and moves from row to row */
	char **texts;	    /* by id; NUL-terminated */
	uint32_t cap;
};

/* The text of one row of strings; NULL in *ret when there's no such id. */
static int read_text(struct decoder *d, uint32_t id, char **ret)
{
	char *text;
	int rc, len;

	*ret = NULL;
	if (d->blob) {
		rc = sqlite3_blob_reopen(d->blob, id);
		if (rc != SQLITE_OK) { /* a failed move leaves the handle of no use */
			sqlite3_blob_close(d->blob);
			d->blob = NULL;
		}
	} else {
		rc = sqlite3_blob_open(d->db, d->schema, "strings", "s", id, 0, &d->blob);
	}
	if (rc == SQLITE_ERROR)
		return SQLITE_OK;
	if (rc != SQLITE_OK)
		return rc;
	len = sqlite3_blob_bytes(d->blob);
	text = malloc((size_t)len + 1);
	if (!text)
		return SQLITE_NOMEM;
	rc = sqlite3_blob_read(d->blob, text, len, 0);
	if (rc != SQLITE_OK) {
		free(text);
		return rc;
	}
	text[len] = '\0';
	*ret = text;
	return SQLITE_OK;
}

static int grow(struct decoder *d, uint32_t id)
{
	uint32_t cap = d->cap ? d->cap : 1024;
	char **texts;

	while (cap <= id)
		cap *= 2;
	texts = realloc(d->texts, cap * sizeof(*texts));
	if (!texts)
		return SQLITE_NOMEM;
	memset(texts + d->cap, 0, (cap - d->cap) * sizeof(*texts));
	d->texts = texts;
	d->cap = cap;
	return SQLITE_OK;
}

static void decode(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	struct decoder *d = sqlite3_user_data(ctx);
	sqlite3_int64 id;
	int rc = SQLITE_OK;

	(void)argc;
	if (sqlite3_value_type(argv[0]) != SQLITE_INTEGER) {
		sqlite3_result_value(ctx, argv[0]);
		return;
	}
	id = sqlite3_value_int64(argv[0]);
	if (id < 1 || id > DICT_MAX_STRINGS)
		return; /* no writer gives such an id */
	if (id >= d->cap)
		rc = grow(d, (uint32_t)id);
	if (rc == SQLITE_OK && !d->texts[id])
		rc = read_text(d, (uint32_t)id, &d->texts[id]);
	if (rc != SQLITE_OK)
		sqlite3_result_error_code(ctx, rc);
	else if (d->texts[id])
		sqlite3_result_text(ctx, d->texts[id], -1, SQLITE_STATIC);
}

int decoder_new(struct decoder **ret, sqlite3 *db, const char *schema)
{
	struct decoder *d = calloc(1, sizeof(*d));
	char name[40];
	int rc;

	if (!d)
		return SQLITE_NOMEM;
	d->db = db;
	snprintf(d->schema, sizeof(d->schema), "%s", schema);
	snprintf(name, sizeof(name), "%s_text", d->schema);
	rc = sqlite3_create_function_v2(db, name, 1,
					SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, d,
					decode, NULL, NULL, NULL);
	if (rc != SQLITE_OK) {
		free(d);
		return rc;
	}
	*ret = d;
	return SQLITE_OK;
}

void decoder_free(struct decoder *d)
{
	char name[40];

	if (!d)
		return;
	snprintf(name, sizeof(name), "%s_text", d->schema);
	sqlite3_create_function_v2(d->db, name, 1, SQLITE_UTF8, NULL, NULL, NULL, NULL, NULL);
	sqlite3_blob_close(d->blob);
	for (uint32_t i = 0; i < d->cap; i++)
		free(d->texts[i]);
	free(d->texts);
	free(d);
}
