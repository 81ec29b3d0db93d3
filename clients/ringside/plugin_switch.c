// SPDX-License-Identifier: Apache-2.0
/* ringside plugin: enable, disable and set. */
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "clients/ringside/plugin.h"
#include "clients/ringside/props.h"

#define SERVICE "/ringside.v1.PluginService/"

/* One line for people, the plugin's name and state as an object or rows for programs. */
static int report(struct cli *cli, const Ringside__V1__Plugin *p, const char *what, bool restarted)
{
	_cleanup_(out_freep) struct out *o = NULL;
	_cleanup_props_ struct props props = {0};
	char until[40];
	int r;

	if (!p)
		return cli_fail(CLI_REFUSED, "the daemon sent no plugin");
	if (cli->format != OUT_TABLE) {
		props_text(&props, p->name, "name");
		props_text(&props, plugin_state_text(p->state), "state");
		props_text(&props, p->reason, "reason");
		props_text(&props, p->hook, "hook");
		props_bool(&props, p->persisted, "persisted");
		props_bool(&props, restarted, "restarted");
		props_add(&props, OUT_TIME, NULL, cell_timestamp(p->disable_at), "disable_at");
		r = cli_out_new(cli, &o);
		if (r)
			return r;
		if (props_write(&props, o, cli->format) < 0)
			return cli_fail(CLI_REFUSED, "out of memory");
		return cli_out_done(o, CLI_OK);
	}
	printf("%s: %s%s", p->name, what, restarted ? ", restarted" : "");
	if (strcmp(what, plugin_state_text(p->state)) != 0)
		printf(", %s", plugin_state_text(p->state));
	if (timestamp_ns(p->disable_at))
		printf(", until %s", clock_format_rfc3339(until, timestamp_ns(p->disable_at)));
	puts("");
	if (p->reason && *p->reason)
		cli_note("%s: %s", p->name, p->reason);
	return CLI_OK;
}

int verb_plugin_enable(struct cli *cli, const struct args *args)
{
	Ringside__V1__EnablePluginRequest request = RINGSIDE__V1__ENABLE_PLUGIN_REQUEST__INIT;
	Google__Protobuf__Duration duration = GOOGLE__PROTOBUF__DURATION__INIT;
	_cleanup_message_ Ringside__V1__EnablePluginResponse *answer = NULL;
	_cleanup_free_ Ringside__V1__EnablePluginRequest__OptionsEntry *entries = NULL;
	_cleanup_free_ Ringside__V1__EnablePluginRequest__OptionsEntry **list = NULL;
	struct cli_pair *pairs = NULL;
	uint64_t for_ns = 0;
	size_t n = 0;
	int r = args_duration(args, "for", &for_ns);

	r = r ? r : args_pairs(args, 1, &pairs, &n);
	if (r)
		return r;
	entries = calloc(n + 1, sizeof(*entries));
	list = calloc(n + 1, sizeof(*list));
	if (!entries || !list) {
		pairs_free(pairs, n);
		return cli_fail(CLI_REFUSED, "out of memory");
	}
	for (size_t i = 0; i < n; i++) {
		ringside__v1__enable_plugin_request__options_entry__init(&entries[i]);
		entries[i].key = pairs[i].key;
		entries[i].value = (char *)pairs[i].value;
		list[i] = &entries[i];
	}
	request.name = (char *)args->pos[0];
	request.n_options = n;
	request.options = list;
	request.persist = args_get(args, "persist") != NULL;
	request.validate_only = args_get(args, "check") != NULL;
	if (for_ns) {
		duration.seconds = (int64_t)(for_ns / NSEC_PER_SEC);
		duration.nanos = (int32_t)(for_ns % NSEC_PER_SEC);
		request.duration = &duration;
	}
	r = cli_call(cli, SERVICE "EnablePlugin", &request,
		     &ringside__v1__enable_plugin_response__descriptor, "loading the plugin",
		     &answer);
	pairs_free(pairs, n);
	return r ? r
		 : report(cli, answer->plugin,
			  request.validate_only ? "would be accepted" : "running", false);
}

int verb_plugin_disable(struct cli *cli, const struct args *args)
{
	Ringside__V1__DisablePluginRequest request = RINGSIDE__V1__DISABLE_PLUGIN_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__DisablePluginResponse *answer = NULL;
	int r;

	request.name = (char *)args->pos[0];
	request.persist = args_get(args, "persist") != NULL;
	r = cli_call(cli, SERVICE "DisablePlugin", &request,
		     &ringside__v1__disable_plugin_response__descriptor, "unloading the plugin",
		     &answer);
	return r ? r : report(cli, answer->plugin, "disabled", false);
}

int verb_plugin_set(struct cli *cli, const struct args *args)
{
	Ringside__V1__UpdatePluginRequest request = RINGSIDE__V1__UPDATE_PLUGIN_REQUEST__INIT;
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
	_cleanup_message_ Ringside__V1__UpdatePluginResponse *answer = NULL;
	_cleanup_free_ Ringside__V1__UpdatePluginRequest__OptionsEntry *entries = NULL;
	_cleanup_free_ Ringside__V1__UpdatePluginRequest__OptionsEntry **list = NULL;
	_cleanup_free_ char **paths = NULL;
	struct cli_pair *pairs = NULL;
	size_t n = 0;
	int r = args_pairs(args, 1, &pairs, &n);

	if (r)
		return r;
	entries = calloc(n + 1, sizeof(*entries));
	list = calloc(n + 1, sizeof(*list));
	paths = calloc(n + 1, sizeof(*paths));
	if (!entries || !list || !paths) {
		pairs_free(pairs, n);
		return cli_fail(CLI_REFUSED, "out of memory");
	}
	for (size_t i = 0; i < n; i++) {
		paths[i] = pairs[i].key;
		/* Named in the mask and missing in the options: back to the default. */
		if (!*pairs[i].value)
			continue;
		ringside__v1__update_plugin_request__options_entry__init(&entries[i]);
		entries[i].key = pairs[i].key;
		entries[i].value = (char *)pairs[i].value;
		list[request.n_options++] = &entries[i];
	}
	mask.n_paths = n;
	mask.paths = paths;
	request.name = (char *)args->pos[0];
	request.options = list;
	request.update_mask = &mask;
	request.persist = args_get(args, "persist") != NULL;
	request.validate_only = args_get(args, "check") != NULL;
	r = cli_call(cli, SERVICE "UpdatePlugin", &request,
		     &ringside__v1__update_plugin_response__descriptor, "changing the plugin",
		     &answer);
	pairs_free(pairs, n);
	return r ? r
		 : report(cli, answer->plugin,
			  request.validate_only ? "would be accepted" : "changed",
			  answer->restarted);
}
