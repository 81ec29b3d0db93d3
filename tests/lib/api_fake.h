// SPDX-License-Identifier: Apache-2.0
/* State of the fake daemon behind the API server. */
#pragma once

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "api/server.h"

#define FAKE_PLUGINS 4
#define FAKE_HIST 100000

struct fake {
	struct api_server *server;
	uint64_t rate, grace_ns, store_lag_ns;
	size_t text_len;
	unsigned long nofile;
	atomic_bool stop;
	/* Producer thread. */
	uint64_t seq, last_ts, push_max_us;
	uint64_t push_hist[FAKE_HIST];
	_Atomic uint64_t produced, refused;

	pthread_mutex_t mu; /* plugins and limits */
	struct plugin_info plugins[FAKE_PLUGINS];
	struct governor_info governor;

	/* The store: an SQLite database that lags behind the bus. */
	pthread_t store_thread;
	pthread_mutex_t store_mu;
	pthread_cond_t store_cv;
	struct pending {
		struct pending *next;
		struct batch *batch;
		uint64_t due_ns;
	} *pending, **pending_tail;
	sqlite3 *db;
	char db_path[64];
	bool store_stop;
};

extern const struct api_ops fake_ops;
extern const struct table *const fake_tables[];

void fake_plugins_init(struct fake *f);
int fake_store_open(struct fake *f);
void fake_store_close(struct fake *f);
void fake_store_add(struct fake *f, struct batch *b);
int fake_snapshot(void *ctx, const struct table *table, struct batch **ret, struct err *err);
int fake_query(void *ctx, const char *sql, const struct value *params, size_t nparams, uint64_t max_rows,
	       uint64_t deadline_mono_ns, const atomic_bool *cancelled, const struct api_query_sink *sink,
	       struct err *err);
