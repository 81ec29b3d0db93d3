// SPDX-License-Identifier: Apache-2.0
/* Inside the user half of the exec plugin. */
#pragma once

#include "base/buf.h"
#include "bpf/exec/exec.h"
#include "bpf/process.h"

enum exec_table_index { EXEC_TABLE, EXIT_TABLE, PROCESSES_TABLE };

extern const struct table exec_table, exit_table, processes_table;

struct exec_state {
	struct buf text; /* of the row that is being made */
};

/* exec_table.c. Loop thread; 0, or -EBADMSG for a sample that contradicts itself. */
int exec_row_add(struct instance *in, const struct exec_event *e, size_t len);
int exec_exit_add(struct instance *in, const struct exec_exit *e);
/* -ENOBUFS: the batch is full. */
int exec_process_add(struct instance *in, struct batch *batch, const struct exec_process *e);
