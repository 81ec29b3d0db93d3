// SPDX-License-Identifier: Apache-2.0
/* Paths of vfs rows: what means nothing is left out, what means something stays; requests that
 * wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "bpf/vfs/vfs_held.h"
#include "bpf/vfs/vfs_text.h"

static const struct {
	const char *given, *clean;
	bool cut;
} paths[] = {
	{"/", "/", false},
	{"//", "/", false},
	{"/.", "/", false},
	{"/./", "/", false},
	{"/a", "/a", false},
	{"/a/b", "/a/b", false},
	{"/a/", "/a", false},
	{"/a//b", "/a/b", false},
	{"/a/./b", "/a/b", false},
	{"/a/b/.", "/a/b", false},
	{"///a////b///", "/a/b", false},
	{"/a/../b", "/a/../b", false},
	{"/a/..", "/a/..", false},
	{"/a/..b/.c/d.", "/a/..b/.c/d.", false},
	{"/...", "/...", false},
	{"/a b/\xff", "/a b/\xff", false},
	{"/a/b", ".../a/b", true},
	{"/a//b/", ".../a/b", true},
};

static void test_clean(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		_cleanup_buf_ struct buf b = {0};
		size_t len = strlen(paths[i].given);

		vfs_path_clean(&b, paths[i].given, len, paths[i].cut);
		assert_int_equal(buf_status(&b), 0);
		assert_string_equal(b.data, paths[i].clean);
		/* What is called clean is what cleaning leaves as it was. */
		if (!paths[i].cut)
			assert_int_equal(vfs_path_is_clean(paths[i].given, len),
					 strcmp(paths[i].given, paths[i].clean) == 0);
	}
}

/* Every text of up to seven of these bytes, without a NUL behind it. */
static void test_all(void **state)
{
	static const char bytes[] = "/.a";

	(void)state;
	for (uint32_t n = 0; n < 2187; n++) {
		_cleanup_buf_ struct buf once = {0}, twice = {0};
		char text[8] = "/";

		for (uint32_t i = 1, rest = n; i < sizeof(text); i++, rest /= 3)
			text[i] = bytes[rest % 3];
		vfs_path_clean(&once, text, sizeof(text), false);
		vfs_path_clean(&twice, once.data, once.len, false);
		assert_string_equal(once.data, twice.data);
		assert_true(vfs_path_is_clean(once.data, once.len));
		assert_int_equal(vfs_path_is_clean(text, sizeof(text)),
				 once.len == sizeof(text) && !memcmp(once.data, text, once.len));
	}
}

/* Header and one byte of path. */
#define LEN (offsetof(struct vfs_event, data) + 1)

static void hold(struct vfs_held *h, uint64_t request, size_t len, uint64_t now)
{
	/* All of it, whatever of it is held. */
	struct vfs_event *e = calloc(1, len < sizeof(*e) ? sizeof(*e) : len);

	assert_non_null(e);
	e->request = request;
	e->data[0] = (char)request;
	assert_int_equal(vfs_held_add(h, e, len, now), 0);
	free(e);
}

/* 0: none. */
static uint64_t released(struct vfs_event *e, const size_t *len, size_t want)
{
	uint64_t request = e ? e->request : 0;

	if (e) {
		assert_int_equal(*len, want);
		assert_int_equal(e->data[0], (char)request);
	}
	free(e);
	return request;
}

/* In any order, by number; the rest in the order in which they came, when it is time. */
static void test_held(void **state)
{
	struct vfs_held *h = vfs_held_new();
	size_t len = 0;

	(void)state;
	assert_non_null(h);
	assert_int_equal(vfs_held_since(h), 0);
	assert_null(vfs_held_overdue(h, UINT64_MAX, &len));
	for (uint64_t i = 1; i <= 101; i++)
		hold(h, i, LEN, 1000 + i);
	assert_int_equal(vfs_held_since(h), 1001);
	for (uint64_t i = 101; i >= 3; i -= 2) {
		assert_int_equal(released(vfs_held_take(h, i, &len), &len, LEN), i);
		assert_null(vfs_held_take(h, i, &len));
	}
	assert_null(vfs_held_overdue(h, 1000, &len));
	assert_int_equal(released(vfs_held_overdue(h, 1004, &len), &len, LEN), 1);
	assert_int_equal(vfs_held_since(h), 1002);
	assert_int_equal(released(vfs_held_overdue(h, 1004, &len), &len, LEN), 2);
	assert_int_equal(released(vfs_held_overdue(h, 1004, &len), &len, LEN), 4);
	assert_null(vfs_held_overdue(h, 1004, &len));
	/* The newest, too, and one behind it. */
	assert_int_equal(released(vfs_held_take(h, 100, &len), &len, LEN), 100);
	hold(h, 200, LEN, 1200);
	for (uint64_t i = 6; i < 100; i += 2)
		assert_int_equal(released(vfs_held_overdue(h, 1200, &len), &len, LEN), i);
	assert_int_equal(released(vfs_held_overdue(h, 1200, &len), &len, LEN), 200);
	assert_int_equal(vfs_held_since(h), 0);
	hold(h, 201, LEN, 1201);
	vfs_held_free(h); /* with what is in it */
	vfs_held_free(NULL);
}

/* Too many, or too much: the oldest have waited long enough. */
static void test_held_bounds(void **state)
{
	const size_t large = offsetof(struct vfs_event, data) + VFS_DATA_MAX;
	struct vfs_held *h = vfs_held_new();
	size_t len = 0, n = 0;

	(void)state;
	assert_non_null(h);
	for (uint64_t i = 1; i <= VFS_REQUESTS + 7; i++) {
		hold(h, i, LEN, 1000);
		while (released(vfs_held_overdue(h, 0, &len), &len, LEN))
			n++;
	}
	assert_int_equal(n, 7);
	assert_null(vfs_held_take(h, 7, &len));
	assert_int_equal(released(vfs_held_take(h, 8, &len), &len, LEN), 8);
	while (released(vfs_held_overdue(h, 1000, &len), &len, LEN))
		;
	n = 0;
	for (uint64_t i = 1; i <= 1009; i++) {
		hold(h, i, large, 1000);
		while (released(vfs_held_overdue(h, 0, &len), &len, large))
			n++;
	}
	assert_in_range(1009 - n, 200, 300);
	vfs_held_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_held_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
