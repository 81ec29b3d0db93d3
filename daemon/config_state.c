// SPDX-License-Identifier: Apache-2.0
/* What was set at run time to be kept: config.json and plugins.json of the state directory. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config_internal.h"
#include "daemon/state.h"

#define LOG_MODULE "config"
#include "base/log.h"

static void assign_state(struct config *c, const char *key, const json_t *value, const char *file)
{
	const char *text = json_string_value(value);
	struct err err = {0};

	if (!text)
		log_warn("%s: '%s' is not a text, ignoring", file, key);
	else if (config_assign(c, key, text, OPT_ORIGIN_STATE, file, &err) < 0)
		log_warn("%s: %s, ignoring", file, err.msg);
}

static void load_state_plugins(struct config *c, json_t *object)
{
	const char *name, *key;
	json_t *entry, *value;
	char full[160];

	json_object_foreach(object, name, entry)
	{
		json_t *enabled = json_object_get(entry, "enabled");

		if (json_is_boolean(enabled)) {
			_cleanup_json_ json_t *text =
				json_string(json_is_true(enabled) ? "true" : "false");

			snprintf(full, sizeof(full), "plugins.%.64s.enabled", name);
			assign_state(c, full, text, "plugins.json");
		}
		json_object_foreach(json_object_get(entry, "options"), key, value)
		{
			snprintf(full, sizeof(full), "plugins.%.64s.%.64s", name, key);
			assign_state(c, full, value, "plugins.json");
		}
	}
}

/* A damaged state file is no reason not to watch the host: it is logged and left where it is. */
static json_t *read_state(const struct config *c, const char *name)
{
	json_t *object = NULL;
	struct err err = {0};
	int r;

	r = state_read(opt_str(config_daemon(c), "state_dir"), name, &object, &err);
	if (r < 0 && r != -ENOENT)
		log_warn("%s, ignoring what was kept there", err.msg);
	return object;
}

void config_load_state(struct config *c)
{
	_cleanup_json_ json_t *values = read_state(c, "config.json");
	_cleanup_json_ json_t *states = read_state(c, "plugins.json");
	const char *key;
	json_t *value;

	json_object_foreach(values, key, value) assign_state(c, key, value, "config.json");
	load_state_plugins(c, states);
}

int config_persist(const struct config *c, const char *key, const char *text, struct err *err)
{
	const char *dir = opt_str(config_daemon(c), "state_dir");
	_cleanup_json_ json_t *object = NULL;
	int r;

	r = state_read(dir, "config.json", &object, err);
	if (r == -ENOENT)
		object = json_object();
	else if (r < 0)
		return r;
	if (!object || json_object_set_new(object, key, json_string(text)) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return state_write(dir, "config.json", object, err);
}
