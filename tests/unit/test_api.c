// SPDX-License-Identifier: Apache-2.0
/* Parts of the API that need no server: wire format, arena, reflection index, workers, chunks, peers, status codes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "api/arena.h"
#include "api/chunk.h"
#include "api/descriptors.h"
#include "api/pool.h"
#include "api/refl.h"
#include "api/rpc_peer.h"
#include "api/status.h"
#include "api/wire.h"
#include "ringside/v1/plugin.pb-c.h"
#include "ringside/v1/table.pb-c.h"

static void peer_is_parsed_strictly(void **state)
{
	static const char *const bad[] = {"", "fd:", "fd:-1", "fd:+1", "fd: 1", "fd:1 ", "fd:01", "fd:1x", "fd:65536",
					  "fd:99999999999999999999", "FD:1", "xfd:1", "ipv4:1.2.3.4:5", "unix:/x", "fd:1,2"};

	(void)state;
	assert_int_equal(rpc_peer_fd("fd:0"), 0);
	assert_int_equal(rpc_peer_fd("fd:17"), 17);
	assert_int_equal(rpc_peer_fd("fd:65535"), 65535);
	assert_int_equal(rpc_peer_fd(NULL), -1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(rpc_peer_fd(bad[i]), -1);
}

static void status_codes_map_both_ways(void **state)
{
	(void)state;
	assert_int_equal(rpc_code_from_errno(-EINVAL), RPC_INVALID_ARGUMENT);
	assert_int_equal(rpc_code_from_errno(-EACCES), RPC_PERMISSION_DENIED);
	assert_int_equal(rpc_code_from_errno(-ENOMEM), RPC_RESOURCE_EXHAUSTED);
	assert_int_equal(rpc_code_from_errno(-E2BIG), RPC_RESOURCE_EXHAUSTED);
	assert_int_equal(rpc_code_from_errno(-ESHUTDOWN), RPC_UNAVAILABLE);
	assert_int_equal(rpc_code_from_errno(-EXDEV), RPC_INTERNAL);
	assert_int_equal(rpc_code_to_errno(RPC_OK), 0);
	assert_int_equal(rpc_code_to_errno(RPC_RESOURCE_EXHAUSTED), -ENOBUFS);
	assert_int_equal(rpc_code_to_errno(RPC_DATA_LOSS), -EIO);
	for (int code = 1; code < 20; code++) {
		assert_int_not_equal(rpc_code_to_errno(code), 0);
		assert_int_not_equal(rpc_code_to_errno(code), -EAGAIN);
	}
}

static void values_are_what_protobuf_reads(void **state)
{
	static const struct value values[] = {
		{.kind = VALUE_NULL},
		{.kind = VALUE_INT, .i = 0},
		{.kind = VALUE_INT, .i = -1},
		{.kind = VALUE_INT, .i = INT64_MIN},
		{.kind = VALUE_INT, .i = INT64_MAX},
		{.kind = VALUE_REAL, .d = -1.5e300},
		{.kind = VALUE_TEXT, .text = "", .len = 0},
		{.kind = VALUE_TEXT, .text = "text", .len = 4},
		{.kind = VALUE_BYTES, .text = "\0\xff", .len = 2},
	};
	char big[300];
	struct value text = {.kind = VALUE_TEXT, .text = big, .len = sizeof(big)};
	size_t n = ARRAY_SIZE(values);
	Ringside__V1__RowBatch *m;
	_cleanup_buf_ struct buf b = {};

	(void)state;
	memset(big, 'b', sizeof(big));
	for (size_t i = 0; i < n; i++)
		wire_put_row_value(&b, &values[i]);
	wire_put_row_value(&b, &text);
	wire_put_uint(&b, 1, 10);
	assert_int_equal(buf_status(&b), 0);
	m = ringside__v1__row_batch__unpack(NULL, b.len, (const uint8_t *)b.data);
	assert_non_null(m);
	assert_int_equal(m->row_count, 10);
	assert_int_equal(m->n_values, n + 1);
	assert_int_equal(m->values[0]->kind_case, RINGSIDE__V1__VALUE__KIND__NOT_SET);
	for (size_t i = 1; i <= 4; i++) {
		assert_int_equal(m->values[i]->kind_case, RINGSIDE__V1__VALUE__KIND_INTEGER);
		assert_true(m->values[i]->integer == values[i].i);
	}
	assert_true(m->values[5]->real == -1.5e300);
	assert_string_equal(m->values[6]->text, "");
	assert_int_equal(m->values[6]->kind_case, RINGSIDE__V1__VALUE__KIND_TEXT);
	assert_string_equal(m->values[7]->text, "text");
	assert_int_equal(m->values[8]->blob.len, 2);
	assert_memory_equal(m->values[8]->blob.data, "\0\xff", 2);
	assert_int_equal(strlen(m->values[9]->text), sizeof(big));
	ringside__v1__row_batch__free_unpacked(m, NULL);
}

static void broken_messages_are_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int r;
		const char *field;
	} t[] = {
		{"", 0, 0, NULL},
		{"\x0a\x05netfl", 7, 0, NULL},
		{"\x0a\x05netf", 6, -EINVAL, NULL},           /* shorter than it says */
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11, -EINVAL, NULL}, /* length of 2^63 and more */
		{"\x0b", 1, -EINVAL, NULL},                      /* group */
		{"\x07", 1, -EINVAL, NULL},                      /* no such wire type */
		{"\x00", 1, -EINVAL, NULL},                      /* field 0 */
		{"\x0a\x02\xff\xfe", 4, -EINVAL, "name"},
		{"\x0a\x03" "a\0b", 5, -EINVAL, "name"},
		{"\x12\x04\x0a\x02\xc3\x28", 6, -EINVAL, "key"}, /* in a map's entry */
		{"\x12\x04\x0a\x03\x61\x62", 6, -EINVAL, NULL},   /* an entry that reaches beyond itself */
		{"\xf8\x07\x01", 3, 0, NULL},                    /* unknown field */
		{"\x80", 1, -EINVAL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		const char *field = NULL;
		int r = wire_check(&ringside__v1__enable_plugin_request__descriptor, t[i].bytes, t[i].len, &field);

		assert_int_equal(r, t[i].r);
		if (t[i].field)
			assert_string_equal(field, t[i].field);
		else
			assert_null(field);
	}
}

