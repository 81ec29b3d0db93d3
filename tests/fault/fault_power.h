// SPDX-License-Identifier: Apache-2.0
/* Which bytes of a file a power loss may take: what fault_vfs.c tells of its calls. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct power_file;

/* NULL: not recording, or nothing under the recorded directory. */
struct power_file *power_open(const char *path);
void power_close(struct power_file *f);
/* Around the real call: begin waits for a cut at work, the other ends it. p == NULL: truncated to
 * off. */
void power_begin(struct power_file *f);
void power_write(struct power_file *f, const void *p, size_t len, uint64_t off, bool ok);
void power_sync(struct power_file *f, bool ok);
