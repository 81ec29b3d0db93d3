// SPDX-License-Identifier: Apache-2.0
/* The governor's thread: a sample, a decision, an act, once a second or faster near a limit. */
#define LOG_MODULE "governor"

#include "governor/governor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "base/thread.h"
#include "base/units.h"
#include "governor/cgroup.h"
#include "governor/last_exit.h"
#include "governor/usage.h"

/* Near a limit memory can be gone within a second. */
#define FAST_SHARE	 0.80
#define FAST_INTERVAL_NS (250 * NSEC_PER_MSEC)
/* After on_exit: longer than the daemon's own drain (2 s) and a checkpoint. */
#define EXIT_PATIENCE_NS (5 * NSEC_PER_SEC)
#define EXIT_LOOK_NS	 (100 * NSEC_PER_MSEC)
/* On top of the gap that the loop allows itself. A BPF load on a slow machine takes seconds, not
 * ten. */
#define LOOP_PATIENCE_NS (10 * NSEC_PER_SEC)
#define LOOP_HEART	 "loop"
/* Our own beat: a look is microseconds, the file at the end milliseconds. */
#define OWN_GAP_NS (10 * NSEC_PER_SEC)

struct governor {
	struct governor_options opt;
	int dir_fd;
	struct usage *usage;
	pthread_t thread;
	bool started;
	struct heartbeat heart;

	pthread_mutex_t lock; /* everything below */
	pthread_cond_t wake;
	bool stop, limits_changed;
	struct policy_limits limits;
	struct governor_usage last;
	enum governor_level level;

	/* The thread's own. */
	struct policy_state state;
	struct last_exit_level history[LAST_EXIT_HISTORY];
	size_t n_history;
	uint64_t exit_at_ns; /* when patience with the daemon's way out ends; 0: not on it */
	int exit_code;
	uint64_t loop_late_since_ns;
	uint64_t skipped_told;
};

static const char *const units[] = {"millicores", "bytes", "bytes/s", "millicores"};
static_assert(ARRAY_SIZE(units) == RESOURCE_X_MAX, "one unit a resource");

