// SPDX-License-Identifier: Apache-2.0
/* Plugins enabled, changed and disabled at run time, and what of it is kept. */
#include "daemon/host.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/config.h"
#include "daemon/host_internal.h"
#include "daemon/libbpf_log.h"

#define LOG_MODULE "host"
#include "base/log.h"

const struct plugin *host_find(const char *name, struct err *err)
{
	const char *names[64], *near;
	unsigned int n = 0;

	for (unsigned int i = 0; plugins[i]; i++) {
		if (strcmp(plugins[i]->name, name) == 0)
			return plugins[i];
		if (n < ARRAY_SIZE(names))
			names[n++] = plugins[i]->name;
	}
	near = opt_nearest(name, names, n);
	if (near)
		err_set(err, -ENOENT, "unknown plugin '%.64s'; did you mean '%s'?", name, near);
	else
		err_set(err, -ENOENT,
			"unknown plugin '%.64s'; 'ringside plugin list' shows those of this build",
			name);
	return NULL;
}

static struct slot *find_slot(struct host *h, const char *name, struct err *err)
{
	const struct plugin *p = host_find(name, err);

	for (unsigned int i = 0; p && i < h->nslots; i++)
		if (h->slots[i].plugin == p)
			return &h->slots[i];
	return NULL;
}

int host_new(struct host **ret, const struct host_options *options, struct err *err)
{
	unsigned int n = 0;
	struct host *h;
	int r;

	while (plugins[n])
		n++;
	h = calloc(1, sizeof(*h) + n * sizeof(h->slots[0]));
	if (!h)
		return err_set(err, -ENOMEM, "out of memory");
	h->o = *options;
	libbpf_log_init();
	for (; h->nslots < n; h->nslots++) {
		struct slot *s = &h->slots[h->nslots];

		s->host = h;
		s->plugin = plugins[h->nslots];
		s->state = PLUGIN_STATE_DISABLED;
		r = opt_set_copy(&s->opts, config_plugin(h->o.config, s->plugin));
		if (r < 0)
			goto fail;
		s->persisted = opt_origin(s->opts, "enabled") == OPT_ORIGIN_STATE &&
			       opt_bool(s->opts, "enabled");
	}
	r = meter_new(&h->meter, h->o.loop, host_meter_read, h);
	if (r < 0)
		goto fail;
	r = host_drain_start(h);
	if (r < 0)
		goto fail;
	*ret = h;
	return 0;
fail:
	host_free(h);
	return err_set(err, r, "cannot make the plugin host: %s", strerror(-r));
}

void host_free(struct host *h)
{
	if (!h)
		return;
	host_stop_all(h);
	for (unsigned int i = 0; i < h->nslots; i++) {
		opt_set_free(h->slots[i].opts);
		sd_event_source_disable_unref(h->slots[i].expire);
	}
	sd_event_source_disable_unref(h->drain);
	meter_free(h->meter);
	free(h);
}

void slot_set_state(struct slot *s, enum plugin_state state, const char *reason)
{
	s->state = state;
	snprintf(s->reason, sizeof(s->reason), "%s", reason);
	s->generation++;
}

void slot_changed(struct slot *s, const char *event, const char *detail, const char *actor)
{
	if (s->host->o.on_change)
		s->host->o.on_change(s->host->o.ctx, s->plugin->name, event, detail, actor,
				     slot_is_running(s));
}

/* Loads a plugin that isn't loaded and says how it went. */
int slot_start(struct slot *s, const char *actor, struct err *err)
{
	struct err why = {0};
	int r;

	slot_set_state(s, PLUGIN_STATE_STARTING, "");
	s->shed_off = false;
	r = slot_load(s, &why);
	host_drain_update(s->host);
	if (r < 0) {
		/* A refusal of the kernel that a plugin foresaw, or that the probes saw; the rest
		 * is a failure. */
		slot_set_state(s, r == -EOPNOTSUPP ? PLUGIN_STATE_UNSUPPORTED : PLUGIN_STATE_FAILED,
			  why.msg);
		log_warn("plugin %s cannot start: %s, skipping", s->plugin->name, why.msg);
		slot_changed(s, "plugin_failed", why.msg, actor);
		return err_set(err, r, "plugin %s cannot start: %.200s", s->plugin->name, why.msg);
	}
	s->enabled_at = clock_real_ns();
	slot_set_state(s, s->in.degraded[0] ? PLUGIN_STATE_DEGRADED : PLUGIN_STATE_RUNNING,
		  s->in.degraded);
	log_info("plugin %s runs%s%s", s->plugin->name, s->in.degraded[0] ? " with less: " : "",
		 s->in.degraded);
	slot_changed(s, "plugin_enabled", s->in.degraded, actor);
	return 0;
}

