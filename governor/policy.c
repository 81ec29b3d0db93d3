// SPDX-License-Identifier: Apache-2.0
/* The governor's rules: when to shed, when to report, when to end the process. */
#include "governor/policy.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"

/* Marks as shares of the limit. The gap between entering (80, 90) and leaving (70) keeps levels
 * from flapping. */
#define WARN_SHARE 0.80
#define HIGH_SHARE 0.90
#define CALM_SHARE 0.70

/* A burst of start-up work or one query shorter than that is no reason to lose data. */
#define WARN_DWELL_NS (3 * NSEC_PER_SEC)
#define HIGH_DWELL_NS (5 * NSEC_PER_SEC)
/* Coming back costs a re-attach and risks the next breach, so it is slower the harder the step was:
 * 300 s of calm for the first plugin, 60 s for each further one, 30 s for a step of sampling. */
#define RECOVERY_NS   (300 * NSEC_PER_SEC)
#define ENABLE_PART   5
#define UNSAMPLE_PART 10
/* Rates are means over a second: after an act, one second until it is done and one to measure. */
#define SETTLE_NS (2 * NSEC_PER_SEC)

/* A quota pins usage at the limit, so it never "exceeds"; being held this much for this long is the
 * same thing. */
#define THROTTLED_SHARE	   0.50
#define THROTTLED_DWELL_NS (15 * NSEC_PER_SEC)

/*
 * Rates are means over a second; while sampling faster, two looks at the same second must not count
 * twice. Below the one-second interval by its usual jitter.
 */
#define OVER_SPACING_NS (900 * NSEC_PER_MSEC)

#define OVER_EXIT	2 /* limit_action exit: seen twice in a row */
#define OVER_EXIT_SHED	3 /* shed with nothing left to shed: the two steps, then out */
#define OVER_EXIT_SHEDDING \
	10 /* shed, and for ten seconds the steps that were asked for were not taken */
#define OVER_REPORT 2

static const char *const resource_names[] = {"cpu", "mem", "net", "kernel_cpu"};
static_assert(ARRAY_SIZE(resource_names) == RESOURCE_X_MAX, "one name a resource");

static const char *const level_names[] = {"ok", "sample", "disable", "exit"};
static_assert(ARRAY_SIZE(level_names) == GOVERNOR_X_MAX, "one name a level");

static const char *const act_names[] = {"", "sample", "disable", "enable", "unsample", "restore"};
static_assert(ARRAY_SIZE(act_names) == POLICY_ACT_X_MAX, "one name an act");

const char *const limit_action_names[] = {"shed", "exit", "report", NULL};
static_assert(ARRAY_SIZE(limit_action_names) == LIMIT_ACTION_X_MAX + 1, "one name an action");

const char *const net_scope_names[] = {"self", "nic", NULL};
static_assert(ARRAY_SIZE(net_scope_names) == NET_SCOPE_X_MAX + 1, "one name a scope");

int policy_exit_code(enum resource resource)
{
	return 81 + (int)(resource == RESOURCE_KERNEL_CPU ? RESOURCE_CPU : resource);
}

const char *resource_name(enum resource resource)
{
	return (unsigned int)resource < RESOURCE_X_MAX ? resource_names[resource] : "unknown";
}

const char *policy_act_name(enum policy_act act)
{
	return (unsigned int)act < POLICY_ACT_X_MAX ? act_names[act] : "unknown";
}

const char *governor_level_name(enum governor_level level)
{
	return (unsigned int)level < GOVERNOR_X_MAX ? level_names[level] : "unknown";
}

/* What one sample says about one resource. */
struct reading {
	bool known;	/* a limit is set and the value could be measured */
	bool over;	/* the limit is exceeded */
	bool throttled; /* over only because the quota holds us */
	double share;	/* of the limit */
};

static void since_set(uint64_t *since, bool holds, uint64_t now_ns)
{
	if (!holds)
		*since = 0;
	else if (!*since)
		*since = now_ns;
}

static bool since_reached(uint64_t since, uint64_t now_ns, uint64_t dwell_ns)
{
	return since && now_ns - since >= dwell_ns;
}

static struct reading reading_take(struct policy_state *state, const struct policy_limits *limits,
				   const struct policy_sample *sample, enum resource r)
{
	struct reading ret = {0};
	uint64_t limit = limits->limit[r], value = sample->value[r];

	if (!limit || !sample->valid[r])
		return ret;
	ret.known = true;
	ret.share = (double)value / (double)limit;
	/* Memory at its limit has nowhere to go; a rate at its limit is within it. */
	ret.over = r == RESOURCE_MEM ? value >= limit : value > limit;
	if (r == RESOURCE_CPU && !ret.over &&
	    since_reached(state->throttled_since, sample->now_ns, THROTTLED_DWELL_NS)) {
		ret.over = true;
		ret.throttled = true;
	}
	return ret;
}

