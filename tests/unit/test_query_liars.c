// SPDX-License-Identifier: Apache-2.0
/* Query workers that have been taken over: whatever they send, the engine checks it. */
#include "query_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "store/query_wire.h"

static struct result res;

enum lie {
	LIE_LENGTH,
	LIE_TYPE,
	LIE_ROWS_FIRST,
	LIE_COLUMNS_TWICE,
	LIE_NO_COLUMNS,
	LIE_COLUMNS_SHORT,
	LIE_COLUMN_ORIGIN,
	LIE_COLUMN_NAME,
	LIE_ROWS_MANY,
	LIE_ROWS_KIND,
	LIE_TEXT_LENGTH,
	LIE_TEXT_UTF8,
	LIE_TEXT_NUL,
	LIE_ROWS_LIMIT,
	LIE_ROWS_TAIL,
	LIE_DONE_COUNT,
	LIE_DONE_LOSS,
	LIE_SNAPSHOT_HISTORY,
	LIE_SNAPSHOT_INDEX,
	LIE_SNAPSHOT_TWICE,
	LIE_NOTE_LATE,
	LIE_NOTES,
	LIE_ERROR_UTF8,
	LIE_ERROR_CODE,
	LIE_HANG_UP,
	LIE_HALF,
	LIE_EXIT,
	LIE_NOMEM,
	LIE_DEAF,
	LIE_X_MAX,
};

static const struct {
	int code;
	const char *part;
} lie_answers[LIE_X_MAX] = {
	[LIE_ERROR_CODE] = {-EIO, "strange"},  [LIE_HANG_UP] = {-EIO, "hung up"},
	[LIE_HALF] = {-ETIMEDOUT, "deadline"}, [LIE_EXIT] = {-EIO, "ended early"},
	[LIE_NOMEM] = {-E2BIG, "memory"},      [LIE_DEAF] = {-ETIMEDOUT, "deadline"},
};

static void put_columns(struct buf *b, uint32_t n, uint32_t written, const char *name,
			uint32_t table)
{
	size_t at = wire_open(b, QUERY_FRAME_COLUMNS);

	wire_put_u32(b, n);
	for (uint32_t i = 0; i < written; i++) {
		wire_put_str(b, name);
		wire_put_u32(b, table);
		wire_put_u32(b, table == UINT32_MAX ? UINT32_MAX : 0);
	}
	wire_close(b, at);
}

/* n rows of one text column whose length field says len. */
static void put_rows(struct buf *b, uint32_t n, uint8_t kind, uint32_t len, const char *bytes,
		     size_t nbytes)
{
	size_t at = wire_open(b, QUERY_FRAME_ROWS);

	wire_put_u32(b, n);
	for (uint32_t i = 0; i < n; i++) {
		wire_put_u8(b, kind);
		wire_put_u32(b, len);
		buf_add(b, bytes, nbytes);
	}
	wire_close(b, at);
}

static void put_u32_frame(struct buf *b, enum query_frame type, uint32_t v)
{
	size_t at = wire_open(b, type);

	wire_put_u32(b, v);
	wire_close(b, at);
}

static void put_done(struct buf *b, uint64_t rows, uint32_t nloss)
{
	size_t at = wire_open(b, QUERY_FRAME_DONE);

	wire_put_u64(b, rows);
	wire_put_u8(b, 0);
	wire_put_u32(b, nloss);
	wire_close(b, at);
}

static void put_text_frame(struct buf *b, enum query_frame type, int code, const char *text)
{
	size_t at = wire_open(b, type);

	if (type == QUERY_FRAME_ERROR)
		wire_put_u32(b, code);
	wire_put_str(b, text);
	wire_close(b, at);
}

static void lie_before_columns(struct buf *b, enum lie lie)
{
	struct query_frame_header h = {.type = QUERY_FRAME_COLUMNS, .len = UINT32_MAX};

	switch (lie) {
	case LIE_LENGTH:
		buf_add(b, &h, sizeof(h));
		break;
	case LIE_TYPE:
		put_u32_frame(b, (enum query_frame)99, 1);
		break;
	case LIE_ROWS_FIRST:
		put_rows(b, 1, VALUE_TEXT, 1, "x", 2);
		break;
	case LIE_NO_COLUMNS:
		put_columns(b, 0, 0, "", UINT32_MAX);
		break;
	case LIE_COLUMNS_SHORT:
		put_columns(b, 256, 3, "x", UINT32_MAX);
		break;
	case LIE_COLUMN_ORIGIN:
		put_columns(b, 1, 1, "x", 4);
		break;
	case LIE_COLUMN_NAME:
		put_columns(b, 1, 1, "x\xff", UINT32_MAX);
		break;
	case LIE_SNAPSHOT_HISTORY:
		put_u32_frame(b, QUERY_FRAME_SNAPSHOT, 0);
		break;
	case LIE_SNAPSHOT_INDEX:
		put_u32_frame(b, QUERY_FRAME_SNAPSHOT, 1000);
		break;
	case LIE_SNAPSHOT_TWICE:
		put_u32_frame(b, QUERY_FRAME_SNAPSHOT, 3);
		put_u32_frame(b, QUERY_FRAME_SNAPSHOT, 3);
		break;
	case LIE_NOTES:
		for (int i = 0; i < 1000; i++)
			put_text_frame(b, QUERY_FRAME_NOTE, 0, "ignore this line of a test");
		break;
	case LIE_ERROR_UTF8:
		put_text_frame(b, QUERY_FRAME_ERROR, EINVAL, "x\xc3");
		break;
	case LIE_ERROR_CODE:
		put_text_frame(b, QUERY_FRAME_ERROR, 12345678, "strange");
		break;
	case LIE_HALF:
		h.len = 100;
		buf_add(b, &h, sizeof(h));
		buf_add(b, "half", 4);
		break;
	default:
		break;
	}
}

