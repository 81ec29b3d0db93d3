// SPDX-License-Identifier: Apache-2.0
/* Acts of the governor on the loop thread: shed, tell, record. */
#include "daemon/ladder.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "api/server.h"
#include "daemon/daemon.h"
#include "daemon/host.h"
#include "daemon/tables.h"

#define LOG_MODULE "governor"
#include "base/log.h"

enum can {
	CAN_STEP = 1 << 0,
	CAN_PLUGIN = 1 << 1,
	CAN_UNSTEP = 1 << 2,
	CAN_UNPLUGIN = 1 << 3,
};

void ladder_can(void *ctx, struct policy_sample *sample)
{
	unsigned int can = atomic_load(&((struct daemon *)ctx)->ladder_can);

	sample->can_sample = can & CAN_STEP;
	sample->can_disable = can & CAN_PLUGIN;
	sample->can_unsample = can & CAN_UNSTEP;
	sample->can_enable = can & CAN_UNPLUGIN;
}

void ladder_refresh(struct daemon *d)
{
	struct host_can can;

	host_can_shed(d->host, &can);
	atomic_store(&d->ladder_can, (can.step ? CAN_STEP : 0) | (can.plugin ? CAN_PLUGIN : 0) |
					     (can.unstep ? CAN_UNSTEP : 0) |
					     (can.unplugin ? CAN_UNPLUGIN : 0));
}

struct told {
	struct daemon *d;
	const struct governor_event *event;
};

/* Behind the row of the decision itself. */
static void tell_sampling(void *arg, const struct host_sampling *sampling)
{
	const struct told *t = arg;

	selftables_sampling(t->d->self, t->event, sampling);
}

/* said (cap > 0): what came of it; subject: the plugin, if it was about one. */
static int act(struct daemon *d, const struct governor_event *e, char *said, size_t cap,
	       const char **subject)
{
	char reason[128];
	int r;

	switch (e->decision.act) {
	case POLICY_ACT_SAMPLE:
		if (e->decision.resource == RESOURCE_MEM) {
			snprintf(said, cap, "free memory was %s",
				 malloc_trim(0) ? "given back" : "given back already");
			return 0;
		}
		return host_shed_step(d->host, 1, said, cap);
	case POLICY_ACT_UNSAMPLE:
		return host_shed_step(d->host, -1, said, cap);
	case POLICY_ACT_DISABLE:
		snprintf(reason, sizeof(reason), "shed by the governor: %s", e->amount);
		r = host_shed_plugin(d->host, e->decision.resource, reason, subject);
		if (r == 0)
			snprintf(said, cap, "plugin %s disabled", *subject);
		/* Its tables and buffers are free now; the C library may still hold what was ours.
		 */
		if (r == 0 && e->decision.resource == RESOURCE_MEM)
			malloc_trim(0);
		return r;
	case POLICY_ACT_ENABLE:
		r = host_unshed_plugin(d->host, subject);
		if (r != -ENOENT)
			snprintf(said, cap, "plugin %s %s", *subject,
				 r < 0 ? "could not come back" : "is back");
		return r;
	case POLICY_ACT_RESTORE:
		host_unshed_all(d->host);
		return 0;
	default:
		return 0;
	}
}

struct act_mail {
	struct daemon *d;
	struct governor_event event;
};

static int take_act(void *arg)
{
	struct act_mail *m = arg;
	struct daemon *d = m->d;
	struct governor_event *e = &m->event;
	struct api_server *api = atomic_load(&d->api);
	char said[1024] = "", text[sizeof(e->text) + sizeof(said) + 4];
	struct told told = {d, e};
	const char *subject = "";

	/* On the way out there is nobody left who could cost less. */
	if (d->host && !atomic_load(&d->stopping)) {
		if (act(d, e, said, sizeof(said), &subject) == -ENOENT)
			snprintf(said, sizeof(said), "nothing was left for that");
		ladder_refresh(d);
	}
	if (said[0])
		log_notice("%s", said);
	snprintf(text, sizeof(text), "%s%s%s", e->text, said[0] ? "; " : "", said);
	daemon_note_decision(d, text);
	selftables_decision(d->self, e, text, subject);
	if (d->host)
		host_cgroups_sampled(d->host, tell_sampling, &told);
	if (api)
		api_server_governor_changed(api);
	free(m);
	return 0;
}

void ladder_decided(void *ctx, const struct governor_event *event)
{
	struct daemon *d = ctx;
	struct api_server *api = atomic_load(&d->api);
	struct act_mail *m = calloc(1, sizeof(*m));
	int r = -ENOMEM;

	daemon_note_decision(d, event->text);
	if (m) {
		m->d = d;
		m->event = *event;
		r = mailbox_post(d->mailbox, take_act, m);
	}
	if (r < 0) {
		free(m);
		log_warn_errno(r, "not done and not recorded: '%s'", event->text);
	}
	if (api)
		api_server_governor_changed(api);
}
