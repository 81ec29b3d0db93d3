// SPDX-License-Identifier: Apache-2.0
/* A stream of messages that a worker thread makes and the engine sends at the peer's speed: two
 * wait at most. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "api/service.h"

#define ANSWER_SLOTS 2

struct answer {
	struct pool_job pool_job;
	struct rpc_task task;
	struct api_server *s;
	struct rpc_call *call; /* a reference, until the thread is done */
	const void *request;
	int (*run)(struct answer *a); /* worker thread; negative with err */
	uint32_t rows_part;	      /* number of the RowBatch in the response */
	atomic_bool cancelled;
	struct err err;
	/* Worker thread only. */
	struct buf values; /* encoded, of the message being filled */
	uint32_t nrows;
	void *arg; /* run's own */

	pthread_mutex_t mu;
	pthread_cond_t room;
	struct buf slots[ANSWER_SLOTS];
	unsigned int nslots;
	bool posted, done;
	int r;

	unsigned int refs; /* engine thread: the call and the job */
};

/* Engine thread. busy: what is said when no worker is free. */
void answer_start(struct rpc_call *call, const ProtobufCMessage *request,
		  int (*run)(struct answer *a), uint32_t rows_part, const char *busy);

/* Worker thread. -ECANCELED once nobody wants the rest. */
int answer_rows(struct answer *a, const struct value *values, size_t nrows, size_t ncols);
int answer_flush(struct answer *a);
/* A message that isn't rows; the rows before it go first. */
int answer_put(struct answer *a, uint32_t part, const ProtobufCMessage *message);
