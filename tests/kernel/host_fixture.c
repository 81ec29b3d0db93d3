// SPDX-License-Identifier: Apache-2.0
/* A plugin that does as its options say, and one that no kernel can carry; in place of the build's
 * own. */
#include "tests/kernel/host_fixture.h"

#include <errno.h>
#include <linux/types.h>
#include <string.h>
#include <unistd.h>

#include "bpf/host_never.skel.h"
#include "bpf/host_plugin.skel.h"
#include "tests/kernel/host_plugin.h"

static const struct field test_fields[] = {
	FIELD(test_row, ts, U64, TIME, TAG, "ns", "when"),
	FIELD(test_row, n, U64, INT64, DELTA, "", "samples since the last row"),
};
const struct table test_table = TABLE(test_row, FLOW, "test", "samples", test_fields);
const struct table live_table = TABLE(test_row, LIVE, "test_live", "samples so far", test_fields);

struct seen seen;

struct state {
	uint64_t pending;
};

static int plug_setup(struct instance *in, struct err *err)
{
	struct host_plugin_bpf *skel = in->skel;

	seen.setups++;
	skel->rodata->watched_tgid = (uint32_t)getpid();
	bpf_program__set_autoattach(skel->progs.flood, false);
	if (strcmp(opt_str(in->opts, "mode"), "broken") == 0)
		return err_set(err, -EIO, "mode is broken");
	return 0;
}

static int plug_start(struct instance *in, struct err *err)
{
	seen.starts++;
	seen.ring_fd = bpf_object__find_map_fd_by_name(in->obj, "events");
	if (strcmp(opt_str(in->opts, "mode"), "late") == 0)
		return err_set(err, -ENODEV, "too late");
	return 0;
}

static int plug_event(struct instance *in, const void *ev, size_t len)
{
	const struct host_plugin_event *e = ev;
	struct state *s = in->state;

	if (len < sizeof(*e))
		return -EINVAL;
	if (e->kind == HOST_PLUGIN_FLOOD && opt_bool(in->opts, "picky"))
		return -EBADMSG;
	seen.forks += e->kind == HOST_PLUGIN_FORK;
	seen.selfs += e->self;
	seen.floods += e->kind == HOST_PLUGIN_FLOOD;
	seen.calls += e->kind == HOST_PLUGIN_CALL;
	seen.calls_ok += e->kind == HOST_PLUGIN_CALL && e->ok;
	s->pending++;
	return 0;
}

static int plug_tick(struct instance *in, uint64_t now)
{
	struct state *s = in->state;
	struct test_row *row;

	seen.ticks++;
	row = instance_row(in, 0);
	if (!row)
		return -ENOMEM;
	row->ts = now;
	row->n = s->pending;
	s->pending = 0;
	return 0;
}

static int plug_update(struct instance *in, const char *key, struct err *err)
{
	(void)in;
	(void)key;
	(void)err;
	seen.updates++;
	return 0;
}

static int plug_snapshot(struct instance *in, const struct table *table, struct batch *batch)
{
	struct test_row *row = batch_add(batch);

	(void)table;
	if (!row)
		return -ENOBUFS;
	row->ts = 1;
	row->n = in->count.events;
	return 0;
}

static void plug_stop(struct instance *in)
{
	(void)in;
	seen.stops++;
}

static const struct opt plug_options[] = {
	{.key = "mode",
	 .type = OPT_STRING,
	 .def = "fine",
	 .restart = true,
	 .help = "what goes wrong"},
	{.key = "picky", .type = OPT_BOOL, .def = "false", .help = "refuse samples of a flood"},
	{},
};

const struct plugin *const plugins[] = {&plugin_host_plugin, &plugin_host_never, NULL};

#define TEST_PLUGIN(id, ...)                                                                      \
	static void *id##_open(struct bpf_object_skeleton **ret)                                  \
	{                                                                                         \
		struct id##_bpf *s = id##_bpf__open();                                            \
		if (s)                                                                            \
			*ret = s->skeleton;                                                       \
		return s;                                                                         \
	}                                                                                         \
	static void id##_destroy(void *s)                                                         \
	{                                                                                         \
		id##_bpf__destroy(s);                                                             \
	}                                                                                         \
	static const struct bpf_skel_ops id##_ops = {.open = id##_open, .destroy = id##_destroy}; \
	const struct plugin plugin_##id = {.name = #id, .skel = &id##_ops, __VA_ARGS__}

TEST_PLUGIN(host_plugin, .help = "for tests", TABLES(&test_table, &live_table),
	    .options = plug_options, .state_size = sizeof(struct state), .setup = plug_setup,
	    .start = plug_start, .event = plug_event, .tick = plug_tick, .update = plug_update,
	    .snapshot = plug_snapshot, .stop = plug_stop);
TEST_PLUGIN(host_never, .help = "for tests", TABLES(&test_table));
