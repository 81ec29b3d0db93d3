// SPDX-License-Identifier: Apache-2.0
/* Life of the engine: one completion-queue thread that owns every call, its inbox and its timers, and the drain. */
#define LOG_MODULE "api"
#include "api/rpc.h"

#include <errno.h>
#include <grpc/grpc_security.h>
#include <string.h>
#include <time.h>

#include "api/rpc_internal.h"
#include "base/clock.h"
#include "base/log.h"

/* The heart beats at least that often; late means that the thread is stuck inside one event. */
#define BEAT_NS (5 * NSEC_PER_SEC)
#define STUCK_NS (60 * NSEC_PER_SEC)
#define READ_CHUNK (32 << 10)
/* After the last call has ended its trailers are still on their way through the core. */
#define LINGER_NS (20 * NSEC_PER_MSEC)

static grpc_arg arg_int(const char *key, int value)
{
	return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

static grpc_server *make_server(const struct rpc_options *o)
{
	grpc_arg list[] = {
		arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_MAX_REQUEST),
		arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, (int)o->max_calls_per_connection),
		/* Counting strikes answers each PING of a flood with a queued GOAWAY: 3 MB sent cost 1 GB here. */
		arg_int(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0),
		/* Identity only: a 65 KB gzip bomb is inflated before its size is checked. */
		arg_int(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
		/* A connection from a descriptor has no handshake timeout: a silent peer would stay for ever. */
		arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, 30000),
		arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000),
		arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
		/* By default the core takes up to 4 MiB in one read and makes 20,000 calls of it before we see the first. */
		arg_int(GRPC_ARG_TCP_READ_CHUNK_SIZE, READ_CHUNK),
		arg_int(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, READ_CHUNK),
		/* Two daemons must not share a port. */
		arg_int(GRPC_ARG_ALLOW_REUSEPORT, 0),
		arg_int(GRPC_ARG_ENABLE_CHANNELZ, 0),
	};
	grpc_channel_args args = {ARRAY_SIZE(list), list};

	return grpc_server_create(&args, NULL);
}

static int check_methods(const struct rpc_options *o, struct err *err)
{
	for (size_t i = 1; i < o->nmethods; i++)
		if (strcmp(o->methods[i - 1].path, o->methods[i].path) >= 0)
			return err_set(err, -EINVAL, "method table is not sorted at '%s'", o->methods[i].path);
	return 0;
}

static void on_wake(struct rpc_tag *tag, bool ok);
static void on_shutdown(struct rpc_tag *tag, bool ok);

int rpc_new(struct rpc **ret, const struct rpc_options *options, struct err *err)
{
	pthread_condattr_t attr;
	struct rpc *rpc;
	int r = check_methods(options, err);

	if (r < 0)
		return r;
	rpc = calloc(1, sizeof(*rpc));
	if (!rpc)
		return err_set(err, -ENOMEM, "no memory for the gRPC engine");
	rpc->options = *options;
	rpc->stop_fd = rpc->spare_fd = -1;
	rpc->group_gid = -1;
	rpc->inbox_tail = &rpc->inbox;
	rpc->wake_tag.fn = on_wake;
	rpc->shutdown_tag.fn = on_shutdown;
	atomic_init(&rpc->arena_budget, RPC_ALL_ARENAS);
	pthread_mutex_init(&rpc->inbox_mu, NULL);
	pthread_mutex_init(&rpc->state_mu, NULL);
	pthread_mutex_init(&rpc->conn_mu, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&rpc->state_cv, &attr);
	pthread_condattr_destroy(&attr);
	rpc->conns = calloc(RPC_MAX_FD, sizeof(*rpc->conns));
	rpc->tls_conns = calloc(options->max_connections, sizeof(*rpc->tls_conns));
	if (!rpc->conns || !rpc->tls_conns) {
		rpc_free(rpc);
		return err_set(err, -ENOMEM, "no memory for the gRPC engine");
	}
	rpc->heartbeat = (struct heartbeat){.name = "api", .max_gap_ns = STUCK_NS};
	*ret = rpc;
	return 0;
}

int rpc_post(struct rpc *rpc, struct rpc_task *task)
{
	int r = 0;

	task->next = NULL;
	pthread_mutex_lock(&rpc->inbox_mu);
	if (rpc->inbox_closed || !rpc->wake_call) {
		r = -ESHUTDOWN;
	} else {
		*rpc->inbox_tail = task;
		rpc->inbox_tail = &task->next;
		if (!rpc->wake_pending) {
			rpc->wake_pending = true;
			grpc_call_start_batch(rpc->wake_call, NULL, 0, &rpc->wake_tag, NULL);
		}
	}
	pthread_mutex_unlock(&rpc->inbox_mu);
	return r;
}

