// SPDX-License-Identifier: Apache-2.0
/* WatchPlugins and WatchGovernor: each watcher is sent the newest state, so a slow one skips steps but never lags. */
#define LOG_MODULE "api"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/convert.h"
#include "api/service.h"
#include "api/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "ringside/v1/governor.pb-c.h"
#include "ringside/v1/plugin.pb-c.h"

#define MAX_PLUGINS 128
#define DEFAULT_INTERVAL_NS NSEC_PER_SEC
#define MIN_INTERVAL_NS (100 * NSEC_PER_MSEC)
/* A Plugin message with its options and programs is about 8 KiB of objects. */
#define LOAD_ARENA ((size_t)4 << 20)

struct entry {
	char name[32];
	uint64_t change, gen; /* hash of what counts as a change; when it last changed */
	void *data;           /* packed Plugin */
	size_t len;
};

/* What all watchers of one kind share. Engine thread. */
struct state_feed {
	struct api_server *s;
	bool plugins;
	bool loading, again;
	uint64_t started, finished; /* loads */
	uint64_t gen;
	struct entry entries[MAX_PLUGINS]; /* governor: one, packed WatchGovernorResponse */
	unsigned int nentries;
};

struct state_watch {
	struct watcher w;
	struct state_feed *feed;
	uint64_t wait_load; /* its first message comes from this load or a later one */
	uint64_t gen;       /* plugins: all changes up to that were sent */
	uint64_t interval_ns, due_ns;
	bool pending;       /* governor: send the next load */
};

struct load {
	struct pool_job pool_job;
	struct rpc_task task;
	struct state_feed *feed;
	struct err err;
	int r;
	struct entry entries[MAX_PLUGINS];
	unsigned int nentries;
};

int state_feeds_new(struct api_server *s)
{
	s->plugins = calloc(1, sizeof(*s->plugins));
	s->governor = calloc(1, sizeof(*s->governor));
	if (!s->plugins || !s->governor)
		return -ENOMEM;
	*s->plugins = (struct state_feed){.s = s, .plugins = true};
	*s->governor = (struct state_feed){.s = s};
	return 0;
}

static void feed_free(struct state_feed *f)
{
	for (unsigned int i = 0; f && i < f->nentries; i++)
		free(f->entries[i].data);
	free(f);
}

void state_feeds_free(struct api_server *s)
{
	feed_free(s->plugins);
	feed_free(s->governor);
}

static void load_free(struct load *l)
{
	for (unsigned int i = 0; i < l->nentries; i++)
		free(l->entries[i].data);
	free(l);
}

static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ull; /* FNV-1a */
	return h;
}

/* Counters move all the time and are no change. */
static uint64_t change_of(const struct plugin_info *p)
{
	uint64_t h = 0xcbf29ce484222325ull;

	h = mix(h, &p->state, sizeof(p->state));
	h = mix(h, p->reason, strlen(p->reason));
	h = mix(h, p->hook, strlen(p->hook));
	h = mix(h, p->etag, strlen(p->etag));
	h = mix(h, &p->persisted, sizeof(p->persisted));
	h = mix(h, &p->disable_at_ns, sizeof(p->disable_at_ns));
	return mix(h, &p->enabled_at_ns, sizeof(p->enabled_at_ns));
}

static int load_plugins(struct load *l, const struct api_server_options *o)
{
	_cleanup_free_ struct plugin_info *list = calloc(MAX_PLUGINS, sizeof(*list));
	struct arena arena = {.limit = LOAD_ARENA};
	int n;

	if (!list)
		return -ENOMEM;
	n = o->ops->plugin_list(o->ctx, list, MAX_PLUGINS, &l->err);
	if (n < 0)
		return n;
	if (n > MAX_PLUGINS)
		n = MAX_PLUGINS;
	for (int i = 0; i < n; i++) {
		struct entry *e = &l->entries[i];
		Ringside__V1__Plugin *m = msg_plugin(&arena, &list[i]);
		int r = m ? pack_message(&m->base, &e->data, &e->len) : -ENOMEM;

		arena_free(&arena);
		if (r < 0)
			return r;
		memcpy(e->name, list[i].name, sizeof(e->name));
		e->change = change_of(&list[i]);
		l->nentries++;
	}
	return 0;
}

