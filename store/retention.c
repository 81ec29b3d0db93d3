// SPDX-License-Identifier: Apache-2.0
/* Pure decisions; the ring asks before and after each transaction. */
#include "store/retention.h"

#include <stddef.h>

static uint64_t apart(int64_t a, int64_t b)
{
	return a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
}

uint64_t retention_clock_now(struct retention_clock *c, uint64_t real_ns, uint64_t boot_ns,
			     int64_t *jump)
{
	uint64_t expected = c->real_ns + (boot_ns - c->boot_ns);
	int64_t off = (int64_t)(real_ns - expected);

	*jump = 0;
	if (!c->real_ns || apart(off, 0) < RETENTION_JUMP_NS) {
		*c = (struct retention_clock){.real_ns = real_ns, .boot_ns = boot_ns};
		return real_ns;
	}
	if (!c->jumped_ns || apart(off, c->jump_ns) >= RETENTION_JUMP_NS) {
		*jump = c->jumped_ns ? off - c->jump_ns : off;
		c->jumped_ns = boot_ns ? boot_ns : 1;
		c->jump_ns = off;
	}
	if (boot_ns - c->jumped_ns < RETENTION_SETTLE_NS)
		return expected < real_ns ? expected : real_ns;
	*c = (struct retention_clock){.real_ns = real_ns, .boot_ns = boot_ns};
	return real_ns;
}

uint64_t retention_max_bytes(uint64_t max_bytes, uint64_t used, uint64_t avail, uint64_t reserve)
{
	uint64_t room;

	if (avail >= reserve)
		room = used + (avail - reserve);
	else
		room = used > reserve - avail ? used - (reserve - avail) : 0;
	return room < max_bytes ? room : max_bytes;
}

uint64_t retention_budget(uint64_t max_bytes, unsigned int files)
{
	uint64_t budget = max_bytes / files;

	return budget < RETENTION_SEGMENT_MIN ? RETENTION_SEGMENT_MIN : budget;
}

const char *retention_rotate(const struct ring_limits *limits, const struct retention_state *st)
{
	uint64_t budget = retention_budget(st->max_bytes, st->files), bytes = st->live_bytes;

	if (st->sealed_permille > 1000)
		bytes += bytes / 1000 * (st->sealed_permille - 1000);
	if (!st->live_rows)
		return NULL; /* nothing would be won: an empty segment holds nothing that could go
			      */
	/* An eighth is left for the transaction to come. */
	if (bytes >= budget - budget / 8)
		return "bytes";
	if (limits->max_rows && st->live_rows >= (limits->max_rows + st->files - 1) / st->files)
		return "rows";
	if (limits->max_age_ns && st->live_ts_min && st->now_ns > st->live_ts_min &&
	    st->now_ns - st->live_ts_min >= limits->max_age_ns / st->files)
		return "age";
	return NULL;
}

const char *retention_evict(const struct ring_limits *limits, const struct retention_state *st)
{
	if (st->segments < 2)
		return NULL; /* only the live one */
	if (st->segments > st->files)
		return "files";
	if (st->bytes > st->max_bytes)
		return "bytes";
	if (limits->max_rows && st->rows > limits->max_rows)
		return "rows";
	if (limits->max_age_ns && st->now_ns > limits->max_age_ns &&
	    st->oldest_ts_max < st->now_ns - limits->max_age_ns)
		return "age";
	return NULL;
}
