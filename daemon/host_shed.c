// SPDX-License-Identifier: Apache-2.0
/* What plugins cost now, and how they cost less: steps of sampling, plugins taken away and brought
 * back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "daemon/host_internal.h"

#define LOG_MODULE "host"
#include "base/log.h"

/* Weight of the last second: what a plugin costs is what it cost in some three of them. */
#define RATE_NEW 0.3
/* A plugin below that share of the dearest one's cost is no help when it is gone. */
#define WORTH_SHARE 0.1

void slot_stored(const struct slot *s, uint64_t *ret_rows, uint64_t *ret_bytes)
{
	uint64_t rows = 0, bytes = 0;

	if (s->host->o.stored)
		s->host->o.stored(s->host->o.ctx, s->plugin, &rows, &bytes);
	*ret_rows = rows - s->stored_before;
	*ret_bytes = bytes - s->stored_bytes_before;
}

static struct slot_totals totals(const struct slot *s, uint64_t now_ns)
{
	struct slot_totals t = {
		.at_ns = now_ns,
		.run_ns = s->run_ns,
		.runs = s->runs,
		.user_ns = s->user_ns,
		.events = s->in.count.events,
		.rows = s->in.count.rows,
		.sampled = s->in.count.kernel[PLUGIN_STAT_SAMPLED],
	};

	slot_stored(s, &t.stored, &t.stored_bytes);
	return t;
}

static double per_second(uint64_t now, uint64_t before, uint64_t elapsed_ns)
{
	return now > before ? (double)(now - before) * 1e9 / (double)elapsed_ns : 0;
}

/* Between two looks. ns a second are millionths of millicores. */
static struct plugin_cost cost_between(const struct slot_totals *was, const struct slot_totals *now)
{
	uint64_t elapsed = now->at_ns - was->at_ns;

	return (struct plugin_cost){
		.events = per_second(now->events, was->events, elapsed),
		.runs = per_second(now->runs, was->runs, elapsed),
		.rows = per_second(now->rows, was->rows, elapsed),
		.rows_stored = per_second(now->stored, was->stored, elapsed),
		.bytes_stored = per_second(now->stored_bytes, was->stored_bytes, elapsed),
		.kernel_mcores = per_second(now->run_ns, was->run_ns, elapsed) / 1e6,
		.user_mcores = per_second(now->user_ns, was->user_ns, elapsed) / 1e6,
	};
}

static void smooth(double *value, double now)
{
	*value += RATE_NEW * (now - *value);
}

void slot_rate(struct slot *s, uint64_t now_ns)
{
	const struct slot_totals now = totals(s, now_ns), was = s->rated;
	struct plugin_cost cost, *c = &s->now;

	s->rated = now;
	if (!was.at_ns || now.at_ns <= was.at_ns)
		return;
	cost = cost_between(&was, &now);
	smooth(&c->events, cost.events);
	smooth(&c->runs, cost.runs);
	smooth(&c->rows, cost.rows);
	smooth(&c->rows_stored, cost.rows_stored);
	smooth(&c->bytes_stored, cost.bytes_stored);
	smooth(&c->kernel_mcores, cost.kernel_mcores);
	smooth(&c->user_mcores, cost.user_mcores);
}

/* What isn't a rate. */
static void tell_cost(const struct slot *s, struct plugin_cost *cost, host_cost_fn fn, void *arg)
{
	cost->plugin = s->plugin->name;
	cost->map_bytes = s->map_bytes;
	cost->ring_bytes = s->ring_bytes;
	cost->shed_step = slot_shed_step(s);
	if (cost->runs > 0)
		cost->run_time_avg = cost->kernel_mcores * 1e6 / cost->runs;
	fn(arg, cost);
}

void host_costs(struct host *h, host_cost_fn fn, void *arg)
{
	uint64_t now_ns = clock_mono_ns();

	for (unsigned int i = 0; i < h->nslots; i++) {
		struct slot *s = &h->slots[i];
		struct slot_totals now, was = s->logged;
		struct plugin_cost cost;

		if (!s->loaded)
			continue;
		now = totals(s, now_ns);
		s->logged = now;
		if (!was.at_ns || now.at_ns <= was.at_ns)
			continue; /* its first interval begins here */
		cost = cost_between(&was, &now);
		cost.sampled = now.sampled - was.sampled;
		tell_cost(s, &cost, fn, arg);
	}
}

void host_costs_now(struct host *h, host_cost_fn fn, void *arg)
{
	for (unsigned int i = 0; i < h->nslots; i++) {
		struct slot *s = &h->slots[i];
		struct plugin_cost cost = s->now;

		if (!s->loaded)
			continue;
		cost.sampled = s->in.count.kernel[PLUGIN_STAT_SAMPLED];
		tell_cost(s, &cost, fn, arg);
	}
}

static double slot_cost(const struct slot *s, enum resource r)
{
	switch (r) {
	case RESOURCE_MEM:
		return (double)s->map_bytes;
	case RESOURCE_NET:
		return s->now.rows;
	case RESOURCE_KERNEL_CPU:
		return s->now.kernel_mcores;
	default:
		return s->now.kernel_mcores + s->now.user_mcores;
	}
}

static bool worth(const struct host *h, const struct slot *s, enum resource r)
{
	double most = 0;

	for (unsigned int i = 0; i < h->nslots; i++)
		if (h->slots[i].loaded && slot_cost(&h->slots[i], r) > most)
			most = slot_cost(&h->slots[i], r);
	return s->loaded && slot_cost(s, r) >= WORTH_SHARE * most;
}

