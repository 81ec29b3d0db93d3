// SPDX-License-Identifier: Apache-2.0
/* PluginService: the unary methods. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/convert.h"
#include "api/service.h"
#include "base/clock.h"
#include "ringside/v1/plugin.pb-c.h"

/* More plugins than a build has; asked again with more room if there are more. */
#define FIRST_PLUGINS 32
#define MAX_REQUIREMENTS 64
/* As many as a plugin can have options. */
#define MAX_OPTIONS 32

static int check_name(struct api_job *job, const char *name)
{
	if (!*name)
		return err_set(&job->err, -EINVAL, "name is empty: give the name of a plugin; ListPlugins has them");
	return 0;
}

/* The handlers' own lists; *ret is the caller's. */
static int list_plugins(struct api_job *job, struct plugin_info **ret)
{
	unsigned int cap = FIRST_PLUGINS;

	for (;;) {
		struct plugin_info *list = calloc(cap, sizeof(*list));
		int n;

		if (!list)
			return err_set(&job->err, -ENOMEM, "no memory for the list of plugins");
		n = job->s->options.ops->plugin_list(job->s->options.ctx, list, cap, &job->err);
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

static int no_room(struct api_job *job)
{
	return err_set(&job->err, -ENOMEM, "the answer is larger than the memory of one call");
}

int plugin_list_handler(struct api_job *job)
{
	Ringside__V1__ListPluginsResponse answer = RINGSIDE__V1__LIST_PLUGINS_RESPONSE__INIT;
	_cleanup_free_ struct plugin_info *list = NULL;
	int n = list_plugins(job, &list);

	if (n < 0)
		return n;
	answer.plugins = arena_alloc(job->arena, (size_t)n * sizeof(*answer.plugins));
	if (!answer.plugins)
		return no_room(job);
	for (int i = 0; i < n; i++) {
		answer.plugins[i] = msg_plugin(job->arena, &list[i]);
		if (!answer.plugins[i])
			return no_room(job);
	}
	answer.n_plugins = (size_t)n;
	return job_reply(job, &answer.base);
}

int plugin_get_handler(struct api_job *job)
{
	const Ringside__V1__GetPluginRequest *q = (const void *)job->request;
	Ringside__V1__GetPluginResponse answer = RINGSIDE__V1__GET_PLUGIN_RESPONSE__INIT;
	_cleanup_free_ struct plugin_info *info = calloc(1, sizeof(*info));
	int r = check_name(job, q->name);

	if (!info)
		return no_room(job);
	if (r == 0)
		r = job->s->options.ops->plugin_get(job->s->options.ctx, q->name, info, &job->err);
	if (r < 0)
		return r;
	answer.plugin = msg_plugin(job->arena, info);
	return answer.plugin ? job_reply(job, &answer.base) : no_room(job);
}

static int duration_ns(struct api_job *job, const Google__Protobuf__Duration *d, uint64_t *ret)
{
	*ret = 0;
	if (!d)
		return 0;
	/* 100 years: within what nanoseconds can hold. */
	if (d->seconds < 0 || d->nanos < 0 || d->nanos > 999999999 || d->seconds > 100ll * 366 * 86400 ||
	    (!d->seconds && !d->nanos))
		return err_set(&job->err, -EINVAL, "duration of %lld.%09d s: give a positive one, or none for ever",
			       (long long)d->seconds, d->nanos);
	*ret = (uint64_t)d->seconds * NSEC_PER_SEC + (uint64_t)d->nanos;
	return 0;
}

static int too_many(struct api_job *job, size_t n)
{
	return err_set(&job->err, -EINVAL, "%zu options: a plugin has at most %d", n, MAX_OPTIONS);
}

int plugin_enable_handler(struct api_job *job)
{
	const Ringside__V1__EnablePluginRequest *q = (const void *)job->request;
	Ringside__V1__EnablePluginResponse answer = RINGSIDE__V1__ENABLE_PLUGIN_RESPONSE__INIT;
	_cleanup_free_ struct plugin_info *info = calloc(1, sizeof(*info));
	struct keyval options[MAX_OPTIONS];
	uint64_t duration = 0;
	int r = check_name(job, q->name);

	if (!info)
		return no_room(job);
	if (r == 0)
		r = duration_ns(job, q->duration, &duration);
	if (r == 0 && q->n_options > MAX_OPTIONS)
		r = too_many(job, q->n_options);
	if (r < 0)
		return r;
	for (size_t i = 0; i < q->n_options; i++)
		options[i] = (struct keyval){q->options[i]->key, q->options[i]->value};
	r = job->s->options.ops->plugin_enable(job->s->options.ctx, q->name, options, q->n_options, q->persist,
					       duration, q->validate_only, info, &job->err);
	if (r < 0)
		return r;
	answer.plugin = msg_plugin(job->arena, info);
	return answer.plugin ? job_reply(job, &answer.base) : no_room(job);
}

int plugin_disable_handler(struct api_job *job)
{
	const Ringside__V1__DisablePluginRequest *q = (const void *)job->request;
	Ringside__V1__DisablePluginResponse answer = RINGSIDE__V1__DISABLE_PLUGIN_RESPONSE__INIT;
	_cleanup_free_ struct plugin_info *info = calloc(1, sizeof(*info));
	int r = check_name(job, q->name);

	if (!info)
		return no_room(job);
	if (r == 0)
		r = job->s->options.ops->plugin_disable(job->s->options.ctx, q->name, q->persist, info, &job->err);
	if (r < 0)
		return r;
	answer.plugin = msg_plugin(job->arena, info);
	return answer.plugin ? job_reply(job, &answer.base) : no_room(job);
}

static const char *requested(const Ringside__V1__UpdatePluginRequest *q, const char *key)
{
	for (size_t i = 0; i < q->n_options; i++)
		if (strcmp(q->options[i]->key, key) == 0)
			return q->options[i]->value;
	return NULL;
}

static const char *default_of(const struct plugin_info *info, const char *key)
{
	for (unsigned int i = 0; i < info->noptions; i++)
		if (strcmp(info->options[i].key, key) == 0)
			return info->options[i].def;
	return NULL;
}

/* With a mask: its keys, those that the request doesn't give go back to their default. Without: all given ones. */
static int pick_options(struct api_job *job, const Ringside__V1__UpdatePluginRequest *q,
			const struct plugin_info *now, struct keyval *out)
{
	size_t n = q->update_mask ? q->update_mask->n_paths : 0;

	if (n > MAX_OPTIONS || q->n_options > MAX_OPTIONS)
		return too_many(job, n > q->n_options ? n : q->n_options);
	if (!n) {
		for (size_t i = 0; i < q->n_options; i++)
			out[i] = (struct keyval){q->options[i]->key, q->options[i]->value};
		return (int)q->n_options;
	}
	for (size_t i = 0; i < n; i++) {
		const char *key = q->update_mask->paths[i];
		const char *value = requested(q, key) ?: default_of(now, key);

		if (!value)
			return err_set(&job->err, -EINVAL, "update_mask names '%s': plugin %s has no such option", key,
				       q->name);
		out[i] = (struct keyval){key, value};
	}
	return (int)n;
}

int plugin_update_handler(struct api_job *job)
{
	const Ringside__V1__UpdatePluginRequest *q = (const void *)job->request;
	Ringside__V1__UpdatePluginResponse answer = RINGSIDE__V1__UPDATE_PLUGIN_RESPONSE__INIT;
	_cleanup_free_ struct plugin_info *now = calloc(1, sizeof(*now)), *info = calloc(1, sizeof(*info));
	struct keyval options[MAX_OPTIONS];
	bool restarted = false;
	int n, r = check_name(job, q->name);

	if (!now || !info)
		return no_room(job);
	if (r == 0)
		r = job->s->options.ops->plugin_get(job->s->options.ctx, q->name, now, &job->err);
	if (r < 0)
		return r;
	if (*q->etag && strcmp(q->etag, now->etag) != 0)
		return err_set(&job->err, -EBUSY, "plugin %s was changed by somebody else: its etag is '%s', not '%s'",
			       q->name, now->etag, q->etag);
	n = pick_options(job, q, now, options);
	if (n < 0)
		return n;
	r = job->s->options.ops->plugin_update(job->s->options.ctx, q->name, options, (size_t)n, q->persist,
					       q->validate_only, &restarted, info, &job->err);
	if (r < 0)
		return r;
	answer.restarted = restarted;
	answer.plugin = msg_plugin(job->arena, info);
	return answer.plugin ? job_reply(job, &answer.base) : no_room(job);
}

static Ringside__V1__Requirement *msg_requirement(struct arena *a, const struct requirement_info *q)
{
	Ringside__V1__Requirement *m = MSG_NEW(a, Ringside__V1__Requirement, ringside__v1__requirement__init);

	if (!m)
		return NULL;
	m->name = msg_text(a, q->name);
	m->met = q->met;
	m->required = q->required;
	m->detail = msg_text(a, q->detail);
	return m;
}

int plugin_check_handler(struct api_job *job)
{
	const Ringside__V1__CheckPluginRequest *q = (const void *)job->request;
	Ringside__V1__CheckPluginResponse answer = RINGSIDE__V1__CHECK_PLUGIN_RESPONSE__INIT;
	_cleanup_free_ struct requirement_info *list = calloc(MAX_REQUIREMENTS, sizeof(*list));
	unsigned int n = 0;
	int r = check_name(job, q->name);

	if (!list)
		return no_room(job);
	if (r == 0)
		r = job->s->options.ops->plugin_check(job->s->options.ctx, q->name, list, MAX_REQUIREMENTS, &n,
						      &job->err);
	if (r < 0)
		return r;
	if (n > MAX_REQUIREMENTS)
		n = MAX_REQUIREMENTS;
	answer.requirements = arena_alloc(job->arena, n * sizeof(*answer.requirements));
	if (!answer.requirements)
		return no_room(job);
	answer.supported = true;
	for (unsigned int i = 0; i < n; i++) {
		answer.requirements[i] = msg_requirement(job->arena, &list[i]);
		if (!answer.requirements[i])
			return no_room(job);
		if (list[i].required && !list[i].met)
			answer.supported = false;
	}
	answer.n_requirements = n;
	return job_reply(job, &answer.base);
}

/* Name of the plugin that makes rows of the table, or "". */
static const char *plugin_of(const struct plugin_info *list, int n, const char *table)
{
	for (int i = 0; i < n; i++)
		for (unsigned int t = 0; t < list[i].ntables; t++)
			if (strcmp(list[i].tables[t], table) == 0)
				return list[i].name;
	return "";
}

int table_list_handler(struct api_job *job)
{
	const struct table *const *tables = job->s->options.ops->tables(job->s->options.ctx);
	Ringside__V1__ListTablesResponse answer = RINGSIDE__V1__LIST_TABLES_RESPONSE__INIT;
	_cleanup_free_ struct plugin_info *list = NULL;
	int n = list_plugins(job, &list);
	size_t ntables = 0;

	if (n < 0)
		return n;
	while (tables[ntables])
		ntables++;
	answer.tables = arena_alloc(job->arena, ntables * sizeof(*answer.tables));
	if (!answer.tables)
		return no_room(job);
	for (size_t i = 0; i < ntables; i++) {
		answer.tables[i] = msg_table(job->arena, tables[i], plugin_of(list, n, tables[i]->name));
		if (!answer.tables[i])
			return no_room(job);
	}
	answer.n_tables = ntables;
	return job_reply(job, &answer.base);
}
