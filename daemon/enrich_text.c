// SPDX-License-Identifier: Apache-2.0
/* User names in passwd files: a pure parser of hostile text. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/enrich.h"

/* Letters, digits and the few others that useradd takes; anything else in that place is not a name.
 */
static bool name_ok(const char *s, size_t len)
{
	if (len == 0 || len > 32)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("._-$@\\+", s[i]))
			return false;
	return true;
}

/* name:password:uid:... */
static bool line_is_uid(const char *line, size_t len, uint32_t uid, size_t *ret_name)
{
	const char *end = line + len, *a, *b;
	char digits[12], *stop;
	size_t n;

	a = memchr(line, ':', len);
	b = a ? memchr(a + 1, ':', end - a - 1) : NULL;
	if (!b)
		return false;
	n = 0;
	for (b++; b < end && *b != ':' && n < sizeof(digits) - 1; b++)
		digits[n++] = *b;
	digits[n] = '\0';
	if (!n || !isdigit((unsigned char)digits[0]) || strtoul(digits, &stop, 10) != uid || *stop)
		return false;
	*ret_name = a - line;
	return true;
}

void enrich_user_of_passwd(const char *text, size_t len, uint32_t uid, char dst[static 33])
{
	const char *end = text + len;

	dst[0] = '\0';
	while (text < end) {
		const char *nl = memchr(text, '\n', end - text);
		size_t n = (nl ? nl : end) - text, name;

		if (line_is_uid(text, n, uid, &name)) {
			if (name_ok(text, name)) {
				memcpy(dst, text, name);
				dst[name] = '\0';
			}
			return;
		}
		text += n + 1;
	}
}
