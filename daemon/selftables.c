// SPDX-License-Identifier: Apache-2.0
/* Audit rows about Ringside itself: losses, decisions, events. Gathered and published on the loop
 * thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/bus.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/enrich.h"
#include "daemon/host.h"
#include "daemon/names.h"
#include "daemon/options.h"
#include "daemon/selftables.h"
#include "governor/governor.h"
#include "store/store.h"

#define LOG_MODULE "daemon"
#include "base/log.h"

/* Seconds between two rows about the cost of a plugin: as fine as the flows that it explains. */
#define COST_EVERY 10

int selftables_new(struct selftables **ret, struct daemon *d)
{
	const struct table *const tables[] = {&loss_table, &ledger_table,
					      &governor_decisions_table,
					      &daemon_events_table, &plugin_cost_history_table};
	struct selftables *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->d = d;
	t->ledger = ledger_new(d);
	if (!t->ledger) {
		free(t);
		return -ENOMEM;
	}
	for (size_t i = 0; i < SELF_HISTORY_MAX; i++)
		t->out[i].table = tables[i];
	*ret = t;
	return 0;
}

void selftables_seed(struct selftables *t)
{
	for (size_t i = 0; i < SELF_HISTORY_MAX; i++)
		t->out[i].last_ts = store_last_ts(t->d->store, t->out[i].table);
}

void selftables_free(struct selftables *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < SELF_HISTORY_MAX; i++)
		batch_unref(t->out[i].batch);
	ledger_free(t->ledger);
	free(t);
}

static void flush_one(struct selftables *t, struct self_out *o)
{
	struct batch *b = TAKE_PTR(o->batch);

	if (!b)
		return;
	batch_seal(b, &o->last_ts);
	bus_publish(t->d->bus, b);
}

void selftables_flush(struct selftables *t)
{
	for (size_t i = 0; i < SELF_HISTORY_MAX; i++)
		flush_one(t, &t->out[i]);
}

/* The next row, and the batch that it is in; NULL when out of memory. */
void *selftables_row(struct selftables *t, enum self_history which, struct batch **ret)
{
	struct self_out *o = &t->out[which];
	void *row;

	if (o->batch && o->batch->nrows == SELF_BATCH_ROWS)
		flush_one(t, o);
	if (!o->batch)
		o->batch = batch_new(o->table, SELF_BATCH_ROWS);
	row = o->batch ? batch_add(o->batch) : NULL;
	if (!row) {
		t->lost++; /* told with the next row that fits */
		if (log_ratelimit("selftables", 1))
			log_warn("out of memory for a row of %s, skipping", o->table->name);
	}
	*ret = o->batch;
	return row;
}

static struct str text(struct batch *b, const char *s)
{
	return s && *s ? batch_str(b, s, strlen(s)) : (struct str){0};
}

void selftables_event(struct selftables *t, const char *event, const char *subject,
		      const char *detail, const char *actor)
{
	struct batch *b;
	struct daemon_events_row *row = selftables_row(t, SELF_EVENTS, &b);

	if (!row)
		return;
	row->ts = clock_real_ns();
	row->event = text(b, event);
	row->subject = text(b, subject);
	row->detail = text(b, detail);
	row->actor = text(b, actor);
	flush_one(t, &t->out[SELF_EVENTS]); /* rare, and whoever asked looks at once */
}

struct event_mail {
	struct selftables *t;
	char event[64], subject[64], detail[256], actor[32];
};

static int take_event(void *arg)
{
	struct event_mail *m = arg;

	selftables_event(m->t, m->event, m->subject, m->detail, m->actor);
	free(m);
	return 0;
}

void selftables_event_post(struct selftables *t, const char *event, const char *subject,
			   const char *detail, const char *actor)
{
	struct event_mail *m = calloc(1, sizeof(*m));
	int r = -ENOMEM;

	if (m) {
		m->t = t;
		snprintf(m->event, sizeof(m->event), "%s", event ? event : "");
		snprintf(m->subject, sizeof(m->subject), "%s", subject ? subject : "");
		snprintf(m->detail, sizeof(m->detail), "%s", detail ? detail : "");
		snprintf(m->actor, sizeof(m->actor), "%s", actor ? actor : "");
		r = mailbox_post(t->d->mailbox, take_event, m);
	}
	if (r < 0) {
		free(m);
		if (log_ratelimit("event_post", 3))
			log_warn_errno(r, "no audit row for %s", event);
	}
}

