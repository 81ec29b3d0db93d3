// SPDX-License-Identifier: Apache-2.0
/* What the command line prints: escapes, widths, tables, csv, tsv, json, and where a statement
 * ends. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/services.h"
#include "clients/ringside/out.h"
#include "clients/ringside/props.h"
#include "clients/ringside/sqltext.h"
#include "clients/ringside/text.h"

#define LIT(s) (s), sizeof(s) - 1

static struct cell text(const char *s)
{
	return (struct cell){.kind = CELL_TEXT, .s = s, .len = strlen(s)};
}

#define CHECK_TEXT(fn, in, want)                                 \
	do {                                                     \
		_cleanup_buf_ struct buf b = {0};                \
		fn(&b, LIT(in));                                 \
		assert_string_equal(b.data ? b.data : "", want); \
	} while (0)

static void test_safe(void **state _unused_)
{
	CHECK_TEXT(text_add_safe, "ls -l", "ls -l");
	CHECK_TEXT(text_add_safe, "a\nb\tc\rd", "a\\nb\\tc\\rd");
	/* Clear the screen, set the title, C1 CSI, delete. */
	CHECK_TEXT(text_add_safe, "\033[2J\033]0;x\007", "\\x1b[2J\\x1b]0;x\\x07");
	CHECK_TEXT(text_add_safe,
		   "\xc2\x9b"
		   "31m\x7f",
		   "\\u{9b}31m\\x7f");
	/* Right-to-left override, zero width no-break space, tag, line separator. */
	CHECK_TEXT(text_add_safe,
		   "a\xe2\x80\xae"
		   "b",
		   "a\\u{202e}b");
	CHECK_TEXT(text_add_safe, "\xef\xbb\xbf", "\\u{feff}");
	CHECK_TEXT(text_add_safe, "\xf3\xa0\x81\x81", "\\u{e0041}");
	CHECK_TEXT(text_add_safe, "\xe2\x80\xa8", "\\u{2028}");
	/* Broken: lone continuation, overlong, surrogate, cut short, beyond U+10FFFF. */
	CHECK_TEXT(text_add_safe, "\x9b", "\\x9b");
	CHECK_TEXT(text_add_safe, "\xc0\xaf", "\\xc0\\xaf");
	CHECK_TEXT(text_add_safe, "\xed\xa0\x80", "\\xed\\xa0\\x80");
	CHECK_TEXT(text_add_safe, "\xe2\x82", "\\xe2\\x82");
	CHECK_TEXT(text_add_safe, "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
	CHECK_TEXT(text_add_safe, "gr\xc3\xbc\xc3\x9f \xe6\x97\xa5",
		   "gr\xc3\xbc\xc3\x9f \xe6\x97\xa5");
	CHECK_TEXT(text_add_safe, "a\0b", "a\\x00b");
}

static void test_every_byte_is_harmless(void **state _unused_)
{
	for (unsigned int c = 0; c < 256; c++) {
		_cleanup_buf_ struct buf b = {0};
		char byte = (char)c;

		text_add_safe(&b, &byte, 1);
		assert_true(b.len >= 1);
		for (size_t i = 0; i < b.len; i++)
			assert_in_range((unsigned char)b.data[i], 0x20, 0x7e);
	}
}