static void slot_stop(struct slot *s)
{
	s->expire = sd_event_source_disable_unref(s->expire);
	s->disable_at = s->enabled_at = 0;
	s->shed_off = false;
	slot_unload(s);
	host_drain_update(s->host);
}

static int on_expire(sd_event_source *source, uint64_t usec, void *arg)
{
	struct slot *s = arg;

	(void)source;
	(void)usec;
	slot_stop(s);
	slot_reset_options(s);
	slot_set_state(s, PLUGIN_STATE_DISABLED, "its time was up");
	log_info("plugin %s disabled: its time was up", s->plugin->name);
	slot_changed(s, "plugin_disabled", "its time was up", "timer");
	return 0;
}

/* 0: no end. A later call replaces an earlier one. */
static int set_duration(struct slot *s, uint64_t duration_ns, struct err *err)
{
	int r;

	s->expire = sd_event_source_disable_unref(s->expire);
	s->disable_at = 0;
	if (!duration_ns)
		return 0;
	/* Boot time goes on in suspend, as people expect of "for 5m". */
	r = sd_event_add_time_relative(s->host->o.loop, &s->expire, CLOCK_BOOTTIME,
				       duration_ns / NSEC_PER_USEC, 50 * 1000, on_expire, s);
	if (r < 0)
		return err_set(err, r, "plugin %s: cannot set the timer that disables it: %s",
			       s->plugin->name, strerror(-r));
	s->disable_at = clock_real_ns() + duration_ns;
	return 0;
}

static bool differs(const struct opt_set *a, const struct opt_set *b, const char *key)
{
	return opt_is_set(a, key) != opt_is_set(b, key) ||
	       strcmp(opt_text(a, key), opt_text(b, key)) != 0;
}

/* Hands the live changes to the plugin. */
static int apply_live(struct slot *s, const struct opt_set *was, struct err *err)
{
	int r;

	for (const struct opt *o = opt_set_table(s->opts); o->key; o++) {
		if (!differs(was, s->opts, o->key))
			continue;
		if (strcmp(o->key, "interval") == 0) {
			s->in.base_interval_ns = slot_interval(s);
			s->in.interval_ns = s->in.base_interval_ns;
			slot_shed_apply(s);
			r = slot_tick_start(s, err);
			if (r < 0)
				return r;
		}
		if (strcmp(o->key, "priority") == 0)
			continue; /* the host's alone */
		if (s->plugin->update && (r = s->plugin->update(&s->in, o->key, err)) < 0)
			return r;
	}
	return 0;
}

/* Puts set in force; takes it. A running plugin is restarted if an option needs it; if it can't
 * start, with the old ones. */
static int put_options(struct slot *s, struct opt_set *set, bool *ret_restarted, const char *actor,
		       struct err *err)
{
	_cleanup_(opt_set_freep) struct opt_set *was = s->opts;
	bool restart = false, any = false;
	int r;

	s->opts = set;
	if (s->loaded)
		s->in.opts = set;
	for (const struct opt *o = opt_set_table(set); o->key; o++) {
		bool d = differs(was, set, o->key);

		any |= d;
		/* A live option that the plugin has no ear for is as good as none. */
		restart |= d &&
			   (o->restart || (!s->plugin->update && strcmp(o->key, "interval") != 0 &&
					   strcmp(o->key, "priority") != 0));
	}
	*ret_restarted = restart && s->loaded;
	if (!any || !s->loaded) {
		s->generation += any;
		return 0;
	}
	if (!restart) {
		s->generation++;
		r = apply_live(s, was, err);
		if (r < 0) { /* a value that the plugin refuses: all stays as it was */
			s->opts = was;
			s->in.opts = was;
			was = set;
			(void)apply_live(s, was, NULL);
		}
		return r;
	}
	s->in.opts = was; /* its last interval ran under the old ones */
	slot_unload(s);
	r = slot_start(s, actor, err);
	if (r < 0) { /* what ran before is better than nothing */
		s->opts = was;
		was = set;
		(void)slot_start(s, actor, NULL);
	}
	return r;
}

