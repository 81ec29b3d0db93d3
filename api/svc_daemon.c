// SPDX-License-Identifier: Apache-2.0
/* DaemonService and the unary methods of GovernorService. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/convert.h"
#include "api/service.h"
#include "ringside/v1/daemon.pb-c.h"
#include "ringside/v1/governor.pb-c.h"

#define FIRST_CONFIG_VALUES 256
#define CHANGED_MAX 8192

static int no_room(struct api_job *job)
{
	return err_set(&job->err, -ENOMEM, "the answer is larger than the memory of one call");
}

int governor_get_handler(struct api_job *job)
{
	Ringside__V1__GetGovernorResponse answer = RINGSIDE__V1__GET_GOVERNOR_RESPONSE__INIT;
	struct governor_info info = {};
	int r = job->s->options.ops->governor_get(job->s->options.ctx, &info, &job->err);

	if (r < 0)
		return r;
	answer.governor = msg_governor(job->arena, &info);
	return answer.governor ? job_reply(job, &answer.base) : no_room(job);
}

/* The first two of them name a choice, the rest are limits that can be lifted. */
enum { LIMITS = 6, CHOICES = 2 };

static const char *const limit_keys[LIMITS] = {"limit_action", "net_limit_scope", "cpu_limit",
					       "mem_limit",    "net_limit",       "kernel_cpu_limit"};

static const char *limit_value(const Ringside__V1__Limits *l, size_t i)
{
	const char *const values[LIMITS] = {l->limit_action, l->net_limit_scope, l->cpu_limit,
					    l->mem_limit,    l->net_limit,       l->kernel_cpu_limit};

	return values[i];
}

static bool in_mask(const Google__Protobuf__FieldMask *mask, const char *key)
{
	for (size_t i = 0; i < mask->n_paths; i++)
		if (strcmp(mask->paths[i], key) == 0)
			return true;
	return false;
}

static int check_mask(struct api_job *job, const Google__Protobuf__FieldMask *mask)
{
	for (size_t i = 0; i < mask->n_paths; i++) {
		size_t k = 0;

		while (k < LIMITS && strcmp(mask->paths[i], limit_keys[k]) != 0)
			k++;
		if (k == LIMITS)
			return err_set(&job->err, -EINVAL,
				       "update_mask names '%s': use cpu_limit, kernel_cpu_limit, mem_limit, net_limit, "
				       "limit_action or net_limit_scope",
				       mask->paths[i]);
	}
	return 0;
}

/* A limit that the mask names and the message leaves empty is lifted. */
static int pick_limits(struct api_job *job, const Ringside__V1__UpdateLimitsRequest *q, struct keyval *out)
{
	static const Ringside__V1__Limits none = RINGSIDE__V1__LIMITS__INIT;
	const Ringside__V1__Limits *l = q->limits ? q->limits : &none;
	const Google__Protobuf__FieldMask *mask = q->update_mask && q->update_mask->n_paths ? q->update_mask : NULL;
	int n = 0, r = mask ? check_mask(job, mask) : 0;

	if (r < 0)
		return r;
	for (size_t i = 0; i < LIMITS; i++) {
		const char *value = limit_value(l, i);

		if (mask ? !in_mask(mask, limit_keys[i]) : !*value)
			continue;
		if (!*value && i < CHOICES)
			return err_set(&job->err, -EINVAL, "%s is empty: give %s", limit_keys[i],
				       i == 0 ? "shed, exit or report" : "self or nic");
		out[n++] = (struct keyval){limit_keys[i], *value ? value : "0"};
	}
	if (!n)
		return err_set(&job->err, -EINVAL, "no limit given: set one in limits, or name it in update_mask to lift it");
	return n;
}

int governor_limits_handler(struct api_job *job)
{
	const Ringside__V1__UpdateLimitsRequest *q = (const void *)job->request;
	Ringside__V1__UpdateLimitsResponse answer = RINGSIDE__V1__UPDATE_LIMITS_RESPONSE__INIT;
	struct governor_info info = {};
	struct keyval limits[LIMITS];
	int r, n = pick_limits(job, q, limits);

	if (n < 0)
		return n;
	r = job->s->options.ops->limits_update(job->s->options.ctx, limits, (size_t)n, q->persist, q->validate_only,
					       &info, &job->err);
	if (r < 0)
		return r;
	answer.governor = msg_governor(job->arena, &info);
	return answer.governor ? job_reply(job, &answer.base) : no_room(job);
}

static void fill_caller(struct api_job *job, Ringside__V1__Caller *m)
{
	const struct rpc_caller *c = rpc_call_caller(job->call);

	m->transport = (char *)c->transport;
	m->role = c->role == RPC_ADMIN ? "admin" : "viewer";
	m->uid = c->uid;
	m->gid = c->gid;
	m->pid = c->pid;
	m->subject = msg_text(job->arena, c->subject);
}

static int add_capabilities(struct api_job *job, Ringside__V1__GetDaemonResponse *answer, const struct daemon_info *d)
{
	answer->capabilities = arena_alloc(job->arena, d->ncapabilities * sizeof(*answer->capabilities));
	if (!answer->capabilities)
		return no_room(job);
	for (unsigned int i = 0; i < d->ncapabilities; i++) {
		const struct capability_info *c = &d->capabilities[i];
		Ringside__V1__Capability *m =
			MSG_NEW(job->arena, Ringside__V1__Capability, ringside__v1__capability__init);

		if (!m)
			return no_room(job);
		m->name = msg_text(job->arena, c->name);
		m->available = c->available;
		m->detail = msg_text(job->arena, c->detail);
		answer->capabilities[answer->n_capabilities++] = m;
	}
	return 0;
}

