// SPDX-License-Identifier: Apache-2.0
/* Configuration in layers; one origin and one detail for each value. */
#include "daemon/config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/ops.h"
#include "base/toml.h"
#include "bpf/plugin.h"
#include "daemon/config_internal.h"
#include "daemon/host.h"
#include "daemon/options.h"
#include "daemon/redact.h"
#include "daemon/tables.h"
#include "daemon/tags.h"

#define LOG_MODULE "config"
#include "base/log.h"

static const struct opt option_enabled = {.key = "enabled",
					  .type = OPT_BOOL,
					  .def = "false",
					  .help = "enable the plugin when the daemon starts"};

static size_t table_len(const struct opt *table)
{
	size_t n = 0;

	while (table && table[n].key)
		n++;
	return n;
}

static size_t plugin_count(void)
{
	size_t n = 0;

	while (plugins[n])
		n++;
	return n;
}

static int section_init(struct section *s, const struct plugin *p)
{
	size_t own, common;
	struct opt *t;

	s->plugin = p;
	if (!p) {
		s->table = daemon_options;
	} else {
		own = table_len(p->options);
		common = table_len(plugin_common_options);
		t = calloc(own + common + 2, sizeof(*t));
		if (!t)
			return -ENOMEM;
		t[0] = option_enabled;
		if (own)
			memcpy(t + 1, p->options, own * sizeof(*t));
		memcpy(t + 1 + own, plugin_common_options, common * sizeof(*t));
		s->table = s->owned_table = t;
	}
	s->n = table_len(s->table);
	return opt_set_new(&s->values, s->table);
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; c->sections && i < c->nsections; i++) {
		opt_set_free(c->sections[i].values);
		free(c->sections[i].owned_table);
	}
	free(c->sections);
	free(c);
}

