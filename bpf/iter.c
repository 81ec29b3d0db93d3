// SPDX-License-Identifier: Apache-2.0
/* Reading what an iterator of the kernel's writes, record by record. */
#include "bpf/iter.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/macro.h"

int iter_read(const struct bpf_link *link, void *buf, size_t cap, size_t size,
	      int (*each)(void *arg, const void *record), void *arg)
{
	_cleanup_close_ int fd = bpf_iter_create(bpf_link__fd(link));
	char *p = buf;
	size_t have = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(fd, p + have, cap - have);
		size_t off = 0;

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return have ? -EBADMSG : 0;
		have += (size_t)n;
		for (; have - off >= size; off += size) {
			int r = each(arg, p + off);

			if (r < 0)
				return r;
		}
		have -= off;
		memmove(p, p + off, have); /* a read may end within a record */
	}
}