static int load_governor(struct load *l, const struct api_server_options *o)
{
	Ringside__V1__WatchGovernorResponse m = RINGSIDE__V1__WATCH_GOVERNOR_RESPONSE__INIT;
	struct arena arena = {.limit = LOAD_ARENA};
	struct governor_info info = {};
	int r = o->ops->governor_get(o->ctx, &info, &l->err);

	if (r < 0)
		return r;
	m.governor = msg_governor(&arena, &info);
	r = m.governor ? pack_message(&m.base, &l->entries[0].data, &l->entries[0].len) : -ENOMEM;
	arena_free(&arena);
	if (r == 0)
		l->nentries = 1;
	return r;
}

static void load_run(struct pool_job *job)
{
	struct load *l = container_of(job, struct load, pool_job);
	struct api_server *s = l->feed->s;

	l->r = l->feed->plugins ? load_plugins(l, &s->options) : load_governor(l, &s->options);
	if (rpc_post(s->rpc, &l->task) < 0)
		load_free(l);
}

static void load_done(struct rpc_task *task);

static void load_start(struct state_feed *f)
{
	struct load *l;

	if (f->loading) {
		f->again = true;
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		log_warn("no memory to look at changes, ignoring");
		return;
	}
	*l = (struct load){.pool_job.run = load_run, .task.run = load_done, .feed = f};
	f->started++;
	f->loading = true;
	if (pool_submit(f->s->watch, &l->pool_job) < 0) {
		f->loading = false;
		f->finished = f->started;
		free(l);
	}
}

static struct entry *find_entry(struct state_feed *f, const char *name)
{
	for (unsigned int i = 0; i < f->nentries; i++)
		if (strcmp(f->entries[i].name, name) == 0)
			return &f->entries[i];
	if (f->nentries == MAX_PLUGINS)
		return NULL;
	snprintf(f->entries[f->nentries].name, sizeof(f->entries[0].name), "%s", name);
	return &f->entries[f->nentries++];
}

static void merge(struct state_feed *f, struct load *l)
{
	bool moved = false;

	for (unsigned int i = 0; i < l->nentries; i++) {
		struct entry *from = &l->entries[i], *e = find_entry(f, from->name);

		if (!e)
			continue;
		free(e->data);
		e->data = TAKE_PTR(from->data);
		e->len = from->len;
		if (e->gen && e->change == from->change)
			continue;
		e->change = from->change;
		if (!moved)
			f->gen++;
		moved = true;
		e->gen = f->gen;
	}
}

static void send_heartbeat_or(struct state_watch *sw, struct buf *b, bool any)
{
	uint64_t now = clock_mono_ns();

	if (buf_status(b) < 0) {
		rpc_finish(sw->w.call, RPC_RESOURCE_EXHAUSTED, "no memory for the message");
		return;
	}
	if (!any && now - sw->w.last_sent_ns < HEARTBEAT_NS)
		return;
	sw->w.last_sent_ns = now;
	rpc_send_bytes(sw->w.call, b->data ?: "", b->len);
}

static void send_plugins(struct state_watch *sw)
{
	struct state_feed *f = sw->feed;
	_cleanup_buf_ struct buf b = {};
	bool any = sw->gen < f->gen;

	for (unsigned int i = 0; any && i < f->nentries; i++)
		if (f->entries[i].gen > sw->gen)
			wire_put_bytes(&b, 1, f->entries[i].data, f->entries[i].len);
	sw->gen = f->gen;
	send_heartbeat_or(sw, &b, any);
}

