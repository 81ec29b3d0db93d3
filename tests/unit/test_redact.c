// SPDX-License-Identifier: Apache-2.0
/* Redaction: what the built-in rules take and leave, rules of a configuration, bounds, counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/options.h"
#include "daemon/redact.h"

struct line_row {
	uint64_t ts;
	struct str cmd, note;
	char user[16], code[8];
	uint32_t uid;
};

static const struct field line_fields[] = {
	FIELD(line_row, ts, U64, TIME, TAG, "ns", "when"),
	FIELD_CONTENT(line_row, cmd, STR, TEXT, TAG, "", "typed", .null = NULL_ZERO),
	FIELD(line_row, note, STR, TEXT, TAG, "", "not content"),
	FIELD(line_row, user, CHARS, TEXT, TAG, "", "who"),
	FIELD_OF(SECRET, line_row, code, CHARS, TEXT, TAG, "", "secret", .null = NULL_ZERO),
	FIELD(line_row, uid, U32, INT64, TAG, "", "who"),
};
static const struct table line_table = TABLE(line_row, AUDIT, "lines", "lines", line_fields);

struct other_row {
	uint64_t ts;
	struct str text;
};
static const struct field other_fields[] = {
	FIELD(other_row, ts, U64, TIME, TAG, "ns", "when"),
	FIELD(other_row, text, STR, TEXT, TAG, "", "meta"),
};
static const struct table other_table = TABLE(other_row, AUDIT, "other", "others", other_fields);
static const struct table *const tables[] = {&line_table, &other_table, NULL};

static struct redact *make(const char *builtin, const char *rules, const char *drop,
			   struct err *err)
{
	struct opt_set *v = NULL;
	struct redact *r = NULL;

	assert_int_equal(opt_set_new(&v, daemon_options), 0);
	if (builtin)
		assert_int_equal(opt_set_assign(v, "redact.builtin", builtin, OPT_ORIGIN_FILE, err),
				 0);
	if (rules)
		assert_int_equal(opt_set_assign(v, "redact.rules", rules, OPT_ORIGIN_FILE, err), 0);
	if (drop)
		assert_int_equal(opt_set_assign(v, "redact.drop", drop, OPT_ORIGIN_FILE, err), 0);
	if (redact_new(&r, v, tables, NULL, err) < 0)
		r = NULL;
	opt_set_free(v);
	return r;
}

static struct batch *line(const char *cmd, size_t len)
{
	struct batch *b = batch_new(&line_table, 4);
	struct line_row *row = batch_add(b);

	row->ts = 1;
	row->cmd = batch_str(b, cmd, len);
	row->note = batch_str(b, "password=stays", 14);
	memcpy(row->user, "alice", 5);
	memcpy(row->code, "s3cr3t", 6);
	batch_seal(b, NULL);
	return b;
}

static void assert_cell(const struct batch *b, unsigned int col, const char *want)
{
	struct value v;

	batch_get(b, 0, col, &v);
	if (!want) {
		assert_int_equal(v.kind, VALUE_NULL);
		return;
	}
	assert_int_equal(v.kind, VALUE_TEXT);
	if (v.len != strlen(want) || memcmp(v.text, want, v.len))
		fail_msg("got \"%.*s\", want \"%s\"", (int)v.len, v.text, want);
}

#define X "[redacted]"

static void test_builtins(void **state)
{
	static const struct {
		const char *in, *want;
	} cases[] = {
		{"mysql --password=hunter2 db", "mysql --password=" X " db"},
		{"mysql --password hunter2 db", "mysql --password " X " db"},
		{"PGPASSWORD=hunter2 psql", "PGPASSWORD=" X " psql"},
		{"export DB_PASS='two words' X=1", "export DB_PASS=" X " X=1"},
		{"run '--password=two words' x", "run '--password=" X "' x"},
		{"curl -d '{\"password\": \"hunter2\", \"a\":1}'",
		 "curl -d '{\"password\": " X ", \"a\":1}'"},
		{"curl 'https://h/?token=abc&x=1'", "curl 'https://h/?token=" X "&x=1'"},
		{"x token=abc&y", "x token=" X "&y"},
		{"GITHUB_TOKEN=abc gh pr list", "GITHUB_TOKEN=" X " gh pr list"},
		{"gh auth ghp_0123456789abcdefghijABCDEFGHIJ012345 x", "gh auth " X " x"},
		{"curl -H 'Authorization: Bearer abc.def' h", "curl -H 'Authorization: " X "' h"},
		{"curl -H \"Authorization: Basic dXNlcjpwYXNz\" h",
		 "curl -H \"Authorization: " X "\" h"},
		{"curl -H Authorization:\\ Bearer\\ abcdefghij h",
		 "curl -H Authorization:\\ " X " h"},
		{"x --password=two\\ hunter2 y", "x --password=" X " y"},
		{"x --password='it'\\''s hunter2' y", "x --password=" X " y"},
		{"x '--password=it'\\''s hunter2' y", "x '--password=" X "' y"},
		{"x --password=\"a \\\" hunter2\" y", "x --password=" X " y"},
		{"x --password=pre\"hunter2 x\"post y", "x --password=" X " y"},
		{"cut off: password=\"hunter2 abcdefghij", "cut off: password=" X},
		{"'{\"password\":\"hunter2\",\"a\":\"b\"}'", "'{\"password\":" X ",\"a\":\"b\"}'"},
		{"echo AKIAIOSFODNN7EXAMPLE", "echo " X},
		{"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG aws s3 ls",
		 "AWS_SECRET_ACCESS_KEY=" X " aws s3 ls"},
		{"git clone https://bob:hunter2@example.org/r.git",
		 "git clone https://bob:" X "@example.org/r.git"},
		{"curl -u bob:hunter2 https://h", "curl -u bob:" X " https://h"},
		{"mysql -u root -phunter2 db", "mysql -u root -p" X " db"},
		{"sshpass -p hunter2 ssh h", "sshpass -p " X " ssh h"},
		{"echo eyJhbGciOiJI.eyJzdWIiOiIx.SflKxw", "echo " X},
		/* What is no secret. */
		{"ls -l /tmp", "ls -l /tmp"},
		{"PWD=/root OLDPWD=/tmp make", "PWD=/root OLDPWD=/tmp make"},
		{"man passwd", "man passwd"},
		{"sed -e s/compass=1/x/", "sed -e s/compass=1/x/"},
		{"https://example.org:8080/path@x", "https://example.org:8080/path@x"},
		{"git log --author bob", "git log --author bob"},
	};
	struct err err = {0};
	struct redact *r = make(NULL, NULL, NULL, &err);

	(void)state;
	assert_non_null(r);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct batch *b = line(cases[i].in, strlen(cases[i].in));
		struct value v;

		redact_batch(r, b);
		if (cases[i].want)
			assert_cell(b, 1, cases[i].want);
		batch_get(b, 0, 1, &v);
		assert_null(memmem(v.text, v.len, "hunter2", 7));
		assert_null(memmem(v.text, v.len, "abcdefghij", 10));
		assert_cell(b, 2, "password=stays"); /* no content */
		batch_unref(b);
	}
	redact_free(r);
}

