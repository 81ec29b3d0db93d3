// SPDX-License-Identifier: Apache-2.0
/* Text for terminals and for machines: escapes and display widths. */
#include "clients/ringside/text.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#define BROKEN UINT32_MAX

size_t text_decode(const char *s, size_t len, uint32_t *ret)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *p = (const unsigned char *)s;
	size_t n = p[0] < 0x80	 ? 1
		   : p[0] < 0xc2 ? 0
		   : p[0] < 0xe0 ? 2
		   : p[0] < 0xf0 ? 3
		   : p[0] < 0xf5 ? 4
				 : 0;
	uint32_t c;

	*ret = BROKEN;
	if (n == 1)
		*ret = p[0];
	if (n < 2 || n > len)
		return 1;
	c = p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 1;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 1;
	*ret = c;
	return n;
}

/*
 * wcwidth() asks the thread's locale, and that of a root shell is often "C", where everything but
 * ASCII is unprintable: widths are always asked of C.UTF-8, which glibc has everywhere since 2.35.
 */
static size_t char_width(uint32_t c)
{
	static locale_t utf8;
	static bool tried;
	locale_t old;
	int w;

	if (c < 0x80)
		return 1;
	if (!tried) {
		tried = true;
		utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	}
	if (!utf8)
		return 1;
	old = uselocale(utf8);
	w = wcwidth((wchar_t)c);
	uselocale(old);
	return w < 0 ? 1 : (size_t)w; /* newer than this libc: one column is the likelier guess */
}

size_t text_prefix(const char *s, size_t len, size_t width, size_t *ret_width)
{
	size_t used = 0, i = 0;

	while (i < len) {
		uint32_t c;
		size_t n = text_decode(s + i, len - i, &c), w = char_width(c == BROKEN ? '?' : c);

		if (used + w > width)
			break;
		used += w;
		i += n;
	}
	if (ret_width)
		*ret_width = used;
	return i;
}

size_t text_width(const char *s, size_t len)
{
	size_t w;

	text_prefix(s, len, SIZE_MAX / 2, &w);
	return w;
}

/* Characters that move the cursor, start a sequence, turn the reading direction or don't show at
 * all. */
static bool is_hostile(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) ||	    /* C0, DEL, C1 */
	       c == 0x061c || c == 0x200e || c == 0x200f || /* direction marks */
	       (c >= 0x2028 && c <= 0x202e) ||		    /* separators, embeddings, overrides */
	       (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || /* invisible, isolates */
	       (c >= 0xfff9 && c <= 0xfffb) ||
	       (c >= 0xe0000 && c <= 0xe007f); /* annotations, tags */
}

void text_add_safe(struct buf *b, const char *s, size_t len)
{
	size_t i = 0;

	while (i < len) {
		uint32_t c;
		size_t n = text_decode(s + i, len - i, &c);

		if (c == BROKEN)
			buf_printf(b, "\\x%02x", (unsigned char)s[i]);
		else if (!is_hostile(c))
			buf_add(b, s + i, n);
		else if (c == '\n')
			buf_puts(b, "\\n");
		else if (c == '\t')
			buf_puts(b, "\\t");
		else if (c == '\r')
			buf_puts(b, "\\r");
		else if (c < 0x80)
			buf_printf(b, "\\x%02x", (unsigned int)c);
		else
			buf_printf(b, "\\u{%x}", (unsigned int)c);
		i += n;
	}
}

void text_add_json(struct buf *b, const char *s, size_t len)
{
	size_t i = 0;

	buf_putc(b, '"');
	while (i < len) {
		uint32_t c;
		size_t n = text_decode(s + i, len - i, &c);

		if (c == BROKEN) {
			buf_puts(b, "\xef\xbf\xbd");
		} else if (c == '"' || c == '\\') {
			buf_putc(b, '\\');
			buf_putc(b, (char)c);
		} else if (c == '\n') {
			buf_puts(b, "\\n");
		} else if (c == '\t') {
			buf_puts(b, "\\t");
		} else if (c == '\r') {
			buf_puts(b, "\\r");
		} else if (is_hostile(c) && c < 0x10000) {
			buf_printf(b, "\\u%04x", (unsigned int)c);
		} else {
			buf_add(b, s + i, n);
		}
		i += n;
	}
	buf_putc(b, '"');
}

void text_add_csv(struct buf *b, const char *s, size_t len)
{
	bool quote = len == 0;

	for (size_t i = 0; i < len && !quote; i++)
		quote = s[i] == ',' || s[i] == '"' || s[i] == '\n' || s[i] == '\r';
	if (!quote) {
		buf_add(b, s, len);
		return;
	}
	buf_putc(b, '"');
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '"')
			buf_putc(b, '"');
		buf_putc(b, s[i]);
	}
	buf_putc(b, '"');
}

void text_add_tsv(struct buf *b, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		switch (s[i]) {
		case '\\':
			buf_puts(b, "\\\\");
			break;
		case '\t':
			buf_puts(b, "\\t");
			break;
		case '\n':
			buf_puts(b, "\\n");
			break;
		case '\r':
			buf_puts(b, "\\r");
			break;
		default:
			buf_putc(b, s[i]);
		}
	}
}

void text_add_hex(struct buf *b, const void *p, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *s = p;

	for (size_t i = 0; i < len; i++) {
		buf_putc(b, digits[s[i] >> 4]);
		buf_putc(b, digits[s[i] & 15]);
	}
}

bool text_add_double(struct buf *b, double d)
{
	char s[40];

	if (!isfinite(d))
		return false;
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(s, sizeof(s), "%.*g", digits, d);
		if (strtod(s, NULL) == d)
			break;
	}
	buf_puts(b, s);
	return true;
}

void text_add_count(struct buf *b, uint64_t n)
{
	char s[24];
	int len = snprintf(s, sizeof(s), "%llu", (unsigned long long)n);

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			buf_putc(b, ',');
		buf_putc(b, s[i]);
	}
}
