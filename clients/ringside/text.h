// SPDX-License-Identifier: Apache-2.0
/* Text for terminals and for machines: escapes and display widths. Pure functions, no locale of the
 * user's needed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * Decodes one character of s (len > 0) into *ret and returns its bytes. What isn't UTF-8 (overlong
 * forms, surrogates and numbers above U+10FFFF too) is one byte with *ret = UINT32_MAX.
 */
size_t text_decode(const char *s, size_t len, uint32_t *ret);

/* Columns that s takes on a terminal; combining marks take none, wide characters two. */
size_t text_width(const char *s, size_t len);

/* The longest prefix of s that is at most width columns wide, in bytes; *ret_width (may be NULL) is
 * what it takes. */
size_t text_prefix(const char *s, size_t len, size_t width, size_t *ret_width);

/*
 * Appends s so that no terminal acts on it: control characters (C0, DEL, C1), bidirectional
 * overrides, line separators, tag characters and broken UTF-8 become \n, \t, \r, \x1b, \u{202e}.
 * What ran on the host chose these bytes, not we.
 */
void text_add_safe(struct buf *b, const char *s, size_t len);

/* Appends s as a JSON string with its quotes; broken UTF-8 becomes U+FFFD. */
void text_add_json(struct buf *b, const char *s, size_t len);
/* RFC 4180: quoted when it holds a comma, a quote, CR or LF, or is empty (so that it differs from
 * NULL). */
void text_add_csv(struct buf *b, const char *s, size_t len);
/* Backslash, tab, LF and CR as \\ \t \n \r. */
void text_add_tsv(struct buf *b, const char *s, size_t len);
void text_add_hex(struct buf *b, const void *p, size_t len);
/* The shortest decimal that reads back as d; false (nothing added) when d is not finite. */
bool text_add_double(struct buf *b, double d);
/* 1234567 -> "1,234,567", for people. */
void text_add_count(struct buf *b, uint64_t n);
