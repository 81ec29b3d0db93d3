// SPDX-License-Identifier: Apache-2.0
/* Clocks in nanoseconds and the texts that people read. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define NSEC_PER_SEC 1000000000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_USEC 1000ull

uint64_t clock_real_ns(void); /* since the Unix epoch */
uint64_t clock_mono_ns(void);
uint64_t clock_boot_ns(void); /* what bpf_ktime_get_boot_ns() returns */
/* Boot time to epoch; the offset is measured again every second, so a clock step is followed. Any thread. */
uint64_t clock_boot_to_real(uint64_t boot_ns);
/* Local RFC 3339 with milliseconds and offset, "2026-11-21T20:51:03.123+01:00"; returns dst. */
char *clock_format_rfc3339(char dst[static 40], uint64_t real_ns);
