// SPDX-License-Identifier: Apache-2.0
/* Our own network traffic: a byte counter in the kernel, on our cgroup2 leaf. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct net_count;

/*
 * Counts from now on the traffic of every socket that was made by a process while it was in that
 * cgroup. cgroup_fd is not owned and may be closed afterwards. On failure *err says what is
 * missing.
 */
int net_count_new(struct net_count **ret, int cgroup_fd, struct err *err);
/* Totals since net_count_new(). No allocation; negative errno if the map can't be read. */
int net_count_read(struct net_count *n, uint64_t *ret_rx, uint64_t *ret_tx);
/* BPF memory and run time of the counter itself, to be billed to us like any plugin's; 0 where the
 * kernel doesn't tell. */
uint64_t net_count_run_ns(const struct net_count *n);
void net_count_free(struct net_count *n);
DEFINE_CLEANUP(struct net_count *, net_count_free)
