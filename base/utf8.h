// SPDX-License-Identifier: Apache-2.0
/* Kernel bytes (comm, paths, shell lines) to text that is always valid UTF-8. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

bool utf8_valid(const char *s, size_t len);
/*
 * Copies src to dst, each invalid byte as U+FFFD and each NUL as U+2400, never splitting a character at cap;
 * dst is NUL-terminated. Returns the bytes written without the NUL. cap >= 1; len * 3 + 1 always suffices.
 */
size_t utf8_sanitize(char *dst, size_t cap, const char *src, size_t len);
