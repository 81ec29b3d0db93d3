// SPDX-License-Identifier: Apache-2.0
/* The host under test, its batches and events noted. */
#include "tests/kernel/host_scene.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/macro.h"
#include "tests/kernel/host_fixture.h"

static void publish(void *ctx, struct batch *batch)
{
	(void)ctx;
	if (batch->table == &test_table)
		for (unsigned int i = 0; i < batch->nrows; i++) {
			const struct test_row *row = batch_row(batch, i);

			seen.order_ok &= row->ts > seen.last_row_ts;
			seen.last_row_ts = row->ts;
			seen.rows++;
			seen.row_sum += row->n;
		}
	batch_unref(batch);
}

static uint64_t last_ts(void *ctx, const struct table *table)
{
	const struct fixture *f = ctx;

	(void)table;
	return seen.last_row_ts > f->store_ts ? seen.last_row_ts : f->store_ts;
}

static void on_change(void *ctx, const char *plugin, const char *event, const char *detail,
		      const char *actor, bool serving)
{
	(void)ctx;
	(void)plugin;
	(void)detail;
	snprintf(seen.last_event, sizeof(seen.last_event), "%s", event);
	snprintf(seen.last_actor, sizeof(seen.last_actor), "%s", actor);
	seen.serving = serving;
}

void make_host(struct fixture *f)
{
	struct host_options o = {
		.loop = f->loop,
		.state_dir = f->dir,
		.self_tgid = 1,
		.publish = publish,
		.last_ts = last_ts,
		.on_change = on_change,
		.ctx = f,
	};
	struct err err = {0};

	assert_int_equal(config_load(&f->config, &f->source, &err), 0);
	o.config = f->config;
	assert_int_equal(host_new(&f->host, &o, &err), 0);
}

void drop_host(struct fixture *f)
{
	host_free(f->host);
	config_free(f->config);
}

int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	memset(&seen, 0, sizeof(seen));
	seen.order_ok = true;
	snprintf(f->dir, sizeof(f->dir), "/tmp/ringside-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->state_dir, sizeof(f->state_dir), "state_dir=%s", f->dir);
	f->flags[0] = f->state_dir;
	f->source = (struct config_source){.file = "/dev/null", .flags = f->flags, .nflags = 1};
	assert_true(sd_event_new(&f->loop) >= 0);
	make_host(f);
	*state = f;
	return 0;
}

int teardown(void **state)
{
	struct fixture *f = *state;
	char path[160];

	drop_host(f);
	sd_event_unref(f->loop);
	snprintf(path, sizeof(path), "%s/plugins.json", f->dir);
	(void)unlink(path);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

void turn(struct fixture *f, uint64_t ms)
{
	uint64_t end = clock_mono_ns() + ms * NSEC_PER_MSEC, now;

	while ((now = clock_mono_ns()) < end)
		assert_true(sd_event_run(f->loop, (end - now) / NSEC_PER_USEC + 1) >= 0);
}

void enable(struct fixture *f, const struct keyval *options, size_t n)
{
	struct err err = {0};
	int r = host_enable(f->host, "host_plugin", options, n, false, 0, false, "rpc", &err);

	if (r < 0)
		print_error("%s\n", err.msg);
	assert_int_equal(r, 0);
}

void disable(struct fixture *f)
{
	assert_int_equal(host_disable(f->host, "host_plugin", false, "rpc", NULL), 0);
}

struct plugin_info info_of(struct fixture *f, const struct plugin *p)
{
	struct plugin_info info;

	host_info(f->host, p, &info);
	return info;
}
