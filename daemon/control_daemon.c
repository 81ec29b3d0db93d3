// SPDX-License-Identifier: Apache-2.0
/* The API's questions about limits, configuration and the daemon itself. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "daemon/control_internal.h"
#include "daemon/daemon.h"
#include "daemon/options.h"
#include "daemon/probe.h"
#include "daemon/tables.h"
#include "governor/cgroup.h"
#include "governor/governor.h"

#define LOG_MODULE "control"
#include "base/log.h"

int control_governor_get(void *ctx, struct governor_info *ret, struct err *err)
{
	struct daemon *d = ctx;
	struct policy_limits limits;
	struct governor_usage u;
	enum governor_level level;

	(void)err;
	governor_get(d->governor, &limits, &u, &level);
	*ret = (struct governor_info){
		.cpu_limit = limits.limit[RESOURCE_CPU],
		.mem_limit = limits.limit[RESOURCE_MEM],
		.net_limit = limits.limit[RESOURCE_NET],
		.cpu_usage = u.sample.value[RESOURCE_CPU],
		.kernel_cpu_limit = limits.limit[RESOURCE_KERNEL_CPU],
		.kernel_cpu_known = u.sample.valid[RESOURCE_KERNEL_CPU],
		.mem_usage = u.sample.value[RESOURCE_MEM],
		.net_usage = u.sample.value[RESOURCE_NET],
		.cpu_known = u.sample.valid[RESOURCE_CPU],
		.mem_known = u.sample.valid[RESOURCE_MEM],
		.net_known = u.sample.valid[RESOURCE_NET],
		.cpu_bpf = u.cpu_bpf_millicores,
		.rss_bytes = u.rss_bytes,
		.bpf_map_bytes = u.bpf_map_bytes,
	};
	snprintf(ret->state, sizeof(ret->state), "%s", governor_level_name(level));
	snprintf(ret->limit_action, sizeof(ret->limit_action), "%s",
		 limit_action_names[limits.action]);
	snprintf(ret->net_limit_scope, sizeof(ret->net_limit_scope), "%s",
		 net_scope_names[limits.net_scope]);
	snprintf(ret->net_interface, sizeof(ret->net_interface), "%.15s", u.net_interface);
	snprintf(ret->cgroup, sizeof(ret->cgroup), "%s", cgroup_describe(d->place));
	daemon_last_decision(d, ret->last_event, sizeof(ret->last_event));
	return 0;
}

struct limits_request {
	struct daemon *d;
	const char *actor;
	const struct keyval *limits;
	size_t n;
	bool persist, validate_only;
	struct err *err;
};

static bool is_limit(const char *key)
{
	static const char *const keys[] = {"cpu_limit",	   "mem_limit",	      "net_limit",
					   "limit_action", "net_limit_scope", "kernel_cpu_limit"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return false;
}

/* No text, no limit; the two that name a choice go back to their default. */
static const char *limit_text(const struct keyval *kv)
{
	const struct opt *o = opt_find(daemon_options, kv->key);

	if (kv->value && *kv->value)
		return kv->value;
	return o->def ? o->def : "0";
}

