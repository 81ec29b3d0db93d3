// SPDX-License-Identifier: Apache-2.0
/* Layers of the configuration, their origins, and the sentences for what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/ops.h"
#include "base/macro.h"
#include "bpf/plugin.h"
#include "daemon/config.h"
#include "daemon/tags.h"

struct scratch {
	char dir[64], file[96];
	const char *flags[8];
	char *env[8];
	struct config_source source;
};

static void write_text(const char *dir, const char *name, const char *text)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int setup(void **state)
{
	struct scratch *s = calloc(1, sizeof(*s));

	snprintf(s->dir, sizeof(s->dir), "/tmp/ringside-test-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->file, sizeof(s->file), "%s/c.toml", s->dir);
	s->source = (struct config_source){
		.file = s->file, .file_required = true, .flags = s->flags, .environ = s->env};
	write_text(s->dir, "c.toml", "");
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"c.toml", "plugins.json", "config.json"};
	struct scratch *s = *state;
	char path[160];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", s->dir, names[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(s->dir), 0);
	free(s);
	return 0;
}

static void flag(struct scratch *s, const char *text)
{
	s->flags[s->source.nflags++] = text;
}

/* Loads what must be right. The state directory is the scratch one. */
static struct config *load(struct scratch *s)
{
	static char state_dir[96];
	struct config *c = NULL;
	struct err err = {0};
	size_t n = s->source.nflags;
	int r;

	snprintf(state_dir, sizeof(state_dir), "state_dir=%s", s->dir);
	flag(s, state_dir);
	r = config_load(&c, &s->source, &err);
	s->source.nflags = n;
	if (r < 0)
		print_error("%s\n", err.msg);
	assert_int_equal(r, 0);
	return c;
}

/* Loads what must be refused, with that text somewhere in the sentence. */
static void refused(struct scratch *s, const char *part)
{
	struct config *c = NULL;
	struct err err = {0};
	int r = config_load(&c, &s->source, &err);

	assert_true(r < 0);
	assert_null(c);
	if (!strstr(err.msg, part))
		print_error("'%s' isn't in '%s'\n", part, err.msg);
	assert_non_null(strstr(err.msg, part));
}

static void defaults(void **state)
{
	_cleanup_(config_freep) struct config *c = load(*state);

	assert_false(opt_is_set(config_daemon(c), "cpu_limit"));
	assert_int_equal(opt_i64(config_daemon(c), "store.flow.max_bytes"), 1ll << 30);
	assert_int_equal(opt_origin(config_daemon(c), "log_level"), OPT_ORIGIN_DEFAULT);
	assert_false(config_plugin_enabled(c, plugin_find("netflow")));
}

static void each_layer_above_the_one_before(void **state)
{
	struct scratch *s = *state;
	struct config *c;

	write_text(s->dir, "c.toml", "# two lines\ncpu_limit = \"1.0\"\nmem_limit = \"1GiB\"\n");
	c = load(s);
	assert_int_equal(opt_i64(config_daemon(c), "cpu_limit"), 1000);
	assert_int_equal(opt_origin(config_daemon(c), "cpu_limit"), OPT_ORIGIN_FILE);
	assert_non_null(strstr(opt_origin_detail(config_daemon(c), "cpu_limit"), "line 2 of "));
	config_free(c);

	write_text(s->dir, "config.json", "{\"cpu_limit\": \"2.0\"}");
	c = load(s);
	assert_int_equal(opt_i64(config_daemon(c), "cpu_limit"), 2000);
	assert_int_equal(opt_origin(config_daemon(c), "cpu_limit"), OPT_ORIGIN_STATE);
	config_free(c);

	s->env[0] = (char *)"ENV_INPUT_EBPF_CPU_LIMIT=2.5";
	c = load(s);
	assert_int_equal(opt_i64(config_daemon(c), "cpu_limit"), 2500);
	assert_string_equal(opt_origin_detail(config_daemon(c), "cpu_limit"),
			    "ENV_INPUT_EBPF_CPU_LIMIT");
	config_free(c);

	s->env[1] = (char *)"RINGSIDE_CPU_LIMIT=3.0";
	c = load(s);
	assert_int_equal(opt_i64(config_daemon(c), "cpu_limit"), 3000);
	config_free(c);

	flag(s, "cpu_limit=4.0");
	c = load(s);
	assert_int_equal(opt_i64(config_daemon(c), "cpu_limit"), 4000);
	assert_int_equal(opt_origin(config_daemon(c), "cpu_limit"), OPT_ORIGIN_FLAG);
	assert_int_equal(config_assign(c, "cpu_limit", "5.0", OPT_ORIGIN_RPC, NULL, NULL), 0);
	assert_int_equal(opt_i64(config_daemon(c), "cpu_limit"), 5000);
	assert_int_equal(opt_i64(config_daemon(c), "mem_limit"), 1ll << 30);
	config_free(c);
}

