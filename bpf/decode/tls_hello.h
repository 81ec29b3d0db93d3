// SPDX-License-Identifier: Apache-2.0
/* The first message of a TLS client (RFC 8446, 6066, 7301) out of hostile bytes: pure, bounded,
 * without memory of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Octets of a stream that are looked at: record headers and all. Hellos with post-quantum keys have
 * about 1,800. */
#define TLS_HELLO_MAX	   16384
#define TLS_HELLO_ALPN_MAX 256

struct tls_hello {
	uint16_t version; /* the highest that it offers: 0x0301 (1.0) to 0x0304 (1.3), 0x0300 (SSL
			     3) */
	bool encrypted;	  /* it has an encrypted hello within (ECH): server_name is the outer one */
	char server_name[256];	       /* lower-case; "" without */
	char alpn[TLS_HELLO_ALPN_MAX]; /* comma-joined: "h2,http/1.1"; what doesn't fit is left out
					*/
};

/* Whether a stream that begins so can be a hello. 6 octets decide; fewer are taken for a yes as
 * long as they fit. */
bool tls_hello_begins(const void *data, size_t len);

/*
 * data: a stream from its first octet on; the message may be spread over several records.
 * 0: complete. -EAGAIN: more octets may follow; what was found so far is in *ret. -EINVAL: no
 * hello.
 */
int tls_hello_parse(const void *data, size_t len, struct tls_hello *ret);

/* "TLS 1.3"; "0x7f1c" for what has no name. Returns dst. */
char *tls_version_text(char dst[static 12], uint16_t version);
