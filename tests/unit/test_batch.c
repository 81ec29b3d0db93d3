// SPDX-License-Identifier: Apache-2.0
/* Batches: cells of every kind, NULL rules, order of time, images that are hostile, rows emitted by an instance. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "bpf/batch.h"
#include "bpf/plugin.h"

struct row {
	uint64_t ts;
	uint8_t u8, flag, colour;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	int32_t i32;
	int64_t i64;
	double f64;
	char comm[16];
	char raw[6];
	struct str cmd;
	struct ip_addr ip;
};

static const char *const colours[] = {"red", "green", NULL};

#define FIELDS(n)                                                                \
	FIELD(row, ts, U64, TIME, TAG, "ns", "h"),                              \
	FIELD(row, u8, U8, INT64, TAG, "", "h", .null = n),                     \
	FIELD(row, flag, U8, BOOL, TAG, "", "h"),                               \
	FIELD(row, colour, ENUM, TEXT, TAG, "", "h", .names = colours, .null = n), \
	FIELD(row, u16, U16, INT64, TAG, "", "h", .null = n),                   \
	FIELD(row, u32, U32, INT64, TAG, "", "h", .null = n),                   \
	FIELD(row, u64, U64, INT64, TAG, "", "h", .null = n),                   \
	FIELD(row, i32, I32, INT64, TAG, "", "h", .null = n),                   \
	FIELD(row, i64, I64, INT64, TAG, "", "h", .null = n)

#define OTHERS(n)                                                                \
	FIELD(row, f64, F64, DOUBLE, GAUGE, "", "h", .null = n),                \
	FIELD(row, comm, CHARS, TEXT, TAG, "", "h", .null = n),                 \
	FIELD(row, raw, CHARS, BYTES, TAG, "", "h"),                            \
	FIELD(row, cmd, STR, TEXT, TAG, "", "h", .null = n),                    \
	FIELD(row, ip, IP, IP, TAG, "", "h", .null = n)

static const struct field never_fields[] = {FIELDS(NULL_NEVER), OTHERS(NULL_NEVER)};
static const struct field zero_fields[] = {FIELDS(NULL_ZERO), OTHERS(NULL_ZERO)};
static const struct field max_fields[] = {FIELDS(NULL_MAX), OTHERS(NULL_NEVER)};
static const struct table never_table = TABLE(row, FLOW, "never", "s", never_fields);
static const struct table zero_table = TABLE(row, AUDIT, "zero", "s", zero_fields);
static const struct table max_table = TABLE(row, FLOW, "max", "s", max_fields);
static const struct table live_table = TABLE(row, LIVE, "live", "s", never_fields);

static struct value get(const struct batch *b, uint32_t row, const char *column)
{
	struct value v;
	int col = table_find(b->table, column);

	assert_true(col >= 0);
	batch_get(b, row, col, &v);
	/* The copy that leaves this function needs its own scratch. */
	return v;
}

static void assert_int(const struct batch *b, const char *column, int64_t want)
{
	struct value v = get(b, 0, column);

	assert_int_equal(v.kind, VALUE_INT);
	assert_int_equal(v.i, want);
}

static void assert_text(const struct batch *b, uint32_t row, const char *column, const char *want)
{
	struct value v;

	batch_get(b, row, table_find(b->table, column), &v);
	assert_int_equal(v.kind, VALUE_TEXT);
	assert_int_equal(v.len, strlen(want));
	assert_memory_equal(v.text, want, v.len);
}

static const char *const nullable[] = {"u8", "colour", "u16", "u32", "u64", "i32", "i64"};

