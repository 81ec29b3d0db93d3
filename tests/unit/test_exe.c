// SPDX-License-Identifier: Apache-2.0
/* Reading executables: our own, what isn't one, and one with every part broken. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macro.h"
#include "bpf/exe.h"

static char dir[] = "/tmp/ringside-exe-XXXXXX", path[64];

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/x", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static void write_file(const void *p, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, len, f), len);
	fclose(f);
}

/* The layout is what the kernel says of this very process. */
static void own_layout(void **state)
{
	_cleanup_(exe_closep) struct exe *x = NULL;
	unsigned long start_code, end_code, start_data, end_data;
	struct exe_layout l;
	char text[2048], *p;
	FILE *f;

	(void)state;
	assert_int_equal(exe_open(&x, "/proc/self/exe", NULL), 0);
	exe_layout(x, &l);
	f = fopen("/proc/self/stat", "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	p = strrchr(text, ')');
	/* proc(5): startcode and endcode are fields 26 and 27, start_data and end_data 45 and 46. */
	for (int field = 2; field < 26; field++)
		p = strchr(p + 1, ' ');
	assert_int_equal(sscanf(p, "%lu %lu", &start_code, &end_code), 2);
	for (int field = 26; field < 45; field++)
		p = strchr(p + 1, ' ');
	assert_int_equal(sscanf(p, "%lu %lu", &start_data, &end_data), 2);
	assert_int_equal(l.end_code - l.start_code, end_code - start_code);
	assert_int_equal(l.start_data - l.start_code, start_data - start_code);
	assert_int_equal(l.end_data - l.start_code, end_data - start_code);
	assert_null(exe_needs(x, "libnothing"));
	assert_non_null(exe_needs(x, "libc.so"));
	assert_int_equal(exe_symbol(x, "no_such_symbol"), 0);
	assert_int_equal(exe_offset(x, UINT64_MAX), 0);
	assert_int_equal(exe_offset(x, 0), 0);
}

static void library(void **state)
{
	_cleanup_(exe_closep) struct exe *x = NULL;
	char where[256], small[8];
	struct err e = {};
	struct stat st;

	(void)state;
	assert_int_equal(exe_open_library(&x, "libc.so.6", where, sizeof(where), &e), 0);
	assert_int_equal(stat(where, &st), 0);
	assert_true(exe_dev(x) == st.st_dev && exe_ino(x) == st.st_ino);
	assert_int_not_equal(exe_symbol(x, "getpid"), 0);
	assert_int_not_equal(exe_offset(x, exe_symbol(x, "getpid")), 0);
	assert_int_equal(exe_offset(x, exe_symbol(x, "environ")), 0);
	exe_close(TAKE_PTR(x));
	assert_int_equal(exe_open_library(&x, "libnothing.so.1", where, sizeof(where), &e), -ENOENT);
	assert_non_null(strstr(e.msg, "libnothing.so.1"));
	assert_int_equal(exe_open_library(&x, "../libc.so.6", where, sizeof(where), &e), -EINVAL);
	assert_int_equal(exe_open_library(&x, "libc.so.6", small, sizeof(small), &e), -ENOENT);
	assert_null(x);
}

static void refused(void **state)
{
	static const char *const texts[] = {"", "\x7f", "\177ELF", "#!/bin/sh\n", "!<arch>\n"};
	struct exe *x = NULL;
	struct err e = {};

	(void)state;
	assert_int_equal(exe_open(&x, path, &e), -ENOENT);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(exe_open(&x, dir, &e), -ENOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		write_file(texts[i], strlen(texts[i]));
		assert_int_equal(exe_open(&x, path, &e), -ENOEXEC);
		assert_non_null(strstr(e.msg, path));
	}
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(exe_open(&x, path, &e), -ENOEXEC);
	unlink(path);
	assert_null(x);
	exe_close(NULL);
}

/* Nothing in here may crash or read outside, whatever the answer. */
static void ask_everything(void)
{
	struct exe_layout l;
	struct exe *x = NULL;
	const char *needs;

	if (exe_open(&x, path, NULL))
		return;
	exe_layout(x, &l);
	exe_offset(x, exe_symbol(x, "getpid"));
	exe_symbol(x, "no_such_symbol");
	needs = exe_needs(x, "lib");
	if (needs)
		assert_true(strlen(needs) < SIZE_MAX);
	exe_close(x);
}

static void broken(void **state)
{
	enum { MOST = 300000 };
	_cleanup_free_ unsigned char *good = malloc(MOST), *bad = malloc(MOST);
	_cleanup_close_ int fd = open("/bin/true", O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, good, MOST);
	uint32_t x = 7;

	(void)state;
	assert_true(len > 1000);
	for (int i = 0; i < 64; i++) {
		write_file(good, (size_t)len * i / 64);
		ask_everything();
	}
	/* The header and both tables that it points to, byte by byte at random. */
	for (int round = 0; round < 1500; round++) {
		memcpy(bad, good, len);
		for (int k = 0; k < 4; k++) {
			size_t at;

			x = x * 1664525 + 1013904223;
			at = x >> 8;
			at = round % 3 == 0 ? at % 64 : round % 3 == 1 ? at % 1024 : len - 1 - at % 2048;
			bad[at] = x >> 3;
		}
		write_file(bad, len);
		ask_everything();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_layout), cmocka_unit_test(library), cmocka_unit_test(refused),
		cmocka_unit_test(broken),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
