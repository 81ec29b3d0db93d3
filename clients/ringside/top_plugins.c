// SPDX-License-Identifier: Apache-2.0
/* ringside top: what each plugin did and cost since the frame before. */
#include <string.h>

#include "base/clock.h"
#include "clients/ringside/plugin.h"
#include "clients/ringside/text.h"
#include "clients/ringside/top.h"

static const struct top_cost *cost_before(const struct top *t, const char *name)
{
	for (size_t i = 0; i < t->ncosts; i++)
		if (strcmp(t->costs[i].name, name) == 0)
			return &t->costs[i];
	return NULL;
}

/* Of one core, in percent, to the thousandth. */
static struct cell share(uint64_t time_ns, double seconds)
{
	return seconds > 0 ? cell_real((double)(uint64_t)((double)time_ns / seconds / 1e4) / 1000)
			   : cell_null();
}

/* What a plugin did since the frame before; at the first frame, since it was enabled. */
static void put_plugin(struct top *t, struct out *o, const Ringside__V1__Plugin *p, uint64_t now)
{
	const Ringside__V1__PluginStats *s = p->stats;
	const struct top_cost *before = cost_before(t, p->name);
	uint64_t enabled = timestamp_ns(p->enabled_at), real = clock_real_ns();
	/* Smaller than before: it was enabled anew. */
	bool delta =
		before && s && s->run_count >= before->run_count && s->events >= before->events;
	double seconds = delta			     ? (double)(now - before->at)
			 : enabled && real > enabled ? (double)(real - enabled)
						     : 0;
	uint64_t runs, time, events, user, bytes;

	if (!s || !plugin_runs(p)) {
		out_row(o, (struct cell[]){cell_text(p->name),
					   cell_text(plugin_state_text(p->state)), cell_null(),
					   cell_null(), cell_null(), cell_null(), cell_null(),
					   cell_null(), cell_null(), cell_text(p->reason)});
		return;
	}
	runs = s->run_count - (delta ? before->run_count : 0);
	time = s->run_time - (delta ? before->run_time : 0);
	events = s->events - (delta ? before->events : 0);
	user = s->user_time - (delta ? before->user_time : 0);
	bytes = s->bytes_stored - (delta ? before->bytes_stored : 0);
	seconds /= (double)NSEC_PER_SEC;
	out_row(o,
		(struct cell[]){
			cell_text(p->name),
			cell_text(plugin_state_text(p->state)),
			seconds > 0 ? cell_uint((uint64_t)((double)events / seconds)) : cell_null(),
			seconds > 0 ? cell_uint((uint64_t)((double)runs / seconds)) : cell_null(),
			runs ? cell_uint(time / runs) : cell_null(),
			share(time, seconds),
			share(user, seconds),
			seconds > 0 ? cell_uint((uint64_t)((double)bytes / seconds)) : cell_null(),
			cell_uint(s->kernel_drops + s->rows_dropped),
			cell_text(p->reason),
		});
}

/* Nothing to say of it but that it is there. One that was shed, or whose time is up, has a reason.
 */
static bool is_idle(const Ringside__V1__Plugin *p)
{
	return p->state == RINGSIDE__V1__PLUGIN_STATE__PLUGIN_STATE_DISABLED &&
	       (!p->reason || !*p->reason);
}

/* On one line, as many names as it has room for. */
static void put_idle(struct top *t, const Ringside__V1__ListPluginsResponse *list)
{
	static const char head[] = "disabled: ";
	const size_t more = strlen(", and 00 more");
	_cleanup_buf_ struct buf b = {0};
	size_t width = strlen(head), left = 0;

	for (size_t i = 0; i < list->n_plugins; i++)
		left += is_idle(list->plugins[i]);
	if (!left)
		return;
	buf_puts(&b, head);
	for (size_t i = 0; i < list->n_plugins; i++) {
		const Ringside__V1__Plugin *p = list->plugins[i];
		size_t len = is_idle(p) ? strlen(p->name) + 2 : 0;

		if (!len)
			continue;
		if (width + len + (left > 1 ? more : 0) > t->width)
			break;
		buf_puts(&b, width > strlen(head) ? ", " : "");
		text_add_safe(&b, p->name, strlen(p->name));
		width += len;
		left--;
	}
	if (left)
		buf_printf(&b, "%s%zu more", width > strlen(head) ? ", and " : "", left);
	fprintf(t->screen, "%s\n", b.data ? b.data : "");
}

/* For the difference that the next frame shows. */
static void keep_costs(struct top *t, const Ringside__V1__ListPluginsResponse *list, uint64_t now)
{
	t->ncosts = 0;
	for (size_t i = 0; i < list->n_plugins && t->ncosts < ARRAY_SIZE(t->costs); i++) {
		const Ringside__V1__Plugin *p = list->plugins[i];
		struct top_cost *c = &t->costs[t->ncosts];

		if (!p->stats || !plugin_runs(p))
			continue;
		*c = (struct top_cost){.run_count = p->stats->run_count,
				       .run_time = p->stats->run_time,
				       .events = p->stats->events,
				       .user_time = p->stats->user_time,
				       .bytes_stored = p->stats->bytes_stored,
				       .at = now};
		snprintf(c->name, sizeof(c->name), "%s", p->name);
		t->ncosts++;
	}
}

int top_put_plugins(struct top *t, const Ringside__V1__ListPluginsResponse *list)
{
	static const struct out_column columns[] = {
		{"PLUGIN", OUT_TEXT, NULL},  {"STATE", OUT_TEXT, NULL},
		{"EVENTS/S", OUT_INT, NULL}, {"RUNS/S", OUT_INT, NULL},
		{"NS/RUN", OUT_INT, NULL},   {"CPU %", OUT_REAL, NULL},
		{"USER %", OUT_REAL, NULL},  {"STORED", OUT_INT, "By/s"},
		{"LOST", OUT_INT, NULL},     {"", OUT_TEXT, NULL},
	};
	/* What a plugin's thread and its rows cost is little beside its programs. */
	static const uint8_t ranks[] = {0, 0, 0, 3, 2, 0, 5, 4, 0, 0};
	_cleanup_(out_freep) struct out *o = NULL;
	uint64_t now = clock_mono_ns();

	if (top_out(t, &o) < 0)
		return cli_fail(CLI_REFUSED, "out of memory");
	out_columns(o, columns, ARRAY_SIZE(columns));
	out_set_ranks(o, ranks);
	for (size_t i = 0; i < list->n_plugins; i++) {
		if (is_idle(list->plugins[i]))
			continue;
		put_plugin(t, o, list->plugins[i], now);
	}
	out_end(o); /* its lines come first */
	keep_costs(t, list, now);
	put_idle(t, list);
	return 0;
}
