// SPDX-License-Identifier: Apache-2.0
/* Options that change while the daemon runs: limits, ring sizes, log level, plugins. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/server.h"
#include "base/units.h"
#include "daemon/daemon.h"
#include "daemon/host.h"
#include "daemon/redact.h"
#include "governor/cgroup.h"
#include "governor/governor.h"
#include "store/store.h"

#define LOG_MODULE "daemon"
#include "base/log.h"

/* A limit that ended us at once would end us again and again: the governor gets two seconds to see
 * a calm daemon. */
#define GRACE_NS (2 * 1000000000ull)

/* The ladder needs room between our limit and the one at which the kernel kills. */
#define CEILING_ROOM 16

/* alone: it holds also where no limit was asked for. */
static void lower(uint64_t *limit, uint64_t ceiling, bool alone)
{
	if (ceiling && (*limit ? *limit > ceiling : alone))
		*limit = ceiling;
}

struct policy_limits daemon_limits(const struct daemon *d)
{
	const struct opt_set *v = config_daemon(d->config);
	static const char *const keys[RESOURCE_X_MAX] = {"cpu_limit", "mem_limit", "net_limit",
							  "kernel_cpu_limit"};
	struct policy_limits limits = {
		.action = (enum limit_action)opt_i64(v, "limit_action"),
		.net_scope = (enum net_scope)opt_i64(v, "net_limit_scope"),
		.grace_ns = GRACE_NS,
		.recovery_ns = (uint64_t)opt_i64(v, "limit_recovery"),
	};

	for (unsigned int i = 0; i < RESOURCE_X_MAX; i++)
		limits.limit[i] = opt_is_set(v, keys[i]) ? (uint64_t)opt_i64(v, keys[i]) : 0;
	/* An idle quota of others must not end us, so theirs only lowers a limit that was asked for. */
	lower(&limits.limit[RESOURCE_CPU], d->ceiling.cpu_millicores, false);
	/* But at theirs of memory the kernel kills: better to cost less, or to end with a reason. */
	lower(&limits.limit[RESOURCE_MEM],
	      d->ceiling.mem_bytes - d->ceiling.mem_bytes / CEILING_ROOM, true);
	return limits;
}

static void say_ceiling(const struct ceiling *c)
{
	char text[32];

	if (c->cpu_millicores)
		log_notice("%s allows %" PRIu64 " millicores", c->cpu_at, c->cpu_millicores);
	if (c->mem_bytes) {
		units_format_bytes(text, sizeof(text), c->mem_bytes);
		log_notice("%s allows %s of memory: mem_limit is a sixteenth below that at most",
			   c->mem_at, text);
	}
}

bool daemon_read_ceiling(struct daemon *d)
{
	struct ceiling now;

	cgroup_read_ceiling(d->place, &now);
	if (now.cpu_millicores == d->ceiling.cpu_millicores &&
	    now.mem_bytes == d->ceiling.mem_bytes)
		return false;
	d->ceiling = now;
	say_ceiling(&now);
	return true;
}

void daemon_ring_limits(const struct daemon *d, struct ring_limits *ret)
{
	const struct opt_set *v = config_daemon(d->config);

	ret[RING_FLOW] = (struct ring_limits){
		.max_bytes = (uint64_t)opt_i64(v, "store.flow.max_bytes"),
		.max_rows = (uint64_t)opt_i64(v, "store.flow.max_rows"),
		.max_age_ns = (uint64_t)opt_i64(v, "store.flow.max_age"),
	};
	ret[RING_AUDIT] = (struct ring_limits){
		.max_bytes = (uint64_t)opt_i64(v, "store.audit.max_bytes"),
		.max_rows = (uint64_t)opt_i64(v, "store.audit.max_rows"),
		.max_age_ns = (uint64_t)opt_i64(v, "store.audit.max_age"),
	};
}

