// SPDX-License-Identifier: Apache-2.0
/* What of a plugin's events is left out: the noisiest cgroup's first, then all. Pure. */
#include "bpf/sampling.h"

#include <stddef.h>

#include "base/clock.h"

/* What is left of counts after a second: they tell of some three seconds, as costs do. */
#define KEEP 0.7
/* Fewer say nothing of who makes them. */
#define EVENTS_MIN 64
/* A step is to halve what is kept: a cgroup that makes all but one of 250 does that by itself. */
#define HALF 0.502
/* One that takes less than a tenth away is no help. */
#define NO_HELP 0.9

void sampling_count(struct sampling *s, uint64_t cgroup_id, uint32_t events)
{
	struct sampling_cgroup *least = s->cgroups;

	s->events += events;
	if (!cgroup_id)
		return;
	for (unsigned int i = 0; i < SAMPLING_CGROUPS; i++) {
		struct sampling_cgroup *c = &s->cgroups[i];

		if (c->id == cgroup_id) {
			c->events += events;
			return;
		}
		if (c->events < least->events)
			least = c;
	}
	*least = (struct sampling_cgroup){cgroup_id, least->events + events, least->events};
}

/* Surely its own. */
static double events_of(const struct sampling *s, uint64_t cgroup)
{
	for (unsigned int i = 0; cgroup && i < SAMPLING_CGROUPS; i++)
		if (s->cgroups[i].id == cgroup)
			return s->cgroups[i].events - s->cgroups[i].over;
	return 0;
}

static uint64_t noisiest(const struct sampling *s)
{
	const struct sampling_cgroup *most = s->cgroups;

	for (unsigned int i = 1; i < SAMPLING_CGROUPS; i++)
		if (s->cgroups[i].events - s->cgroups[i].over > most->events - most->over)
			most = &s->cgroups[i];
	return most->id;
}

/* Of the events that come now. */
static double kept(const struct sampling *s, const struct sampling_step *step)
{
	double its = events_of(s, step->cgroup);

	return its / (double)(1u << step->cgroup_shift) +
	       (s->events - its) / (double)(1u << step->shift);
}

/* False: however much of the noisiest cgroup is left out, more than half would be kept. */
static bool step_cgroup(const struct sampling *s, struct sampling_step *step)
{
	struct sampling_step next = *step;
	double half = kept(s, step) * HALF;

	if (s->events < EVENTS_MIN)
		return false;
	next.cgroup = noisiest(s);
	if (next.cgroup != step->cgroup)
		next.cgroup_shift = step->shift;
	while (next.cgroup && next.cgroup_shift < SAMPLING_SHIFT_MAX) {
		next.cgroup_shift++;
		if (kept(s, &next) <= half) {
			*step = next;
			return true;
		}
	}
	return false;
}

/* Where all others make next to nothing, halving what they make is no step. */
static bool step_all(const struct sampling *s, struct sampling_step *step)
{
	double before = kept(s, step);

	if (step->shift == SAMPLING_SHIFT_MAX)
		return false;
	do {
		step->shift++;
		if (step->cgroup_shift < SAMPLING_SHIFT_MAX)
			step->cgroup_shift++;
	} while (s->events >= EVENTS_MIN && step->shift < SAMPLING_SHIFT_MAX &&
		 kept(s, step) > before * NO_HELP);
	return true;
}

unsigned int sampling_to(struct sampling *s, unsigned int steps)
{
	if (steps < s->depth)
		s->depth = steps;
	while (s->depth < steps && s->depth < SAMPLING_STEPS_MAX) {
		struct sampling_step next = *sampling_now(s);
		bool first = s->depth - next.shift < SAMPLING_SHIFT_MAX;

		if (!(first && step_cgroup(s, &next)) && !step_all(s, &next))
			break;
		s->steps[++s->depth] = next;
	}
	return s->depth + SAMPLING_SHIFT_MAX - sampling_now(s)->shift;
}

bool sampling_second(struct sampling *s, uint64_t now_ns)
{
	struct sampling fresh = {0};

	if (s->at_ns)
		s->seconds += (double)(now_ns - s->at_ns) / (double)NSEC_PER_SEC;
	s->at_ns = now_ns;
	s->seconds *= KEEP;
	s->events *= KEEP;
	for (unsigned int i = 0; i < SAMPLING_CGROUPS; i++) {
		s->cgroups[i].events *= KEEP;
		s->cgroups[i].over *= KEEP;
	}
	if (!sampling_now(s)->shift)
		return false;
	fresh = *s;
	fresh.depth = 0;
	sampling_to(&fresh, s->depth);
	if (fresh.depth < s->depth || sampling_now(&fresh)->shift >= sampling_now(s)->shift)
		return false;
	*s = fresh;
	return true;
}

static double per_second(const struct sampling *s, double events, uint64_t now_ns)
{
	double seconds = s->seconds;

	if (s->at_ns && now_ns > s->at_ns)
		seconds += (double)(now_ns - s->at_ns) / (double)NSEC_PER_SEC;
	return seconds > 0 ? events / seconds : 0;
}

double sampling_rate(const struct sampling *s, uint64_t now_ns)
{
	return per_second(s, s->events, now_ns);
}

double sampling_rate_of(const struct sampling *s, uint64_t cgroup, uint64_t now_ns)
{
	return per_second(s, events_of(s, cgroup), now_ns);
}
