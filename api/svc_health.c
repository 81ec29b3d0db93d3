// SPDX-License-Identifier: Apache-2.0
/* grpc.health.v1: the daemon, its services, and each plugin as plugins/<name>. */
#include <errno.h>
#include <string.h>

#include "api/service.h"
#include "grpc/health/v1/health.pb-c.h"

#define PLUGIN_PREFIX "plugins/"
#define SERVICE_MAX 128

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus Status;

#define STATUS(x) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##x

struct health_watch {
	struct watcher w;
	char service[SERVICE_MAX];
	Status status, sent;
};

static bool is_plugin(const char *service)
{
	return strncmp(service, PLUGIN_PREFIX, strlen(PLUGIN_PREFIX)) == 0;
}

static Status service_status(struct api_server *s, const char *service)
{
	const struct refl_symbol *symbol = refl_symbol(s->refl, service);

	if (*service && (!symbol || !symbol->service))
		return STATUS(SERVICE_UNKNOWN);
	return s->draining ? STATUS(NOT_SERVING) : STATUS(SERVING);
}

static int plugin_status(struct api_server *s, const char *service, Status *ret, struct err *err)
{
	_cleanup_free_ struct plugin_info *info = calloc(1, sizeof(*info));
	int r;

	if (!info)
		return err_set(err, -ENOMEM, "no memory to look at '%s'", service);
	r = s->options.ops->plugin_get(s->options.ctx, service + strlen(PLUGIN_PREFIX), info, err);
	if (r < 0)
		return r;
	*ret = info->state == PLUGIN_STATE_RUNNING || info->state == PLUGIN_STATE_DEGRADED ? STATUS(SERVING)
											  : STATUS(NOT_SERVING);
	return 0;
}

int health_plugin_handler(struct api_job *job)
{
	const Grpc__Health__V1__HealthCheckRequest *q = (const void *)job->request;
	Grpc__Health__V1__HealthCheckResponse answer = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	int r = plugin_status(job->s, q->service, &answer.status, &job->err);

	return r < 0 ? r : job_reply(job, &answer.base);
}

void health_check(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Grpc__Health__V1__HealthCheckRequest *q = (const void *)request;
	Grpc__Health__V1__HealthCheckResponse answer = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	if (is_plugin(q->service)) {
		job_start(call, request);
		return;
	}
	answer.status = service_status(rpc_call_ctx(call), q->service);
	if (answer.status == STATUS(SERVICE_UNKNOWN))
		rpc_finish(call, RPC_NOT_FOUND, "unknown service '%s': use \"\", a service or plugins/<name>", q->service);
	else
		rpc_reply(call, &answer.base);
}

static void send_status(struct health_watch *h)
{
	Grpc__Health__V1__HealthCheckResponse m = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	if (!rpc_call_writable(h->w.call))
		return;
	if (h->status != STATUS(UNKNOWN) && h->status != h->sent) {
		m.status = h->sent = h->status;
		rpc_send(h->w.call, &m.base);
	} else if (h->w.s->draining) {
		rpc_finish(h->w.call, RPC_UNAVAILABLE, "ringsided is shutting down");
	}
}

/* Looks a plugin up for a watcher that has just come. */
struct health_job {
	struct pool_job pool_job;
	struct rpc_task task;
	struct rpc_call *call; /* a reference */
	struct api_server *s;
	Status status;
	char service[SERVICE_MAX];
};

static void lookup_done(struct rpc_task *task)
{
	struct health_job *job = container_of(task, struct health_job, task);
	struct health_watch *h = rpc_call_state(job->call);

	/* A change that came meanwhile is newer. */
	if (h && h->status == STATUS(UNKNOWN)) {
		h->status = job->status;
		send_status(h);
	}
	rpc_call_unref(job->call);
	free(job);
}

static void lookup_run(struct pool_job *pool_job)
{
	struct health_job *job = container_of(pool_job, struct health_job, pool_job);

	job->status = STATUS(SERVICE_UNKNOWN);
	plugin_status(job->s, job->service, &job->status, NULL);
	if (rpc_post(job->s->rpc, &job->task) < 0) {
		rpc_call_unref(job->call);
		free(job);
	}
}

static int lookup(struct health_watch *h)
{
	struct health_job *job = calloc(1, sizeof(*job));
	int r;

	if (!job)
		return -ENOMEM;
	*job = (struct health_job){.pool_job.run = lookup_run, .task.run = lookup_done, .s = h->w.s};
	memcpy(job->service, h->service, sizeof(job->service));
	job->call = rpc_call_ref(h->w.call);
	r = pool_submit(h->w.s->unary, &job->pool_job);
	if (r < 0) {
		rpc_call_unref(job->call);
		free(job);
	}
	return r;
}

void health_watch(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Grpc__Health__V1__HealthCheckRequest *q = (const void *)request;
	struct api_server *s = rpc_call_ctx(call);
	struct health_watch *h;
	int r = 0;

	if (strlen(q->service) >= SERVICE_MAX) {
		rpc_finish(call, RPC_INVALID_ARGUMENT, "a service name has at most %d bytes", SERVICE_MAX - 1);
		return;
	}
	h = calloc(1, sizeof(*h));
	if (!h) {
		rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory for a watcher");
		return;
	}
	memcpy(h->service, q->service, strlen(q->service) + 1);
	h->sent = STATUS(UNKNOWN);
	watcher_add(s, &h->w, &s->health_watchers, call);
	rpc_call_set_state(call, h);
	if (is_plugin(h->service))
		r = lookup(h);
	else
		h->status = service_status(s, h->service);
	if (r < 0)
		rpc_finish_err(call, r, NULL);
	else
		send_status(h);
}

void health_ready(struct rpc_call *call)
{
	struct health_watch *h = rpc_call_state(call);

	if (h)
		send_status(h);
}

void health_closed(struct rpc_call *call)
{
	struct health_watch *h = rpc_call_state(call);

	if (!h)
		return;
	rpc_call_set_state(call, NULL);
	watcher_remove(&h->w);
	free(h);
}

void health_plugin_changed(struct api_server *s, const char *name, bool serving)
{
	FOR_EACH_WATCHER(w, s->health_watchers) {
		struct health_watch *h = container_of(w, struct health_watch, w);

		if (is_plugin(h->service) && strcmp(h->service + strlen(PLUGIN_PREFIX), name) == 0) {
			h->status = serving ? STATUS(SERVING) : STATUS(NOT_SERVING);
			send_status(h);
		}
	}
}

void health_drain(struct api_server *s)
{
	FOR_EACH_WATCHER(w, s->health_watchers) {
		struct health_watch *h = container_of(w, struct health_watch, w);

		h->status = STATUS(NOT_SERVING);
		send_status(h);
	}
}