static void varints_have_their_size(void **state)
{
	static const uint64_t v[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, INT64_MAX, UINT64_MAX};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		_cleanup_buf_ struct buf b = {};

		wire_put_varint(&b, v[i]);
		assert_int_equal(b.len, wire_varint_size(v[i]));
	}
}

static void an_arena_ends_where_it_should(void **state)
{
	_Atomic size_t budget = 20000;
	struct arena a = {.limit = 16000, .budget = &budget}, other = {.limit = 16000, .budget = &budget};
	ProtobufCAllocator allocator;

	(void)state;
	assert_non_null(arena_alloc(&a, 1));
	assert_non_null(arena_alloc(&a, 8000));
	assert_null(arena_alloc(&a, 8000)); /* its own limit */
	assert_null(arena_alloc(&a, SIZE_MAX - 3));
	assert_null(arena_zalloc(&a, SIZE_MAX / 2, 4));
	assert_null(arena_alloc(&other, 12000)); /* the budget of all */
	arena_free(&a);
	assert_int_equal(budget, 20000);
	assert_non_null(arena_alloc(&other, 12000));
	allocator = arena_allocator(&other);
	assert_null(protobuf_c_message_unpack(&ringside__v1__enable_plugin_request__descriptor, &allocator, 200,
					      (const uint8_t *)"\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"
							       "\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"
							       "\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"
							       "\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"
							       "\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"
							       "\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"
							       "\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"
							       "\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"
							       "\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"
							       "\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0"));
	arena_free(&other);
	assert_int_equal(budget, 20000);
}

static void descriptors_are_indexed(void **state)
{
	size_t len = (size_t)(api_fds_end - api_fds);
	const struct refl_file *closure[32];
	const struct refl_symbol *s;
	struct refl *r = NULL;

	(void)state;
	assert_int_equal(refl_new(&r, api_fds, len), 0);
	assert_true(refl_nfiles(r) <= ARRAY_SIZE(closure));
	assert_non_null(refl_by_filename(r, "ringside/v1/table.proto"));
	assert_null(refl_by_filename(r, "ringside/v1/table"));
	assert_non_null(refl_by_symbol(r, "ringside.v1.EnablePluginRequest.OptionsEntry.key"));
	assert_non_null(refl_by_symbol(r, "grpc.health.v1.HealthCheckResponse.SERVING"));
	assert_null(refl_by_symbol(r, "ringside.v1"));
	assert_null(refl_by_symbol(r, ""));
	s = refl_symbol(r, "ringside.v1.TableService.WatchRows");
	assert_non_null(s);
	assert_true(s->server_streaming && !s->client_streaming);
	assert_int_equal(refl_closure(r, refl_by_filename(r, "ringside/v1/query.proto"), closure), 3);
	refl_free(r);
	/* Cut anywhere it is refused or shorter, never read beyond. */
	for (size_t cut = 0; cut < len; cut += 7) {
		void *copy = test_malloc(cut + 1);

		memcpy(copy, api_fds, cut);
		if (refl_new(&r, copy, cut) == 0)
			refl_free(r);
		test_free(copy);
	}
}

