// SPDX-License-Identifier: Apache-2.0
/* The fake daemon's plugins, limits and configuration. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/units.h"
#include "tests/lib/api_fake.h"

void fake_plugins_init(struct fake *f)
{
	static const char *const names[FAKE_PLUGINS] = {"alpha", "beta", "slow", "broken"};

	pthread_mutex_init(&f->mu, NULL);
	for (unsigned int i = 0; i < FAKE_PLUGINS; i++) {
		struct plugin_info *p = &f->plugins[i];

		snprintf(p->name, sizeof(p->name), "%s", names[i]);
		snprintf(p->help, sizeof(p->help), "Fake plugin \xff %u", i); /* invalid UTF-8 on purpose */
		p->state = i == 0 ? PLUGIN_STATE_RUNNING : PLUGIN_STATE_DISABLED;
		strcpy(p->etag, "1");
		p->noptions = 1;
		strcpy(p->options[0].key, "interval");
		strcpy(p->options[0].type, "duration");
		strcpy(p->options[0].def, "10s");
		strcpy(p->options[0].value, "10s");
		strcpy(p->options[0].origin, "default");
	}
	f->plugins[0].ntables = 1;
	strcpy(f->plugins[0].tables[0], "events");
	f->plugins[0].nprograms = 1;
	strcpy(f->plugins[0].programs[0].name, "prog");
	f->plugins[3].state = PLUGIN_STATE_UNSUPPORTED;
	strcpy(f->plugins[3].reason, "this kernel lacks everything");
	f->governor = (struct governor_info){.state = "ok", .limit_action = "shed", .net_limit_scope = "self",
					     .cpu_limit = 2000, .mem_limit = 128 << 20, .net_limit = 100 << 20,
					     .cpu_known = true, .mem_known = true, .cpu_usage = 12};
}

static struct plugin_info *find(struct fake *f, const char *name, struct err *err)
{
	for (unsigned int i = 0; i < FAKE_PLUGINS; i++)
		if (strcmp(f->plugins[i].name, name) == 0)
			return &f->plugins[i];
	err_set(err, -ENOENT, "no plugin '%s'", name);
	return NULL;
}

static int plugin_list(void *ctx, struct plugin_info *ret, unsigned int cap, struct err *err)
{
	struct fake *f = ctx;

	(void)err;
	pthread_mutex_lock(&f->mu);
	for (unsigned int i = 0; i < FAKE_PLUGINS && i < cap; i++)
		ret[i] = f->plugins[i];
	pthread_mutex_unlock(&f->mu);
	return FAKE_PLUGINS;
}

static int plugin_get(void *ctx, const char *name, struct plugin_info *ret, struct err *err)
{
	struct fake *f = ctx;
	struct plugin_info *p;

	pthread_mutex_lock(&f->mu);
	p = find(f, name, err);
	if (p)
		*ret = *p;
	pthread_mutex_unlock(&f->mu);
	return p ? 0 : err->code ?: -ENOENT;
}

static int set_options(struct plugin_info *p, const struct keyval *options, size_t n, bool apply, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t ns;

		if (strcmp(options[i].key, "interval") != 0)
			return err_set(err, -EINVAL, "plugin %s has no option '%s'", p->name, options[i].key);
		if (units_parse_duration(options[i].value, &ns, err) < 0)
			return err_prefix(err, "option interval: ");
		if (apply)
			snprintf(p->options[0].value, sizeof(p->options[0].value), "%s", options[i].value);
	}
	return 0;
}

static void bump(struct fake *f, struct plugin_info *p, struct plugin_info *ret)
{
	snprintf(p->etag, sizeof(p->etag), "%lu", strtoul(p->etag, NULL, 10) + 1);
	*ret = *p;
	api_server_plugin_changed(f->server, p->name, p->state == PLUGIN_STATE_RUNNING);
}

static int plugin_enable(void *ctx, const char *name, const struct keyval *options, size_t noptions, bool persist,
			 uint64_t duration_ns, bool validate_only, struct plugin_info *ret, struct err *err)
{
	struct timespec half = {.tv_nsec = 500 * NSEC_PER_MSEC};
	struct fake *f = ctx;
	struct plugin_info *p;
	int r = 0;

	if (strcmp(name, "slow") == 0)
		nanosleep(&half, NULL);
	pthread_mutex_lock(&f->mu);
	p = find(f, name, err);
	if (!p)
		r = -ENOENT;
	else if (p->state == PLUGIN_STATE_UNSUPPORTED)
		r = err_set(err, -EOPNOTSUPP, "plugin %s: %s", name, p->reason);
	else
		r = set_options(p, options, noptions, !validate_only, err);
	if (r == 0 && validate_only) {
		*ret = *p;
	} else if (r == 0) {
		p->state = PLUGIN_STATE_RUNNING;
		p->persisted = persist;
		p->enabled_at_ns = clock_real_ns();
		p->disable_at_ns = duration_ns ? p->enabled_at_ns + duration_ns : 0;
		bump(f, p, ret);
	}
	pthread_mutex_unlock(&f->mu);
	return r;
}

