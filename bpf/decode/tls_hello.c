// SPDX-License-Identifier: Apache-2.0
/* ClientHello: records taken apart, then the message; server name, protocols and versions of its
 * extensions. */
#include "bpf/decode/tls_hello.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpf/decode/reader.h"

#define RECORD_HEADER	       5u
#define RECORD_HANDSHAKE       22
#define RECORD_MAX	       (1u << 14)
#define MESSAGE_HEADER	       4u
#define MESSAGE_CLIENT_HELLO   1

#define EXT_SERVER_NAME	       0
#define EXT_ALPN	       16
#define EXT_SUPPORTED_VERSIONS 43
#define EXT_ECH		       0xfe0d /* RFC 9849 */

bool tls_hello_begins(const void *data, size_t len)
{
	const uint8_t *d = data;

	return (len < 1 || d[0] == RECORD_HANDSHAKE) && (len < 2 || d[1] == 3) &&
	       (len < 3 || d[2] <= 4) && (len < 5 || (d[3] << 8 | d[4]) >= 1) &&
	       (len < 6 || d[5] == MESSAGE_CLIENT_HELLO);
}

/* The handshake octets of the records, put together in dst. Returns how many; -EINVAL: something
 * else than handshake in between. */
static int join_records(const uint8_t *data, size_t len, uint8_t dst[static TLS_HELLO_MAX])
{
	struct reader r = {.data = data, .len = len};
	size_t n = 0;

	while (reader_left(&r) >= RECORD_HEADER) {
		unsigned int type = reader_u8(&r), version = reader_u16(&r);
		size_t size = reader_u16(&r);
		struct reader body;

		if (type != RECORD_HANDSHAKE || version >> 8 != 3 || !size || size > RECORD_MAX)
			return n >= MESSAGE_HEADER ? (int)n : -EINVAL;
		body = reader_part(&r, size);
		if (body.len > TLS_HELLO_MAX - n)
			body.len = TLS_HELLO_MAX - n;
		memcpy(dst + n, body.data, body.len);
		n += body.len;
	}
	return (int)n;
}

/* Host names are ASCII (RFC 6066, 3): anything else is no name. */
static void server_name(struct reader ext, struct tls_hello *ret)
{
	struct reader list = reader_part(&ext, reader_u16(&ext));

	while (reader_left(&list) >= 3) {
		unsigned int type = reader_u8(&list);
		struct reader name = reader_part(&list, reader_u16(&list));

		if (type != 0)
			continue;
		if (!name.len || name.len >= sizeof(ret->server_name))
			return;
		for (size_t i = 0; i < name.len; i++)
			if (name.data[i] <= ' ' || name.data[i] >= 0x7f)
				return;
		for (size_t i = 0; i < name.len; i++)
			ret->server_name[i] = (char)tolower(name.data[i]);
		ret->server_name[name.len] = '\0';
		return;
	}
}

static void alpn(struct reader ext, struct tls_hello *ret)
{
	struct reader list = reader_part(&ext, reader_u16(&ext));
	size_t n = 0;

	while (reader_left(&list) > 0) {
		struct reader name = reader_part(&list, reader_u8(&list));
		bool plain = name.len > 0;

		for (size_t i = 0; i < name.len; i++)
			plain = plain && name.data[i] > ' ' && name.data[i] < 0x7f &&
				name.data[i] != ',';
		if (!plain || n + 1 + name.len >= sizeof(ret->alpn))
			continue; /* GREASE (RFC 8701), or no room */
		if (n)
			ret->alpn[n++] = ',';
		memcpy(ret->alpn + n, name.data, name.len);
		n += name.len;
	}
	ret->alpn[n] = '\0';
}

static void versions(struct reader ext, struct tls_hello *ret)
{
	struct reader list = reader_part(&ext, reader_u8(&ext));

	while (reader_left(&list) >= 2) {
		uint16_t v = reader_u16(&list);

		/* 0x0a0a, 0x1a1a, ... are GREASE. */
		if (v >> 8 == 3 && v > ret->version)
			ret->version = v;
	}
}

static void extension(unsigned int type, struct reader ext, struct tls_hello *ret)
{
	switch (type) {
	case EXT_SERVER_NAME:
		server_name(ext, ret);
		return;
	case EXT_ALPN:
		alpn(ext, ret);
		return;
	case EXT_SUPPORTED_VERSIONS:
		versions(ext, ret);
		return;
	case EXT_ECH:
		ret->encrypted = true;
		return;
	}
}

/* Skips a vector with a length of that many octets; false when it isn't all there. */
static bool skip(struct reader *r, size_t octets)
{
	size_t len;

	if (reader_left(r) < octets)
		return false;
	len = reader_be(r, octets);
	if (reader_left(r) < len)
		return false;
	r->pos += len;
	return true;
}

/* As far as the octets reach. */
static void read_hello(struct reader *r, struct tls_hello *ret)
{
	struct reader exts;

	if (reader_left(r) < 2 + 32)
		return;
	ret->version = reader_u16(r);
	r->pos += 32; /* random */
	if (!skip(r, 1) || !skip(r, 2) || !skip(r, 1) ||
	    reader_left(r) < 2) /* session, ciphers, compression */
		return;
	exts = reader_part(r, reader_u16(r));
	while (reader_left(&exts) >= 4) {
		unsigned int type = reader_u16(&exts);
		size_t size = reader_u16(&exts);

		if (size > reader_left(&exts))
			return; /* cut: half an extension may mislead */
		extension(type, reader_part(&exts, size), ret);
	}
}

int tls_hello_parse(const void *data, size_t len, struct tls_hello *ret)
{
	uint8_t message[TLS_HELLO_MAX];
	struct reader r = {.data = message};
	size_t size;
	int n;

	ret->version = 0;
	ret->encrypted = false;
	ret->server_name[0] = ret->alpn[0] = '\0';
	if (!tls_hello_begins(data, len))
		return -EINVAL;
	n = join_records(data, len < TLS_HELLO_MAX ? len : TLS_HELLO_MAX, message);
	if (n < 0)
		return n;
	r.len = (size_t)n;
	if (r.len < MESSAGE_HEADER)
		return len >= TLS_HELLO_MAX ? -EINVAL : -EAGAIN;
	if (reader_u8(&r) != MESSAGE_CLIENT_HELLO)
		return -EINVAL;
	size = reader_u24(&r);
	if (size > TLS_HELLO_MAX)
		return -EINVAL;
	if (reader_left(&r) < size) {
		read_hello(&r, ret);
		return len >= TLS_HELLO_MAX ? 0 : -EAGAIN;
	}
	r.len = r.pos + size;
	read_hello(&r, ret);
	return 0;
}

char *tls_version_text(char dst[static 12], uint16_t version)
{
	if (version == 0x0300)
		snprintf(dst, 12, "SSL 3");
	else if (version >= 0x0301 && version <= 0x0304)
		snprintf(dst, 12, "TLS 1.%d", version - 0x0301);
	else
		snprintf(dst, 12, "0x%04x", version);
	return dst;
}