static void test_json(void **state _unused_)
{
	CHECK_TEXT(text_add_json, "", "\"\"");
	CHECK_TEXT(text_add_json, "say \"hi\" \\ there", "\"say \\\"hi\\\" \\\\ there\"");
	CHECK_TEXT(text_add_json, "\n\t\r\033\x7f", "\"\\n\\t\\r\\u001b\\u007f\"");
	CHECK_TEXT(text_add_json, "\xe2\x80\xa8", "\"\\u2028\"");
	CHECK_TEXT(text_add_json, "\xff", "\"\xef\xbf\xbd\"");
	CHECK_TEXT(text_add_json, "\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"");
}

static void test_csv(void **state _unused_)
{
	CHECK_TEXT(text_add_csv, "plain", "plain");
	CHECK_TEXT(text_add_csv, "", "\"\"");
	CHECK_TEXT(text_add_csv, "a,b", "\"a,b\"");
	CHECK_TEXT(text_add_csv, "a\"b", "\"a\"\"b\"");
	CHECK_TEXT(text_add_csv, "a\nb", "\"a\nb\"");
	CHECK_TEXT(text_add_csv, "a\rb", "\"a\rb\"");
}

static void test_tsv(void **state _unused_)
{
	CHECK_TEXT(text_add_tsv, "a\tb\nc\\d\re", "a\\tb\\nc\\\\d\\re");
	CHECK_TEXT(text_add_hex, "\x00\xff\x10", "00ff10");
}

static void test_numbers(void **state _unused_)
{
	static const struct {
		double d;
		const char *want;
	} cases[] = {{0.1, "0.1"}, {1.0 / 3, "0.3333333333333333"}, {1e300, "1e+300"}, {-2, "-2"}};
	_cleanup_buf_ struct buf b = {0};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		buf_reset(&b);
		assert_true(text_add_double(&b, cases[i].d));
		assert_string_equal(b.data, cases[i].want);
	}
	buf_reset(&b);
	assert_false(text_add_double(&b, NAN));
	assert_false(text_add_double(&b, INFINITY));
	assert_int_equal(b.len, 0);
	text_add_count(&b, 1234567);
	text_add_count(&b, 999);
	assert_string_equal(b.data, "1,234,567999");
}

static void test_width(void **state _unused_)
{
	size_t w;

	assert_int_equal(text_width(LIT("abc")), 3);
	assert_int_equal(text_width(LIT("\xe6\x97\xa5\xe6\x9c\xac")), 4); /* two wide characters */
	assert_int_equal(text_width(LIT("e\xcc\x81")), 1); /* e and a combining accent */
	assert_int_equal(text_width(LIT("\xf0\x9f\x98\x80")), 2);
	assert_int_equal(text_width("", 0), 0);
	/* A wide character that doesn't fit stays out; its accent goes with the letter. */
	assert_int_equal(text_prefix(LIT("\xe6\x97\xa5\xe6\x9c\xac"), 3, &w), 3);
	assert_int_equal(w, 2);
	assert_int_equal(text_prefix(LIT("e\xcc\x81x"), 1, &w), 3);
}

/* Writes rows of a two-column result and returns what came out. */
static char *render(const struct out_options *options, const struct out_column *cols, size_t ncols,
		    const struct cell *cells, size_t nrows)
{
	struct out_options opt = *options;
	struct out *o = NULL;
	char *data = NULL;
	size_t len = 0;

	opt.file = open_memstream(&data, &len);
	assert_non_null(opt.file);
	assert_int_equal(out_new(&o, &opt), 0);
	assert_int_equal(out_columns(o, cols, ncols), 0);
	for (size_t i = 0; i < nrows; i++)
		assert_int_equal(out_row(o, cells + i * ncols), 0);
	assert_int_equal(out_end(o), 0);
	assert_int_equal(out_rows(o), nrows);
	out_free(o);
	fclose(opt.file);
	return data;
}

static const struct out_column two[] = {{"name", OUT_TEXT, NULL}, {"size", OUT_INT, "By"}};

static void test_table(void **state _unused_)
{
	const struct cell rows[] = {
		text("nginx"),
		cell_int(1536),
		text("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"),
		cell_null(),
		text("e\xcc\x81\033[31m"),
		cell_int(-1),
	};
	_cleanup_free_ char *s = render(&(struct out_options){.utf8 = true}, two, 2, rows, 3);

	assert_string_equal(s, "name         size\n"
			       "nginx      1.5KiB\n"
			       "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\n"
			       "e\xcc\x81\\x1b[31m     -1B\n");
}

