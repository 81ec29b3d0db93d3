// SPDX-License-Identifier: Apache-2.0
/* What of a plugin's events is left out: the noisiest cgroup's first, then all. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Rows are counted by cgroup in so many places (Metwally's space-saving): whoever makes more than a
 * sixteenth of them has one. */
#define SAMPLING_CGROUPS 16
/* 1 in 64: a little above one in a hundred, below which sums of samples mean nothing. */
#define SAMPLING_SHIFT_MAX 6
/* Six that sample all of them, and at most so many before that sample one cgroup. */
#define SAMPLING_STEPS_MAX (2 * SAMPLING_SHIFT_MAX)

struct sampling_step {
	uint64_t cgroup;	      /* its id in the unified hierarchy; 0: none */
	uint32_t shift, cgroup_shift; /* one event in 2^shift is kept of all others, and of its */
};

struct sampling_cgroup {
	uint64_t id;
	double events; /* those that rows stand for; fewer and fewer as they get older */
	double over;   /* of them, what may have been somebody else's */
};

/* Zeroed at the start of a plugin. */
struct sampling {
	struct sampling_cgroup cgroups[SAMPLING_CGROUPS];
	double events;	/* of all cgroups */
	double seconds; /* that these counts are of */
	uint64_t at_ns;
	struct sampling_step steps[SAMPLING_STEPS_MAX + 1]; /* [0]: every event is kept */
	unsigned int depth;				    /* steps[depth] is in force */
};

/* A row that stands for so many events of that cgroup. */
void sampling_count(struct sampling *s, uint64_t cgroup_id, uint32_t events);
/*
 * Takes steps until so many are in force, or none is left. Each one halves what is kept of the
 * events that come now: by leaving out more of the cgroup that makes most of them, as long as that
 * is enough, else more of all. Returns how many steps there are at least.
 */
unsigned int sampling_to(struct sampling *s, unsigned int steps);
/*
 * Each second. True: steps[depth] has changed, because now a cgroup stands out that does in place
 * of all; the steps that were taken before anybody could tell are taken anew.
 */
bool sampling_second(struct sampling *s, uint64_t now_ns);

static inline const struct sampling_step *sampling_now(const struct sampling *s)
{
	return &s->steps[s->depth];
}

/* Events a second of all cgroups together; cgroup: of that one, at least. */
double sampling_rate(const struct sampling *s, uint64_t now_ns);
double sampling_rate_of(const struct sampling *s, uint64_t cgroup, uint64_t now_ns);
