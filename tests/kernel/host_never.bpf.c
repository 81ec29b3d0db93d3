/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A plugin that no kernel can carry. */
#include "bpf/plugin.bpf.h"

SEC("fentry/no_such_function_anywhere")
int never__fentry(void *ctx)
{
	return is_self();
}

SEC("tp_btf/no_such_tracepoint")
int never__tp(__u64 *ctx)
{
	struct {
		__u32 pid;
	} *e = event_reserve(sizeof(*e));

	if (e)
		event_submit(e);
	return 0;
}
