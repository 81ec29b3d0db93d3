// SPDX-License-Identifier: Apache-2.0
/* Plugins that sample: when their own ring buffer asks for it, and what is said of it. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/host_internal.h"

#define LOG_MODULE "host"
#include "base/log.h"

bool slot_samples(const struct slot *s)
{
	return s->plugin->shed == instance_shed_sampling;
}

static void say(const struct host_sampling *h, char *dst, size_t cap)
{
	int n;

	if (!h->cgroup) {
		if (h->rate > 1)
			snprintf(dst, cap, "1 in %u events", h->rate);
		else
			snprintf(dst, cap, "every event");
		return;
	}
	n = snprintf(
		dst, cap,
		"1 in %u events of cgroup %llu (%.100s), which makes %.0f of its %.0f a second",
		h->cgroup_rate, (unsigned long long)h->cgroup, *h->path ? h->path : "gone",
		h->cgroup_events, h->events);
	if (h->rate > 1 && n > 0 && (size_t)n < cap)
		snprintf(dst + n, cap - (size_t)n, ", 1 in %u of all others", h->rate);
}

void slot_sampling_take(struct slot *s)
{
	const struct sampling *p = &s->in.sampling;
	const struct sampling_step *step = sampling_now(p);
	const struct enrich_ops *enrich = s->in.enrich;
	uint64_t now = clock_mono_ns();
	struct host_sampling *h = &s->sampled;

	*h = (struct host_sampling){
		.plugin = s->plugin->name,
		.text = s->sampled_text,
		.path = s->sampled_path,
		.rate = 1u << step->shift,
		.cgroup_rate = 1u << step->cgroup_shift,
		.events = sampling_rate(p, now),
	};
	s->sampled_path[0] = '\0';
	/* At the last steps all are treated alike. */
	if (step->cgroup && step->cgroup_shift != step->shift) {
		h->cgroup = step->cgroup;
		h->cgroup_events = sampling_rate_of(p, step->cgroup, now);
		if (enrich && enrich->cgroup_path)
			snprintf(s->sampled_path, sizeof(s->sampled_path), "%s",
				 enrich->cgroup_path(s->in.enrich_ctx, step->cgroup));
	}
	say(h, s->sampled_text, sizeof(s->sampled_text));
}

static void tell(struct slot *s, const char *why)
{
	char text[HOST_SAMPLING_TEXT + 96];

	slot_sampling_take(s);
	s->sampled.text = NULL; /* no act of the governor */
	snprintf(text, sizeof(text), "%s: %s", s->sampled_text, why);
	log_notice("plugin %s: %s", s->plugin->name, text);
	slot_changed(s, "plugin_sampling", text, "host");
}

void slot_ring_look(struct slot *s)
{
	struct ring_watch *w = &s->ring_watch;
	const uint64_t *count = s->in.count.kernel;
	char why[80];
	int steps;

	if (!s->ring || !slot_samples(s))
		return;
	steps = ring_watch_look(w, count[PLUGIN_STAT_SUBMITTED], count[PLUGIN_STAT_RING_FULL],
				clock_mono_ns(), s->shed_steps);
	if (!steps)
		return;
	slot_shed_apply(s);
	if (steps > 0)
		snprintf(why, sizeof(why), "its ring buffer was full, %llu events are lost",
			 (unsigned long long)w->lost);
	w->lost = 0;
	tell(s, steps > 0 ? why : "its ring buffer has room again");
}

void slot_sampling_look(struct slot *s, uint64_t now_ns)
{
	int r = slot_samples(s) ? instance_sampling_second(&s->in, now_ns) : 0;

	if (r < 0 && log_ratelimit("sampling", 1))
		log_warn_errno(r, "plugin %s goes on sampling as it did", s->plugin->name);
	if (r > 0)
		tell(s, "that does in place of all");
}

void host_cgroups_sampled(struct host *h, host_sampling_fn fn, void *arg)
{
	for (unsigned int i = 0; i < h->nslots; i++) {
		struct slot *s = &h->slots[i];

		if (s->sampled.text)
			fn(arg, &s->sampled);
		s->sampled.text = NULL;
	}
}