static void on_wake(struct rpc_tag *tag, bool ok _unused_)
{
	struct rpc *rpc = container_of(tag, struct rpc, wake_tag);
	struct rpc_task *task;

	pthread_mutex_lock(&rpc->inbox_mu);
	rpc->wake_pending = false;
	task = rpc->inbox;
	rpc->inbox = NULL;
	rpc->inbox_tail = &rpc->inbox;
	pthread_mutex_unlock(&rpc->inbox_mu);
	while (task) {
		struct rpc_task *next = task->next;

		task->run(task);
		task = next;
	}
}

static void on_shutdown(struct rpc_tag *tag, bool ok _unused_)
{
	struct rpc *rpc = container_of(tag, struct rpc, shutdown_tag);

	pthread_mutex_lock(&rpc->state_mu);
	rpc->core_down = true;
	pthread_cond_broadcast(&rpc->state_cv);
	pthread_mutex_unlock(&rpc->state_mu);
}

void rpc_timer_set(struct rpc *rpc, struct rpc_timer *timer, uint64_t due_ns)
{
	struct rpc_timer **p = &rpc->timers;

	rpc_timer_cancel(rpc, timer);
	while (*p && (*p)->due_ns <= due_ns)
		p = &(*p)->next;
	timer->due_ns = due_ns;
	timer->next = *p;
	timer->armed = true;
	*p = timer;
}

void rpc_timer_cancel(struct rpc *rpc, struct rpc_timer *timer)
{
	struct rpc_timer **p = &rpc->timers;

	if (!timer->armed)
		return;
	while (*p != timer)
		p = &(*p)->next;
	*p = timer->next;
	timer->armed = false;
}

static void run_timers(struct rpc *rpc)
{
	uint64_t now = clock_mono_ns();

	while (rpc->timers && rpc->timers->due_ns <= now) {
		struct rpc_timer *timer = rpc->timers;

		rpc->timers = timer->next;
		timer->armed = false;
		timer->fire(timer);
	}
}

static gpr_timespec next_deadline(const struct rpc *rpc)
{
	uint64_t due = clock_mono_ns() + BEAT_NS;

	if (rpc->timers && rpc->timers->due_ns < due)
		due = rpc->timers->due_ns;
	return (gpr_timespec){.tv_sec = (int64_t)(due / NSEC_PER_SEC),
			      .tv_nsec = (int32_t)(due % NSEC_PER_SEC),
			      .clock_type = GPR_CLOCK_MONOTONIC};
}

static void *engine_main(void *arg)
{
	struct rpc *rpc = arg;

	heartbeat_register(&rpc->heartbeat);
	for (;;) {
		grpc_event ev;

		heartbeat_beat(&rpc->heartbeat);
		ev = grpc_completion_queue_next(rpc->cq, next_deadline(rpc), NULL);
		if (ev.type == GRPC_QUEUE_SHUTDOWN)
			break;
		if (ev.type == GRPC_OP_COMPLETE) {
			struct rpc_tag *tag = ev.tag;

			tag->fn(tag, ev.success != 0);
		}
		run_timers(rpc);
	}
	heartbeat_unregister(&rpc->heartbeat);
	return NULL;
}

