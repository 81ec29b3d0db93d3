// SPDX-License-Identifier: Apache-2.0
/* What numbers of the TLS protocol and of OpenSSL's errors mean. */
#include "bpf/openssl/openssl_names.h"

#include <stdio.h>
#include <string.h>

#include "base/macro.h"

/* include/openssl/err.h */
#define LIB_SYS 2
#define LIB_SSL 20
/* include/openssl/sslerr.h: reasons from there on are alerts of the other side. */
#define REASON_ALERT 1000

struct name {
	uint32_t number;
	const char *text;
};

static const struct name versions[] = {
	{0x0300, "SSLv3"},   {0x0301, "TLSv1.0"},  {0x0302, "TLSv1.1"},	 {0x0303, "TLSv1.2"},
	{0x0304, "TLSv1.3"}, {0xfeff, "DTLSv1.0"}, {0xfefd, "DTLSv1.2"},
};

static const struct name ciphers[] = {
	{0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA"},
	{0x0033, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA"},
	{0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA"},
	{0x0039, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA"},
	{0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256"},
	{0x003d, "TLS_RSA_WITH_AES_256_CBC_SHA256"},
	{0x0067, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256"},
	{0x006b, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256"},
	{0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256"},
	{0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384"},
	{0x009e, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"},
	{0x009f, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"},
	{0x1301, "TLS_AES_128_GCM_SHA256"},
	{0x1302, "TLS_AES_256_GCM_SHA384"},
	{0x1303, "TLS_CHACHA20_POLY1305_SHA256"},
	{0x1304, "TLS_AES_128_CCM_SHA256"},
	{0x1305, "TLS_AES_128_CCM_8_SHA256"},
	{0xc009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"},
	{0xc00a, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"},
	{0xc013, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"},
	{0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"},
	{0xc023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"},
	{0xc024, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"},
	{0xc027, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"},
	{0xc028, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"},
	{0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
	{0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
	{0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
	{0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
	{0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
	{0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
	{0xccaa, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
};

/* Those of openssl/sslerr.h that end handshakes; the numbers never change. */
static const struct name reasons[] = {
	{101, "no suitable key share"},
	{110, "bad extension"},
	{118, "no suitable signature algorithm"},
	{123, "bad signature"},
	{134, "certificate verify failed"},
	{147, "decryption failed"},
	{149, "digest check failed"},
	{155, "https proxy request"},
	{156, "http request"},
	{159, "length mismatch"},
	{176, "no certificates returned"},
	{177, "no certificate assigned"},
	{179, "no certificate set"},
	{181, "no ciphers available"},
	{183, "no ciphers specified"},
	{185, "no cipher match"},
	{191, "no protocols available"},
	{193, "no shared cipher"},
	{198, "packet length too long"},
	{199, "peer did not return a certificate"},
	{209, "missing supported groups extension"},
	{226, "clienthello tlsext"},
	{234, "callback failed"},
	{235, "no application protocol"},
	{244, "unexpected message"},
	{247, "unknown certificate type"},
	{252, "unknown protocol"},
	{258, "unsupported protocol"},
	{259, "unsupported ssl version"},
	{261, "wrong cipher returned"},
	{266, "wrong ssl version"},
	{267, "wrong version number"},
	{281, "decryption failed or bad record mac"},
	{294, "unexpected eof while reading"},
	{298, "record too small"},
	{338, "unsafe legacy renegotiation disabled"},
	{339, "no renegotiation"},
	{370, "wrong signature type"},
	{373, "inappropriate fallback"},
	{376, "no shared signature algorithms"},
	{377, "cert cb error"},
	{383, "wrong certificate type"},
	{394, "dh key too small"},
	{396, "version too low"},
	{397, "ca key too small"},
	{398, "ca md too weak"},
	{399, "ee key too small"},
	{409, "too many warn alerts"},
	{410, "no shared groups"},
};

/* RFC 8446, B.2. */
static const struct name alerts[] = {
	{0, "close notify"},
	{10, "unexpected message"},
	{20, "bad record mac"},
	{22, "record overflow"},
	{40, "handshake failure"},
	{42, "bad certificate"},
	{43, "unsupported certificate"},
	{44, "certificate revoked"},
	{45, "certificate expired"},
	{46, "certificate unknown"},
	{47, "illegal parameter"},
	{48, "unknown ca"},
	{49, "access denied"},
	{50, "decode error"},
	{51, "decrypt error"},
	{70, "protocol version"},
	{71, "insufficient security"},
	{80, "internal error"},
	{86, "inappropriate fallback"},
	{90, "user canceled"},
	{109, "missing extension"},
	{110, "unsupported extension"},
	{112, "unrecognized name"},
	{113, "bad certificate status response"},
	{115, "unknown psk identity"},
	{116, "certificate required"},
	{120, "no application protocol"},
};

static const char *find(const struct name *names, size_t n, uint32_t number)
{
	for (size_t i = 0; i < n; i++)
		if (names[i].number == number)
			return names[i].text;
	return NULL;
}

static const char *name_of(const struct name *names, size_t n, uint16_t number, char dst[static 16])
{
	const char *text = find(names, n, number);

	if (text || !number)
		return text ? text : "";
	snprintf(dst, 16, "0x%04x", number);
	return dst;
}

const char *openssl_version_name(uint16_t version, char dst[static 16])
{
	return name_of(versions, ARRAY_SIZE(versions), version, dst);
}

const char *openssl_cipher_name(uint16_t id, char dst[static 16])
{
	return name_of(ciphers, ARRAY_SIZE(ciphers), id, dst);
}

const char *openssl_error_name(uint32_t library, uint32_t reason, char *dst, size_t cap)
{
	const char *text;

	if (!library)
		return "";
	if (library == LIB_SYS)
		return strerror((int)reason);
	if (library == LIB_SSL && reason >= REASON_ALERT) {
		text = find(alerts, ARRAY_SIZE(alerts), reason - REASON_ALERT);
		if (text)
			snprintf(dst, cap, "alert %s", text);
		else
			snprintf(dst, cap, "alert %u", reason - REASON_ALERT);
		return dst;
	}
	text = library == LIB_SSL ? find(reasons, ARRAY_SIZE(reasons), reason) : NULL;
	if (text)
		return text;
	snprintf(dst, cap, "library %u reason %u", library, reason);
	return dst;
}
