// SPDX-License-Identifier: Apache-2.0
/* What ticks have reported of long-lived TCP connections: by id, open addressing. */
#include "bpf/netflow/netflow_priv.h"

#include <errno.h>
#include <string.h>

#define SEEN_FIRST 256u

int seen_init(struct seen_table *t, uint32_t max)
{
	memset(t, 0, sizeof(*t));
	t->max = max;
	return 0;
}

void seen_free(struct seen_table *t)
{
	free(t->slots);
	memset(t, 0, sizeof(*t));
}

/* Ids are counted up by the kernel side: any odd factor spreads them. */
static uint32_t home(const struct seen_table *t, uint64_t id)
{
	return (uint32_t)((id * 0x9e3779b97f4a7c15ull) >> 32) & (t->nslots - 1);
}

struct seen *seen_find(struct seen_table *t, uint64_t id)
{
	if (!t->nslots)
		return NULL;
	for (uint32_t i = home(t, id); t->slots[i].id; i = (i + 1) & (t->nslots - 1))
		if (t->slots[i].id == id)
			return &t->slots[i];
	return NULL;
}

static struct seen *place(struct seen_table *t, uint64_t id)
{
	uint32_t i = home(t, id);

	while (t->slots[i].id)
		i = (i + 1) & (t->nslots - 1);
	return &t->slots[i];
}

static int seen_resize(struct seen_table *t, uint32_t nslots)
{
	struct seen_table new = {.nslots = nslots, .n = t->n, .max = t->max};

	new.slots = calloc(nslots, sizeof(*new.slots));
	if (!new.slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nslots; i++)
		if (t->slots[i].id)
			*place(&new, t->slots[i].id) = t->slots[i];
	free(t->slots);
	*t = new;
	return 0;
}

struct seen *seen_add(struct seen_table *t, uint64_t id)
{
	struct seen *s;

	if (t->n >= t->max)
		return NULL;
	if ((t->n + 1) * 4 > t->nslots * 3 &&
	    seen_resize(t, t->nslots ? t->nslots * 2 : SEEN_FIRST) < 0)
		return NULL;
	s = place(t, id);
	memset(s, 0, sizeof(*s));
	s->id = id;
	t->n++;
	return s;
}

/* Moves back those that the hole would hide, so that no marks of the dead are needed. */
void seen_del(struct seen_table *t, struct seen *s)
{
	uint32_t mask = t->nslots - 1, hole = (uint32_t)(s - t->slots);

	for (uint32_t i = (hole + 1) & mask; t->slots[i].id; i = (i + 1) & mask) {
		uint32_t want = home(t, t->slots[i].id);

		if (((i - want) & mask) < ((i - hole) & mask))
			continue; /* at home between the hole and here */
		t->slots[hole] = t->slots[i];
		hole = i;
	}
	memset(&t->slots[hole], 0, sizeof(t->slots[hole]));
	t->n--;
}

uint32_t seen_expire(struct seen_table *t, uint32_t pass)
{
	uint32_t gone = 0;

	for (uint32_t i = 0; i < t->nslots; i++) {
		/* Another may have moved into the slot. */
		while (t->slots[i].id && (int32_t)(t->slots[i].pass - pass) < 0) {
			seen_del(t, &t->slots[i]);
			gone++;
		}
	}
	if (t->nslots > SEEN_FIRST && t->n < t->nslots / 8)
		(void)seen_resize(t, t->nslots / 2); /* it only would have saved memory */
	return gone;
}
