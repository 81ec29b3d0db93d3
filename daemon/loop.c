// SPDX-License-Identifier: Apache-2.0
/* The event loop: signals, commands from other threads, and what happens each second. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/access.h"
#include "daemon/daemon.h"
#include "daemon/host.h"
#include "daemon/ladder.h"
#include "daemon/notify.h"
#include "daemon/tables.h"

#define LOG_MODULE "daemon"
#include "base/log.h"

/* More than an enable with a long verification takes; less than what a service manager waits for.
 */
#define LOOP_MAX_GAP_NS (30 * NSEC_PER_SEC)
/* RPCs that wait for the loop; the API's own caps are lower. */
#define MAILBOX_CAP 1024
/* Commands per turn: signals and timers are looked at in between. */
#define MAILBOX_PASS 32
#define PULSE_USEC   1000000ull
/* Limits of groups above ours change when an administrator changes them. */
#define CEILING_PULSES 10

static int on_mail(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct daemon *d = arg;

	(void)source;
	(void)fd;
	(void)revents;
	mailbox_run(d->mailbox, MAILBOX_PASS);
	return 0;
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *si, void *arg)
{
	(void)source;
	log_notice("%s from pid %u, stopping", strsignal((int)si->ssi_signo), si->ssi_pid);
	daemon_stop(arg, EXIT_STATUS_OK);
	return 0;
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *si, void *arg)
{
	struct daemon *d = arg;
	struct err err = {0};
	char changed[512];

	(void)source;
	(void)si;
	/* The result is a log line: a signal has no other answer. */
	notify_send("RELOADING=1\nMONOTONIC_USEC=%llu",
		    (unsigned long long)(clock_mono_ns() / NSEC_PER_USEC));
	if (daemon_reload(d, false, changed, sizeof(changed), &err) < 0)
		log_error("configuration not taken over: %s", err.msg);
	else
		log_notice("configuration read again; changed: %s",
			   changed[0] ? changed : "nothing");
	notify_send("READY=1");
	return 0;
}

/* Alive means every thread: one that hangs is worth a restart even if this one runs. */
static void watchdog(void)
{
	const struct heartbeat *late = heartbeat_late(clock_mono_ns());

	if (!late)
		notify_send("WATCHDOG=1");
	else if (log_ratelimit("watchdog", 3))
		log_error("thread %s doesn't move, the service manager will restart us",
			  late->name);
}