static void test_off(void **state)
{
	struct err err = {0};
	struct redact *r = make("none", NULL, NULL, &err);
	struct batch *b = line("password=x", 10);

	(void)state;
	assert_non_null(r);
	redact_batch(r, b);
	assert_cell(b, 1, "password=x");
	redact_batch(NULL, b);
	assert_int_equal(redact_rows(r, &line_table), 0);
	batch_unref(b);
	redact_free(r);
}

static void test_rules(void **state)
{
	struct err err = {0};
	struct redact *r = make(
		"password",
		"ticket=lines.cmd TICKET-[0-9]{1,6}\nnotes=*.note (stays)\nwho=lines.user ^ali",
		NULL, &err);
	struct redact_view v;
	struct batch *b = line("TICKET-12345 and TICKET-7 password=a", 36);

	(void)state;
	assert_non_null(r);
	redact_batch(r, b);
	assert_cell(b, 1, X " and " X " password=" X);
	assert_cell(b, 2, "password=" X);
	assert_cell(b, 3, X "ce");
	assert_int_equal(redact_rows(r, &line_table), 1);
	assert_int_equal(redact_rows(r, &other_table), 0);
	for (unsigned int i = 0; redact_get(r, i, &v); i++)
		if (!strcmp(v.rule, "ticket")) {
			assert_int_equal(v.cells, 1);
			assert_string_equal(v.where, "lines.cmd");
		}
	batch_unref(b);
	redact_free(r);
}

