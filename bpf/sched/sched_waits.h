// SPDX-License-Identifier: Apache-2.0
/* Waits in buckets, see sched_bucket(): pure functions. */
#pragma once

#include <stdint.h>

#include "bpf/sched/sched.h"

/* What the waits of a bucket are taken for: its middle. */
uint64_t sched_bucket_ns(uint32_t bucket);
/* The wait that percent of all waits don't exceed; 0: there were none. percent 1..100. */
uint64_t sched_percentile(const uint64_t waits[SCHED_BUCKETS], unsigned int percent);
