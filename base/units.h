// SPDX-License-Identifier: Apache-2.0
/* Sizes, rates, CPU shares and durations as people write them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Bytes: "4GiB", "4G", "100MB", "512k", "1048576". K, KB, M, MB, G, GB, T, TB are 1000-based; KiB, MiB, GiB, TiB
 * 1024-based; any case; a fraction is allowed ("1.5GiB"); "0" means 0. A bare number is bytes.
 * -EINVAL with the input and the accepted forms in *err for anything else; -ERANGE above INT64_MAX.
 */
int units_parse_bytes(const char *text, uint64_t *ret, struct err *err);
/* Bytes per second: as bytes, with an optional "/s". */
int units_parse_rate(const char *text, uint64_t *ret, struct err *err);
/* Cores: "2.0", "0.5", "150%" -> millicores (2000, 500, 1500). */
int units_parse_cpu(const char *text, uint64_t *ret_millicores, struct err *err);
/* "10s", "500ms", "1h30m", "2d", "250us", "1w", "0" -> nanoseconds. A bare number other than 0 is refused. */
int units_parse_duration(const char *text, uint64_t *ret_ns, struct err *err);

/* Shortest exact-enough text: "1.5GiB", "12.3MiB/s" (caller adds /s), "10s", "1h30m"; returns dst. */
char *units_format_bytes(char *dst, size_t cap, uint64_t bytes);
char *units_format_duration(char *dst, size_t cap, uint64_t ns);