static void test_table_cut(void **state _unused_)
{
	const struct cell rows[] = {text("0123456789012345678901234567890123456789"), cell_int(1)};
	_cleanup_free_ char *s =
		render(&(struct out_options){.utf8 = true, .width = 30}, two, 2, rows, 1);
	_cleanup_free_ char *ascii = render(&(struct out_options){.width = 30}, two, 2, rows, 1);
	_cleanup_free_ char *narrow =
		render(&(struct out_options){.utf8 = true, .width = 10}, two, 2, rows, 1);

	assert_string_equal(s, "name                      size\n01234567890123456789012…    1B\n");
	assert_string_equal(ascii,
			    "name                      size\n012345678901234567890...    1B\n");
	assert_string_equal(narrow, "name     …\n012345678…\n");
}

/* What goes first goes whole; texts are shrunk for what stays, then widened to what is left. */
static void test_table_ranks(void **state _unused_)
{
	static const struct out_column cols[] = {
		{"name", OUT_TEXT, NULL}, {"a", OUT_INT, NULL}, {"b", OUT_INT, NULL}, {"c", OUT_INT, NULL}};
	static const uint8_t ranks[] = {0, 1, 2, 0};
	static const char *const want[] = {
		[42] = "name                             a   b   c\n"
		       "01234567890123456789012345678…  11  22  33\n",
		[31] = "name                      a   c\n"
		       "0123456789012345678901…  11  33\n",
		[26] = "name                     c\n"
		       "012345678901234567890…  33\n",
	};
	const struct cell row[] = {text("0123456789012345678901234567890123456789"), cell_int(11),
				   cell_int(22), cell_int(33)};

	for (size_t width = 26; width < ARRAY_SIZE(want); width++) {
		char *data = NULL;
		size_t len = 0;
		struct out_options opt = {.utf8 = true, .width = width};
		struct out *o = NULL;

		if (!want[width])
			continue;
		opt.file = open_memstream(&data, &len);
		assert_non_null(opt.file);
		assert_int_equal(out_new(&o, &opt), 0);
		assert_int_equal(out_columns(o, cols, ARRAY_SIZE(cols)), 0);
		out_set_ranks(o, ranks);
		assert_int_equal(out_row(o, row), 0);
		out_free(o);
		fclose(opt.file);
		assert_string_equal(data, want[width]);
		free(data);
	}
}

static void test_table_empty_and_late(void **state _unused_)
{
	const struct cell rows[] = {text("a"), cell_int(1), text("longer than the sample"),
				    cell_int(2)};
	_cleanup_free_ char *none = render(&(struct out_options){0}, two, 2, NULL, 0);
	/* Nothing of a late, wider value is hidden. */
	_cleanup_free_ char *late = render(&(struct out_options){.sample = 1}, two, 2, rows, 2);

	assert_string_equal(none, "name  size\n");
	assert_string_equal(late, "name  size\na       1B\nlonger than the sample    2B\n");
}

static void test_table_kinds(void **state _unused_)
{
	static const struct out_column cols[] = {
		{"at", OUT_TIME, NULL}, {"rtt", OUT_INT, "us"},	   {"up", OUT_BOOL, NULL},
		{"any", OUT_ANY, NULL}, {"blob", OUT_BYTES, NULL}, {"part", OUT_REAL, NULL},
	};
	const struct cell row[] = {
		cell_int(0),
		cell_int(1500),
		cell_int(1),
		cell_int(7),
		{.kind = CELL_BLOB, .s = "\x01\x02", .len = 2},
		cell_real(0.25),
	};
	_cleanup_free_ char *s = render(&(struct out_options){0}, cols, ARRAY_SIZE(cols), row, 1);
	_cleanup_free_ char *json =
		render(&(struct out_options){.format = OUT_JSON}, cols, ARRAY_SIZE(cols), row, 1);

	assert_string_equal(s,
			    "at    rtt  up    any  blob  part\n0   1.5ms  true    7  0102  0.25\n");
	assert_string_equal(
		json,
		"{\"at\":0,\"rtt\":1500,\"up\":true,\"any\":7,\"blob\":\"0102\",\"part\":0.25}\n");
}