int daemon_get_handler(struct api_job *job)
{
	Ringside__V1__GetDaemonResponse answer = RINGSIDE__V1__GET_DAEMON_RESPONSE__INIT;
	Ringside__V1__Caller caller = RINGSIDE__V1__CALLER__INIT;
	_cleanup_free_ struct daemon_info *d = calloc(1, sizeof(*d));
	struct api_server_stats stats;
	int r;

	if (!d)
		return no_room(job);
	r = job->s->options.ops->daemon_get(job->s->options.ctx, d, &job->err);
	if (r == 0)
		r = add_capabilities(job, &answer, d);
	if (r < 0)
		return r;
	api_server_get_stats(job->s, &stats);
	fill_caller(job, &caller);
	answer.version = msg_text(job->arena, d->version);
	answer.kernel = msg_text(job->arena, d->kernel);
	answer.hostname = msg_text(job->arena, d->hostname);
	answer.state_dir = msg_text(job->arena, d->state_dir);
	answer.pid = (int64_t)d->pid;
	answer.started_at = msg_timestamp(job->arena, d->started_at_ns);
	answer.caller = &caller;
	answer.calls_live = stats.calls_live;
	answer.calls_total = stats.calls_total;
	answer.connections = stats.connections;
	answer.watchers = stats.watchers;
	answer.last_exit = msg_text(job->arena, d->last_exit);
	return job_reply(job, &answer.base);
}

static int list_config(struct api_job *job, struct config_value_info **ret)
{
	unsigned int cap = FIRST_CONFIG_VALUES;

	for (;;) {
		struct config_value_info *list = calloc(cap, sizeof(*list));
		int n;

		if (!list)
			return no_room(job);
		n = job->s->options.ops->config_get(job->s->options.ctx, list, cap, &job->err);
		if (n >= 0 && (unsigned int)n <= cap) {
			*ret = list;
			return n;
		}
		free(list);
		if (n < 0)
			return n;
		cap = (unsigned int)n;
	}
}

static Ringside__V1__ConfigValue *msg_config(struct arena *a, const struct config_value_info *v)
{
	Ringside__V1__ConfigValue *m = MSG_NEW(a, Ringside__V1__ConfigValue, ringside__v1__config_value__init);

	if (!m)
		return NULL;
	m->key = msg_text(a, v->key);
	m->value = msg_text(a, v->value);
	m->origin = msg_text(a, v->origin);
	m->detail = msg_text(a, v->detail);
	m->default_ = msg_text(a, v->def);
	m->type = msg_text(a, v->type);
	m->help = msg_text(a, v->help);
	m->restart = v->restart;
	return m;
}

int daemon_config_handler(struct api_job *job)
{
	Ringside__V1__GetConfigResponse answer = RINGSIDE__V1__GET_CONFIG_RESPONSE__INIT;
	_cleanup_free_ struct config_value_info *list = NULL;
	int n = list_config(job, &list);

	if (n < 0)
		return n;
	answer.values = arena_alloc(job->arena, (size_t)n * sizeof(*answer.values));
	if (!answer.values)
		return no_room(job);
	for (int i = 0; i < n; i++) {
		answer.values[i] = msg_config(job->arena, &list[i]);
		if (!answer.values[i])
			return no_room(job);
	}
	answer.n_values = (size_t)n;
	return job_reply(job, &answer.base);
}

static int split(struct api_job *job, char *text, Ringside__V1__ReloadConfigResponse *answer)
{
	size_t n = 1;
	char *save = NULL;

	for (const char *p = text; *p; p++)
		n += *p == ',';
	answer->changed_keys = arena_alloc(job->arena, n * sizeof(*answer->changed_keys));
	if (!answer->changed_keys)
		return no_room(job);
	for (char *key = strtok_r(text, ", ", &save); key; key = strtok_r(NULL, ", ", &save))
		answer->changed_keys[answer->n_changed_keys++] = msg_text(job->arena, key);
	return 0;
}

int daemon_reload_handler(struct api_job *job)
{
	const Ringside__V1__ReloadConfigRequest *q = (const void *)job->request;
	Ringside__V1__ReloadConfigResponse answer = RINGSIDE__V1__RELOAD_CONFIG_RESPONSE__INIT;
	char *changed = arena_zalloc(job->arena, 1, CHANGED_MAX);
	int r;

	if (!changed)
		return no_room(job);
	r = job->s->options.ops->config_reload(job->s->options.ctx, q->validate_only, changed, CHANGED_MAX, &job->err);
	if (r < 0)
		return r;
	if (!q->validate_only)
		api_server_reload_tls(job->s);
	r = split(job, changed, &answer);
	return r < 0 ? r : job_reply(job, &answer.base);
}

int daemon_log_level_handler(struct api_job *job)
{
	const Ringside__V1__SetLogLevelRequest *q = (const void *)job->request;
	Ringside__V1__SetLogLevelResponse answer = RINGSIDE__V1__SET_LOG_LEVEL_RESPONSE__INIT;
	int r = job->s->options.ops->log_level_set(job->s->options.ctx, q->level, &job->err);

	return r < 0 ? r : job_reply(job, &answer.base);
}

int daemon_shutdown_handler(struct api_job *job)
{
	Ringside__V1__ShutdownResponse answer = RINGSIDE__V1__SHUTDOWN_RESPONSE__INIT;
	int r = job->s->options.ops->shutdown(job->s->options.ctx, &job->err);

	return r < 0 ? r : job_reply(job, &answer.base);
}
