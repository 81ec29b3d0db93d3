// SPDX-License-Identifier: Apache-2.0
/* Socket addresses of all kinds, whole and cut off, to what rows say of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "bpf/sockcall.h"

static void ip(const char *want, int port, const uint8_t *name, size_t len)
{
	char text[INET6_ADDRSTRLEN];
	struct sock_end e;

	sock_end_parse(&e, name, len);
	assert_true(e.ip);
	inet_ntop(e.addr.family == 4 ? AF_INET : AF_INET6, e.addr.addr, text, sizeof(text));
	assert_string_equal(text, want);
	assert_int_equal(e.port, port);
	assert_string_equal(e.text, "");
}

static void text(const char *want, const void *name, size_t len)
{
	struct sock_end e;

	sock_end_parse(&e, name, len);
	assert_false(e.ip);
	assert_string_equal(e.text, want);
}

static void test_ip(void **state)
{
	static const uint8_t v4[] = {AF_INET, 0, 0x1f, 0x90, 192, 0, 2, 7};
	static const uint8_t v6[24] = {AF_INET6, 0, 0, 80, [8] = 0x20, 1, 0xd, 0xb8, [23] = 1};
	static const uint8_t mapped[24] = {AF_INET6, 0, 0, 80, [18] = 0xff, 0xff, 10, 20, 30, 40};
	(void)state;
	ip("192.0.2.7", 8080, v4, sizeof(v4));
	ip("2001:db8::1", 80, v6, sizeof(v6));
	ip("10.20.30.40", 80, mapped, sizeof(mapped));
	for (size_t len = 0; len < sizeof(v4); len++)
		text("", v4, len);
	for (size_t len = 0; len < sizeof(v6); len++)
		text("", v6, len);
}

static void test_unix(void **state)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	(void)state;
	text("", &un, 2);
	text("@", &un, 3);
	memcpy(un.sun_path, "/run/x", 7);
	text("/run/x", &un, sizeof(un));
	text("/run", &un, 6);
	memcpy(un.sun_path, "\0a\0b", 4);
	text("@a\xe2\x90\x80"
	     "b",
	     &un, 6);
	memcpy(un.sun_path, "\xff!", 3);
	text("\xef\xbf\xbd!", &un, sizeof(un));
	/* All of the 126 bytes that a name can have, none of which is a character. */
	{
		uint8_t name[SOCKCALL_NAME_SIZE] = {AF_UNIX};
		struct sock_end e;

		memset(name + 2, 0xff, sizeof(name) - 2);
		sock_end_parse(&e, name, sizeof(name));
		assert_int_equal(strlen(e.text), 3 * (sizeof(name) - 2));
	}
}

static void test_words(void **state)
{
	struct sockaddr_nl nl = {.nl_family = AF_NETLINK, .nl_pid = 4000000000u, .nl_groups = 5};
	struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = 2, .svm_port = 1024};
	uint8_t alg[88] = {AF_ALG, 0, 'h', 'a', 's', 'h', [24] = 's', 'h', 'a', '1'};
	uint8_t other[128] = {AF_BLUETOOTH, 0, 1, 0xab};

	(void)state;
	text("pid 4000000000 groups 0x5", &nl, sizeof(nl));
	text("", &nl, 0);
	text("cid 2 port 1024", &vm, sizeof(vm));
	text("hash sha1", alg, sizeof(alg));
	text("01ab00", other, 5);
	text("", other, 2);
	other[0] = 200;
	text("01ab000000000000000000000000000000000000000000000000000000000000", other,
	     sizeof(other));
	text("00000000", &(struct sockaddr_nl){.nl_family = AF_NETLINK, .nl_pid = 0xfa00000}, 6);
	other[0] = AF_UNSPEC;
	text("", other, sizeof(other));
}

static void test_samples(void **state)
{
	struct sockcall_event e = {
		.kind = SOCKCALL_CONNECT, .name_len = 8, .name = {AF_INET, 0, 0, 9}};
	size_t head = offsetof(struct sockcall_event, name);
	struct sock_end end;

	(void)state;
	assert_int_equal(sockcall_check(&e, head + 8, &end), 0);
	assert_int_equal(end.port, 9);
	assert_int_equal(sockcall_check(&e, head + 7, &end), -EBADMSG);
	assert_int_equal(sockcall_check(&e, 0, &end), -EBADMSG);
	e.name_len = SOCKCALL_NAME_SIZE + 1;
	assert_int_equal(sockcall_check(&e, sizeof(e) + 8, &end), -EBADMSG);
	e.name_len = 0;
	e.kind = SOCKCALL_X_MAX;
	assert_int_equal(sockcall_check(&e, head, &end), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ip),
		cmocka_unit_test(test_unix),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_samples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
