// SPDX-License-Identifier: Apache-2.0
/* Percentiles of waits that the kernel half counted in buckets. */
#include "bpf/sched/sched_waits.h"

uint64_t sched_bucket_ns(uint32_t bucket)
{
	uint32_t octave = bucket >> SCHED_BUCKET_BITS;
	uint64_t part = bucket & ((1 << SCHED_BUCKET_BITS) - 1), width;

	if (!octave)
		return part;
	width = 1ull << (octave - 1);
	return ((part | 1 << SCHED_BUCKET_BITS) << (octave - 1)) + width / 2;
}

uint64_t sched_percentile(const uint64_t waits[SCHED_BUCKETS], unsigned int percent)
{
	uint64_t total = 0, before = 0, want;

	for (uint32_t i = 0; i < SCHED_BUCKETS; i++)
		total += waits[i];
	/* The smallest number of waits that is percent of all: rounded up. */
	want = total / 100 * percent + (total % 100 * percent + 99) / 100;
	for (uint32_t i = 0; total && i < SCHED_BUCKETS; i++) {
		before += waits[i];
		if (before >= want)
			return sched_bucket_ns(i);
	}
	return 0;
}
