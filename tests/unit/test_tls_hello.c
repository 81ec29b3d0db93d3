// SPDX-License-Identifier: Apache-2.0
/* The ClientHello decoder: a hello as openssl sends it, spread over records, cut, bent and
 * impostors. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "bpf/decode/tls_hello.h"

static struct tls_hello h;

#define EXTENSIONS                                               \
	"\x1a\x1a\x00\x00"                                       \
	"\x00\x00\x00\x10\x00\x0e\x00\x00\x0bWww.Test.De"        \
	"\x00\x10\x00\x11\x00\x0f\x02h2\x02\x0a\x0a\x08http/1.1" \
	"\x00\x2b\x00\x07\x06\x0a\x0a\x03\x04\x03\x03"

static const uint8_t extensions[] = EXTENSIONS;

/* The message alone; pad: octets of a key share before the extensions that matter. */
static size_t make_message(uint8_t *b, size_t pad)
{
	size_t exts = sizeof(extensions) - 1 + (pad ? 4 + pad : 0),
	       body = 2 + 32 + 1 + 32 + 2 + 4 + 2 + 2 + exts, n = 0;

	b[n++] = 1;
	b[n++] = 0;
	b[n++] = (uint8_t)(body >> 8);
	b[n++] = (uint8_t)body;
	b[n++] = 3;
	b[n++] = 3;
	memset(b + n, 0xaa, 32);
	n += 32;
	b[n++] = 32;
	memset(b + n, 0xbb, 32);
	n += 32;
	memcpy(b + n, "\x00\x04\x13\x01\x13\x02\x01\x00", 8);
	n += 8;
	b[n++] = (uint8_t)(exts >> 8);
	b[n++] = (uint8_t)exts;
	if (pad) {
		b[n++] = 0;
		b[n++] = 51;
		b[n++] = (uint8_t)(pad >> 8);
		b[n++] = (uint8_t)pad;
		memset(b + n, 0xcc, pad);
		n += pad;
	}
	memcpy(b + n, extensions, sizeof(extensions) - 1);
	return n + sizeof(extensions) - 1;
}

/* Records of at most `each` octets. */
static size_t make_stream(uint8_t *b, size_t pad, size_t each)
{
	static uint8_t message[8192];
	size_t len = make_message(message, pad), n = 0;

	for (size_t at = 0; at < len; at += each) {
		size_t part = len - at < each ? len - at : each;

		b[n++] = 22;
		b[n++] = 3;
		b[n++] = 1;
		b[n++] = (uint8_t)(part >> 8);
		b[n++] = (uint8_t)part;
		memcpy(b + n, message + at, part);
		n += part;
	}
	return n;
}

static void whole(void **state)
{
	static uint8_t b[65536];
	static const size_t each[] = {16000, 100, 7, 1};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(each); i++) {
		size_t len = make_stream(b, i < 3 ? 1200 : 100, each[i]);

		assert_int_equal(tls_hello_parse(b, len, &h), 0);
		assert_string_equal(h.server_name, "www.test.de");
		assert_string_equal(h.alpn, "h2,http/1.1");
		assert_int_equal(h.version, 0x0304);
		assert_false(h.encrypted);
	}
}

static void cut(void **state)
{
	static uint8_t b[8192];
	size_t len = make_stream(b, 1200, 16000);

	(void)state;
	for (size_t n = 0; n < len; n++) {
		uint8_t *exact = malloc(n ? n : 1);

		assert_non_null(exact);
		memcpy(exact, b, n);
		assert_int_equal(tls_hello_parse(exact, n, &h), -EAGAIN);
		assert_true(!h.server_name[0] || strcmp(h.server_name, "www.test.de") == 0);
		free(exact);
	}
	/* Octets behind it are no matter. */
	assert_int_equal(tls_hello_parse(b, len + 10, &h), 0);
}

static void impostors(void **state)
{
	(void)state;
	assert_int_equal(tls_hello_parse("GET / HTTP/1.1\r\n", 16, &h), -EINVAL);
	assert_int_equal(tls_hello_parse("\x16\x03\x03\x00\x05\x02\x00\x00\x01\x00", 10, &h),
			 -EINVAL); /* a server's */
	assert_int_equal(tls_hello_parse("\x17\x03\x03\x00\x05\x01\x00\x00\x01\x00", 10, &h),
			 -EINVAL);
	assert_int_equal(tls_hello_parse("\x16\x03\x01\x40\x01\x01\x00\x00\x01\x00", 10, &h),
			 -EINVAL); /* too long a record */
	assert_int_equal(tls_hello_parse("\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9, &h),
			 -EINVAL); /* too long a message */
	assert_true(tls_hello_begins("\x16\x03\x01\x02\x00\x01", 6));
	assert_true(tls_hello_begins("", 0));
	assert_false(tls_hello_begins("\x16\x02", 2));
}

static void bent(void **state)
{
	static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
	static uint8_t b[8192], c[8192];
	size_t len = make_stream(b, 50, 200);

	(void)state;
	for (size_t i = 0; i < len; i++)
		for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
			memcpy(c, b, len);
			c[i] = values[v];
			if (tls_hello_parse(c, len, &h) == -EINVAL)
				continue;
			for (const char *p = h.server_name; *p; p++)
				assert_true(*p > ' ' && *p < 0x7f);
			assert_true(strlen(h.alpn) < sizeof(h.alpn));
		}
}

static void versions(void **state)
{
	char text[12];

	(void)state;
	assert_string_equal(tls_version_text(text, 0x0304), "TLS 1.3");
	assert_string_equal(tls_version_text(text, 0x0301), "TLS 1.0");
	assert_string_equal(tls_version_text(text, 0x0300), "SSL 3");
	assert_string_equal(tls_version_text(text, 0x7f1c), "0x7f1c");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole), cmocka_unit_test(cut),	     cmocka_unit_test(impostors),
		cmocka_unit_test(bent),	 cmocka_unit_test(versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
