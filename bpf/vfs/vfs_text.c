// SPDX-License-Identifier: Apache-2.0
/* Texts of vfs rows: paths as they were given, without what means nothing. */
#include "bpf/vfs/vfs_text.h"

#include <string.h>

bool vfs_path_is_clean(const char *path, size_t len)
{
	const char *end = path + len, *at = path;

	while ((at = memchr(at, '/', (size_t)(end - at)))) {
		at++;
		if (at == end)
			return len == 1;
		if (*at == '/' || (*at == '.' && (at + 1 == end || at[1] == '/')))
			return false;
	}
	return true;
}

void vfs_path_clean(struct buf *b, const char *path, size_t len, bool cut)
{
	const char *end = path + len;

	if (cut)
		buf_puts(b, "...");
	while (path < end) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		size_t n = (size_t)((slash ? slash : end) - path);

		if (n && !(n == 1 && *path == '.')) {
			buf_putc(b, '/');
			buf_add(b, path, n);
		}
		path += n + 1;
	}
	if (!b->len)
		buf_putc(b, '/');
}
