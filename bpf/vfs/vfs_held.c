// SPDX-License-Identifier: Apache-2.0
/* Requests that wait for their result: in the order in which they came, and by number. */
#include "bpf/vfs/vfs_held.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/macro.h"

/* Names may be long: 256 of the longest. */
#define HELD_BYTES (4u << 20)
#define BUCKETS	   1024u /* a power of two */

struct item {
	struct item *newer, *older;
	struct item *next; /* of its bucket */
	struct vfs_event *e;
	size_t len;
	uint64_t since;
};

struct vfs_held {
	struct item *oldest, *newest;
	struct item *buckets[BUCKETS];
	size_t n, bytes;
	uint64_t seed;
};

struct vfs_held *vfs_held_new(void)
{
	struct vfs_held *h = calloc(1, sizeof(*h));

	if (h)
		h->seed = hash_seed();
	return h;
}

static struct item **bucket(struct vfs_held *h, uint64_t request)
{
	return &h->buckets[hash_u64(h->seed, request) & (BUCKETS - 1)];
}

int vfs_held_add(struct vfs_held *h, const struct vfs_event *e, size_t len, uint64_t now_ns)
{
	struct item *it = calloc(1, sizeof(*it)), **at = bucket(h, e->request);

	if (it)
		it->e = malloc(len);
	if (!it || !it->e) {
		free(it);
		return -ENOMEM;
	}
	memcpy(it->e, e, len);
	it->len = len;
	it->since = now_ns;
	it->next = *at;
	*at = it;
	it->older = h->newest;
	if (h->newest)
		h->newest->newer = it;
	else
		h->oldest = it;
	h->newest = it;
	h->n++;
	h->bytes += len;
	return 0;
}

/* *at: in its bucket. */
static struct vfs_event *take(struct vfs_held *h, struct item **at, size_t *len)
{
	_cleanup_free_ struct item *it = *at;

	*at = it->next;
	if (it->older)
		it->older->newer = it->newer;
	else
		h->oldest = it->newer;
	if (it->newer)
		it->newer->older = it->older;
	else
		h->newest = it->older;
	h->n--;
	h->bytes -= it->len;
	*len = it->len;
	return it->e;
}

struct vfs_event *vfs_held_take(struct vfs_held *h, uint64_t request, size_t *len)
{
	for (struct item **at = bucket(h, request); *at; at = &(*at)->next)
		if ((*at)->e->request == request)
			return take(h, at, len);
	return NULL;
}

struct vfs_event *vfs_held_overdue(struct vfs_held *h, uint64_t before_ns, size_t *len)
{
	struct item *it = h->oldest;

	if (!it || (it->since > before_ns && h->n <= VFS_REQUESTS && h->bytes <= HELD_BYTES))
		return NULL;
	for (struct item **at = bucket(h, it->e->request); *at; at = &(*at)->next)
		if (*at == it)
			return take(h, at, len);
	return NULL;
}

uint64_t vfs_held_since(const struct vfs_held *h)
{
	return h->oldest ? h->oldest->since : 0;
}

void vfs_held_free(struct vfs_held *h)
{
	struct vfs_event *e;
	size_t len;

	while (h && (e = vfs_held_overdue(h, UINT64_MAX, &len)))
		free(e);
	free(h);
}
