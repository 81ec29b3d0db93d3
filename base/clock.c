// SPDX-License-Identifier: Apache-2.0
/* Clocks in nanoseconds and the texts that people read. */
#include "base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t clock_read(clockid_t id)
{
	struct timespec ts = {};

	clock_gettime(id, &ts); /* cannot fail: the id is known and the pointer is ours */
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

uint64_t clock_real_ns(void)
{
	return clock_read(CLOCK_REALTIME);
}

uint64_t clock_mono_ns(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_boot_ns(void)
{
	return clock_read(CLOCK_BOOTTIME);
}

uint64_t clock_boot_to_real(uint64_t boot_ns)
{
	static _Atomic uint64_t offset, measured_at;
	uint64_t before = clock_boot_ns(), at = atomic_load(&measured_at);

	/* Two threads may measure at once: both results are right. */
	if (!at || before - at >= NSEC_PER_SEC) {
		uint64_t real = clock_real_ns(), after = clock_boot_ns();

		atomic_store(&offset, real - (before + (after - before) / 2));
		atomic_store(&measured_at, before);
	}
	return boot_ns + atomic_load(&offset);
}

char *clock_format_rfc3339(char dst[static 40], uint64_t real_ns)
{
	time_t sec = real_ns / NSEC_PER_SEC;
	char date[32], zone[8];
	struct tm tm = {};

	localtime_r(&sec, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%z", &tm); /* "+0100": RFC 3339 wants a colon inside */
	snprintf(dst, 40, "%.25s.%03u%.3s:%.2s", date,
		 (unsigned int)(real_ns % NSEC_PER_SEC / NSEC_PER_MSEC), zone, zone + 3);
	return dst;
}
