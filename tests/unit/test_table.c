// SPDX-License-Identifier: Apache-2.0
/* The field-table check finds each kind of mistake, and the tables of all plugins of this build pass it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "bpf/plugin.h"
#include "bpf/table.h"

struct row {
	uint64_t ts;
	uint32_t pid;
	char comm[16];
	struct str cmd;
	struct ip_addr ip;
	double load;
	uint8_t colour;
};

static const char *const colours[] = {"red", "green", NULL};

static const struct field good[] = {
	FIELD(row, ts, U64, TIME, TAG, "ns", "time"),
	FIELD(row, pid, U32, INT64, TAG, "", "process", .null = NULL_MAX),
	FIELD(row, comm, CHARS, TEXT, TAG, "", "name", .null = NULL_ZERO),
	FIELD(row, cmd, STR, TEXT, TAG, "", "line"),
	FIELD(row, ip, IP, IP, TAG, "", "address"),
	FIELD(row, load, F64, DOUBLE, GAUGE, "1", "load"),
	FIELD(row, colour, ENUM, TEXT, TAG, "", "colour", .names = colours),
};
static const struct table good_table = TABLE(row, FLOW, "things", "Things.", good);

static void sound(void **state)
{
	char why[128] = "";

	(void)state;
	assert_int_equal(table_check(&good_table, why, sizeof(why)), 0);
	assert_string_equal(why, "");
	assert_int_equal(table_find(&good_table, "ts"), 0);
	assert_int_equal(table_find(&good_table, "colour"), 6);
	assert_int_equal(table_find(&good_table, "color"), -1);
	assert_true(table_is_history(&good_table));
	for (int i = COLUMN_INT64; i < COLUMN_X_MAX; i++)
		assert_string_not_equal(column_type_name(i), "?");
	for (int i = KIND_TAG; i < KIND_X_MAX; i++)
		assert_string_not_equal(column_kind_name(i), "?");
	for (int i = TABLE_FLOW; i < TABLE_X_MAX; i++)
		assert_string_not_equal(table_class_name(i), "?");
	assert_string_equal(column_type_name(0), "?");
	assert_string_equal(column_kind_name(KIND_X_MAX), "?");
	assert_string_equal(table_class_name(-1), "?");
}

/* One mistake in a copy of the good table. */
#define REFUSED(says, ...)                                                        \
	do {                                                                      \
		struct field f[ARRAY_SIZE(good)];                                 \
		struct table t = good_table;                                      \
		char why[128] = "";                                               \
		memcpy(f, good, sizeof(good));                                    \
		t.fields = f;                                                     \
		__VA_ARGS__;                                                      \
		assert_int_equal(table_check(&t, why, sizeof(why)), -EINVAL);     \
		if (!strstr(why, says))                                           \
			fail_msg("said '%s' instead of '%s'", why, says);         \
	} while (0)

static void mistakes(void **state)
{
	(void)state;
	REFUSED("things.pid: name is used twice", f[3].name = "pid"; f[1].name = "pid");
	REFUSED("lower-case", f[1].name = "Pid");
	REFUSED("lower-case", f[1].name = "");
	REFUSED("lower-case", f[1].name = "a-b");
	REFUSED("lower-case", f[1].name = "1a");
	REFUSED("(no name)", f[1].name = NULL);
	REFUSED("type is unknown", f[1].type = COLUMN_X_MAX);
	REFUSED("type is unknown", f[1].type = 0);
	REFUSED("representation is unknown", f[1].repr = REPR_X_MAX);
	REFUSED("doesn't fit the type", f[1].type = COLUMN_TEXT);
	REFUSED("doesn't fit the type", f[5].type = COLUMN_INT64);
	REFUSED("size doesn't fit", f[1].size = 8);
	REFUSED("size doesn't fit", f[2].size = 0);
	REFUSED("outside the row", f[1].off = sizeof(struct row) - 3);
	REFUSED("outside the row", f[2].size = 65535);
	REFUSED("needs names", f[6].names = NULL);
	REFUSED("NULL_MAX", f[2].null = NULL_MAX);
	REFUSED("null rule", f[2].null = 9);
	REFUSED("kind", f[1].kind = 0);
	REFUSED("sensitivity", f[1].sensitivity = 0);
	REFUSED("unit", f[1].unit = NULL);
	REFUSED("help", f[1].help = "");
	REFUSED("begins with ts", f[0].name = "time");
	REFUSED("begins with ts", f[0].off = 8);
	REFUSED("begins with ts", t.fields++; t.nfields--);
	REFUSED("no columns", t.nfields = 0);
	REFUSED("table's name", t.name = "Bad Name");
	REFUSED("table's name", t.name = NULL);
	REFUSED("summary", t.summary = "");
	REFUSED("class", t.class = 0);
}

/* What the host reads before it loads anything. */
static void plugins_are_sound(void **state)
{
	_cleanup_(opt_set_freep) struct opt_set *common = NULL;

	(void)state;
	assert_int_equal(opt_set_new(&common, plugin_common_options), 0);
	assert_int_equal(opt_i64(common, "interval"), 10000000000);
	assert_int_equal(opt_i64(common, "ring_size"), 1 << 20);
	for (const struct plugin *const *p = plugins; *p; p++) {
		_cleanup_(opt_set_freep) struct opt_set *opts = NULL;
		char why[128];

		assert_ptr_equal(plugin_find((*p)->name), *p);
		assert_true((*p)->help && *(*p)->help && (*p)->needs && *(*p)->needs);
		for (unsigned int i = 0; (*p)->tables && (*p)->tables[i]; i++)
			if (table_check((*p)->tables[i], why, sizeof(why)))
				fail_msg("%s: %s", (*p)->name, why);
		assert_int_equal(opt_set_new(&opts, (*p)->options), 0);
		for (const struct opt *o = (*p)->options; o && o->key; o++) {
			assert_true(o->help && *o->help);
			assert_null(opt_find(plugin_common_options, o->key));
		}
	}
	assert_null(plugin_find("nosuch"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound), cmocka_unit_test(mistakes), cmocka_unit_test(plugins_are_sound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