static void make_wake_call(struct rpc *rpc)
{
	grpc_slice path = grpc_slice_from_static_string("/wake");

	rpc->wake_channel = grpc_lame_client_channel_create("wake", GRPC_STATUS_UNAVAILABLE, "goes nowhere");
	rpc->wake_call = grpc_channel_create_call(rpc->wake_channel, NULL, GRPC_PROPAGATE_DEFAULTS, rpc->cq, path,
						  NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

int rpc_start(struct rpc *rpc, struct err *err)
{
	int r;

	rpc_log_init();
	grpc_init();
	rpc->core_started = true;
	rpc->server = make_server(&rpc->options);
	rpc->cq = grpc_completion_queue_create_for_next(NULL);
	grpc_server_register_completion_queue(rpc->server, rpc->cq, NULL);
	rpc->unix_creds = grpc_insecure_server_credentials_create();
	make_wake_call(rpc);
	r = rpc_listen_open(rpc, err);
	if (r < 0)
		return r;
	if (rpc->options.listen) {
		r = rpc_tls_open(rpc, err);
		if (r < 0)
			return r;
	}
	grpc_server_start(rpc->server);
	rpc->server_started = true;
	for (unsigned int i = 0; i < RPC_PENDING; i++)
		rpc_call_request(rpc);
	r = thread_start(&rpc->thread, "api", engine_main, rpc);
	if (r < 0)
		return err_set(err, r, "cannot start the thread 'api': %s", strerror(-r));
	rpc->thread_running = true;
	return rpc_listen_start(rpc, err);
}

struct drain_task {
	struct rpc_task task;
	struct rpc *rpc;
};

static void run_drain(struct rpc_task *task)
{
	struct drain_task *d = container_of(task, struct drain_task, task);

	if (d->rpc->options.drain)
		d->rpc->options.drain(d->rpc->options.ctx);
	free(d);
}

/* Until no call is left (and the core is down, if asked for); end_ns 0: however long it takes. */
static void wait_calls(struct rpc *rpc, bool core_down, uint64_t end_ns)
{
	struct timespec ts = {.tv_sec = (time_t)(end_ns / NSEC_PER_SEC), .tv_nsec = (long)(end_ns % NSEC_PER_SEC)};

	pthread_mutex_lock(&rpc->state_mu);
	while (atomic_load(&rpc->calls_live) || (core_down && !rpc->core_down)) {
		if (!end_ns)
			pthread_cond_wait(&rpc->state_cv, &rpc->state_mu);
		else if (pthread_cond_timedwait(&rpc->state_cv, &rpc->state_mu, &ts) == ETIMEDOUT)
			break;
	}
	pthread_mutex_unlock(&rpc->state_mu);
}

static void close_inbox(struct rpc *rpc)
{
	pthread_mutex_lock(&rpc->inbox_mu);
	rpc->inbox_closed = true;
	pthread_mutex_unlock(&rpc->inbox_mu);
}

/* The thread runs: the core must see every call end before its queue may be shut down, or it aborts. */
static void drain(struct rpc *rpc, uint64_t grace_ns)
{
	struct drain_task *d = calloc(1, sizeof(*d));
	struct timespec linger = {.tv_nsec = LINGER_NS};

	if (d) {
		*d = (struct drain_task){.task.run = run_drain, .rpc = rpc};
		if (rpc_post(rpc, &d->task) < 0)
			free(d);
	}
	grpc_server_shutdown_and_notify(rpc->server, rpc->cq, &rpc->shutdown_tag);
	wait_calls(rpc, false, clock_mono_ns() + grace_ns);
	nanosleep(&linger, NULL);
	/* Also ends idle connections: an idle client of the core is polled every 5 s only. */
	grpc_server_cancel_all_calls(rpc->server);
	wait_calls(rpc, true, 0);
}

void rpc_stop(struct rpc *rpc, uint64_t grace_ns)
{
	atomic_store(&rpc->draining, true);
	rpc_listen_close(rpc);
	if (!rpc->thread_running)
		return;
	drain(rpc, grace_ns);
	close_inbox(rpc);
	grpc_completion_queue_shutdown(rpc->cq);
	pthread_join(rpc->thread, NULL);
	rpc->thread_running = false;
}

/* Without the thread: until the queue is shut down, or *until. */
static void run_events(struct rpc *rpc, const bool *until)
{
	while (!until || !*until) {
		grpc_event ev = grpc_completion_queue_next(rpc->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

		if (ev.type == GRPC_QUEUE_SHUTDOWN)
			break;
		((struct rpc_tag *)ev.tag)->fn(ev.tag, ev.success != 0);
	}
}

static void free_core(struct rpc *rpc)
{
	if (rpc->wake_call)
		grpc_call_unref(rpc->wake_call);
	if (rpc->wake_channel)
		grpc_channel_destroy(rpc->wake_channel);
	if (rpc->unix_creds)
		grpc_server_credentials_release(rpc->unix_creds);
	if (rpc->server_started && !rpc->core_down) { /* the thread could not be started */
		grpc_server_shutdown_and_notify(rpc->server, rpc->cq, &rpc->shutdown_tag);
		grpc_server_cancel_all_calls(rpc->server);
		run_events(rpc, &rpc->core_down);
	}
	if (rpc->server)
		grpc_server_destroy(rpc->server);
	if (rpc->cq) {
		grpc_completion_queue_shutdown(rpc->cq);
		run_events(rpc, NULL);
		grpc_completion_queue_destroy(rpc->cq);
	}
	grpc_shutdown();
}

void rpc_free(struct rpc *rpc)
{
	if (!rpc)
		return;
	rpc_stop(rpc, 0);
	if (rpc->core_started)
		free_core(rpc);
	pthread_cond_destroy(&rpc->state_cv);
	pthread_mutex_destroy(&rpc->conn_mu);
	pthread_mutex_destroy(&rpc->state_mu);
	pthread_mutex_destroy(&rpc->inbox_mu);
	free(rpc->tls_conns);
	free(rpc->conns);
	free(rpc);
}

int rpc_tls_port(const struct rpc *rpc)
{
	return rpc->tls_port;
}

void rpc_reload_tls(struct rpc *rpc)
{
	atomic_fetch_add(&rpc->tls_generation, 1);
}

void rpc_get_stats(struct rpc *rpc, struct rpc_stats *ret)
{
	*ret = (struct rpc_stats){
		.connections = rpc_listen_connections(rpc),
		.calls_live = atomic_load(&rpc->calls_live),
		.calls_total = atomic_load(&rpc->calls_total),
		.refused = atomic_load(&rpc->refused),
	};
}