int host_enable(struct host *h, const char *name, const struct keyval *options, size_t n,
		bool persist, uint64_t duration_ns, bool validate_only, const char *actor,
		struct err *err)
{
	_cleanup_(opt_set_freep) struct opt_set *set = NULL;
	struct slot *s = find_slot(h, name, err);
	bool restarted;
	int r;

	if (!s)
		return -ENOENT;
	r = slot_merge_options(s, options, n, &set, err);
	if (r < 0 || validate_only)
		return r;
	r = put_options(s, TAKE_PTR(set), &restarted, actor, err);
	if (r == 0 && !s->loaded)
		r = slot_start(s, actor, err);
	if (r < 0) {
		if (!s->loaded)
			slot_reset_options(s);
		return r;
	}
	r = set_duration(s, duration_ns, err);
	if (r == 0 && persist)
		r = slot_persist(s, true, err);
	return r;
}

int host_disable(struct host *h, const char *name, bool persist, const char *actor, struct err *err)
{
	struct slot *s = find_slot(h, name, err);
	int r = 0;

	if (!s)
		return -ENOENT;
	if (persist)
		r = slot_persist(s, false, err);
	if (s->loaded || s->shed_off) {
		slot_stop(s);
		log_info("plugin %s disabled", s->plugin->name);
		slot_set_state(s, PLUGIN_STATE_DISABLED, "");
		slot_changed(s, "plugin_disabled", "", actor);
	} else {
		slot_set_state(s, PLUGIN_STATE_DISABLED, "");
	}
	slot_reset_options(s);
	return r;
}

int host_update(struct host *h, const char *name, const struct keyval *options, size_t n,
		bool persist, bool validate_only, const char *actor, bool *ret_restarted,
		struct err *err)
{
	_cleanup_(opt_set_freep) struct opt_set *set = NULL;
	struct slot *s = find_slot(h, name, err);
	int r;

	*ret_restarted = false;
	if (!s)
		return -ENOENT;
	r = slot_merge_options(s, options, n, &set, err);
	if (r < 0 || validate_only)
		return r;
	r = put_options(s, TAKE_PTR(set), ret_restarted, actor, err);
	if (r == 0)
		slot_changed(s, "plugin_updated", *ret_restarted ? "restarted" : "", actor);
	if (r == 0 && persist)
		r = slot_persist(s, slot_is_running(s) || s->shed_off, err);
	return r;
}

void host_enable_configured(struct host *h)
{
	for (unsigned int i = 0; i < h->nslots; i++) {
		struct slot *s = &h->slots[i];

		if (config_plugin_enabled(h->o.config, s->plugin))
			(void)slot_start(s, "config", NULL); /* logged and reported by it */
	}
}

void host_stop_all(struct host *h)
{
	for (unsigned int i = h->nslots; i-- > 0;) {
		struct slot *s = &h->slots[i];

		if (!s->loaded)
			continue;
		slot_stop(s);
		slot_set_state(s, PLUGIN_STATE_DISABLED, "");
		slot_changed(s, "plugin_disabled", "", "stop");
	}
}

/* What was set for a run by RPC stays until that run ends; everything below RPC follows the file.
 */
static int follow_config(struct slot *s, struct err *err)
{
	_cleanup_(opt_set_freep) struct opt_set *set = NULL;
	bool restarted;
	int r;

	r = opt_set_copy(&set, config_plugin(s->host->o.config, s->plugin));
	if (r < 0)
		return err_set(err, r, "out of memory");
	for (const struct opt *o = opt_set_table(set); o->key; o++) {
		if (opt_origin(s->opts, o->key) != OPT_ORIGIN_RPC)
			continue;
		r = opt_set_assign(set, o->key, opt_text(s->opts, o->key), OPT_ORIGIN_RPC, err);
		if (r < 0)
			return r;
	}
	return put_options(s, TAKE_PTR(set), &restarted, "config", err);
}

void host_set_config(struct host *h, struct config *config)
{
	h->o.config = config;
	for (unsigned int i = 0; i < h->nslots; i++) {
		struct err err = {0};

		if (follow_config(&h->slots[i], &err) < 0)
			log_warn("plugin %s: %s, its options stay as they are",
				 h->slots[i].plugin->name, err.msg);
	}
}