static void cells(void **state)
{
	_cleanup_(batch_unrefp) struct batch *b = batch_new(&never_table, 4);
	struct row *r = batch_add(b);
	struct value v;

	(void)state;
	*r = (struct row){.ts = 5, .u8 = 200, .flag = 1, .colour = 1, .u16 = 65535, .u32 = UINT32_MAX,
			  .u64 = UINT64_MAX, .i32 = INT32_MIN, .i64 = INT64_MIN, .f64 = -0.5, .raw = {1, 0, 2}};
	memcpy(r->comm, "sixteen bytes ok", 16);
	r->cmd = batch_str(b, "caf\xff", 4);
	batch_seal(b, NULL);
	assert_null(batch_add(b));
	assert_int(b, "ts", 5);
	assert_int(b, "u8", 200);
	assert_int(b, "flag", 1);
	assert_int(b, "u16", 65535);
	assert_int(b, "u32", UINT32_MAX);
	assert_int(b, "u64", INT64_MAX);
	assert_int(b, "i32", INT32_MIN);
	assert_int(b, "i64", INT64_MIN);
	v = get(b, 0, "f64");
	assert_true(v.kind == VALUE_REAL && v.d == -0.5);
	assert_text(b, 0, "colour", "green");
	assert_text(b, 0, "comm", "sixteen bytes ok");
	assert_text(b, 0, "cmd", "caf\xef\xbf\xbd");
	v = get(b, 0, "raw");
	assert_true(v.kind == VALUE_BYTES && v.len == 6);
	assert_memory_equal(v.text, "\1\0\2\0\0", 6);
	assert_int_equal(get(b, 0, "ip").kind, VALUE_NULL);
}

static void null_rules(void **state)
{
	_cleanup_(batch_unrefp) struct batch *never = batch_new(&never_table, 1), *zero = batch_new(&zero_table, 1),
					     *max = batch_new(&max_table, 2);

	(void)state;
	batch_add(never);
	batch_add(zero);
	batch_add(max);
	memset(batch_add(max), 0xff, sizeof(struct row));
	for (size_t i = 0; i < ARRAY_SIZE(nullable); i++) {
		assert_int_not_equal(get(never, 0, nullable[i]).kind, VALUE_NULL);
		assert_int_equal(get(zero, 0, nullable[i]).kind, VALUE_NULL);
		assert_int_not_equal(get(max, 0, nullable[i]).kind, VALUE_NULL);
		assert_int_equal(get(max, 1, nullable[i]).kind, VALUE_NULL);
	}
	assert_int_equal(get(never, 0, "f64").kind, VALUE_REAL);
	assert_int_equal(get(zero, 0, "f64").kind, VALUE_NULL);
	assert_text(never, 0, "comm", "");
	assert_text(never, 0, "cmd", "");
	assert_int_equal(get(zero, 0, "comm").kind, VALUE_NULL);
	assert_int_equal(get(zero, 0, "cmd").kind, VALUE_NULL);
}

/* Kernel bytes in a fixed array: cleaned on the way out. An enum from nowhere is NULL. */
static void dirty_cells(void **state)
{
	_cleanup_(batch_unrefp) struct batch *b = batch_new(&live_table, 1);
	struct row *r = batch_add(b);
	struct value v;

	(void)state;
	memcpy(r->comm, "a\xff" "b", 3);
	r->colour = 2;
	r->flag = 7;
	batch_seal(b, NULL);
	assert_text(b, 0, "comm", "a\xef\xbf\xbd" "b");
	assert_int_equal(get(b, 0, "colour").kind, VALUE_NULL);
	memset(((struct row *)b->rows)->comm, 0xfe, 16);
	batch_get(b, 0, table_find(b->table, "comm"), &v);
	assert_true(v.len == 48 && utf8_valid(v.text, v.len));
	assert_int_equal(b->ts_max, 0);
}