static int plugin_disable(void *ctx, const char *name, bool persist, struct plugin_info *ret, struct err *err)
{
	struct fake *f = ctx;
	struct plugin_info *p;

	pthread_mutex_lock(&f->mu);
	p = find(f, name, err);
	if (p) {
		p->state = PLUGIN_STATE_DISABLED;
		p->persisted = persist;
		bump(f, p, ret);
	}
	pthread_mutex_unlock(&f->mu);
	return p ? 0 : -ENOENT;
}

static int plugin_update(void *ctx, const char *name, const struct keyval *options, size_t noptions, bool persist,
			 bool validate_only, bool *ret_restarted, struct plugin_info *ret, struct err *err)
{
	struct fake *f = ctx;
	struct plugin_info *p;
	int r = -ENOENT;

	(void)persist;
	pthread_mutex_lock(&f->mu);
	p = find(f, name, err);
	if (p)
		r = set_options(p, options, noptions, !validate_only, err);
	if (r == 0)
		bump(f, p, ret);
	*ret_restarted = r == 0;
	pthread_mutex_unlock(&f->mu);
	return r;
}

static int plugin_check(void *ctx, const char *name, struct requirement_info *ret, unsigned int cap, unsigned int *n,
			struct err *err)
{
	struct fake *f = ctx;

	if (!find(f, name, err) || cap < 2)
		return -ENOENT;
	ret[0] = (struct requirement_info){"btf", "The kernel tells its types.", strcmp(name, "broken") != 0, true};
	ret[1] = (struct requirement_info){"fentry", "No fentry here.", false, false};
	*n = 2;
	return 0;
}

static const struct table *const *tables(void *ctx)
{
	(void)ctx;
	return fake_tables;
}

static int governor_get(void *ctx, struct governor_info *ret, struct err *err)
{
	struct fake *f = ctx;

	(void)err;
	pthread_mutex_lock(&f->mu);
	*ret = f->governor;
	pthread_mutex_unlock(&f->mu);
	return 0;
}

static int limits_update(void *ctx, const struct keyval *limits, size_t n, bool persist, bool validate_only,
			 struct governor_info *ret, struct err *err)
{
	struct fake *f = ctx;
	int r = 0;

	(void)persist;
	pthread_mutex_lock(&f->mu);
	*ret = f->governor;
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (strcmp(limits[i].key, "cpu_limit") == 0)
			r = units_parse_cpu(limits[i].value, &ret->cpu_limit, err);
		else if (strcmp(limits[i].key, "mem_limit") == 0)
			r = units_parse_bytes(limits[i].value, &ret->mem_limit, err);
		else if (strcmp(limits[i].key, "net_limit") == 0)
			r = units_parse_rate(limits[i].value, &ret->net_limit, err);
		if (r < 0)
			err_prefix(err, "%s: ", limits[i].key);
	}
	if (r == 0 && !validate_only)
		f->governor = *ret;
	pthread_mutex_unlock(&f->mu);
	if (r == 0 && !validate_only)
		api_server_governor_changed(f->server);
	return r;
}

static int daemon_get(void *ctx, struct daemon_info *ret, struct err *err)
{
	(void)ctx;
	(void)err;
	*ret = (struct daemon_info){.version = "0.0-fake", .kernel = "6.1", .hostname = "fake", .pid = (uint64_t)getpid(),
				    .started_at_ns = 1763700000123456789ull, .ncapabilities = 1};
	ret->capabilities[0] = (struct capability_info){"btf", "Types are known.", true};
	return 0;
}

static int config_get(void *ctx, struct config_value_info *ret, unsigned int cap, struct err *err)
{
	(void)ctx;
	(void)err;
	for (unsigned int i = 0; i < 300 && i < cap; i++) {
		ret[i] = (struct config_value_info){.value = "v", .origin = "default", .def = "v", .type = "string"};
		snprintf(ret[i].key, sizeof(ret[i].key), "key%u", i);
	}
	return 300; /* more than the first guess has room for */
}

static int config_reload(void *ctx, bool validate_only, char *changed, size_t cap, struct err *err)
{
	(void)ctx;
	(void)validate_only;
	(void)err;
	snprintf(changed, cap, "store.max_bytes, api.listen");
	return 0;
}

static int log_level_set(void *ctx, const char *level, struct err *err)
{
	enum log_level l;

	(void)ctx;
	return log_level_parse(level, &l, err);
}

static int shut_down(void *ctx, struct err *err)
{
	(void)ctx;
	(void)err;
	return kill(getpid(), SIGTERM) < 0 ? -errno : 0;
}

const struct api_ops fake_ops = {
	.plugin_list = plugin_list,
	.plugin_get = plugin_get,
	.plugin_enable = plugin_enable,
	.plugin_disable = plugin_disable,
	.plugin_update = plugin_update,
	.plugin_check = plugin_check,
	.tables = tables,
	.snapshot = fake_snapshot,
	.query = fake_query,
	.governor_get = governor_get,
	.limits_update = limits_update,
	.daemon_get = daemon_get,
	.config_get = config_get,
	.config_reload = config_reload,
	.log_level_set = log_level_set,
	.shutdown = shut_down,
};
