// SPDX-License-Identifier: Apache-2.0
/* Kernel bytes to text that is always valid UTF-8 (RFC 3629: no surrogates, no overlong forms). */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* Length of the valid character at s, 0 if there is none. left > 0. */
static size_t utf8_char(const unsigned char *s, size_t left)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf) {
		n = 2;
	} else if (s[0] >= 0xe0 && s[0] <= 0xef) {
		n = 3;
		if (s[0] == 0xe0)
			lo = 0xa0;
		else if (s[0] == 0xed)
			hi = 0x9f;
	} else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		n = 4;
		if (s[0] == 0xf0)
			lo = 0x90;
		else if (s[0] == 0xf4)
			hi = 0x8f;
	} else {
		return 0;
	}
	if (left < n || s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

/* Bytes of plain ASCII at the start of s, found eight at a time; NUL counts as ASCII. */
static size_t utf8_ascii_prefix(const char *s, size_t len)
{
	size_t i = 0;
	uint64_t w;

	for (; i + 8 <= len; i += 8) {
		memcpy(&w, s + i, 8);
		if (w & 0x8080808080808080ull)
			break;
	}
	while (i < len && !(s[i] & 0x80))
		i++;
	return i;
}

bool utf8_valid(const char *s, size_t len)
{
	size_t i = utf8_ascii_prefix(s, len);

	while (i < len) {
		size_t n = utf8_char((const unsigned char *)s + i, len - i);

		if (!n)
			return false;
		i += n;
		i += utf8_ascii_prefix(s + i, len - i);
	}
	return true;
}

size_t utf8_sanitize(char *dst, size_t cap, const char *src, size_t len)
{
	size_t in = 0, out = 0;

	while (in < len) {
		const char *from = src + in;
		size_t n, eat;

		if (!src[in]) {
			from = "\xe2\x90\x80"; /* U+2400 */
			n = 3;
			eat = 1;
		} else {
			eat = n = utf8_char((const unsigned char *)from, len - in);
			if (!n) {
				from = "\xef\xbf\xbd"; /* U+FFFD */
				n = 3;
				eat = 1;
			}
		}
		if (n > cap - 1 - out)
			break;
		memcpy(dst + out, from, n);
		out += n;
		in += eat;
	}
	dst[out] = '\0';
	return out;
}