static void addresses(void **state)
{
	static const char *const texts[] = {
		"0.0.0.0", "1.22.133.255", "255.255.255.255", "10.0.100.9", "::", "::1", "1::", "fe80::1", "2001:db8::",
		"2001:db8:0:1:1:1:1:1", "2001:0:0:1::1", "1:0:0:2:0:0:0:3", "a:b:c:d:e:f:1:2", "::ffff:1.2.3.4",
		"::1.2.3.4", "1:2:3:4:5:6:7::", "0:1::", "ff02::2:ff00:1", "1000:200:30:4::",
	};
	uint32_t x = 99;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct ip_addr ip = {.family = strchr(texts[i], ':') ? 6 : 4};
		char got[46], want[46];
		int af = ip.family == 6 ? AF_INET6 : AF_INET;

		assert_int_equal(inet_pton(af, texts[i], ip.addr), 1);
		inet_ntop(af, ip.addr, want, sizeof(want));
		assert_string_equal(ip_addr_format(got, &ip), want);
	}
	for (int i = 0; i < 20000; i++) {
		struct ip_addr ip = {.family = 6};
		char got[46], want[46];

		for (int k = 0; k < 16; k++) {
			x = x * 1664525 + 1013904223;
			ip.addr[k] = x >> 29 < 5 ? 0 : x >> 16;
		}
		inet_ntop(AF_INET6, ip.addr, want, sizeof(want));
		assert_string_equal(ip_addr_format(got, &ip), want);
		ip.family = 4;
		inet_ntop(AF_INET, ip.addr, want, sizeof(want));
		assert_string_equal(ip_addr_format(got, &ip), want);
	}
	assert_string_equal(ip_addr_format((char[46]){}, &(struct ip_addr){}), "");
}

static uint64_t ts_of(const struct batch *b, uint32_t row)
{
	return ((const struct row *)batch_row(b, row))->ts;
}

static void fill(struct batch *b, const uint64_t *ts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct row *r = batch_add(b);

		r->ts = ts[i];
		r->u32 = i;
	}
}

static void time_order(void **state)
{
	static const uint64_t jumbled[] = {30, 10, 20, 20, 10, 40};
	static const uint32_t order[] = {1, 4, 2, 3, 0, 5};
	static const uint64_t want[] = {10, 11, 20, 21, 30, 40};
	_cleanup_(batch_unrefp) struct batch *a = batch_new(&never_table, 16), *b = batch_new(&never_table, 16),
					     *c = batch_new(&never_table, 16), *d = batch_new(&live_table, 16);
	uint64_t last = 0, now = clock_real_ns();

	(void)state;
	fill(a, jumbled, 6);
	batch_seal(a, &last);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_equal(ts_of(a, i), want[i]);
		assert_int_equal(((const struct row *)batch_row(a, i))->u32, order[i]);
	}
	assert_int_equal(a->ts_min, 10);
	assert_int_equal(a->ts_max, 40);
	assert_int_equal(last, 40);

	/* A clock that went back, and rows of one interval. */
	fill(b, (const uint64_t[]){5, 5, 5}, 3);
	batch_seal(b, &last);
	assert_int_equal(ts_of(b, 0), 41);
	assert_int_equal(last, 43);
	assert_int_equal(b->ts_min, 41);

	/* What cannot be a time becomes the time of the call. */
	fill(c, (const uint64_t[]){0, UINT64_MAX, 50}, 3);
	batch_seal(c, &last);
	assert_int_equal(ts_of(c, 0), 50);
	assert_true(ts_of(c, 1) >= now && ts_of(c, 2) > ts_of(c, 1));
	assert_true(ts_of(c, 2) < now + 60 * NSEC_PER_SEC);

	fill(d, (const uint64_t[]){9, 3}, 2);
	batch_seal(d, &last);
	assert_int_equal(ts_of(d, 0), 9);
	batch_seal(batch_ref(d), &last);
	batch_unref(d);
}

static void fills_up(void **state)
{
	_cleanup_(batch_unrefp) struct batch *b = batch_new(&never_table, 37);
	_cleanup_free_ char *text = malloc(700000);
	struct row *r;
	struct str s;

	(void)state;
	for (int i = 0; i < 37; i++) {
		r = batch_add(b);
		assert_non_null(r);
		assert_int_equal(r->u64, 0);
		memset(r, 0xaa, sizeof(*r));
	}
	assert_null(batch_add(b));
	batch_drop_last(b);
	r = batch_add(b);
	assert_non_null(r);
	assert_int_equal(r->u64, 0);

	memset(text, 'x', 700000);
	s = batch_str(b, text, 700000);
	assert_int_equal(s.len, 700000);
	s = batch_str(b, text, 700000);
	assert_int_equal(s.len, 0);
	s = batch_str(b, text, SIZE_MAX / 2 > 700000 ? 699999 : 0);
	assert_int_equal(s.len, 0);
	s = batch_str(b, "small", 5);
	assert_int_equal(s.len, 5);
	assert_memory_equal(b->arena + s.off, "small", 5);
	s = batch_str(b, "", 0);
	assert_int_equal(s.len, 0);
	s = batch_str(b, "a\0b", 3);
	assert_memory_equal(b->arena + s.off, "a\xe2\x90\x80" "b", 5);
	batch_drop_last(b);
}

