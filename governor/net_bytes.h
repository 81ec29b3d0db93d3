/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What net.bpf.c counts on each CPU, shared with its reader. */
#pragma once

#include <linux/types.h>

struct net_bytes {
	__u64 rx, tx;
};
