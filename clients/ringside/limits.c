// SPDX-License-Identifier: Apache-2.0
/* ringside limits: what Ringside uses and may use. */
#include <string.h>

#include "base/units.h"
#include "clients/ringside/governor.h"
#include "clients/ringside/props.h"

int governor_get(struct cli *cli, Ringside__V1__GetGovernorResponse **ret)
{
	Ringside__V1__GetGovernorRequest request = RINGSIDE__V1__GET_GOVERNOR_REQUEST__INIT;

	return cli_call(cli, "/ringside.v1.GovernorService/GetGovernor", &request,
			&ringside__v1__get_governor_response__descriptor, "reading usage", ret);
}

static void add_amount(struct buf *b, const char *resource, uint64_t amount)
{
	char text[32];

	if (strcmp(resource, "cpu") == 0 || strcmp(resource, "kernel_cpu") == 0)
		buf_printf(b, "%.3f", (double)amount / 1000.0);
	else
		buf_printf(b, "%s%s", units_format_bytes(text, sizeof(text), amount),
			   strcmp(resource, "net") == 0 ? "/s" : "");
}

void governor_add_usage(struct buf *b, const Ringside__V1__ResourceUsage *u)
{
	bool cpu = strcmp(u->resource, "cpu") == 0 || strcmp(u->resource, "kernel_cpu") == 0;

	if (u->known)
		add_amount(b, u->resource, u->usage);
	else
		buf_puts(b, "unknown");
	if (u->limit) {
		buf_puts(b, " of ");
		add_amount(b, u->resource, u->limit);
	}
	if (cpu)
		buf_puts(b, " cores");
	if (!u->limit)
		buf_puts(b, ", no limit");
	else if (u->known)
		buf_printf(b, " (%.0f%%)", 100.0 * (double)u->usage / (double)u->limit);
}

static void add_human(struct props *props, const Ringside__V1__Governor *g)
{
	for (size_t i = 0; i < g->n_resources; i++) {
		_cleanup_buf_ struct buf b = {0};

		governor_add_usage(&b, g->resources[i]);
		props_text(props, b.data, "%s", g->resources[i]->resource);
	}
}

static void add_machine(struct props *props, const Ringside__V1__Governor *g)
{
	for (size_t i = 0; i < g->n_resources; i++) {
		const Ringside__V1__ResourceUsage *u = g->resources[i];

		props_add(props, OUT_INT, u->unit, u->known ? cell_uint(u->usage) : cell_null(),
			  "%s_usage", u->resource);
		props_add(props, OUT_INT, u->unit, u->limit ? cell_uint(u->limit) : cell_null(),
			  "%s_limit", u->resource);
	}
}

static int show(struct cli *cli, const Ringside__V1__Governor *g)
{
	_cleanup_(out_freep) struct out *o = NULL;
	_cleanup_props_ struct props props = {0};
	int r;

	if (!g)
		return cli_fail(CLI_REFUSED, "the daemon sent no usage");
	props_text(&props, g->state, "state");
	if (cli->format == OUT_TABLE)
		add_human(&props, g);
	else
		add_machine(&props, g);
	props_int(&props, g->cpu_bpf, "mcores", "cpu_bpf");
	props_int(&props, g->rss, "By", "rss");
	props_int(&props, g->bpf_map_bytes, "By", "bpf_map_bytes");
	if (g->limits) {
		props_text(&props, g->limits->limit_action, "limit_action");
		props_text(&props, g->limits->net_limit_scope, "net_limit_scope");
	}
	props_text(&props, g->net_interface, "net_interface");
	props_text(&props, g->cgroup, "cgroup");
	props_text(&props, g->last_event, "last_event");
	r = cli_out_new(cli, &o);
	if (r)
		return r;
	if (props_write(&props, o, cli->format) < 0)
		return cli_fail(CLI_REFUSED, "out of memory");
	return cli_out_done(o, CLI_OK);
}

int verb_limits(struct cli *cli, const struct args *args _unused_)
{
	_cleanup_message_ Ringside__V1__GetGovernorResponse *answer = NULL;
	int r = governor_get(cli, &answer);

	return r ? r : show(cli, answer->governor);
}

/* The field of the message for a key, or NULL with the sentence printed. */
static char **limit_field(Ringside__V1__Limits *l, const char *key)
{
	const struct {
		const char *key;
		char **field;
	} fields[] = {
		{"cpu_limit", &l->cpu_limit},
		{"mem_limit", &l->mem_limit},
		{"net_limit", &l->net_limit},
		{"limit_action", &l->limit_action},
		{"net_limit_scope", &l->net_limit_scope},
		{"kernel_cpu_limit", &l->kernel_cpu_limit},
	};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (strcmp(fields[i].key, key) == 0)
			return fields[i].field;
	cli_fail(
		CLI_USAGE,
		"'%s' is none of cpu_limit, kernel_cpu_limit, mem_limit, net_limit, limit_action and "
		"net_limit_scope",
		key);
	return NULL;
}

int verb_limits_set(struct cli *cli, const struct args *args)
{
	Ringside__V1__UpdateLimitsRequest request = RINGSIDE__V1__UPDATE_LIMITS_REQUEST__INIT;
	Ringside__V1__Limits limits = RINGSIDE__V1__LIMITS__INIT;
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
	_cleanup_message_ Ringside__V1__UpdateLimitsResponse *answer = NULL;
	_cleanup_free_ char **paths = NULL;
	struct cli_pair *pairs = NULL;
	size_t n = 0;
	int r = args_pairs(args, 0, &pairs, &n);

	if (r)
		return r;
	paths = calloc(n + 1, sizeof(*paths));
	if (!paths)
		r = cli_fail(CLI_REFUSED, "out of memory");
	for (size_t i = 0; !r && i < n; i++) {
		char **field = limit_field(&limits, pairs[i].key);

		if (!field)
			r = CLI_USAGE;
		else
			*field = (char *)pairs[i].value;
		paths[i] = pairs[i].key;
	}
	if (!r) {
		mask.n_paths = n;
		mask.paths = paths;
		request.limits = &limits;
		request.update_mask = &mask;
		request.persist = args_get(args, "persist") != NULL;
		request.validate_only = args_get(args, "check") != NULL;
		r = cli_call(cli, "/ringside.v1.GovernorService/UpdateLimits", &request,
			     &ringside__v1__update_limits_response__descriptor, "setting limits",
			     &answer);
	}
	pairs_free(pairs, n);
	return r ? r : show(cli, answer->governor);
}