static int config_new(struct config **ret, const struct config_source *source)
{
	_cleanup_(config_freep) struct config *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->source = *source;
	c->nsections = 1 + plugin_count();
	c->sections = calloc(c->nsections, sizeof(*c->sections));
	if (!c->sections)
		return -ENOMEM;
	for (size_t i = 0; i < c->nsections; i++) {
		r = section_init(&c->sections[i], i ? plugins[i - 1] : NULL);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(c);
	return 0;
}

const char *config_full_key(const struct section *s, const char *key, char *dst, size_t cap)
{
	if (s->plugin)
		snprintf(dst, cap, "plugins.%s.%s", s->plugin->name, key);
	else
		snprintf(dst, cap, "%s", key);
	return dst;
}

/* All full keys, for the suggestion behind an unknown one. */
static int unknown_key(const struct config *c, const char *key, struct err *err)
{
	size_t total = 0, n = 0;
	const char *near = NULL;
	char(*texts)[96];
	const char **names;

	for (size_t i = 0; i < c->nsections; i++)
		total += c->sections[i].n;
	texts = calloc(total, sizeof(*texts));
	names = calloc(total, sizeof(*names));
	if (texts && names) {
		for (size_t i = 0; i < c->nsections; i++)
			for (size_t k = 0; k < c->sections[i].n; k++, n++)
				names[n] = config_full_key(&c->sections[i],
							   c->sections[i].table[k].key, texts[n],
							   sizeof(texts[n]));
		near = opt_nearest(key, names, n);
	}
	if (near)
		err_set(err, -ENOENT, "unknown option '%.80s'; did you mean '%s'?", key, near);
	else
		err_set(err, -ENOENT, "unknown option '%.80s'; docs/config.md lists all of them",
			key);
	free(texts);
	free(names);
	return -ENOENT;
}

/* Splits a full key; NULL when no section has it. */
static struct section *find_section(struct config *c, const char *key, const char **ret_key,
				    struct err *err)
{
	const char *dot;
	char name[64];

	if (strncmp(key, "plugins.", 8) != 0) {
		if (!opt_find(daemon_options, key))
			return unknown_key(c, key, err), NULL;
		*ret_key = key;
		return &c->sections[0];
	}
	dot = strchr(key + 8, '.');
	if (!dot || (size_t)(dot - key - 8) >= sizeof(name))
		return unknown_key(c, key, err), NULL;
	memcpy(name, key + 8, dot - key - 8);
	name[dot - key - 8] = '\0';
	for (size_t i = 1; i < c->nsections; i++) {
		if (strcmp(c->sections[i].plugin->name, name) != 0)
			continue;
		if (!opt_find(c->sections[i].table, dot + 1))
			return unknown_key(c, key, err), NULL;
		*ret_key = dot + 1;
		return &c->sections[i];
	}
	(void)host_find(name, err); /* for its sentence */
	return NULL;
}

static int section_assign(struct section *s, const char *key, const char *text,
			  enum opt_origin origin, const char *detail, struct err *err)
{
	int r;

	r = opt_set_assign_detail(s->values, key, text, origin, detail, err);
	return r < 0 && s->plugin ? err_prefix(err, "plugins.%s: ", s->plugin->name) : r;
}

/* The list "enabled_plugins" speaks for every plugin: those it doesn't name are not enabled by that
 * origin. */
static int assign_plugin_list(struct config *c, const char *text, enum opt_origin origin,
			      const char *detail, struct err *err)
{
	_cleanup_(opt_set_freep) struct opt_set *scratch = NULL;
	const char *item;
	int r;

	r = opt_set_new(&scratch, daemon_options);
	if (r < 0)
		return err_set(err, r, "out of memory");
	r = opt_set_assign(scratch, "enabled_plugins", text, origin, err);
	if (r < 0)
		return r;
	for (size_t i = 0; (item = opt_item(scratch, "enabled_plugins", i)); i++)
		if (!host_find(item, err))
			return -ENOENT;
	for (size_t i = 1; i < c->nsections; i++) {
		bool listed = false;

		for (size_t k = 0; (item = opt_item(scratch, "enabled_plugins", k)) && !listed; k++)
			listed = strcmp(item, c->sections[i].plugin->name) == 0;
		r = section_assign(&c->sections[i], "enabled", listed ? "true" : "false", origin,
				   detail, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* "tags.env": one item of the list "tags". */
static int assign_tag(struct config *c, const char *key, const char *text, enum opt_origin origin,
		      const char *detail, struct err *err)
{
	_cleanup_free_ char *list = NULL;
	int r;

	r = tags_put(c->sections[0].values, key, text, &list, err);
	return r < 0 ? r : section_assign(&c->sections[0], "tags", list, origin, detail, err);
}

#define RULES "redact.rules."

/* "redact.rules.ticket": one line of the option "redact.rules". */
static int assign_rule(struct config *c, const char *key, const char *text, enum opt_origin origin,
		       const char *detail, struct err *err)
{
	_cleanup_free_ char *rules = NULL;
	int r;

	r = redact_put(c->sections[0].values, key, text, &rules, err);
	return r < 0 ? r : section_assign(&c->sections[0], "redact.rules", rules, origin, detail, err);
}

/* Compiled to see whether it can be, against all tables of this build. */
static int check_redact(const struct opt_set *v, struct err *err)
{
	_cleanup_free_ const struct table **tables = NULL;
	_cleanup_(redact_freep) struct redact *redact = NULL;
	int r = tables_all(&tables);

	return r < 0 ? err_set(err, r, "out of memory") : redact_new(&redact, v, tables, NULL, err);
}

int config_assign(struct config *c, const char *key, const char *text, enum opt_origin origin,
		  const char *detail, struct err *err)
{
	struct section *s;
	const char *short_key;
	struct err why = {0};
	int r;

	if (strncmp(key, "tags.", 5) == 0)
		return assign_tag(c, key + 5, text, origin, detail, err);
	if (strncmp(key, RULES, strlen(RULES)) == 0)
		return assign_rule(c, key + strlen(RULES), text, origin, detail, err);
	s = find_section(c, key, &short_key, &why);
	if (!s) {
		r = why.code;
	} else {
		r = section_assign(s, short_key, text, origin, detail, &why);
		if (r == 0 && !s->plugin && strcmp(key, "enabled_plugins") == 0)
			r = assign_plugin_list(c, text, origin, detail, &why);
	}
	return r < 0 ? err_set(err, r, "%s", why.msg) : 0;
}

struct file_walk {
	struct config *config;
	const char *file;
};

static int on_leaf(void *arg, const char *key, const char *text, unsigned int line, struct err *err)
{
	struct file_walk *w = arg;
	char detail[128];
	int r;

	snprintf(detail, sizeof(detail), "line %u of %.96s", line, w->file);
	r = config_assign(w->config, key, text, OPT_ORIGIN_FILE, detail, err);
	if (r < 0) {
		err_prefix(err, "%s:%u: ", w->file, line);
		return -EINVAL;
	}
	return 0;
}

static int load_file(struct config *c, struct err *err)
{
	struct file_walk walk = {.config = c, .file = c->source.file};
	int r;

	r = toml_read_file(c->source.file, on_leaf, &walk, err);
	if (r == -ENOENT && !c->source.file_required)
		return 0;
	if (r == -ENOENT)
		return err_set(err, -EINVAL, "configuration file '%s' doesn't exist",
			       c->source.file);
	return r;
}

static int load_flags(struct config *c, struct err *err)
{
	for (size_t i = 0; i < c->source.nflags; i++) {
		const char *flag = c->source.flags[i], *eq = strchr(flag, '=');
		char key[96];
		int r;

		if (!eq || (size_t)(eq - flag) >= sizeof(key))
			return err_set(err, -EINVAL, "flag '%.80s': expected key=value", flag);
		memcpy(key, flag, eq - flag);
		key[eq - flag] = '\0';
		r = config_assign(c, key, eq + 1, OPT_ORIGIN_FLAG, NULL, err);
		if (r < 0) {
			err_prefix(err, "command line: ");
			return -EINVAL;
		}
	}
	return 0;
}

static int check_whole(const struct config *c, struct err *err)
{
	const struct opt_set *v = config_daemon(c);
	_cleanup_(tags_freep) struct tags *tags = NULL;
	bool listens = *opt_str(v, "api.listen");
	int r = tags_new(&tags, v, err);

	if (r == 0)
		r = check_redact(v, err);
	if (r < 0)
		return r;
	if (listens && !(*opt_str(v, "api.tls_ca") && *opt_str(v, "api.tls_cert") &&
			 *opt_str(v, "api.tls_key")))
		return err_set(err, -EINVAL,
			       "api.listen '%s': a TCP port needs api.tls_ca, api.tls_cert and "
			       "api.tls_key (mutual TLS)",
			       opt_str(v, "api.listen"));
	if (opt_i64(v, "query.deadline") > opt_i64(v, "query.max_deadline"))
		return err_set(err, -EINVAL, "query.deadline '%s' is above query.max_deadline '%s'",
			       opt_text(v, "query.deadline"), opt_text(v, "query.max_deadline"));
	return 0;
}

int config_load(struct config **ret, const struct config_source *source, struct err *err)
{
	_cleanup_(config_freep) struct config *c = NULL;
	int r;

	r = config_new(&c, source);
	if (r < 0)
		return err_set(err, r, "out of memory");
	r = load_file(c, err);
	if (r == 0)
		r = config_load_env(c, err);
	if (r == 0)
		r = load_flags(c, err);
	if (r < 0)
		return r;
	config_load_state(c); /* last: the others say where it is; its origin keeps it below them */
	r = check_whole(c, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

const struct opt_set *config_daemon(const struct config *c)
{
	return c->sections[0].values;
}

static const struct section *plugin_section(const struct config *c, const struct plugin *p)
{
	for (size_t i = 1; i < c->nsections; i++)
		if (c->sections[i].plugin == p)
			return &c->sections[i];
	assert(!"plugin is not of this build");
	return NULL;
}

const struct opt_set *config_plugin(const struct config *c, const struct plugin *p)
{
	return plugin_section(c, p)->values;
}

bool config_plugin_enabled(const struct config *c, const struct plugin *p)
{
	return opt_bool(plugin_section(c, p)->values, "enabled");
}

const struct config_source *config_source(const struct config *c)
{
	return &c->source;
}

unsigned int config_values(const struct config *c, struct config_value_info *ret, unsigned int cap)
{
	unsigned int n = 0;

	for (size_t i = 0; i < c->nsections; i++) {
		const struct section *s = &c->sections[i];

		for (size_t k = 0; k < s->n; k++, n++) {
			const struct opt *o = &s->table[k];
			const char *detail = opt_origin_detail(s->values, o->key);
			struct config_value_info *v;

			if (n >= cap)
				continue;
			v = &ret[n];
			memset(v, 0, sizeof(*v));
			config_full_key(s, o->key, v->key, sizeof(v->key));
			snprintf(v->value, sizeof(v->value), "%s", opt_text(s->values, o->key));
			snprintf(v->origin, sizeof(v->origin), "%s",
				 opt_origin_name(opt_origin(s->values, o->key)));
			snprintf(v->detail, sizeof(v->detail), "%s", detail ? detail : "");
			snprintf(v->def, sizeof(v->def), "%s", o->def ? o->def : "");
			snprintf(v->help, sizeof(v->help), "%s", o->help);
			snprintf(v->type, sizeof(v->type), "%s", opt_type_name(o->type));
			v->restart = o->restart;
		}
	}
	return n;
}

void config_diff(const struct config *old_config, const struct config *new_config,
		 config_diff_fn fn, void *arg)
{
	for (size_t i = 0; i < old_config->nsections; i++) {
		const struct section *a = &old_config->sections[i], *b = &new_config->sections[i];

		for (size_t k = 0; k < a->n; k++) {
			const char *was = opt_text(a->values, a->table[k].key);
			const char *is = opt_text(b->values, a->table[k].key);
			char key[96];

			if (strcmp(was, is) == 0)
				continue;
			fn(arg, config_full_key(a, a->table[k].key, key, sizeof(key)), &a->table[k],
			   was, is);
		}
	}
}