static int64_t priority(const struct slot *s)
{
	if (opt_origin(s->opts, "priority") == OPT_ORIGIN_DEFAULT && s->plugin->default_priority)
		return s->plugin->default_priority;
	return opt_i64(s->opts, "priority");
}

unsigned int slot_shed_step(const struct slot *s)
{
	unsigned int step = s->host->shed_step;

	if (slot_samples(s))
		return s->in.sampling.depth;
	return step < s->shed_steps ? step : s->shed_steps;
}

void slot_shed_apply(struct slot *s)
{
	unsigned int step = s->host->shed_step;
	uint64_t was = s->in.interval_ns;
	struct err err = {0};
	int r = 0;

	s->in.interval_ns = s->in.base_interval_ns;
	if (s->plugin->shed)
		r = s->plugin->shed(&s->in, slot_samples(s) && s->ring_watch.step > step
						    ? s->ring_watch.step
						    : step);
	if (r < 0)
		log_warn_errno(r, "plugin %s can't cost less, it goes on as it is",
			       s->plugin->name);
	s->shed_steps = r > 0 ? (unsigned int)r : 0;
	if (s->in.interval_ns != was && s->tick && slot_tick_start(s, &err) < 0)
		log_warn("plugin %s: %s", s->plugin->name, err.msg);
}

void host_can_shed(const struct host *h, struct host_can *ret)
{
	*ret = (struct host_can){.unstep = h->shed_step > 0};
	for (unsigned int i = 0; i < h->nslots; i++) {
		const struct slot *s = &h->slots[i];

		ret->plugin |= s->loaded;
		ret->unplugin |= s->shed_off;
		ret->step |= s->shed_steps > h->shed_step && worth(h, s, RESOURCE_CPU);
	}
}

/* "netflow: every 40s" */
static void say_interval(const struct slot *s, char *said, size_t cap)
{
	char interval[32];

	units_format_duration(interval, sizeof(interval), s->in.interval_ns);
	snprintf(said, cap, "every %s", interval);
}

/* Puts the step in force and says what that means. */
static void shed_slot(struct slot *s, char *said, size_t cap)
{
	uint64_t before = sampling_now(&s->in.sampling)->cgroup;
	size_t len = strlen(said);
	char interval[48];

	slot_shed_apply(s);
	if (!s->shed_steps)
		return;
	say_interval(s, interval, sizeof(interval));
	if (slot_samples(s))
		slot_sampling_take(s);
	snprintf(said + len, cap - len, "%s%s: %s", len ? ", " : "", s->plugin->name,
		 slot_samples(s) ? s->sampled_text : interval);
	if (before || s->sampled.cgroup)
		slot_changed(s, "plugin_sampling", s->sampled_text, "governor");
	else
		s->sampled.text = NULL;
}

int host_shed_step(struct host *h, int by, char *said, size_t cap)
{
	unsigned int most = 0;

	said[0] = '\0';
	for (unsigned int i = 0; i < h->nslots; i++)
		if (h->slots[i].loaded && h->slots[i].shed_steps > most)
			most = h->slots[i].shed_steps;
	if (by > 0 && h->shed_step >= most)
		return -ENOENT;
	if (by < 0 && !h->shed_step)
		return -ENOENT;
	/* Who had the most steps may be gone since. */
	h->shed_step =
		by > 0 ? h->shed_step + 1 : (h->shed_step > most && most ? most : h->shed_step) - 1;
	for (unsigned int i = 0; i < h->nslots; i++)
		if (h->slots[i].loaded)
			shed_slot(&h->slots[i], said, cap);
	return 0;
}

int host_shed_plugin(struct host *h, enum resource r, const char *reason, const char **ret_name)
{
	struct slot *worst = NULL;

	for (unsigned int i = 0; i < h->nslots; i++) {
		struct slot *s = &h->slots[i];

		if (!worth(h, s, r))
			continue;
		if (!worst || priority(s) < priority(worst) ||
		    (priority(s) == priority(worst) && slot_cost(s, r) > slot_cost(worst, r)))
			worst = s;
	}
	if (!worst)
		return -ENOENT;
	/* The timer of "for 5m" runs on: when its time is up the plugin stays away. */
	slot_unload(worst);
	host_drain_update(h);
	worst->enabled_at = 0;
	worst->shed_off = true;
	slot_set_state(worst, PLUGIN_STATE_DISABLED, reason);
	log_warn("plugin %s disabled: %s", worst->plugin->name, reason);
	slot_changed(worst, "plugin_disabled", reason, "governor");
	*ret_name = worst->plugin->name;
	return 0;
}

int host_unshed_plugin(struct host *h, const char **ret_name)
{
	struct slot *best = NULL;

	for (unsigned int i = 0; i < h->nslots; i++) {
		struct slot *s = &h->slots[i];

		if (s->shed_off && (!best || priority(s) > priority(best)))
			best = s;
	}
	if (!best)
		return -ENOENT;
	*ret_name = best->plugin->name;
	return slot_start(best, "governor", NULL); /* a failure is logged and reported by it */
}

void host_unshed_all(struct host *h)
{
	const char *name;

	h->shed_step = 0;
	for (unsigned int i = 0; i < h->nslots; i++)
		if (h->slots[i].loaded)
			slot_shed_apply(&h->slots[i]);
	for (unsigned int i = 0; i < h->nslots; i++)
		(void)host_unshed_plugin(h, &name); /* -ENOENT behind the last */
}
