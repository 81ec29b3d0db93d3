// SPDX-License-Identifier: Apache-2.0
/* The table of stages, and those that everything else stands on. */
#include "daemon/stages.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/links.h"
#include "daemon/ladder.h"
#include "daemon/notify.h"
#include "daemon/probe.h"
#include "daemon/stages_priv.h"
#include "daemon/state.h"
#include "governor/cgroup.h"
#include "governor/governor.h"
#include "governor/last_exit.h"

#define LOG_MODULE "daemon"
#include "base/log.h"

static int lock_up(struct daemon *d, struct err *err)
{
	int r = state_lock(d->state_dir, &d->lock_fd, err);

	if (r == 0 && last_exit_read(d->state_dir, d->last_exit, sizeof(d->last_exit)) == -ENOENT)
		d->last_exit[0] = '\0';
	return r;
}

static void lock_down(struct daemon *d)
{
	closep(&d->lock_fd);
	d->lock_fd = -1;
}

/* Before any thread and socket: both stay in the cgroup that they were made in. */
static int cgroup_up(struct daemon *d, struct err *err)
{
	int r = cgroup_enter(&d->place, "ringsided", opt_bool(d->boot, "cgroup_manage"));

	return r < 0 ? err_set(err, r, "cannot find our place in the cgroups: %s", strerror(-r))
		     : 0;
}

static void cgroup_down(struct daemon *d)
{
	if (d->place)
		cgroup_leave(d->place);
	d->place = NULL;
}

static int kernel_up(struct daemon *d, struct err *err)
{
	const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	int r;

	/* Kernels from 5.11 on charge maps to the cgroup and don't ask; older ones say so when a
	 * map is refused. */
	if (setrlimit(RLIMIT_MEMLOCK, &unlimited) < 0)
		log_debug("cannot raise RLIMIT_MEMLOCK: %s, ignoring", strerror(errno));
	r = probe_new(&d->probe, d->place);
	if (r < 0)
		return err_set(err, r, "out of memory");
	r = probe_require(d->probe, err);
	if (r < 0)
		return r;
	return 0;
}

/* As long as the unit's TimeoutStopSec, told anew while it goes on. */
#define LINKS_PATIENCE_NS (20 * NSEC_PER_SEC)

/*
 * Programs are off, but the kernel takes its time to end their links; the end of the process would
 * wait for it just as well. Nothing else is left to be done then.
 */
static void wait_for_links(void)
{
	unsigned int before = UINT_MAX, left;

	while ((left = links_wait(NSEC_PER_SEC))) {
		if (left < before)
			notify_send("STATUS=Waiting until the kernel has ended %u probes\n"
				    "EXTEND_TIMEOUT_USEC=%" PRIu64,
				    left, (uint64_t)(LINKS_PATIENCE_NS / NSEC_PER_USEC));
		before = left;
	}
}

static void kernel_down(struct daemon *d)
{
	wait_for_links();
	probe_free(d->probe);
	d->probe = NULL;
}

static void bpf_cost(void *ctx, uint64_t *ret_run_ns, uint64_t *ret_map_bytes)
{
	struct daemon *d = ctx;

	*ret_run_ns = atomic_load(&d->bpf_run_ns);
	*ret_map_bytes = atomic_load(&d->bpf_map_bytes);
}

static void on_governor_exit(void *ctx, int code, const struct governor_event *event)
{
	(void)event; /* the governor has logged it */
	daemon_stop(ctx, code);
}

/* What ended us minutes ago is probably still there. */
#define LAST_EXIT_RECENT_NS (600 * NSEC_PER_SEC)

static bool starts_down(const struct daemon *d, const struct policy_limits *limits)
{
	bool any = false;

	for (unsigned int i = 0; i < RESOURCE_X_MAX; i++)
		any |= limits->limit[i] > 0;
	return any && limits->action == LIMIT_ACTION_SHED &&
	       last_exit_recent(d->state_dir, clock_real_ns(), LAST_EXIT_RECENT_NS);
}

static int governor_up(struct daemon *d, struct err *err)
{
	struct governor_options options = {
		.state_dir = d->state_dir,
		.place = d->place,
		.interval_ns = NSEC_PER_SEC,
		.bpf_cost = bpf_cost,
		.can_shed = ladder_can,
		.on_event = ladder_decided,
		.on_exit = on_governor_exit,
		.ctx = d,
	};
	int r;

	daemon_read_ceiling(d);
	options.limits = daemon_limits(d);
	if (starts_down(d, &options.limits)) {
		options.start_level = GOVERNOR_SAMPLE;
		options.start_reason = d->last_exit;
	}
	r = governor_new(&d->governor, &options, err);
	if (r < 0)
		return r;
	daemon_apply_backstops(d);
	return governor_start(d->governor, err);
}

static void governor_down(struct daemon *d)
{
	if (d->governor)
		governor_stop(d->governor);
	governor_free(d->governor);
	d->governor = NULL;
}

static const struct stage {
	const char *name;
	int (*up)(struct daemon *d, struct err *err);
	void (*down)(struct daemon *d); /* copes with an up that failed halfway */
	int status;			/* exit code when it fails */
} stages[] = {
	{"lock", lock_up, lock_down, EXIT_STATUS_FAILURE},
	{"cgroup", cgroup_up, cgroup_down, EXIT_STATUS_FAILURE},
	{"kernel", kernel_up, kernel_down, EXIT_STATUS_KERNEL},
	{"loop", daemon_loop_up, daemon_loop_down, EXIT_STATUS_FAILURE},
	{"bus", daemon_bus_up, daemon_bus_down, EXIT_STATUS_FAILURE},
	{"tables", daemon_tables_up, daemon_tables_down, EXIT_STATUS_FAILURE},
	/* Below what it watches: it sees to it that the way out ends. */
	{"governor", governor_up, governor_down, EXIT_STATUS_FAILURE},
	{"store", daemon_store_up, daemon_store_down, EXIT_STATUS_FAILURE},
	{"queries", daemon_queries_up, daemon_queries_down, EXIT_STATUS_FAILURE},
	{"host", daemon_host_up, daemon_host_down, EXIT_STATUS_FAILURE},
	{"plugins", daemon_plugins_up, daemon_plugins_down, EXIT_STATUS_FAILURE},
	{"api", daemon_api_up, daemon_api_down, EXIT_STATUS_FAILURE},
};

static void unwind(struct daemon *d, size_t n)
{
	/* The loop doesn't turn any more. Calls that wait for it get their answer, and what was
	 * posted is run while all that it speaks about is still there. */
	if (d->mailbox)
		mailbox_close(d->mailbox);
	while (n-- > 0) {
		uint64_t start = clock_mono_ns();

		stages[n].down(d);
		log_debug("stage %s is down after %llu ms", stages[n].name,
			  (unsigned long long)((clock_mono_ns() - start) / NSEC_PER_MSEC));
	}
}

int stages_up(struct daemon *d, int *ret_status, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
		uint64_t start = clock_mono_ns();
		int r = stages[i].up(d, err);

		if (r < 0) {
			*ret_status = stages[i].status;
			unwind(d, i + 1);
			return r;
		}
		log_debug("stage %s is up after %llu ms", stages[i].name,
			  (unsigned long long)((clock_mono_ns() - start) / NSEC_PER_MSEC));
	}
	return 0;
}

void stages_down(struct daemon *d)
{
	unwind(d, ARRAY_SIZE(stages));
}
