// SPDX-License-Identifier: Apache-2.0
/* From the daemon's plain structs to messages; what they make lives in an arena and points into its source. */
#pragma once

#include "api/arena.h"
#include "api/ops.h"
#include "ringside/v1/governor.pb-c.h"
#include "ringside/v1/plugin.pb-c.h"
#include "ringside/v1/query.pb-c.h"
#include "ringside/v1/table.pb-c.h"

/* A message of type T, initialised, from arena a; NULL when it is full. */
#define MSG_NEW(a, T, init)                              \
	({                                               \
		T *_m = arena_alloc((a), sizeof(*_m));   \
		if (_m)                                  \
			init(_m);                        \
		_m;                                      \
	})

/* The text itself if it is valid UTF-8, else a cleaned copy; "" when out of memory. */
char *msg_text(struct arena *a, const char *text);
/* NULL for 0. */
Google__Protobuf__Timestamp *msg_timestamp(struct arena *a, uint64_t epoch_ns);
Ringside__V1__Plugin *msg_plugin(struct arena *a, const struct plugin_info *p);
Ringside__V1__Governor *msg_governor(struct arena *a, const struct governor_info *g);
Ringside__V1__Table *msg_table(struct arena *a, const struct table *t, const char *plugin);
/* No arena: m points into loss alone. */
void msg_completeness(Ringside__V1__Completeness *m, const struct api_query_loss *loss);
/* Exact and shortest: "1536MiB", "4000000001"; "" for 0. */
char *msg_bytes_limit(struct arena *a, uint64_t bytes, const char *suffix);
