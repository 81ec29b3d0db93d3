// SPDX-License-Identifier: Apache-2.0
/* Requests that were accepted, until their result comes or has been waited for long enough. */
/* No kernel and no clock in here. Loop thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bpf/vfs/vfs.h"

struct vfs_held;

/* NULL: no memory. */
struct vfs_held *vfs_held_new(void);
/* Frees what it still holds, too; NULL is fine. */
void vfs_held_free(struct vfs_held *h);
/* A copy of those len bytes (its header at least), by e->request. 0 or -ENOMEM. */
int vfs_held_add(struct vfs_held *h, const struct vfs_event *e, size_t len, uint64_t now_ns);
/* The one with that number, its length in *len; the caller's to free. NULL: it isn't here. */
struct vfs_event *vfs_held_take(struct vfs_held *h, uint64_t request, size_t *len);
/* The oldest one, if it has been here since before_ns or longer, or if there are more than there
 * may be; *len and whose it is as above. NULL: none. */
struct vfs_event *vfs_held_overdue(struct vfs_held *h, uint64_t before_ns, size_t *len);
/* When the oldest one came; 0: there is none. */
uint64_t vfs_held_since(const struct vfs_held *h);