void daemon_note_decision(struct daemon *d, const char *text)
{
	pthread_mutex_lock(&d->decision_lock);
	snprintf(d->decision, sizeof(d->decision), "%s", text);
	pthread_mutex_unlock(&d->decision_lock);
}

void daemon_last_decision(struct daemon *d, char *dst, size_t cap)
{
	pthread_mutex_lock(&d->decision_lock);
	snprintf(dst, cap, "%s", d->decision);
	pthread_mutex_unlock(&d->decision_lock);
}

void daemon_apply_backstops(struct daemon *d)
{
	struct policy_limits limits = daemon_limits(d);
	struct err err = {0};
	bool hold = limits.action !=
		    LIMIT_ACTION_REPORT; /* who only wants a report doesn't want a quota */

	if (cgroup_set_backstops(d->place, hold ? limits.limit[RESOURCE_CPU] : 0,
				 hold ? limits.limit[RESOURCE_MEM] : 0, &err) < 0)
		log_warn("%s, going on with our own limits alone", err.msg);
}

void daemon_apply_limits(struct daemon *d)
{
	struct policy_limits limits = daemon_limits(d);
	struct ring_limits rings[RING_X_MAX];

	governor_set_limits(d->governor, &limits);
	daemon_apply_backstops(d);
	daemon_ring_limits(d, rings);
	for (unsigned int i = 0; i < RING_X_MAX; i++) {
		int r = store_set_limits(d->store, i, &rings[i]);

		if (r < 0)
			log_warn_errno(r, "ring sizes not changed");
	}
}

struct changes {
	char *text;
	size_t cap;
	bool any_restart;
};

static void on_diff(void *arg, const char *key, const struct opt *opt, const char *old_text,
		    const char *new_text)
{
	struct changes *c = arg;
	size_t len = c->cap ? strlen(c->text) : 0;
	/* Options of plugins restart the plugin, not the daemon; that is done here. */
	bool waits = opt->restart && strncmp(key, "plugins.", 8) != 0;

	log_info("%s: '%s' -> '%s'%s", key, old_text, new_text,
		 waits ? ", after a restart of the daemon" : "");
	c->any_restart |= waits;
	if (len < c->cap)
		snprintf(c->text + len, c->cap - len, "%s%s%s", len ? "," : "", key,
			 waits ? "*" : "");
}

/* What was set by RPC stands above all files. */
static int carry_rpc(const struct config *from, struct config *to, struct err *err)
{
	const struct opt_set *v = config_daemon(from);

	for (const struct opt *o = opt_set_table(v); o->key; o++) {
		int r;

		if (opt_origin(v, o->key) != OPT_ORIGIN_RPC)
			continue;
		r = config_assign(to, o->key, opt_text(v, o->key), OPT_ORIGIN_RPC, NULL, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int daemon_reload(struct daemon *d, bool validate_only, char *changed, size_t cap, struct err *err)
{
	_cleanup_(config_freep) struct config *fresh = NULL;
	struct changes c = {.text = changed, .cap = cap};
	struct api_server *api = atomic_load(&d->api);
	_cleanup_(redact_freep) struct redact *redact = NULL;
	struct config *old;
	int r;

	if (cap)
		changed[0] = '\0';
	r = config_load(&fresh, &d->source, err);
	if (r == 0)
		r = carry_rpc(d->config, fresh, err);
	if (r == 0)
		r = redact_new(&redact, config_daemon(fresh), d->tables, d->redact, err);
	if (r < 0)
		return r;
	config_diff(d->config, fresh, on_diff, &c);
	if (validate_only)
		return 0;
	old = d->config;
	d->config = TAKE_PTR(fresh);
	host_set_config(d->host, d->config);
	log_set_level((enum log_level)opt_i64(config_daemon(d->config), "log_level"));
	daemon_apply_limits(d);
	redact_free(d->redact);
	d->redact = TAKE_PTR(redact);
	if (api)
		api_server_reload_tls(api);
	if (c.any_restart)
		log_notice("options marked * are in force after a restart of the daemon");
	config_free(old);
	return 0;
}