static void unknown_key_with_the_nearest(void **state)
{
	struct scratch *s = *state;

	write_text(s->dir, "c.toml", "log_level = \"info\"\n\ncpu_limt = \"1.0\"\n");
	refused(s, "c.toml:3: unknown option 'cpu_limt'; did you mean 'cpu_limit'?");
	write_text(s->dir, "c.toml", "[plugins.netflow]\nintervall = \"5s\"\n");
	refused(s, "did you mean 'plugins.netflow.interval'?");
	write_text(s->dir, "c.toml", "[plugins.netflw]\ninterval = \"5s\"\n");
	refused(s, "unknown plugin 'netflw'; did you mean 'netflow'?");
	write_text(s->dir, "c.toml", "[store.flow]\nmax_bytes = \"lots\"\n");
	refused(s, "c.toml:2: store.flow.max_bytes");
	write_text(s->dir, "c.toml", "x = = 1\n");
	refused(s, "c.toml:1");
}

static void bad_values_of_flags_and_environment(void **state)
{
	struct scratch *s = *state;

	s->env[0] = (char *)"RINGSIDE_MEM_LIMIT=4gigs";
	refused(s, "environment RINGSIDE_MEM_LIMIT: ");
	s->env[0] = NULL;
	flag(s, "plugins.netflow.interval=1ms");
	refused(s, "command line: plugins.netflow: interval");
}

static void whole_configuration(void **state)
{
	struct scratch *s = *state;

	flag(s, "api.listen=0.0.0.0:1");
	refused(s, "needs api.tls_ca");
}

static void expect_tag(const struct tags *t, size_t i, const char *key, const char *value)
{
	assert_true(i < tags_count(t));
	assert_string_equal(tags_key(t, i), key);
	assert_string_equal(tags_value(t, i), value);
}

static struct tags *tags_of(const struct config *c)
{
	struct tags *t = NULL;

	assert_int_equal(tags_new(&t, config_daemon(c), NULL), 0);
	return t;
}

static void tags(void **state)
{
	struct scratch *s = *state;
	struct config *c = load(s);
	struct tags *t = tags_of(c);
	char own[256] = "";

	assert_int_equal(gethostname(own, sizeof(own) - 1), 0);
	assert_int_equal(tags_count(t), 1);
	expect_tag(t, 0, "host", own);
	tags_free(t);
	config_free(c);

	write_text(s->dir, "c.toml", "hostname = \"h\"\n[tags]\nenv = \"prod = 1\"\ndc = \"b\"\n");
	flag(s, "tags.dc=a");
	c = load(s);
	t = tags_of(c);
	assert_int_equal(tags_count(t), 3);
	expect_tag(t, 0, "dc", "a");
	expect_tag(t, 1, "env", "prod = 1");
	expect_tag(t, 2, "host", "h");
	tags_free(t);
	config_free(c);

	write_text(s->dir, "c.toml", "hostname = \"h\"\ntags = [\"host=mine\"]\n");
	c = load(s);
	t = tags_of(c);
	assert_int_equal(tags_count(t), 2);
	expect_tag(t, 1, "host", "mine");
	tags_free(t);
	config_free(c);

	write_text(s->dir, "c.toml", "tags = [\"a=1\", \"a=2\"]\n");
	refused(s, "twice");
	write_text(s->dir, "c.toml", "tags = [\"a\"]\n");
	refused(s, "key=value");
	write_text(s->dir, "c.toml", "[tags]\n\"9\" = \"x\"\n");
	refused(s, "begins with a letter");
	write_text(s->dir, "c.toml", "[tags]\na = \"x,y\"\n");
	refused(s, "comma");
}

static void missing_file(void **state)
{
	struct scratch *s = *state;
	struct config *c;

	s->source.file = "/nonexistent/c.toml";
	refused(s, "'/nonexistent/c.toml' doesn't exist");
	s->source.file_required = false;
	c = load(s);
	config_free(c);
}

