// SPDX-License-Identifier: Apache-2.0
/* Reading what an iterator of the kernel's writes, record by record. */
#pragma once

#include <stddef.h>

struct bpf_link;

/*
 * Runs the iterator to its end; each record of that size goes to each(), whose negative result ends
 * it. buf: for that, at least one record. 0, that result, -EBADMSG for half a record at the end, or
 * another negative errno.
 */
int iter_read(const struct bpf_link *link, void *buf, size_t cap, size_t size,
	      int (*each)(void *arg, const void *record), void *arg);