static struct batch *sample(void)
{
	struct batch *b = batch_new(&zero_table, 8);

	for (int i = 0; i < 5; i++) {
		struct row *r = batch_add(b);

		r->ts = 100 + i;
		r->cmd = batch_str(b, "line \xc3\xa9", i ? 7 : 0);
		r->u32 = i;
	}
	batch_seal(b, NULL);
	return b;
}

static void images(void **state)
{
	_cleanup_(batch_unrefp) struct batch *b = sample(), *again = NULL, *empty = batch_new(&zero_table, 1);
	size_t len = batch_image_size(b);
	_cleanup_free_ char *image = malloc(len), *small = malloc(batch_image_size(empty));

	(void)state;
	batch_to_image(b, image);
	assert_int_equal(batch_from_image(&zero_table, image, len, &again), 0);
	assert_int_equal(again->nrows, 5);
	assert_int_equal(again->ts_min, 100);
	assert_int_equal(again->ts_max, 104);
	assert_memory_equal(again->rows, b->rows, 5 * sizeof(struct row));
	assert_text(again, 3, "cmd", "line \xc3\xa9");
	assert_int_equal(get(again, 0, "cmd").kind, VALUE_NULL);
	assert_null(batch_add(again));
	batch_unref(TAKE_PTR(again));

	batch_seal(empty, NULL);
	batch_to_image(empty, small);
	assert_int_equal(batch_from_image(&zero_table, small, batch_image_size(empty), &again), 0);
	assert_int_equal(again->nrows, 0);
}

/* A length that lies, an offset outside, bytes that aren't UTF-8, time that goes back, another table. */
static void hostile_images(void **state)
{
	_cleanup_(batch_unrefp) struct batch *b = sample(), *got = NULL;
	size_t len = batch_image_size(b), rows = len - b->arena_len - 5 * sizeof(struct row);
	_cleanup_free_ char *image = malloc(len + 1);
	struct row r;

	(void)state;
#define TRY(...)                                                                         \
	do {                                                                             \
		size_t n = len;                                                          \
		batch_to_image(b, image);                                                \
		memcpy(&r, image + rows + sizeof(r), sizeof(r));                         \
		__VA_ARGS__;                                                             \
		memcpy(image + rows + sizeof(r), &r, sizeof(r));                         \
		assert_int_equal(batch_from_image(&zero_table, image, n, &got), -EINVAL); \
		assert_null(got);                                                        \
	} while (0)
	TRY(n--);
	TRY(image[len] = 0; n++);
	TRY(r.cmd.off = b->arena_len);
	TRY(r.cmd.off = UINT32_MAX);
	TRY(r.cmd.len = UINT32_MAX);
	TRY(r.cmd.off++; r.cmd.len = b->arena_len);
	TRY(r.cmd.len--); /* cuts a character */
	TRY(r.ts = 100);
	TRY(r.ts = 0);
	TRY(r.ts = UINT64_MAX);
	TRY(image[len - 1] = (char)0xff);
	TRY(image[0] ^= 1);
	for (size_t i = 0; i < rows; i += 4)
		if (i != 20) /* padding */
			TRY(memset(image + i, 0xff, 4));
	for (size_t n = 0; n < len; n++) {
		batch_to_image(b, image);
		assert_int_equal(batch_from_image(&zero_table, image, n, &got), -EINVAL);
	}
	batch_to_image(b, image);
	{
		struct table other = zero_table;

		other.nfields--;
		assert_int_equal(batch_from_image(&other, image, len, &got), -EINVAL);
		other = zero_table;
		other.row_size += 8;
		assert_int_equal(batch_from_image(&other, image, len, &got), -EINVAL);
	}
}