static void enabled_plugins(void **state)
{
	struct scratch *s = *state;
	const struct plugin *netflow = plugin_find("netflow"), *bash = plugin_find("bash");
	struct config *c;

	write_text(s->dir, "c.toml", "enabled_plugins = [\"netflow\"]\n");
	c = load(s);
	assert_true(config_plugin_enabled(c, netflow));
	assert_false(config_plugin_enabled(c, bash));
	config_free(c);

	/* What was disabled at run time stays so. */
	write_text(s->dir, "plugins.json",
		   "{\"netflow\": {\"enabled\": false, \"options\": {\"interval\": \"7s\"}}}");
	c = load(s);
	assert_false(config_plugin_enabled(c, netflow));
	assert_int_equal(opt_i64(config_plugin(c, netflow), "interval"), 7000000000ll);
	config_free(c);

	s->env[0] = (char *)"ENV_INPUT_EBPF_ENABLED_PLUGINS=ebpf-net, ebpf-bash";
	c = load(s);
	assert_true(config_plugin_enabled(c, netflow));
	assert_true(config_plugin_enabled(c, bash));
	config_free(c);

	s->env[0] = (char *)"ENV_INPUT_EBPF_ENABLED_PLUGINS=ebpf-net,ebpf-trace";
	refused(s, "unknown plugin 'ebpf-trace'");
	s->env[0] = (char *)"ENV_INPUT_EBPF_INTERVAL=30s";
	c = load(s);
	assert_int_equal(opt_i64(config_plugin(c, netflow), "interval"), 30000000000ll);
	assert_int_equal(opt_i64(config_plugin(c, bash), "interval"), 30000000000ll);
	config_free(c);
}

/* State of another version, or damaged: the daemon starts all the same. */
static void state_that_makes_no_sense(void **state)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{",
		"{\"gone\": {\"enabled\": true}}",
		"{\"netflow\": 5}",
		"{\"netflow\": {\"enabled\": \"yes\"}}",
		"{\"netflow\": {\"options\": {\"interval\": 5, \"gone\": \"1\"}}}",
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct config *c;

		write_text(s->dir, "plugins.json", texts[i]);
		write_text(s->dir, "config.json", texts[i]);
		c = load(s);
		assert_int_equal(opt_origin(config_plugin(c, plugin_find("netflow")), "interval"),
				 OPT_ORIGIN_DEFAULT);
		config_free(c);
	}
}

static void persisted_values_come_back(void **state)
{
	struct scratch *s = *state;
	struct config *c = load(s);
	struct err err = {0};

	assert_int_equal(config_persist(c, "mem_limit", "64MiB", &err), 0);
	assert_int_equal(config_persist(c, "cpu_limit", "0.5", &err), 0);
	config_free(c);
	c = load(s);
	assert_int_equal(opt_i64(config_daemon(c), "mem_limit"), 64 << 20);
	assert_int_equal(opt_i64(config_daemon(c), "cpu_limit"), 500);
	config_free(c);
}

static void count_diff(void *arg, const char *key, const struct opt *opt, const char *old_text,
		       const char *new_text)
{
	(void)opt;
	if (strcmp(key, "plugins.netflow.interval") == 0) {
		assert_string_equal(old_text, "5s");
		assert_string_equal(new_text, "6s");
	} else {
		assert_string_equal(key, "net_limit");
		assert_string_equal(old_text, "");
		assert_string_equal(new_text, "1MB/s");
	}
	++*(int *)arg;
}

static void differences(void **state)
{
	struct scratch *s = *state;
	struct config *a, *b;
	int n = 0;

	write_text(s->dir, "c.toml", "[plugins.netflow]\ninterval = \"5s\"\n");
	a = load(s);
	write_text(s->dir, "c.toml",
		   "net_limit = \"1MB/s\"\n[plugins.netflow]\ninterval = \"6s\"\n");
	b = load(s);
	config_diff(a, b, count_diff, &n);
	assert_int_equal(n, 2);
	config_free(a);
	config_free(b);
}

static void values_for_show(void **state)
{
	struct scratch *s = *state;
	struct config_value_info *values = calloc(256, sizeof(*values));
	struct config *c;
	unsigned int n, found = 0;

	write_text(s->dir, "c.toml", "[plugins.netflow]\ninterval = \"5s\"\n");
	c = load(s);
	n = config_values(c, values, 256);
	assert_in_range(n, 30, 256);
	for (unsigned int i = 0; i < n; i++)
		if (strcmp(values[i].key, "plugins.netflow.interval") == 0) {
			found++;
			assert_string_equal(values[i].value, "5s");
			assert_string_equal(values[i].origin, "file");
			assert_non_null(strstr(values[i].detail, "line 2"));
		}
	assert_int_equal(found, 1);
	assert_int_equal(config_values(c, values, 1), n);
	config_free(c);
	free(values);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(defaults),
		test(each_layer_above_the_one_before),
		test(unknown_key_with_the_nearest),
		test(bad_values_of_flags_and_environment),
		test(whole_configuration),
		test(tags),
		test(missing_file),
		test(enabled_plugins),
		test(state_that_makes_no_sense),
		test(persisted_values_come_back),
		test(differences),
		test(values_for_show),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