int governor_new(struct governor **ret, const struct governor_options *options, struct err *err)
{
	_cleanup_(governor_freep) struct governor *g = calloc(1, sizeof(*g));
	pthread_condattr_t attr;
	int r;

	if (!g)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&g->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&g->wake, &attr);
	pthread_condattr_destroy(&attr);
	g->opt = *options;
	if (!g->opt.interval_ns)
		g->opt.interval_ns = NSEC_PER_SEC;
	g->limits = options->limits;
	g->state.level = g->level = options->start_level;
	g->heart.name = "governor";
	g->heart.max_gap_ns = OWN_GAP_NS;
	g->dir_fd = open(options->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (g->dir_fd < 0)
		return err_set(err, -errno, "cannot open state directory '%s': %s",
			       options->state_dir, strerror(errno));
	r = usage_new(&g->usage, options->place, options->bpf_cost, options->ctx, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(g);
	return 0;
}

void governor_free(struct governor *g)
{
	if (!g)
		return;
	governor_stop(g);
	usage_free(g->usage);
	if (g->dir_fd >= 0)
		close(g->dir_fd);
	pthread_cond_destroy(&g->wake);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

static void format_value(char *dst, size_t cap, enum resource r, uint64_t value)
{
	if (r == RESOURCE_CPU || r == RESOURCE_KERNEL_CPU) {
		snprintf(dst, cap, "%" PRIu64 ".%03" PRIu64, value / 1000, value % 1000);
		return;
	}
	units_format_bytes(dst, cap, value);
	if (r == RESOURCE_NET && strlen(dst) + 3 <= cap)
		memcpy(dst + strlen(dst), "/s", 3);
}

/* What happened and what follows, in one line. */
static void event_text(struct governor_event *e, const struct policy_limits *limits)
{
	const struct policy_decision *d = &e->decision;
	const char *name = resource_name(d->resource);
	static const char *const acts[] = {
		[POLICY_ACT_NONE] = "reported only (limit_action report)",
		[POLICY_ACT_SAMPLE] = "one more step of sampling",
		[POLICY_ACT_DISABLE] = "one more plugin is disabled",
		[POLICY_ACT_ENABLE] = "one plugin comes back",
		[POLICY_ACT_UNSAMPLE] = "one step of sampling back",
		[POLICY_ACT_RESTORE] = "everything comes back",
	};
	static_assert(ARRAY_SIZE(acts) == POLICY_ACT_X_MAX, "words for each act");
	char value[32], limit[32], tail[64], where[40] = "";
	bool cores = d->resource == RESOURCE_CPU || d->resource == RESOURCE_KERNEL_CPU;

	format_value(value, sizeof(value), d->resource, d->value);
	format_value(limit, sizeof(limit), d->resource, d->limit);
	if (d->level == GOVERNOR_EXIT)
		snprintf(tail, sizeof(tail), "exit %d", policy_exit_code(d->resource));
	else if (d->level != e->from)
		snprintf(tail, sizeof(tail), "level %s", governor_level_name(d->level));
	else
		snprintf(tail, sizeof(tail), "%s", acts[d->act]);
	snprintf(e->amount, sizeof(e->amount), "%s %s of %s%s", name, value, limit,
		 cores ? " cores" : "");
	if (d->resource == RESOURCE_NET && limits->net_scope == NET_SCOPE_NIC)
		snprintf(where, sizeof(where), " on %.15s", e->usage.net_interface);

	if (!d->limit)
		snprintf(e->text, sizeof(e->text), "no limit is near: %s", tail);
	else if (d->throttled)
		snprintf(e->text, sizeof(e->text),
			 "cpu %s has been held by the quota of cpu_limit %s for 15s: %s", value,
			 limit, tail);
	else
		snprintf(e->text, sizeof(e->text), "%s %s%s %s %s_limit %s: %s", name, value, where,
			 d->breach && d->value >= d->limit ? "exceeds"
			 : d->level > e->from || d->act == POLICY_ACT_SAMPLE ||
					 d->act == POLICY_ACT_DISABLE
				 ? "nears"
				 : "is within",
			 name, limit, tail);
}

static void history_add(struct governor *g, const struct governor_event *e)
{
	if (g->n_history == LAST_EXIT_HISTORY)
		memmove(g->history, g->history + 1, --g->n_history * sizeof(*g->history));
	g->history[g->n_history] =
		(struct last_exit_level){.ts = e->ts, .level = e->decision.level};
	memcpy(g->history[g->n_history++].text, e->text, sizeof(e->text));
}

/* The reason reaches the disk and the log before anybody is told to leave. */
static void leave_reason(struct governor *g, const struct last_exit *e)
{
	int r = last_exit_write(g->dir_fd, e);

	log_error("%s", e->text);
	if (r < 0)
		log_warn_errno(r, "cannot write %s/" LAST_EXIT_FILE ", ignoring", g->opt.state_dir);
}

static void act(struct governor *g, const struct policy_limits *limits,
		const struct policy_decision *d, enum governor_level from,
		const struct governor_usage *usage)
{
	struct governor_event e = {
		.ts = clock_real_ns(), .decision = *d, .from = from, .usage = *usage};

	event_text(&e, limits);
	history_add(g, &e);
	if (d->level == GOVERNOR_EXIT) {
		struct last_exit why = {.ts = e.ts,
					.exit_code = policy_exit_code(d->resource),
					.metric = resource_name(d->resource),
					.value = d->value,
					.limit = d->limit,
					.unit = units[d->resource],
					.text = e.text,
					.usage = usage,
					.history = g->history,
					.n_history = g->n_history};

		leave_reason(g, &why);
		g->exit_code = why.exit_code;
		g->exit_at_ns = clock_mono_ns() + EXIT_PATIENCE_NS;
	} else {
		log_warn("%s", e.text);
	}
	if (g->opt.on_event)
		g->opt.on_event(g->opt.ctx, &e);
	if (d->level == GOVERNOR_EXIT && g->opt.on_exit)
		g->opt.on_exit(g->opt.ctx, g->exit_code, &e);
}

static const struct heartbeat *loop_late(uint64_t now_ns)
{
	const struct heartbeat *hb = heartbeat_late(now_ns);

	/* heartbeat_late() gives the first late heart; the loop's may stand behind it. */
	for (; hb; hb = hb->next) {
		uint64_t last = atomic_load(&hb->last_ns);

		if (!strcmp(hb->name, LOOP_HEART) && last && now_ns > last &&
		    now_ns - last > hb->max_gap_ns)
			return hb;
	}
	return NULL;
}

/*
 * Lateness must be seen by this thread for the whole time: after a stop of the whole process
 * (SIGSTOP, a frozen machine) every heart is late at once, and none is stuck.
 */
static void check_loop(struct governor *g, uint64_t now_ns)
{
	const struct heartbeat *hb = loop_late(now_ns);
	char text[120], gap[32];
	struct last_exit why;
	uint64_t stood;

	if (!hb) {
		g->loop_late_since_ns = 0;
		return;
	}
	if (!g->loop_late_since_ns)
		g->loop_late_since_ns = now_ns;
	if (now_ns - g->loop_late_since_ns < LOOP_PATIENCE_NS)
		return;
	stood = now_ns - atomic_load(&hb->last_ns);
	units_format_duration(gap, sizeof(gap), stood / NSEC_PER_MSEC * NSEC_PER_MSEC);
	snprintf(text, sizeof(text), "the event loop has stood still for %s: exit 1", gap);
	why = (struct last_exit){.ts = clock_real_ns(),
				 .exit_code = EXIT_FAILURE,
				 .metric = LOOP_HEART,
				 .value = stood,
				 .limit = hb->max_gap_ns + LOOP_PATIENCE_NS,
				 .unit = "ns",
				 .text = text,
				 .usage = &g->last,
				 .history = g->history,
				 .n_history = g->n_history};
	leave_reason(g, &why);
	/* Nobody is there to take an orderly way out; the ring is safe without one. */
	_exit(EXIT_FAILURE);
}

static bool near_a_limit(const struct policy_limits *limits, const struct policy_sample *s)
{
	for (int i = 0; i < RESOURCE_X_MAX; i++)
		if (limits->limit[i] && s->valid[i] &&
		    (double)s->value[i] > FAST_SHARE * (double)limits->limit[i])
			return true;
	return false;
}

static void tell_skipped(struct governor *g)
{
	uint64_t skipped = usage_interfaces_skipped(g->usage);

	if (skipped && !g->skipped_told)
		log_warn("more interfaces than are looked at for net_limit, skipping the rest");
	g->skipped_told = skipped;
}

/* Returns when to look again. */
static uint64_t look(struct governor *g)
{
	struct governor_usage usage;
	struct policy_decision d;
	struct policy_limits limits;
	enum governor_level from = g->state.level;
	uint64_t now = clock_mono_ns();

	pthread_mutex_lock(&g->lock);
	limits = g->limits;
	pthread_mutex_unlock(&g->lock);

	usage_take(g->usage, limits.net_scope, now, &usage);
	if (g->opt.can_shed)
		g->opt.can_shed(g->opt.ctx, &usage.sample);
	tell_skipped(g);
	d = policy_step(&g->state, &limits, &usage.sample);

	pthread_mutex_lock(&g->lock);
	g->last = usage;
	g->level = d.level;
	pthread_mutex_unlock(&g->lock);

	if (d.changed)
		act(g, &limits, &d, from, &usage);
	check_loop(g, now);
	if (g->exit_at_ns)
		return now + EXIT_LOOK_NS;
	if (near_a_limit(&limits, &usage.sample) && g->opt.interval_ns > FAST_INTERVAL_NS)
		return now + FAST_INTERVAL_NS;
	return now + g->opt.interval_ns;
}

/* Until then, or until somebody stops us or changes the limits. False: stop. */
static bool wait_until(struct governor *g, uint64_t at_ns)
{
	struct timespec ts = {.tv_sec = at_ns / NSEC_PER_SEC, .tv_nsec = at_ns % NSEC_PER_SEC};
	bool stop;
	int r = 0;

	pthread_mutex_lock(&g->lock);
	while (!g->stop && !g->limits_changed && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&g->wake, &g->lock, &ts);
	g->limits_changed = false;
	stop = g->stop;
	pthread_mutex_unlock(&g->lock);
	return !stop;
}

/* The level that we begin with is a decision like any other. */
static void tell_start(struct governor *g)
{
	struct governor_event e = {.ts = clock_real_ns(),
				   .decision = {.level = g->opt.start_level,
						.act = POLICY_ACT_SAMPLE,
						.changed = true},
				   .from = GOVERNOR_OK};

	snprintf(e.text, sizeof(e.text), "starting one step down, at level %s: %s",
		 governor_level_name(e.decision.level), g->opt.start_reason);
	snprintf(e.amount, sizeof(e.amount), "the run before was ended by a limit");
	history_add(g, &e);
	log_notice("%s", e.text);
	if (g->opt.on_event)
		g->opt.on_event(g->opt.ctx, &e);
}

static void *run(void *arg)
{
	struct governor *g = arg;
	uint64_t next;

	if (g->opt.start_level != GOVERNOR_OK)
		tell_start(g);
	do {
		heartbeat_beat(&g->heart);
		next = look(g);
		if (g->exit_at_ns && clock_mono_ns() >= g->exit_at_ns) {
			log_error("the daemon hasn't left 5s after it was told to, ending it: exit "
				  "%d",
				  g->exit_code);
			_exit(g->exit_code);
		}
	} while (wait_until(g, next));
	return NULL;
}

int governor_start(struct governor *g, struct err *err)
{
	int r;

	heartbeat_register(&g->heart);
	heartbeat_beat(&g->heart);
	r = thread_start(&g->thread, "governor", run, g);
	if (r < 0) {
		heartbeat_unregister(&g->heart);
		return err_set(err, r, "cannot start the governor's thread: %s", strerror(-r));
	}
	g->started = true;
	return 0;
}

void governor_stop(struct governor *g)
{
	if (!g->started)
		return;
	pthread_mutex_lock(&g->lock);
	g->stop = true;
	pthread_cond_signal(&g->wake);
	pthread_mutex_unlock(&g->lock);
	pthread_join(g->thread, NULL);
	heartbeat_unregister(&g->heart);
	g->started = false;
}

void governor_set_limits(struct governor *g, const struct policy_limits *limits)
{
	pthread_mutex_lock(&g->lock);
	g->limits = *limits;
	g->limits_changed = true;
	pthread_cond_signal(&g->wake);
	pthread_mutex_unlock(&g->lock);
}

void governor_get(struct governor *g, struct policy_limits *limits, struct governor_usage *usage,
		  enum governor_level *level)
{
	pthread_mutex_lock(&g->lock);
	if (limits)
		*limits = g->limits;
	if (usage)
		*usage = g->last;
	if (level)
		*level = g->level;
	pthread_mutex_unlock(&g->lock);
}

const char *governor_lost(const struct governor *g)
{
	return usage_lost(g->usage);
}