static void send_governor(struct state_watch *sw)
{
	struct entry *e = &sw->feed->entries[0];

	if (!sw->pending || !sw->feed->nentries)
		return;
	sw->pending = false;
	rpc_send_bytes(sw->w.call, e->data, e->len);
}

static void pump(struct state_watch *sw)
{
	if (!rpc_call_writable(sw->w.call) || sw->feed->finished < sw->wait_load)
		return;
	if (sw->feed->plugins)
		send_plugins(sw);
	else
		send_governor(sw);
}

/* Engine thread. */
static void load_done(struct rpc_task *task)
{
	struct load *l = container_of(task, struct load, task);
	struct state_feed *f = l->feed;
	struct watcher *list = f->plugins ? f->s->plugin_watchers : f->s->governor_watchers;

	f->loading = false;
	f->finished = f->started;
	if (l->r == 0)
		merge(f, l);
	FOR_EACH_WATCHER(w, list) {
		struct state_watch *sw = container_of(w, struct state_watch, w);

		if (l->r < 0)
			rpc_finish_err(w->call, l->r, &l->err);
		else
			pump(sw);
	}
	load_free(l);
	if (f->again) {
		f->again = false;
		load_start(f);
	}
}

void plugin_feed_changed(struct api_server *s)
{
	if (s->plugin_watchers)
		load_start(s->plugins);
}

void governor_feed_changed(struct api_server *s)
{
	FOR_EACH_WATCHER(w, s->governor_watchers)
		container_of(w, struct state_watch, w)->pending = true;
	if (s->governor_watchers)
		load_start(s->governor);
}

static struct state_watch *watch(struct rpc_call *call, struct state_feed *f, struct watcher **list)
{
	struct state_watch *sw = calloc(1, sizeof(*sw));

	if (!sw) {
		rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory for a watcher");
		return NULL;
	}
	sw->feed = f;
	/* A load that runs already may have looked before we came. */
	sw->wait_load = f->started + 1;
	sw->pending = true;
	rpc_call_set_state(call, sw);
	watcher_add(f->s, &sw->w, list, call);
	load_start(f);
	return sw;
}

void plugin_watch(struct rpc_call *call, const ProtobufCMessage *request _unused_)
{
	struct api_server *s = rpc_call_ctx(call);

	watch(call, s->plugins, &s->plugin_watchers);
}

void governor_watch(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Ringside__V1__WatchGovernorRequest *q = (const void *)request;
	struct api_server *s = rpc_call_ctx(call);
	struct state_watch *sw;

	if (q->interval && q->interval < (int64_t)MIN_INTERVAL_NS) {
		rpc_finish(call, RPC_INVALID_ARGUMENT, "interval of %lld ns: give at least 100000000 (100 ms), or 0 for a second",
			   (long long)q->interval);
		return;
	}
	sw = watch(call, s->governor, &s->governor_watchers);
	if (!sw)
		return;
	sw->interval_ns = q->interval ? (uint64_t)q->interval : DEFAULT_INTERVAL_NS;
	sw->due_ns = clock_mono_ns() + sw->interval_ns;
}

void state_ready(struct rpc_call *call)
{
	struct state_watch *sw = rpc_call_state(call);

	if (sw)
		pump(sw);
}

void state_closed(struct rpc_call *call)
{
	struct state_watch *sw = rpc_call_state(call);

	if (!sw)
		return;
	rpc_call_set_state(call, NULL);
	watcher_remove(&sw->w);
	free(sw);
}

void state_tick(struct api_server *s, uint64_t now)
{
	bool due = false;

	FOR_EACH_WATCHER(w, s->plugin_watchers)
		pump(container_of(w, struct state_watch, w)); /* heartbeats */
	FOR_EACH_WATCHER(w, s->governor_watchers) {
		struct state_watch *sw = container_of(w, struct state_watch, w);

		if (now < sw->due_ns)
			continue;
		sw->due_ns = now + sw->interval_ns;
		sw->pending = due = true;
	}
	if (due)
		load_start(s->governor);
}