static void lie_after_columns(struct buf *b, enum lie lie)
{
	put_columns(b, 1, 1, "x", UINT32_MAX);
	switch (lie) {
	case LIE_COLUMNS_TWICE:
		put_columns(b, 1, 1, "x", UINT32_MAX);
		break;
	case LIE_ROWS_MANY:
		put_rows(b, 65, VALUE_TEXT, 1, "x", 2);
		break;
	case LIE_ROWS_KIND:
		put_rows(b, 1, 77, 1, "x", 2);
		break;
	case LIE_TEXT_LENGTH:
		put_rows(b, 1, VALUE_TEXT, 3000000, "x", 2);
		break;
	case LIE_TEXT_UTF8:
		put_rows(b, 1, VALUE_TEXT, 2, "\xc0\x80", 3);
		break;
	case LIE_TEXT_NUL:
		put_rows(b, 1, VALUE_TEXT, 3, "a\0b", 4);
		break;
	case LIE_ROWS_LIMIT:
		put_rows(b, 64, VALUE_TEXT, 1, "x", 2);
		break;
	case LIE_ROWS_TAIL:
		put_rows(b, 1, VALUE_TEXT, 1, "x\0tail", 6);
		break;
	case LIE_DONE_COUNT:
		put_done(b, 7, 0);
		break;
	case LIE_DONE_LOSS:
		put_done(b, 0, 1000);
		break;
	case LIE_NOTE_LATE:
		put_text_frame(b, QUERY_FRAME_NOTE, 0, "ignore this line of a test");
		break;
	default:
		break;
	}
}

static _Noreturn void lying_worker(enum lie lie)
{
	struct buf b = {};
	char sink[65536];

	if (lie == LIE_DEAF)
		for (;;)
			pause();
	lie_before_columns(&b, lie);
	if (!b.len)
		lie_after_columns(&b, lie);
	if (lie == LIE_HANG_UP || lie == LIE_EXIT || lie == LIE_NOMEM) {
		close(3);
		if (lie == LIE_HANG_UP)
			for (;;)
				pause();
		_exit(lie == LIE_NOMEM ? ENOMEM : 0);
	}
	if (send(3, b.data, b.len, MSG_NOSIGNAL) < 0)
		_exit(0);
	while (recv(3, sink, sizeof(sink), 0) > 0)
		;
	_exit(0);
}

static void test_lying_workers(void **state)
{
	static char big[900000];
	struct value param = {.kind = VALUE_TEXT, .text = big, .len = sizeof(big) - 1};
	struct fixture *f = *state;
	char *tz = getenv("TZ") ? strdup(getenv("TZ")) : NULL;
	long before = rss_bytes();

	memset(big, 'x', sizeof(big) - 1);
	for (enum lie lie = 0; lie < LIE_X_MAX; lie++) {
		struct how how = {.timeout_ms = DEADLINE_MS, .max_rows = 10};
		int code = lie_answers[lie].code ? lie_answers[lie].code : -EIO;
		const char *part = lie_answers[lie].part ? lie_answers[lie].part : "makes no sense";
		char env[32];

		if (lie == LIE_DEAF) { /* more than a socket holds */
			how.params = &param;
			how.nparams = 1;
		}
		snprintf(env, sizeof(env), "lie:%d", (int)lie);
		setenv("TZ", env, 1);
		result_run(f, &res, "SELECT ?1", &how);
		if (res.r != code || !strstr(res.err.msg, part))
			fail_msg("lie %d: %d %s", (int)lie, res.r, res.err.msg);
		assert_in_range(res.ms, 0, DEADLINE_MS + SLACK_MS);
		result_free(&res);
		assert_no_children();
	}
	if (tz)
		setenv("TZ", tz, 1);
	else
		unsetenv("TZ");
	free(tz);
	assert_query(f, "SELECT 1", "1");
	assert_in_range(rss_bytes(), 0, before + RSS_GROWTH);
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], QUERY_WORKER_NAME)) {
		const char *tz = getenv("TZ");

		/* The only variable that a worker gets: here it says how to misbehave. */
		if (tz && !strncmp(tz, "lie:", 4))
			lying_worker((enum lie)atoi(tz + 4));
		query_worker_main(argc, argv);
	}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_lying_workers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
