// SPDX-License-Identifier: Apache-2.0
/* What we cost right now, from files and maps opened at start: no allocation after usage_new(). */
#pragma once

#include "governor/governor.h"

struct usage;

/*
 * place isn't owned. What can't be had (no cgroup2 leaf for the traffic counter) isn't an error:
 * that metric is invalid in every sample, and usage_lost() says why.
 */
int usage_new(struct usage **ret, struct cgroup_place *place,
	      void (*bpf_cost)(void *ctx, uint64_t *, uint64_t *), void *ctx, struct err *err);
/*
 * Rates are means over the last second, however often this is called; the first sample has none.
 * The governor's thread only.
 */
void usage_take(struct usage *u, enum net_scope scope, uint64_t now_ns, struct governor_usage *ret);
/* "" when nothing is. */
const char *usage_lost(const struct usage *u);
/* Interfaces that found no room in the table, so far. */
uint64_t usage_interfaces_skipped(const struct usage *u);
void usage_free(struct usage *u);
DEFINE_CLEANUP(struct usage *, usage_free)