static void test_table_services(void **state _unused_)
{
	static const char file[] = "https 443/tcp\nquic 443/udp\ndomain 53/udp\n";
	static const struct out_column cols[] = {
		{"src_port", OUT_INT, NULL},
		{"PORT", OUT_ANY, NULL},
		{"PROTO", OUT_TEXT, NULL},
		{"port_count", OUT_INT, NULL},
	};
	const struct cell rows[] = {
		cell_int(53), cell_int(443), text("udp"), cell_int(443),
		cell_null(),  text("*"),     cell_null(), cell_int(53),
		cell_int(53), cell_int(443), text("tcp"), cell_int(443),
		cell_int(53), cell_int(-1),  cell_null(), cell_int(1),
	};
	_cleanup_(services_freep) struct services *names = NULL;
	_cleanup_free_ char *s = NULL, *numeric = NULL, *csv = NULL, *alone = NULL;

	assert_int_equal(services_new(&names), 0);
	assert_int_equal(services_add(names, LIT(file)), 0);
	s = render(&(struct out_options){.services = names}, cols, 4, rows, 4);
	assert_string_equal(s, "src_port  PORT   PROTO  port_count\n"
			       "domain    quic   udp           443\n"
			       "          *                     53\n"
			       "53        https  tcp           443\n"
			       "domain    -1                     1\n");
	/* Without a column that says whose port it is: the first that has it. */
	alone = render(&(struct out_options){.services = names}, cols, 1, rows + 1, 1);
	assert_string_equal(alone, "src_port\nhttps\n");
	numeric = render(&(struct out_options){0}, cols, 1, rows + 1, 1);
	assert_string_equal(numeric, "src_port\n     443\n");
	csv = render(&(struct out_options){.format = OUT_CSV, .services = names}, cols, 1, rows, 1);
	assert_string_equal(csv, "src_port\n53\n");
}

static void test_separated(void **state _unused_)
{
	const struct cell rows[] = {text("a,\"b\"\t"), cell_int(INT64_MIN),
				    cell_null(),       cell_null(),
				    text(""),	       cell_int(0)};
	_cleanup_free_ char *csv =
		render(&(struct out_options){.format = OUT_CSV}, two, 2, rows, 3);
	_cleanup_free_ char *tsv =
		render(&(struct out_options){.format = OUT_TSV}, two, 2, rows, 3);
	_cleanup_free_ char *none =
		render(&(struct out_options){.format = OUT_CSV}, two, 2, NULL, 0);

	assert_string_equal(csv, "name,size\n\"a,\"\"b\"\"\t\",-9223372036854775808\n,\n\"\",0\n");
	assert_string_equal(tsv, "name\tsize\na,\"b\"\\t\t-9223372036854775808\n\t\n\t0\n");
	assert_string_equal(none, "name,size\n");
}

static void test_separated_on_terminal(void **state _unused_)
{
	const struct cell rows[] = {text("x\033[2J"), cell_int(1)};
	_cleanup_free_ char *csv =
		render(&(struct out_options){.format = OUT_CSV, .tty = true}, two, 2, rows, 1);
	_cleanup_free_ char *tsv =
		render(&(struct out_options){.format = OUT_TSV, .tty = true}, two, 2, rows, 1);

	assert_string_equal(csv, "name,size\nx\\x1b[2J,1\n");
	assert_string_equal(tsv, "name\tsize\nx\\x1b[2J\t1\n");
}

static void test_json_rows(void **state _unused_)
{
	static const struct out_column same[] = {
		{"a", OUT_ANY, NULL}, {"a", OUT_ANY, NULL}, {"a_2", OUT_ANY, NULL}};
	const struct cell row[] = {cell_int(INT64_MAX), cell_null(), cell_real(NAN)};
	_cleanup_free_ char *s = render(&(struct out_options){.format = OUT_JSON}, same, 3, row, 1);
	_cleanup_free_ char *tagged = render(
		&(struct out_options){.format = OUT_JSON, .tag = "netflow"}, same, 1, row, 1);
	_cleanup_free_ char *none =
		render(&(struct out_options){.format = OUT_JSON}, same, 3, NULL, 0);

	assert_string_equal(s, "{\"a\":9223372036854775807,\"a_2\":null,\"a_2_2\":null}\n");
	assert_string_equal(tagged, "{\"_table\":\"netflow\",\"a\":9223372036854775807}\n");
	assert_true(!none || !*none);
}