static void test_drop(void **state)
{
	struct err err = {0};
	struct redact *r = make(NULL, NULL, "content,secret", &err);
	struct batch *b = line("ls", 2);
	struct redact_view v = {0};
	unsigned int n = 0;

	(void)state;
	assert_non_null(r);
	redact_batch(r, b);
	assert_cell(b, 1, NULL);
	assert_cell(b, 2, "password=stays");
	assert_cell(b, 4, NULL);
	while (redact_get(r, n, &v))
		n++;
	assert_string_equal(v.rule, "drop secret");
	assert_int_equal(v.cells, 1);
	assert_int_equal(redact_rows(r, &line_table), 1);
	batch_unref(b);
	redact_free(r);
}

static void refuse(const char *builtin, const char *rules, const char *drop, const char *part)
{
	struct err err = {0};

	assert_null(make(builtin, rules, drop, &err));
	if (!strstr(err.msg, part))
		fail_msg("'%s' isn't in '%s'", part, err.msg);
}

static void test_refused(void **state)
{
	(void)state;
	refuse(NULL, "t=lines.cmd (", NULL,
	       "redact.rules.t: '(' is no regular expression: missing )");
	refuse(NULL, "t=lines.cmdd x", NULL,
	       "redact.rules.t: table lines has no column 'cmdd'; did you mean 'cmd'?");
	refuse(NULL, "t=line.cmd x", NULL,
	       "redact.rules.t: no table 'line'; did you mean 'lines'?");
	refuse(NULL, "t=lines.uid x", NULL, "lines.uid holds no free text");
	refuse(NULL, "t=*.nope x", NULL, "no table has a text column 'nope'");
	refuse(NULL, "t=lines.cmd", NULL, "redact.rules.t: write a place and a pattern");
	refuse(NULL, "t=cmd x", NULL, "'cmd' is no place");
	refuse(NULL, "a b=lines.cmd x", NULL, "the name of a rule");
	refuse(NULL, "t=lines.cmd (x{1000}){1000}", NULL, "redact.rules.t");
	refuse("pasword", NULL, NULL, "did you mean 'password'?");
	refuse("none,url", NULL, NULL, "'none' stands alone");
	refuse(NULL, NULL, "meta", "'meta' is no class of columns");
}

/* A text made to be slow, and one with too many matches. */
static void test_bounds(void **state)
{
	struct err err = {0};
	struct redact *r = make(NULL, "slow=lines.cmd (?:a*)*b", NULL, &err);
	size_t len = 200000;
	char *text = malloc(len + 1);
	uint64_t begin;
	struct batch *b;

	(void)state;
	assert_non_null(r);
	memset(text, 'a', len);
	b = line(text, len);
	begin = clock_mono_ns();
	redact_batch(r, b);
	assert_true(clock_mono_ns() - begin < 5 * NSEC_PER_SEC);
	batch_unref(b);
	for (size_t i = 0; i + 12 <= len; i += 12)
		memcpy(text + i, "password=ab ", 12);
	b = line(text, len / 12 * 12);
	begin = clock_mono_ns();
	redact_batch(r, b);
	assert_true(clock_mono_ns() - begin < 5 * NSEC_PER_SEC);
	assert_cell(b, 1, X);
	batch_unref(b);
	free(text);
	redact_free(r);
}

