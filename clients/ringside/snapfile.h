// SPDX-License-Identifier: Apache-2.0
/* The file of a snapshot while it is made: under another name until it is whole. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "ringside/v1/query.pb-c.h"

struct snapfile;

struct snapfile_totals {
	uint64_t tables, rows, since, until;
	uint64_t ring_since; /* the oldest ts that the ring held of any history table; 0: none */
	uint64_t lost;	     /* after snapfile_commit() */
};

/* force: a file of that name is replaced. -EEXIST otherwise. */
int snapfile_new(struct snapfile **ret, const char *path, bool force, struct err *err);
/* The parts of the stream in their order; anything else is -EPROTO. */
int snapfile_start(struct snapfile *f, const Ringside__V1__SnapshotStart *m, struct err *err);
int snapfile_table(struct snapfile *f, const Ringside__V1__Table *m, struct err *err);
int snapfile_rows(struct snapfile *f, const Ringside__V1__RowBatch *m, struct err *err);
int snapfile_table_end(struct snapfile *f, const Ringside__V1__SnapshotTableEnd *m,
		       struct err *err);
int snapfile_end(struct snapfile *f, const Ringside__V1__SnapshotEnd *m, struct err *err);
const struct snapfile_totals *snapfile_totals(const struct snapfile *f);
/* On disk, and under its name. */
int snapfile_commit(struct snapfile *f, struct err *err);
/* Without a commit nothing is left behind. */
void snapfile_free(struct snapfile *f);
