// SPDX-License-Identifier: Apache-2.0
/* What numbers of the TLS protocol and of OpenSSL's errors mean. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* "TLSv1.3"; "" for 0, "0x0305" for one that we don't know. Returns dst. */
const char *openssl_version_name(uint16_t version, char dst[static 16]);
/* As IANA names it; "" for 0, "0x1399" for one that we don't know. */
const char *openssl_cipher_name(uint16_t id, char dst[static 16]);
/* "certificate verify failed", "alert bad certificate"; "library 2 reason 104" for others; "" for
 * none. */
const char *openssl_error_name(uint32_t library, uint32_t reason, char *dst, size_t cap);
