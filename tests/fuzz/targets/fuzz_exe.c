// SPDX-License-Identifier: Apache-2.0
/* Fuzzes what is read of executables: anybody on the host may write one. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/macro.h"
#include "bpf/exe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	_cleanup_close_ int fd = memfd_create("exe", MFD_CLOEXEC);
	_cleanup_(exe_closep) struct exe *x = NULL;
	struct exe_layout layout;
	struct err err = {};
	char path[64];

	assert(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (exe_open(&x, path, &err) < 0) {
		assert(!x && err.msg[0]);
		return 0;
	}
	exe_layout(x, &layout);
	exe_offset(x, exe_symbol(x, "readline"));
	exe_offset(x, layout.start_code);
	exe_needs(x, "libreadline.so.");
	return 0;
}
