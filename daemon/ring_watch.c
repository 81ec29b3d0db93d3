// SPDX-License-Identifier: Apache-2.0
/* When the ring buffer of a plugin is too small for what comes: how much of it is left out. Pure.
 */
#include "daemon/ring_watch.h"

#include "base/clock.h"

/* One burst that the ring didn't hold is counted and over; the third look in a row is a load. */
#define BAD_LOOKS 3
/* Looks are a row as long as no more time than that is between two losses. */
#define BAD_GAP_NS (2 * NSEC_PER_SEC)
#define CALM_NS	   (10 * NSEC_PER_SEC)
/* Somebody who made the load go away sees every event again after that at the latest. */
#define CALM_MAX_NS (320 * NSEC_PER_SEC)

/* So many steps that what came would have had room: each one halves it. */
static unsigned int steps_for(uint64_t submitted, uint64_t lost)
{
	unsigned int steps = 1;

	while (steps < 32 && (submitted + lost) >> steps > submitted)
		steps++;
	return steps;
}

static int look_bad(struct ring_watch *w, uint64_t submitted, uint64_t lost, uint64_t now_ns,
		    unsigned int most)
{
	unsigned int steps;

	if (now_ns - w->bad_ns > BAD_GAP_NS)
		w->bad = 0;
	w->bad_ns = now_ns;
	w->lost += lost;
	if (++w->bad < BAD_LOOKS || w->step >= most)
		return 0;
	if (w->back_ns && now_ns - w->back_ns < w->calm_ns && w->calm_ns < CALM_MAX_NS)
		w->calm_ns *= 2;
	steps = steps_for(submitted, lost);
	if (steps > most - w->step)
		steps = most - w->step;
	w->bad = 0;
	w->step += steps;
	w->changed_ns = now_ns;
	return (int)steps;
}

int ring_watch_look(struct ring_watch *w, uint64_t submitted, uint64_t full, uint64_t now_ns,
		    unsigned int most)
{
	uint64_t new_submitted = submitted - w->submitted, lost = full - w->full;

	w->submitted = submitted;
	w->full = full;
	if (!w->calm_ns)
		w->calm_ns = CALM_NS;
	if (lost)
		return look_bad(w, new_submitted, lost, now_ns, most);
	if (!w->step) {
		if (w->calm_ns > CALM_NS && now_ns - w->bad_ns >= CALM_MAX_NS)
			w->calm_ns = CALM_NS;
		return 0;
	}
	if (now_ns - w->bad_ns < w->calm_ns || now_ns - w->changed_ns < w->calm_ns)
		return 0;
	w->step--;
	w->bad = 0;
	w->changed_ns = w->back_ns = now_ns;
	return -1;
}
