// SPDX-License-Identifier: Apache-2.0
/* Load for the gRPC benchmark: the same C client against every server; prints one JSON object. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/client.h"
#include "base/clock.h"
#include "base/macro.h"
#include "grpc/health/v1/health.pb-c.h"
#include "ringside/v1/plugin.pb-c.h"
#include "ringside/v1/query.pb-c.h"

/* 1 us resolution up to 1 s. */
#define HIST 1000000

struct worker {
	pthread_t thread;
	const char *socket, *mode;
	uint64_t end_ns, calls, rows, messages;
	uint32_t *hist;
	int r;
	struct err err;
};

static int one_call(struct client *c, const char *mode, struct err *err)
{
	Grpc__Health__V1__HealthCheckRequest check = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	Ringside__V1__GetPluginRequest get = RINGSIDE__V1__GET_PLUGIN_REQUEST__INIT;
	ProtobufCMessage *m = NULL;
	int r;

	get.name = "alpha";
	if (strcmp(mode, "check") == 0)
		r = client_call(c, "/grpc.health.v1.Health/Check", &check.base,
				&grpc__health__v1__health_check_response__descriptor, 0, &m, err);
	else
		r = client_call(c, "/ringside.v1.PluginService/GetPlugin", &get.base,
				&ringside__v1__get_plugin_response__descriptor, 0, &m, err);
	if (r == 0)
		protobuf_c_message_free_unpacked(m, NULL);
	return r;
}

static int unary(struct worker *w, struct client *c)
{
	uint64_t now = clock_mono_ns();

	while (now < w->end_ns) {
		uint64_t t0 = now, us;
		int r = one_call(c, w->mode, &w->err);

		if (r < 0)
			return r;
		now = clock_mono_ns();
		us = (now - t0) / NSEC_PER_USEC;
		w->hist[us < HIST ? us : HIST - 1]++;
		w->calls++;
	}
	return 0;
}

/* "BENCH" makes each server send rows of seven columns, 64 a message, until we go. */
static int stream(struct worker *w, struct client *c)
{
	Ringside__V1__QueryRequest q = RINGSIDE__V1__QUERY_REQUEST__INIT;
	struct client_stream *s = NULL;
	ProtobufCMessage *m = NULL;
	int r;

	q.sql = "BENCH";
	r = client_stream_open(c, "/ringside.v1.QueryService/Query", &q.base, &ringside__v1__query_response__descriptor, 0,
			       &s, &w->err);
	while (r >= 0 && clock_mono_ns() < w->end_ns) {
		r = client_stream_next(s, 0, &m, &w->err);
		if (r == 0)
			r = err_set(&w->err, -EIO, "the stream ended early");
		if (r < 0)
			break;
		if (((Ringside__V1__QueryResponse *)m)->part_case == RINGSIDE__V1__QUERY_RESPONSE__PART_ROWS)
			w->rows += ((Ringside__V1__QueryResponse *)m)->rows->row_count;
		w->messages++;
		protobuf_c_message_free_unpacked(m, NULL);
	}
	client_stream_free(s);
	return r < 0 ? r : 0;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct client_options o = {.socket_path = w->socket};
	struct client *c = NULL;

	w->r = client_new(&c, &o, &w->err);
	if (w->r == 0)
		w->r = strcmp(w->mode, "stream") == 0 ? stream(w, c) : unary(w, c);
	client_free(c);
	return NULL;
}

static uint64_t percentile(const struct worker *w, unsigned int n, uint64_t calls, unsigned int percent)
{
	uint64_t seen = 0;

	for (size_t us = 0; us < HIST; us++) {
		for (unsigned int i = 0; i < n; i++)
			seen += w[i].hist[us];
		if (seen * 100 >= calls * percent)
			return us;
	}
	return HIST;
}

int main(int argc, char **argv)
{
	unsigned int n = argc == 5 ? (unsigned int)atoi(argv[3]) : 0;
	double seconds = argc == 5 ? atof(argv[4]) : 0;
	uint64_t t0 = clock_mono_ns(), calls = 0, rows = 0, messages = 0;
	struct worker *w = calloc(n + 1, sizeof(*w));

	if (!n || seconds <= 0 || !w) {
		fprintf(stderr, "usage: grpc_load SOCKET check|get|stream CLIENTS SECONDS\n");
		return 2;
	}
	for (unsigned int i = 0; i < n; i++) {
		w[i] = (struct worker){.socket = argv[1], .mode = argv[2], .hist = calloc(HIST, sizeof(uint32_t)),
				       .end_ns = t0 + (uint64_t)(seconds * (double)NSEC_PER_SEC)};
		if (!w[i].hist || pthread_create(&w[i].thread, NULL, work, &w[i]))
			return 1;
	}
	for (unsigned int i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		if (w[i].r < 0) {
			fprintf(stderr, "%s\n", w[i].err.msg);
			return 1;
		}
		calls += w[i].calls;
		rows += w[i].rows;
		messages += w[i].messages;
	}
	seconds = (double)(clock_mono_ns() - t0) / NSEC_PER_SEC;
	printf("{\"seconds\":%.3f,\"calls\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"messages\":%" PRIu64 ",\"p50_us\":%" PRIu64
	       ",\"p99_us\":%" PRIu64 "}\n", seconds, calls, rows, messages, calls ? percentile(w, n, calls, 50) : 0,
	       calls ? percentile(w, n, calls, 99) : 0);
	return 0;
}