struct sink {
	unsigned int batches;
	uint64_t rows, text, last_ts, faults;
};

static void take(void *arg, struct batch *b)
{
	struct sink *s = arg;

	s->batches++;
	s->rows += b->nrows;
	s->text += b->arena_len;
	s->faults += !b->sealed || b->ts_min <= s->last_ts || b->nrows > 512;
	s->last_ts = b->ts_max;
	batch_unref(b);
}

static void instance_rows(void **state)
{
	static const struct table *const tables[] = {&zero_table, &max_table, NULL};
	static const struct plugin plugin = {.name = "t", .tables = tables};
	struct sink sink = {};
	struct instance in = {.plugin = &plugin, .publish = take, .publish_arg = &sink};
	_cleanup_free_ char *text = calloc(1, 100000);

	(void)state;
	assert_int_equal(instance_out_new(&in), 0);
	instance_flush(&in);
	assert_int_equal(sink.batches, 0);
	instance_seed_ts(&in, 0, 5000);
	instance_seed_ts(&in, 0, 10); /* never back */
	for (int i = 0; i < 1033; i++) {
		struct row *r = instance_row(&in, 0);

		assert_non_null(r);
		r->ts = 7;
	}
	assert_int_equal(sink.batches, 2);
	instance_flush(&in);
	instance_flush(&in);
	assert_int_equal(sink.batches, 3);
	assert_int_equal(sink.rows, 1033);
	assert_int_equal(sink.last_ts, 5000 + 1033);
	assert_int_equal(sink.faults, 0);
	assert_int_equal(in.count.rows, 1033);

	/* Much text goes out early and nothing of it is lost. */
	memset(text, 'y', 100000);
	sink = (struct sink){.last_ts = sink.last_ts};
	for (int i = 0; i < 31; i++) {
		struct row *r = instance_row(&in, 0);

		r->ts = 7;
		text[i] = 'z';
		r->cmd = instance_str(&in, 0, text, 100000);
		assert_int_equal(r->cmd.len, 100000);
	}
	instance_flush(&in);
	assert_true(sink.batches > 5);
	assert_int_equal(sink.rows, 31);
	assert_int_equal(sink.text, 3100000);
	assert_int_equal(sink.faults, 0);
	assert_int_equal(in.count.rows_lost, 0);

	/* One copy of what comes again within a batch; alike at both ends is not the same. */
	sink = (struct sink){.last_ts = sink.last_ts};
	for (int i = 0; i < 512 + 3; i++) {
		struct row *r = instance_row(&in, 0);

		r->ts = 7;
		r->cmd = instance_str(&in, 0, "once upon a time", 16);
		r->cmd = instance_str(&in, 0, i % 2 ? "same text before" : "same text", 9);
		assert_int_equal(r->cmd.off, 16);
		assert_int_equal(r->cmd.len, 9);
		r->cmd = instance_str(&in, 0, "", 0);
		assert_int_equal(r->cmd.len, 0);
	}
	assert_int_equal(sink.text, 25);
	instance_flush(&in);
	assert_int_equal(sink.text, 50);
	instance_row(&in, 0);
	assert_int_equal(instance_str(&in, 0, "beginningA--the end", 19).off, 0);
	assert_int_equal(instance_str(&in, 0, "beginningB--the end", 19).off, 19);
	instance_flush(&in);
	assert_int_equal(in.count.rows_lost, 0);

	/* What is never flushed is counted. */
	for (int i = 0; i < 3; i++)
		((struct row *)instance_row(&in, 1))->ts = 1;
	instance_out_free(&in);
	assert_int_equal(in.count.rows_lost, 3);
	instance_out_free(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cells), cmocka_unit_test(null_rules), cmocka_unit_test(dirty_cells),
		cmocka_unit_test(addresses), cmocka_unit_test(time_order), cmocka_unit_test(fills_up),
		cmocka_unit_test(images), cmocka_unit_test(hostile_images), cmocka_unit_test(instance_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
