// SPDX-License-Identifier: Apache-2.0
/* Pure decisions; the ring asks before and after each transaction. */
#include "store/retention.h"

#include <stddef.h>

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
	uint64_t budget = retention_budget(st->max_bytes, st->files);

	if (!st->live_rows)
		return NULL; /* nothing would be won: an empty segment holds nothing that could go
			      */
	/* An eighth is left for the transaction to come. */
	if (st->live_bytes >= budget - budget / 8)
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
