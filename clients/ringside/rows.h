// SPDX-License-Identifier: Apache-2.0
/* Columns and rows of ringside.v1 to the writer. */
#pragma once

#include <stddef.h>

#include "bpf/batch.h"
#include "clients/ringside/out.h"
#include "ringside/v1/table.pb-c.h"

/* Which column of the message stands at each place of the output; all of them, in order, when map
 * is NULL. */
struct row_map {
	size_t *source;
	size_t n;
};

/* wanted: "a,b,c" or NULL. -ENOENT with *ret_missing (allocated) when the table has no such column.
 */
int row_map_new(struct row_map *map, Ringside__V1__Column *const *columns, size_t n,
		const char *wanted, char **ret_missing);
void row_map_free(struct row_map *map);

int rows_begin(struct out *o, Ringside__V1__Column *const *columns, size_t n,
	       const struct row_map *map);
/* ncols: columns of the message. -EPROTO when the batch isn't a whole number of rows. */
int rows_add(struct out *o, const Ringside__V1__RowBatch *batch, size_t ncols,
	     const struct row_map *map);
struct cell cell_of_value(const Ringside__V1__Value *v);
/* Its bytes stay the message's. */
struct value value_of_message(const Ringside__V1__Value *v);
