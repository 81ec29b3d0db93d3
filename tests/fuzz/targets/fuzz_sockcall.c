// SPDX-License-Identifier: Apache-2.0
/* Samples of socket calls: any bytes give a text within its bounds or are refused. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "bpf/sockcall.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sockcall_event e = {0};
	struct sock_end end;
	size_t len;

	memcpy(&e, data, size < sizeof(e) ? size : sizeof(e));
	if (sockcall_check(&e, size, &end) == 0) {
		len = strnlen(end.text, sizeof(end.text));
		if (len == sizeof(end.text) || !utf8_valid(end.text, len) || (end.ip && len))
			__builtin_trap();
	}
	sock_end_parse(&end, data, size < SOCKCALL_NAME_SIZE ? size : SOCKCALL_NAME_SIZE);
	len = strnlen(end.text, sizeof(end.text));
	if (len == sizeof(end.text) || !utf8_valid(end.text, len))
		__builtin_trap();
	return 0;
}