static struct governor_decisions_row *decision_row(struct selftables *t,
						   const struct governor_event *e,
						   const char *message, const char *plugin,
						   struct batch **ret)
{
	struct governor_decisions_row *row = selftables_row(t, SELF_DECISIONS, ret);
	struct batch *b = *ret;

	if (!row)
		return NULL;
	row->ts = e->ts;
	row->from_state = text(b, governor_level_name(e->from));
	row->to_state = text(b, governor_level_name(e->decision.level));
	row->act = text(b, policy_act_name(e->decision.act));
	row->plugin = text(b, plugin);
	row->resource = text(b, resource_name(e->decision.resource));
	row->message = text(b, message);
	row->value = e->decision.value;
	row->limit_value = e->decision.limit;
	row->breach = e->decision.breach;
	return row;
}

void selftables_decision(struct selftables *t, const struct governor_event *e, const char *message,
			 const char *plugin)
{
	struct batch *b;

	if (decision_row(t, e, message, plugin, &b))
		flush_one(t, &t->out[SELF_DECISIONS]);
}

void selftables_sampling(struct selftables *t, const struct governor_event *e,
			 const struct host_sampling *s)
{
	struct batch *b;
	struct governor_decisions_row *row = decision_row(t, e, s->text, s->plugin, &b);

	if (!row)
		return;
	row->cgroup_id = s->cgroup;
	row->cgroup = text(b, s->path);
	row->cgroup_events = s->cgroup_events;
	row->events = s->events;
	row->cgroup_rate = s->cgroup ? s->cgroup_rate : 0;
	row->rate = s->rate;
	flush_one(t, &t->out[SELF_DECISIONS]);
}

void selftables_fill_cost(struct batch *b, struct plugin_cost_row *row, const struct plugin_cost *c)
{
	row->plugin = text(b, c->plugin);
	row->events = c->events;
	row->runs = c->runs;
	row->run_time_avg = c->run_time_avg;
	row->kernel_cpu = c->kernel_mcores;
	row->user_cpu = c->user_mcores;
	row->rows = c->rows;
	row->rows_stored = c->rows_stored;
	row->bytes_stored = c->bytes_stored;
	row->map_bytes = c->map_bytes;
	row->ring_bytes = c->ring_bytes;
	row->sampled = c->sampled;
	row->shed_step = c->shed_step;
}

static void on_cost(void *arg, const struct plugin_cost *c)
{
	struct selftables *t = arg;
	struct batch *b;
	struct plugin_cost_row *row = selftables_row(t, SELF_COST, &b);

	if (!row)
		return;
	row->ts = clock_real_ns();
	selftables_fill_cost(b, row, c);
}

/* A limit on processor time is near when the programs alone take that part of it. */
#define NEAR_SHARE 4

static bool measure_always(const struct daemon *d)
{
	const struct policy_limits limits = daemon_limits(d);
	double used = host_kernel_mcores(d->host);
	bool near = false;

	for (unsigned int i = 0; i < RESOURCE_X_MAX; i++)
		if (i == RESOURCE_CPU || i == RESOURCE_KERNEL_CPU)
			near |= limits.limit[i] &&
				used * NEAR_SHARE >= (double)limits.limit[i];
	return near || opt_i64(config_daemon(d->config), "bpf_stats") == BPF_STATS_ALWAYS;
}

void selftables_second(struct selftables *t)
{
	uint64_t run_ns, map_bytes;

	host_measure_always(t->d->host, measure_always(t->d));
	host_account(t->d->host, ledger_lost, t);
	host_cost(t->d->host, &run_ns, &map_bytes);
	atomic_store(&t->d->bpf_run_ns, run_ns);
	atomic_store(&t->d->bpf_map_bytes, map_bytes);
	ledger_second(t);
	if (t->seconds++ % COST_EVERY == 0)
		host_costs(t->d->host, on_cost, t);
	names_second(enrich_names(t->d->enrich), clock_boot_ns());
	if (t->lost) {
		ledger_lost(t, daemon_events_table.name, "", "no_memory", t->lost);
		t->lost = 0;
	}
	selftables_flush(t);
}
