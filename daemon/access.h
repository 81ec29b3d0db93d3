// SPDX-License-Identifier: Apache-2.0
/* Who read what: rows of the table access_log. */
#pragma once

#include "api/ops.h"

struct access_log;
struct daemon;

int access_new(struct access_log **ret, struct daemon *d);
void access_free(struct access_log *a);
/* Once the store is up: rows go on behind those that it holds. */
void access_seed(struct access_log *a);
/* api_ops.access: keeps the read until the loop publishes it. Any thread, never blocks for long. */
void control_access(void *ctx, const struct api_access *access);
/* Publishes what was kept. Loop thread, each second and when the API is down. */
void access_flush(struct access_log *a);