static void over_count(struct policy_state *state, enum resource r, bool over, uint64_t now_ns)
{
	if (!over) {
		state->over[r] = 0;
		state->over_counted_ns[r] = 0;
	} else if (!state->over[r] || now_ns - state->over_counted_ns[r] >= OVER_SPACING_NS) {
		state->over[r]++;
		state->over_counted_ns[r] = now_ns;
	}
}

static bool must_exit(const struct policy_state *state, enum limit_action action,
		      const struct policy_sample *sample, const struct reading *reading,
		      enum resource r)
{
	uint32_t needed;

	if (!reading->over)
		return false;
	/* The next allocation may meet the kernel's own limit, and that ends in SIGKILL without a
	 * flush. */
	if (r == RESOURCE_MEM)
		return true;
	if (action == LIMIT_ACTION_EXIT)
		needed = OVER_EXIT;
	else if (sample->can_sample || sample->can_disable)
		needed = OVER_EXIT_SHEDDING;
	else
		needed = OVER_EXIT_SHED;
	return state->over[r] >= needed;
}

/* The step up that one resource asks for. Returns the level; *act stays NONE where there is none.
 */
static enum governor_level step_up(const struct policy_state *state,
				   const struct policy_sample *sample, enum resource r,
				   enum policy_act *act)
{
	uint64_t now = sample->now_ns;
	bool warn = state->over[r] || since_reached(state->warn_since[r], now, WARN_DWELL_NS);
	bool high = state->over[r] > 1 || since_reached(state->high_since[r], now, HIGH_DWELL_NS);
	/* Fewer events don't make maps and buffers smaller: for memory, sampling is no step. */
	bool can_sample = sample->can_sample && r != RESOURCE_MEM;

	if (state->level == GOVERNOR_OK && warn) {
		if (can_sample || r == RESOURCE_MEM)
			*act = POLICY_ACT_SAMPLE;
		return GOVERNOR_SAMPLE;
	}
	if (state->level == GOVERNOR_SAMPLE && warn && can_sample) {
		*act = POLICY_ACT_SAMPLE;
		return GOVERNOR_SAMPLE;
	}
	if (state->level >= GOVERNOR_SAMPLE && high) {
		if (sample->can_disable)
			*act = POLICY_ACT_DISABLE;
		return GOVERNOR_DISABLE;
	}
	return state->level;
}

/* Plugins first, one by one, then sampling, step by step, then the level. */
static enum governor_level step_back(struct policy_state *state, const struct policy_limits *limits,
				     const struct policy_sample *sample, enum policy_act *act)
{
	uint64_t now = sample->now_ns;
	uint64_t recovery = limits->recovery_ns ? limits->recovery_ns : RECOVERY_NS;

	if (state->level == GOVERNOR_DISABLE) {
		if (!since_reached(state->calm_since, now, recovery) ||
		    now - state->back_ns < recovery / ENABLE_PART)
			return GOVERNOR_DISABLE;
		if (!sample->can_enable)
			return GOVERNOR_SAMPLE;
		*act = POLICY_ACT_ENABLE;
		state->back_ns = now;
		return GOVERNOR_DISABLE;
	}
	if (!since_reached(state->calm_since, now, recovery / UNSAMPLE_PART))
		return GOVERNOR_SAMPLE;
	if (!sample->can_unsample)
		return GOVERNOR_OK;
	*act = POLICY_ACT_UNSAMPLE;
	state->calm_since = now;
	return GOVERNOR_SAMPLE;
}

/* The next level by the ladder; at most one step. *r is the resource that asks for it. */
static enum governor_level ladder_step(struct policy_state *state,
				       const struct policy_limits *limits,
				       const struct policy_sample *sample, enum resource *r,
				       enum policy_act *act)
{
	for (int i = 0; i < RESOURCE_X_MAX; i++) {
		enum governor_level next = step_up(state, sample, i, act);

		if (next != state->level || *act != POLICY_ACT_NONE) {
			*r = (enum resource)i;
			return next;
		}
	}
	return state->level > GOVERNOR_OK ? step_back(state, limits, sample, act) : GOVERNOR_OK;
}

static bool any_limit(const struct policy_limits *limits)
{
	for (int i = 0; i < RESOURCE_X_MAX; i++)
		if (limits->limit[i])
			return true;
	return false;
}

/* LIMIT_ACTION_REPORT: true when a breach begins or, well below the limit again, ends. *r is then
 * its resource. */