static void test_frame(void **state _unused_)
{
	const struct cell rows[] = {text("a"),	 cell_int(1), text("b"),
				    cell_int(2), text("c"),   cell_int(3)};
	_cleanup_free_ char *s =
		render(&(struct out_options){.frame = true, .frame_rows = 1, .utf8 = true}, two, 2,
		       rows, 3);

	assert_string_equal(s, "name  size\033[K\na       1B\033[K\n2 more rows\033[K\n");
}

static void test_write_error(void **state _unused_)
{
	struct out_options opt = {.format = OUT_CSV, .file = fopen("/dev/full", "w")};
	const struct cell row[] = {text("a"), cell_int(1)};
	struct out *o = NULL;

	if (!opt.file)
		skip();
	assert_int_equal(out_new(&o, &opt), 0);
	assert_int_equal(out_columns(o, two, 2), 0);
	out_row(o, row);
	assert_true(out_end(o) < 0);
	out_free(o);
	fclose(opt.file);
}

static void test_props(void **state _unused_)
{
	_cleanup_props_ struct props p = {0};
	char *data = NULL;
	size_t len = 0;
	struct out_options opt = {.format = OUT_JSON, .file = open_memstream(&data, &len)};
	struct out *o = NULL;

	props_text(&p, "run\"s", "state");
	props_int(&p, 5, "By", "option.%s", "size");
	props_text(&p, "", "reason");
	assert_int_equal(out_new(&o, &opt), 0);
	assert_int_equal(props_write(&p, o, OUT_JSON), 0);
	out_free(o);
	fclose(opt.file);
	assert_string_equal(data, "{\"state\":\"run\\\"s\",\"option.size\":5,\"reason\":null}\n");
	free(data);
}

static void test_statement_end(void **state _unused_)
{
	static const struct {
		const char *text;
		size_t end;
	} cases[] = {
		{"SELECT 1;", 9},
		{"SELECT 1", 0},
		{"SELECT ';';x", 11},
		{"SELECT 'it''s;';", 16},
		{"SELECT \";\" FROM [a;b];", 22},
		{"SELECT `;`;", 11},
		{"SELECT 1 -- ;\n;", 15},
		{"SELECT 1 -- ;", 0},
		{"SELECT /* ; */ 1;", 17},
		{"SELECT /* ; 1;", 0},
		{"SELECT 'open;", 0},
		{";", 1},
		{"/*/;*/;", 7},
		{"", 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(sql_statement_end(cases[i].text, strlen(cases[i].text)),
				 cases[i].end);
	assert_true(sql_is_blank(LIT("  \n; -- nothing")));
	assert_true(sql_is_blank(LIT("/* a */ ;")));
	assert_false(sql_is_blank(LIT("-- x\nSELECT")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_safe),	      cmocka_unit_test(test_every_byte_is_harmless),
		cmocka_unit_test(test_json),	      cmocka_unit_test(test_csv),
		cmocka_unit_test(test_tsv),	      cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_width),	      cmocka_unit_test(test_table),
		cmocka_unit_test(test_table_ranks),
		cmocka_unit_test(test_table_cut),     cmocka_unit_test(test_table_empty_and_late),
		cmocka_unit_test(test_table_kinds),   cmocka_unit_test(test_table_services),
		cmocka_unit_test(test_separated),     cmocka_unit_test(test_separated_on_terminal),
		cmocka_unit_test(test_json_rows),     cmocka_unit_test(test_frame),
		cmocka_unit_test(test_write_error),   cmocka_unit_test(test_props),
		cmocka_unit_test(test_statement_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