struct counting_job {
	struct pool_job job;
	_Atomic int *ran;
	long sleep_ms;
};

static void count_run(struct pool_job *job)
{
	struct counting_job *c = container_of(job, struct counting_job, job);
	struct timespec ts = {.tv_nsec = c->sleep_ms * 1000000};

	nanosleep(&ts, NULL);
	atomic_fetch_add(c->ran, 1);
}

static void a_pool_is_bounded(void **state)
{
	struct counting_job jobs[5];
	_Atomic int ran = 0;
	struct pool *p = NULL;

	(void)state;
	for (size_t i = 0; i < 5; i++)
		jobs[i] = (struct counting_job){.job.run = count_run, .ran = &ran, .sleep_ms = 100};
	assert_int_equal(pool_new(&p, "t", 2, 2), 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pool_submit(p, &jobs[i].job), 0);
	assert_int_equal(pool_submit(p, &jobs[4].job), -ENOBUFS);
	pool_stop(p);
	assert_int_equal(ran, 4);
	assert_int_equal(pool_submit(p, &jobs[4].job), -ESHUTDOWN);
	pool_free(p);
	ran = 0;
	assert_int_equal(pool_new(&p, "t", 1, 0), 0);
	assert_int_equal(pool_submit(p, &jobs[0].job), 0);
	assert_int_equal(pool_submit(p, &jobs[1].job), -ENOBUFS);
	pool_free(p);
	assert_int_equal(ran, 1);
}

struct t_row {
	uint64_t ts;
	int64_t n;
	struct str text;
};
static const struct field t_fields[] = {
	FIELD(t_row, ts, U64, TIME, TAG, "ns", "time"),
	FIELD(t_row, n, I64, INT64, TAG, "", "number"),
	FIELD(t_row, text, STR, TEXT, TAG, "", "text"),
};
static const struct table t_table = TABLE(t_row, FLOW, "t", "test", t_fields);

static void chunks_hold_rows_and_their_bounds(void **state)
{
	static char text[10000];
	_Atomic size_t total = 0;
	struct chunk_queue q = {}, copy = {};
	struct batch *b = batch_new(&t_table, 200);
	uint64_t last = 0, rows = 0;
	struct chunk *c;

	(void)state;
	memset(text, 'x', sizeof(text));
	for (uint32_t i = 0; i < 200; i++) {
		struct t_row *row = batch_add(b);

		row->ts = 1000 + i;
		row->n = i;
		/* The second half is large: bytes bound it, not rows. */
		row->text = batch_str(b, text, i < 100 ? 3 : 5000);
	}
	batch_seal(b, &last);
	assert_int_equal(chunk_write_batch(b, &total, &q), 0);
	batch_unref(b);
	assert_int_equal(q.rows, 200);
	assert_int_equal(q.bytes, total);
	for (struct chunk_queue walk = q; (c = chunk_queue_head(&walk)); chunk_queue_next(&walk)) {
		assert_true(c->nrows <= CHUNK_ROWS && (c->nrows == 1 || c->len < CHUNK_BYTES + 5100));
		assert_int_equal(c->rows[c->nrows - 1].end, c->len);
		assert_int_equal(c->rows[0].ts, 1000 + rows);
		rows += c->nrows;
		assert_int_equal(chunk_queue_push(&copy, chunk_ref(c)), 0);
	}
	assert_int_equal(rows, 200);
	chunk_queue_consume(&q, 10);
	assert_int_equal(q.rows, 190);
	assert_int_equal(chunk_queue_drop_head(&q), 54);
	assert_int_equal(chunk_queue_clear(&q), 136);
	assert_true(total > 0); /* the copy holds them */
	chunk_queue_move(&q, &copy);
	assert_int_equal(q.rows, 200);
	assert_int_equal(chunk_queue_clear(&q), 200);
	assert_int_equal(total, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peer_is_parsed_strictly),
		cmocka_unit_test(status_codes_map_both_ways),
		cmocka_unit_test(values_are_what_protobuf_reads),
		cmocka_unit_test(broken_messages_are_refused),
		cmocka_unit_test(varints_have_their_size),
		cmocka_unit_test(an_arena_ends_where_it_should),
		cmocka_unit_test(descriptors_are_indexed),
		cmocka_unit_test(a_pool_is_bounded),
		cmocka_unit_test(chunks_hold_rows_and_their_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