static bool report_step(struct policy_state *state, const struct reading *readings,
			enum resource *r)
{
	for (int i = 0; i < RESOURCE_X_MAX; i++) {
		bool begins = !state->reported[i] && state->over[i] >= OVER_REPORT;
		bool ends = state->reported[i] && !readings[i].over && readings[i].known &&
			    readings[i].share < HIGH_SHARE;

		if (begins || ends) {
			state->reported[i] = begins;
			*r = (enum resource)i;
			return true;
		}
	}
	return false;
}

static bool in_grace(const struct policy_state *state, const struct policy_limits *limits,
		     uint64_t now_ns)
{
	return now_ns - state->started_ns < limits->grace_ns;
}

/* Takes the sample into the history that the rules look at; returns the fullest resource. */
static enum resource state_update(struct policy_state *state, const struct policy_limits *limits,
				  const struct policy_sample *sample, struct reading *readings)
{
	uint64_t now = sample->now_ns;
	enum resource fullest = RESOURCE_CPU;
	bool counts = !in_grace(state, limits, now) && now >= state->settle_until_ns;
	bool throttled = sample->throttled > THROTTLED_SHARE && limits->limit[RESOURCE_CPU];
	bool calm = !throttled;

	since_set(&state->throttled_since, throttled && counts, now);
	for (int i = 0; i < RESOURCE_X_MAX; i++) {
		struct reading *rd = &readings[i];

		*rd = reading_take(state, limits, sample, i);
		over_count(state, i, rd->over && counts, now);
		since_set(&state->warn_since[i], rd->known && counts && rd->share > WARN_SHARE,
			  now);
		since_set(&state->high_since[i], rd->known && counts && rd->share > HIGH_SHARE,
			  now);
		calm = calm && !rd->over && (!rd->known || rd->share < CALM_SHARE);
		if (rd->share > readings[fullest].share)
			fullest = i;
	}
	since_set(&state->calm_since, calm, now);
	return fullest;
}

/* Enters the level and starts the dwell times that count from there. */
static void level_enter(struct policy_state *state, const struct policy_decision *d,
			uint64_t now_ns)
{
	/* One step back at a time: each has its own calm. */
	if (d->level < state->level)
		state->calm_since = now_ns;
	/* A step up must have had the time to show whether it was enough. */
	if (d->level > state->level)
		for (int i = 0; i < RESOURCE_X_MAX; i++)
			state->high_since[i] = state->high_since[i] ? now_ns : 0;
	if (d->act == POLICY_ACT_SAMPLE || d->act == POLICY_ACT_DISABLE) {
		state->settle_until_ns = now_ns + SETTLE_NS;
		memset(state->over, 0, sizeof(state->over));
		memset(state->warn_since, 0, sizeof(state->warn_since));
		memset(state->high_since, 0, sizeof(state->high_since));
		state->throttled_since = 0;
	}
	state->level = d->level;
}

struct policy_decision policy_step(struct policy_state *state, const struct policy_limits *limits,
				   const struct policy_sample *sample)
{
	struct reading readings[RESOURCE_X_MAX] = {0};
	struct policy_decision d = {0};
	bool told = false;

	if (!state->started_ns)
		state->started_ns = sample->now_ns ? sample->now_ns : 1;
	d.resource = state_update(state, limits, sample, readings);
	/* Whoever turns the ladder off, or takes the last limit away, gets everything back. */
	d.level = GOVERNOR_OK;
	if (state->level == GOVERNOR_EXIT)
		d.level = GOVERNOR_EXIT;
	else if (limits->action == LIMIT_ACTION_REPORT)
		told = report_step(state, readings, &d.resource);
	else if (limits->action == LIMIT_ACTION_SHED && any_limit(limits))
		d.level = ladder_step(state, limits, sample, &d.resource, &d.act);
	if (d.level == GOVERNOR_OK && state->level != GOVERNOR_OK)
		d.act = POLICY_ACT_RESTORE;

	for (int i = 0; i < RESOURCE_X_MAX; i++) {
		d.breach = d.breach || readings[i].over;
		if (d.level != GOVERNOR_EXIT && limits->action != LIMIT_ACTION_REPORT &&
		    !in_grace(state, limits, sample->now_ns) &&
		    must_exit(state, limits->action, sample, &readings[i], i)) {
			d.level = GOVERNOR_EXIT;
			d.act = POLICY_ACT_NONE;
			d.resource = i;
		}
	}
	d.changed = told || d.level != state->level || d.act != POLICY_ACT_NONE;
	level_enter(state, &d, sample->now_ns);
	d.throttled = readings[d.resource].throttled;
	d.value = sample->value[d.resource];
	d.limit = limits->limit[d.resource];
	return d;
}
