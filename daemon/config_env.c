// SPDX-License-Identifier: Apache-2.0
/* Options from the environment, DataKit's names included. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "daemon/config_internal.h"

#define LOG_MODULE "config"
#include "base/log.h"

static const char *env_value(const struct config *c, const char *name)
{
	size_t len = strlen(name);

	for (char *const *e = c->source.environ; e && *e; e++)
		if (strncmp(*e, name, len) == 0 && (*e)[len] == '=')
			return *e + len + 1;
	return NULL;
}

/* DataKit's names of plugins, so that its manifests work as they are. */
static int alias_plugins(const char *text, char *dst, size_t cap, struct err *err)
{
	static const char *const names[][2] = {
		{"ebpf-net", "netflow"}, {"ebpf-bash", "bash"}, {"ebpf-conntrack", "conntrack"}};
	_cleanup_buf_ struct buf out = {0};
	const char *p = text;

	while (*p) {
		size_t len = strcspn(p, ", ");
		size_t i;

		for (i = 0; i < ARRAY_SIZE(names); i++)
			if (strlen(names[i][0]) == len && strncmp(p, names[i][0], len) == 0)
				break;
		if (out.len && len)
			buf_putc(&out, ',');
		if (i < ARRAY_SIZE(names))
			buf_puts(&out, names[i][1]);
		else
			buf_add(&out, p, len);
		p += len;
		p += strspn(p, ", ");
	}
	if (buf_status(&out) < 0 || out.len >= cap)
		return err_set(err, -EINVAL, "the list of plugins is too long");
	snprintf(dst, cap, "%s", out.data ? out.data : "");
	return 0;
}

static int assign_env(struct config *c, const struct section *s, const struct opt *opt,
		      const char *var, const char *text, struct err *err)
{
	char key[96], list[512];
	int r = 0;

	if (strcmp(var, "ENV_INPUT_EBPF_ENABLED_PLUGINS") == 0) {
		r = alias_plugins(text, list, sizeof(list), err);
		text = list;
	}
	if (r == 0)
		r = config_assign(c, config_full_key(s, opt->key, key, sizeof(key)), text,
				  OPT_ORIGIN_ENV, var, err);
	if (r < 0) {
		err_prefix(err, "environment %s: ", var);
		return -EINVAL;
	}
	return 0;
}

/* Our own name wins over the alias; an empty alias is unset, as DataKit takes it. */
static int load_env_option(struct config *c, const struct section *s, const struct opt *opt,
			   struct err *err)
{
	const char *alias = opt->env, *text;
	char key[96], name[112];

	if (s->plugin && strcmp(opt->key, "interval") == 0)
		alias = "ENV_INPUT_EBPF_INTERVAL"; /* one for all plugins there */
	opt_env_name(name, sizeof(name), "", config_full_key(s, opt->key, key, sizeof(key)));
	text = env_value(c, name);
	if (text)
		return assign_env(c, s, opt, name, text, err);
	text = alias ? env_value(c, alias) : NULL;
	return text && *text ? assign_env(c, s, opt, alias, text, err) : 0;
}

static bool env_known(const struct config *c, const char *var, size_t len)
{
	char key[96], name[112];

	/* Read by the command line and by the tests, not by us. */
	if ((len == 15 && strncmp(var, "RINGSIDE_SOCKET", len) == 0) ||
	    (len == 14 && strncmp(var, "RINGSIDE_BUILD", len) == 0))
		return true;
	if (len == 23 && strncmp(var, "ENV_INPUT_EBPF_INTERVAL", len) == 0)
		return true;
	for (size_t i = 0; i < c->nsections; i++) {
		const struct section *s = &c->sections[i];

		for (size_t k = 0; k < s->n; k++) {
			const char *alias = s->table[k].env;

			opt_env_name(name, sizeof(name), "",
				     config_full_key(s, s->table[k].key, key, sizeof(key)));
			if (strlen(name) == len && strncmp(name, var, len) == 0)
				return true;
			if (alias && strlen(alias) == len && strncmp(alias, var, len) == 0)
				return true;
		}
	}
	return false;
}

/* The list goes first, so that RINGSIDE_PLUGINS_X_ENABLED can speak against it. */
int config_load_env(struct config *c, struct err *err)
{
	int r;

	for (size_t i = 0; i < c->nsections; i++)
		for (size_t k = 0; k < c->sections[i].n; k++) {
			r = load_env_option(c, &c->sections[i], &c->sections[i].table[k], err);
			if (r < 0)
				return r;
		}
	for (char *const *e = c->source.environ; e && *e; e++) {
		size_t len = strcspn(*e, "=");

		if (strncmp(*e, "RINGSIDE_", 9) != 0 && strncmp(*e, "ENV_INPUT_EBPF_", 15) != 0)
			continue;
		if (!env_known(c, *e, len))
			log_warn(
				"environment variable %.*s names no option of this build, ignoring",
				(int)len, *e);
	}
	return 0;
}
