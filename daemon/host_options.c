// SPDX-License-Identifier: Apache-2.0
/* Options of a plugin: as they would be, as they are kept. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/host_internal.h"
#include "daemon/state.h"

#define LOG_MODULE "host"
#include "base/log.h"

#define STATE_FILE "plugins.json"

/* "interval" has a default for all plugins; one that nobody set gives way to the plugin's own. */
uint64_t slot_interval(const struct slot *s)
{
	if (opt_origin(s->opts, "interval") == OPT_ORIGIN_DEFAULT && s->plugin->default_interval_ns)
		return s->plugin->default_interval_ns;
	return (uint64_t)opt_i64(s->opts, "interval");
}

void slot_reset_options(struct slot *s)
{
	struct opt_set *fresh;

	if (opt_set_copy(&fresh, config_plugin(s->host->o.config, s->plugin)) < 0) {
		log_warn("plugin %s: out of memory, its options stay as they are", s->plugin->name);
		return;
	}
	opt_set_free(s->opts);
	s->opts = fresh;
}

/* A copy without what anybody set for that key. */
static int copy_without(struct opt_set **ret, const struct opt_set *from, const char *key)
{
	_cleanup_(opt_set_freep) struct opt_set *set = NULL;
	int r;

	r = opt_set_new(&set, opt_set_table(from));
	if (r < 0)
		return r;
	for (const struct opt *o = opt_set_table(from); o->key; o++) {
		if (strcmp(o->key, key) == 0 || opt_origin(from, o->key) == OPT_ORIGIN_DEFAULT)
			continue;
		r = opt_set_assign_detail(set, o->key, opt_text(from, o->key),
					  opt_origin(from, o->key), opt_origin_detail(from, o->key),
					  NULL);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(set);
	return 0;
}

int slot_merge_options(const struct slot *s, const struct keyval *options, size_t n,
		       struct opt_set **ret, struct err *err)
{
	_cleanup_(opt_set_freep) struct opt_set *set = NULL;
	int r;

	r = opt_set_copy(&set, s->opts);
	if (r < 0)
		return err_set(err, r, "out of memory");
	for (size_t i = 0; i < n; i++) {
		if (strcmp(options[i].key, "enabled") == 0)
			return err_set(err, -EINVAL,
				       "plugin %s: 'enabled' is no option here; enable or disable "
				       "the plugin",
				       s->plugin->name);
		if (options[i].value) {
			r = opt_set_assign(set, options[i].key, options[i].value, OPT_ORIGIN_RPC,
					   err);
			if (r < 0) {
				err_prefix(err, "plugin %s: ", s->plugin->name);
				return err ? err->code = -EINVAL
					   : -EINVAL; /* the plugin exists: NOT_FOUND would be a lie
						       */
			}
		} else {
			struct opt_set *without = NULL;

			if (!opt_find(opt_set_table(set), options[i].key))
				return err_set(err, -EINVAL, "plugin %s: unknown option '%.64s'",
					       s->plugin->name, options[i].key);
			r = copy_without(&without, set, options[i].key);
			if (r < 0)
				return err_set(err, r, "out of memory");
			opt_set_free(set);
			set = without;
		}
	}
	*ret = TAKE_PTR(set);
	return 0;
}

/* Of those that are to be kept: what was set at run time or kept before. */
static json_t *persistent_options(const struct slot *s)
{
	json_t *options = json_object();

	for (const struct opt *o = opt_set_table(s->opts); options && o->key; o++) {
		enum opt_origin origin = opt_origin(s->opts, o->key);

		if (strcmp(o->key, "enabled") == 0 ||
		    (origin != OPT_ORIGIN_RPC && origin != OPT_ORIGIN_STATE))
			continue;
		if (json_object_set_new(options, o->key, json_string(opt_text(s->opts, o->key))) <
		    0) {
			json_decref(options);
			return NULL;
		}
	}
	return options;
}

/* The layer below the next run's options has it from now on, as it would have after a restart. */
static void keep_in_config(struct slot *s, bool enabled)
{
	struct err err = {0};
	char key[96];
	int r;

	snprintf(key, sizeof(key), "plugins.%s.enabled", s->plugin->name);
	r = config_assign(s->host->o.config, key, enabled ? "true" : "false", OPT_ORIGIN_STATE,
			  STATE_FILE, &err);
	for (const struct opt *o = opt_set_table(s->opts); r == 0 && o->key; o++) {
		enum opt_origin origin = opt_origin(s->opts, o->key);

		if (strcmp(o->key, "enabled") == 0 ||
		    (origin != OPT_ORIGIN_RPC && origin != OPT_ORIGIN_STATE))
			continue;
		snprintf(key, sizeof(key), "plugins.%s.%s", s->plugin->name, o->key);
		r = config_assign(s->host->o.config, key, opt_text(s->opts, o->key),
				  OPT_ORIGIN_STATE, STATE_FILE, &err);
	}
	if (r < 0)
		log_warn("plugin %s: %s is written but in force only after a restart: %s",
			 s->plugin->name, STATE_FILE, err.msg);
}

int slot_persist(struct slot *s, bool enabled, struct err *err)
{
	const char *dir = s->host->o.state_dir;
	_cleanup_json_ json_t *all = NULL;
	json_t *entry;
	int r;

	r = state_read(dir, STATE_FILE, &all, err);
	if (r == -ENOENT)
		all = json_object();
	else if (r < 0)
		return r;
	entry = json_pack("{s:b, s:o}", "enabled", enabled, "options", persistent_options(s));
	if (!all || !entry || json_object_set_new(all, s->plugin->name, entry) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = state_write(dir, STATE_FILE, all, err);
	if (r < 0)
		return r;
	s->persisted = enabled;
	keep_in_config(s, enabled);
	return 0;
}