static int check_limits(struct limits_request *q)
{
	_cleanup_(opt_set_freep) struct opt_set *scratch = NULL;
	int r;

	r = opt_set_copy(&scratch, config_daemon(q->d->config));
	if (r < 0)
		return err_set(q->err, r, "out of memory");
	for (size_t i = 0; i < q->n; i++) {
		if (!is_limit(q->limits[i].key))
			return err_set(q->err, -EINVAL,
				       "'%.48s' is not a limit; use cpu_limit, kernel_cpu_limit, "
				       "mem_limit, net_limit, limit_action or net_limit_scope",
				       q->limits[i].key);
		r = opt_set_assign(scratch, q->limits[i].key, limit_text(&q->limits[i]),
				   OPT_ORIGIN_RPC, q->err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int do_limits(void *arg)
{
	struct limits_request *q = arg;
	char said[200] = "";
	int r;

	r = check_limits(q);
	if (r < 0 || q->validate_only)
		return r;
	for (size_t i = 0; i < q->n; i++) {
		const char *key = q->limits[i].key, *text = limit_text(&q->limits[i]);
		size_t len = strlen(said);

		r = config_assign(q->d->config, key, text, OPT_ORIGIN_RPC, NULL, q->err);
		if (r == 0 && q->persist)
			r = config_persist(q->d->config, key, text, q->err);
		if (r < 0)
			return r;
		snprintf(said + len, sizeof(said) - len, "%s%s=%s", len ? ", " : "", key, text);
	}
	daemon_apply_limits(q->d);
	log_notice("limits changed: %s", said);
	selftables_event(q->d->self, "limits_changed", "", said, q->actor);
	return 0;
}

int control_limits_update(void *ctx, const struct keyval *limits, size_t n, bool persist,
			  bool validate_only, struct governor_info *ret, struct err *err)
{
	struct limits_request q = {.d = ctx,
				   .actor = api_caller(),
				   .limits = limits,
				   .n = n,
				   .persist = persist,
				   .validate_only = validate_only,
				   .err = err};
	int r;

	r = control_call(ctx, do_limits, &q, err);
	return r < 0 ? r : control_governor_get(ctx, ret, err);
}

int control_daemon_get(void *ctx, struct daemon_info *ret, struct err *err)
{
	struct daemon *d = ctx;
	struct utsname u = {0};

	(void)err;
	memset(ret, 0, sizeof(*ret));
	if (uname(&u) == 0) {
		snprintf(ret->kernel, sizeof(ret->kernel), "%.64s %.24s", u.release, u.machine);
		snprintf(ret->hostname, sizeof(ret->hostname), "%s", u.nodename);
	}
	snprintf(ret->version, sizeof(ret->version), "%s", RINGSIDE_VERSION);
	snprintf(ret->state_dir, sizeof(ret->state_dir), "%s", d->state_dir);
	snprintf(ret->last_exit, sizeof(ret->last_exit), "%s", d->last_exit);
	ret->started_at_ns = d->started_at;
	ret->pid = (uint64_t)getpid();
	ret->ncapabilities =
		probe_capabilities(d->probe, ret->capabilities, ARRAY_SIZE(ret->capabilities));
	if (ret->ncapabilities > ARRAY_SIZE(ret->capabilities))
		ret->ncapabilities = ARRAY_SIZE(ret->capabilities);
	return 0;
}

struct config_request {
	struct daemon *d;
	const char *actor;
	struct config_value_info *values;
	unsigned int cap;
	char *changed;
	size_t changed_cap;
	bool validate_only;
	const char *level;
	struct err *err;
};

static int do_config_get(void *arg)
{
	struct config_request *q = arg;

	return (int)config_values(q->d->config, q->values, q->cap);
}

int control_config_get(void *ctx, struct config_value_info *ret, unsigned int cap, struct err *err)
{
	struct config_request q = {.d = ctx, .actor = api_caller(), .values = ret, .cap = cap, .err = err};

	return control_call(ctx, do_config_get, &q, err);
}

static int do_reload(void *arg)
{
	struct config_request *q = arg;
	int r;

	r = daemon_reload(q->d, q->validate_only, q->changed, q->changed_cap, q->err);
	if (r == 0 && !q->validate_only)
		selftables_event(q->d->self, "config_reloaded", "", q->changed, q->actor);
	return r;
}

int control_config_reload(void *ctx, bool validate_only, char *changed, size_t cap, struct err *err)
{
	struct config_request q = {.d = ctx,
				   .actor = api_caller(),
				   .validate_only = validate_only,
				   .changed = changed,
				   .changed_cap = cap,
				   .err = err};

	return control_call(ctx, do_reload, &q, err);
}

static int do_log_level(void *arg)
{
	struct config_request *q = arg;
	int r;

	r = config_assign(q->d->config, "log_level", q->level, OPT_ORIGIN_RPC, NULL, q->err);
	if (r < 0)
		return r;
	log_set_level((enum log_level)opt_i64(config_daemon(q->d->config), "log_level"));
	selftables_event(q->d->self, "log_level_changed", "", q->level, q->actor);
	return 0;
}

int control_log_level_set(void *ctx, const char *level, struct err *err)
{
	struct config_request q = {.d = ctx, .actor = api_caller(), .level = level, .err = err};

	return control_call(ctx, do_log_level, &q, err);
}

int control_shutdown(void *ctx, struct err *err)
{
	struct daemon *d = ctx;

	(void)err;
	log_notice("stopping as %s asks", api_caller());
	selftables_event_post(d->self, "shutdown", "", "", api_caller());
	daemon_stop(d, EXIT_STATUS_OK);
	return 0;
}