/* Every text of a full batch grows; none is lost and none keeps its secret. */
static void test_full_arena(void **state)
{
	struct err err = {0};
	struct redact *r = make("none", "t=lines.cmd z", NULL, &err);
	struct batch *b = batch_new(&line_table, 16);
	char text[100000];
	struct value v;
	uint32_t n = 0;

	(void)state;
	memset(text, 'y', sizeof(text));
	text[500] = 'z';
	for (; n < 16; n++) {
		struct line_row *row = batch_add(b);

		row->ts = n + 1;
		row->cmd = batch_str(b, text, sizeof(text));
		if (!row->cmd.len)
			break;
	}
	assert_true(n >= 8);
	redact_batch(r, b);
	for (uint32_t i = 0; i < n; i++) {
		batch_get(b, i, 1, &v);
		assert_int_equal(v.kind, VALUE_TEXT);
		assert_null(memchr(v.text, 'z', v.len));
		assert_non_null(memmem(v.text, v.len, X, strlen(X)));
	}
	assert_int_equal(redact_rows(r, &line_table), n);
	batch_unref(b);
	redact_free(r);
}

static void test_reload_keeps_counters(void **state)
{
	struct err err = {0};
	struct opt_set *v = NULL;
	struct redact *old, *new = NULL;
	struct batch *b = line("password=x", 10);

	(void)state;
	assert_int_equal(opt_set_new(&v, daemon_options), 0);
	assert_int_equal(redact_new(&old, v, tables, NULL, &err), 0);
	redact_batch(old, b);
	assert_int_equal(redact_rows(old, &line_table), 1);
	assert_int_equal(redact_new(&new, v, tables, old, &err), 0);
	redact_free(old);
	batch_unref(b);
	b = line("password=x", 10);
	redact_batch(new, b);
	assert_int_equal(redact_rows(new, &line_table), 2);
	batch_unref(b);
	redact_free(new);
	opt_set_free(v);
}

/* A rule finds what another one left. */
static void test_rules_in_turn(void **state)
{
	struct err err = {0};
	struct redact *r = make("none", "a=lines.cmd xx\nb=lines.cmd d(\\[)", NULL, &err);
	struct batch *b = line("adxxb", 5);

	(void)state;
	assert_non_null(r);
	redact_batch(r, b);
	assert_cell(b, 1, "ad" X "redacted]b");
	batch_unref(b);
	redact_free(r);
}

static void test_put(void **state)
{
	struct opt_set *v = NULL;
	struct err err = {0};
	char *text = NULL;

	(void)state;
	assert_int_equal(opt_set_new(&v, daemon_options), 0);
	assert_int_equal(redact_put(v, "a", "lines.cmd x,y=z", &text, &err), 0);
	assert_string_equal(text, "a=lines.cmd x,y=z");
	assert_int_equal(opt_set_assign(v, "redact.rules", text, OPT_ORIGIN_FILE, &err), 0);
	free(text);
	assert_int_equal(redact_put(v, "b", "* q", &text, &err), 0);
	assert_string_equal(text, "a=lines.cmd x,y=z\nb=* q");
	assert_int_equal(opt_set_assign(v, "redact.rules", text, OPT_ORIGIN_FILE, &err), 0);
	free(text);
	assert_int_equal(redact_put(v, "a", "* r", &text, &err), 0);
	assert_string_equal(text, "b=* q\na=* r");
	free(text);
	assert_int_equal(redact_put(v, "a", "* r\n", &text, &err), -22);
	assert_int_equal(redact_put(v, "a.b", "* r", &text, &err), -22);
	opt_set_free(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_builtins),      cmocka_unit_test(test_off),
		cmocka_unit_test(test_rules),	      cmocka_unit_test(test_drop),
		cmocka_unit_test(test_refused),	      cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_full_arena),    cmocka_unit_test(test_reload_keeps_counters),
		cmocka_unit_test(test_rules_in_turn), cmocka_unit_test(test_put),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