static int on_pulse(sd_event_source *source, uint64_t usec, void *arg)
{
	struct daemon *d = arg;
	int r;

	(void)usec;
	heartbeat_beat(&d->heartbeat);
	if (d->host && d->self) {
		access_flush(d->access);
		selftables_second(d->self);
	}
	if (d->host)
		ladder_refresh(d);
	if (d->governor && ++d->pulses % CEILING_PULSES == 0 && daemon_read_ceiling(d))
		daemon_apply_limits(d);
	if (d->watchdog_ns)
		watchdog();
	r = sd_event_source_set_time_relative(source, PULSE_USEC);
	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* The event loop owns its sources from here on ("floating"). */
static int float_source(sd_event_source *source, int64_t priority)
{
	int r = sd_event_source_set_priority(source, priority);

	if (r >= 0)
		r = sd_event_source_set_floating(source, 1);
	sd_event_source_unref(source);
	return r;
}

static int add_signal(struct daemon *d, int sig, sd_event_signal_handler_t handler)
{
	sd_event_source *source;
	int r;

	r = sd_event_add_signal(d->loop, &source, sig, handler, d);
	/* Before everything else: a flood of samples must not delay a stop. */
	return r < 0 ? r : float_source(source, SD_EVENT_PRIORITY_IMPORTANT);
}

/* The kernel took 41 s for one program in an emulator; four such are a lot. */
#define LOAD_MAX_NS (180 * NSEC_PER_SEC)

void daemon_note_load(void *ctx, bool begins)
{
	struct daemon *d = ctx;

	if (begins)
		heartbeat_beat_ahead(&d->heartbeat, LOAD_MAX_NS);
	else
		heartbeat_beat(&d->heartbeat);
	if (begins && !d->ready)
		notify_send("EXTEND_TIMEOUT_USEC=%" PRIu64, (uint64_t)(LOAD_MAX_NS / NSEC_PER_USEC));
	if (d->watchdog_ns)
		notify_send("WATCHDOG=1\nWATCHDOG_USEC=%" PRIu64,
			    (uint64_t)((d->watchdog_ns + (begins ? LOAD_MAX_NS : 0)) / NSEC_PER_USEC));
}

int daemon_loop_up(struct daemon *d, struct err *err)
{
	sd_event_source *source;
	uint64_t usec;
	int r;

	r = sd_event_new(&d->loop);
	if (r >= 0)
		r = add_signal(d, SIGTERM, on_stop);
	if (r >= 0)
		r = add_signal(d, SIGINT, on_stop);
	if (r >= 0)
		r = add_signal(d, SIGHUP, on_reload);
	if (r >= 0)
		r = mailbox_new(&d->mailbox, MAILBOX_CAP);
	if (r >= 0)
		r = sd_event_add_io(d->loop, &source, mailbox_fd(d->mailbox), EPOLLIN, on_mail, d);
	if (r >= 0)
		r = float_source(source, SD_EVENT_PRIORITY_NORMAL);
	if (r >= 0)
		r = sd_event_add_time_relative(d->loop, &source, CLOCK_MONOTONIC, PULSE_USEC, 50000,
					       on_pulse, d);
	if (r >= 0)
		r = float_source(source, SD_EVENT_PRIORITY_NORMAL);
	if (r < 0)
		return err_set(err, r, "cannot make the event loop: %s", strerror(-r));
	if (sd_watchdog_enabled(0, &usec) > 0) {
		d->watchdog_ns = usec * NSEC_PER_USEC;
		if (usec < 3 * PULSE_USEC)
			log_warn("WatchdogSec below 3 s: we report once a second");
	}
	d->heartbeat = (struct heartbeat){.name = "loop", .max_gap_ns = LOOP_MAX_GAP_NS};
	heartbeat_register(&d->heartbeat);
	heartbeat_beat(&d->heartbeat);
	return 0;
}

void daemon_loop_down(struct daemon *d)
{
	heartbeat_unregister(&d->heartbeat);
	if (d->mailbox)
		mailbox_close(d->mailbox);
	d->loop = sd_event_unref(d->loop);
	mailbox_free(d->mailbox);
	d->mailbox = NULL;
}

static int stop_command(void *arg)
{
	struct daemon *d = arg;

	return sd_event_exit(d->loop, 0);
}

void daemon_stop(struct daemon *d, int status)
{
	int none = EXIT_STATUS_OK, r;

	atomic_compare_exchange_strong(&d->exit_status, &none, status);
	if (atomic_exchange(&d->stopping, true))
		return;
	r = mailbox_post(d->mailbox, stop_command, d);
	if (r < 0 && r != -ESHUTDOWN) /* closed: we are on our way out already */
		log_warn_errno(r,
			       "cannot tell the loop to stop, the governor will end the process");
}

void daemon_notify_status(struct daemon *d)
{
	char names[200] = "";

	for (unsigned int i = 0; plugins[i]; i++) {
		struct plugin_info info;
		size_t len = strlen(names);

		host_info(d->host, plugins[i], &info);
		if (info.state == PLUGIN_STATE_RUNNING || info.state == PLUGIN_STATE_DEGRADED)
			snprintf(names + len, sizeof(names) - len, "%s%s", len ? ", " : "",
				 info.name);
	}
	notify_send("STATUS=Watching: %s", names[0] ? names : "nothing (no plugin is enabled)");
}
