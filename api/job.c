// SPDX-License-Identifier: Apache-2.0
/* Unary calls whose handlers may block: to a worker thread and back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/service.h"

static void job_free(struct api_job *job)
{
	rpc_call_unref(job->call);
	free(job->out);
	free(job);
}

/* Engine thread. */
static void job_done(struct rpc_task *task)
{
	struct api_job *job = container_of(task, struct api_job, task);

	if (job->r < 0)
		rpc_finish_err(job->call, job->r, &job->err);
	else
		rpc_reply_bytes(job->call, job->out, job->out_len);
	job_free(job);
}

static _Thread_local char caller_text[sizeof(((struct rpc_caller *)0)->subject)];

const char *api_caller(void)
{
	return caller_text;
}

static void caller_set(const struct rpc_call *call)
{
	const struct rpc_caller *c = rpc_call_caller(call);

	if (strcmp(c->transport, "unix") == 0)
		snprintf(caller_text, sizeof(caller_text), "uid %u, pid %d", c->uid, c->pid);
	else
		snprintf(caller_text, sizeof(caller_text), "%s", c->subject);
}

/* Worker thread. */
static void job_run(struct pool_job *pool_job)
{
	struct api_job *job = container_of(pool_job, struct api_job, pool_job);

	/* A call that was cancelled while it waited must not change anything. */
	caller_set(job->call);
	job->r = rpc_call_gone(job->call) ? -ECANCELED : rpc_call_method(job->call)->handler(job);
	caller_text[0] = '\0';
	/* Can't be refused: the engine ends only after the call that we hold. */
	if (rpc_post(job->s->rpc, &job->task) < 0)
		job_free(job);
}

void job_start(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct api_server *s = rpc_call_ctx(call);
	struct api_job *job = calloc(1, sizeof(*job));
	int r;

	if (!job) {
		rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory for the call");
		return;
	}
	*job = (struct api_job){
		.pool_job.run = job_run,
		.task.run = job_done,
		.s = s,
		.call = rpc_call_ref(call),
		.request = request,
		.arena = rpc_call_arena(call),
	};
	r = pool_submit(s->unary, &job->pool_job);
	if (r < 0) {
		if (r == -ENOBUFS)
			rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "too many calls wait for their turn, try again");
		else
			rpc_finish_err(call, r, NULL);
		job_free(job);
	}
}

int pack_message(const ProtobufCMessage *m, void **ret, size_t *len)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	void *p = malloc(n ? n : 1);

	if (!p)
		return -ENOMEM;
	protobuf_c_message_pack(m, p);
	*ret = p;
	*len = n;
	return 0;
}

int job_reply(struct api_job *job, const ProtobufCMessage *answer)
{
	if (pack_message(answer, &job->out, &job->out_len) < 0)
		return err_set(&job->err, -ENOMEM, "no memory for the answer");
	return 0;
}
