// SPDX-License-Identifier: Apache-2.0
/* Container ids in cgroup paths and user names in passwd files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bpf/containers.h"
#include "daemon/enrich.h"

#define ID64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID64B "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

static void container_in_path(void **state)
{
	static const struct {
		const char *path, *id;
	} cases[] = {
		{"/sys/fs/cgroup/system.slice/docker-" ID64 ".scope", ID64},
		{"/sys/fs/cgroup/unified/docker/" ID64, ID64},
		{"/kubepods.slice/kubepods-pod1.slice/cri-containerd-" ID64 ".scope", ID64},
		{"/machine.slice/libpod-" ID64 ".scope/container", ID64},
		{"/docker/" ID64 "/docker/" ID64B, ID64B},
		{"/docker/0123456789ab", "0123456789ab"},
		{"/system.slice/ssh.service", ""},
		{"/system.slice/deadbeef0123.service", ""},
		{"/docker/" ID64 "0", ""},
		{"", ""},
		{"/", ""},
	};
	char id[65];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		container_of_path(cases[i].path, id);
		assert_string_equal(id, cases[i].id);
	}
}

static void user_of_passwd(void **state)
{
	static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
				     "short\n"
				     ":x:7:7::/:/bin/sh\n"
				     "alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash\n"
				     "evil\x1b[31m:x:1001:1001::/:/bin/sh\n"
				     "hex:x:0x3ea:1::/:/bin/sh\n"
				     "minus:x:-1:1::/:/bin/sh\n"
				     "dc\\bob:x:4294967294:1::/:/bin/sh\n"
				     "last:x:1003:1003::/:/bin/sh";
	static const struct {
		uint32_t uid;
		const char *name;
	} cases[] = {
		{0, "root"}, {7, ""},		{1000, "alice"},	  {1001, ""},
		{1002, ""},  {4294967295u, ""}, {4294967294u, "dc\\bob"}, {1003, "last"},
		{5, ""},
	};
	char name[33];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enrich_user_of_passwd(passwd, sizeof(passwd) - 1, cases[i].uid, name);
		assert_string_equal(name, cases[i].name);
	}
	enrich_user_of_passwd("", 0, 0, name);
	assert_string_equal(name, "");
}

/* A cut at every byte: nothing is read behind the end (the sanitizer watches). */
static void passwd_cut_anywhere(void **state)
{
	static const char passwd[] = "a:x:1:1::/:/b\nbb:x:22:1::/:/b\n";
	char name[33];

	(void)state;
	for (size_t len = 0; len < sizeof(passwd); len++) {
		char *copy = test_malloc(len + 1);

		memcpy(copy, passwd, len);
		enrich_user_of_passwd(copy, len, 22, name);
		assert_true(!name[0] || strcmp(name, "bb") == 0);
		test_free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(container_in_path),
		cmocka_unit_test(user_of_passwd),
		cmocka_unit_test(passwd_cut_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
