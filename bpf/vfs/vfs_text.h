// SPDX-License-Identifier: Apache-2.0
/* Texts of vfs rows from what the kernel half wrote: pure functions over bytes of others. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* No empty and no "." names, and no slash at the end: as nearly all are. */
bool vfs_path_is_clean(const char *path, size_t len);
/*
 * An absolute path without those. ".." stays: a name before it may be a symbolic link. cut: there
 * is more above; then it begins with "...".
 */
void vfs_path_clean(struct buf *b, const char *path, size_t len, bool cut);
