// SPDX-License-Identifier: Apache-2.0
/* Where an SQL statement ends. */
#include "clients/ringside/sqltext.h"

#include <string.h>

/* Bytes of the quoted text, name or comment that starts at s; 0: none starts there; len + 1: it
 * never ends. */
static size_t skip_token(const char *s, size_t len)
{
	size_t i = 1;
	char end;

	if (len >= 2 && s[0] == '-' && s[1] == '-') {
		const char *nl = memchr(s, '\n', len);

		return nl ? (size_t)(nl - s) + 1 : len + 1;
	}
	if (len >= 2 && s[0] == '/' && s[1] == '*') {
		const char *close = len > 2 ? memmem(s + 2, len - 2, "*/", 2) : NULL;

		return close ? (size_t)(close - s) + 2 : len + 1;
	}
	if (s[0] != '\'' && s[0] != '"' && s[0] != '`' && s[0] != '[')
		return 0;
	end = s[0] == '[' ? ']' : s[0];
	for (; i < len; i++) {
		if (s[i] != end)
			continue;
		if (end != ']' && i + 1 < len && s[i + 1] == end)
			i++; /* doubled: a quote inside */
		else
			return i + 1;
	}
	return len + 1;
}

size_t sql_statement_end(const char *text, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = skip_token(text + i, len - i);

		if (n > len - i)
			return 0;
		if (!n && text[i] == ';')
			return i + 1;
		i += n ? n : 1;
	}
	return 0;
}

bool sql_is_blank(const char *text, size_t len)
{
	for (size_t i = 0; i < len;) {
		bool comment = len - i >= 2 &&
			       (memcmp(text + i, "--", 2) == 0 || memcmp(text + i, "/*", 2) == 0);

		if (comment)
			i += skip_token(text + i, len - i);
		else if (strchr(" \t\r\n;", text[i]) && text[i])
			i++;
		else
			return false;
	}
	return true;
}
