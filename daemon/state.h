// SPDX-License-Identifier: Apache-2.0
/* The state directory: made, locked against a second daemon, and its small JSON files written whole
 * or not at all. */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "base/macro.h"

#define _cleanup_json_ _cleanup_(json_decrefp)

/* Makes the directory (0750) and takes its lock; *ret_fd holds it as long as it's open. -EBUSY:
 * another daemon runs there. */
int state_lock(const char *dir, int *ret_fd, struct err *err);
/* -ENOENT if there is no such file; -EINVAL if it isn't a JSON object. The caller drops the
 * reference. */
int state_read(const char *dir, const char *name, json_t **ret, struct err *err);
/* By a temporary file, fsync and rename: a crash leaves the old one or the new one. */
int state_write(const char *dir, const char *name, const json_t *object, struct err *err);
