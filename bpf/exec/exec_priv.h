// SPDX-License-Identifier: Apache-2.0
/* Inside the user half of the exec plugin. */
#pragma once

#include <bpf/libbpf.h>

#include "base/buf.h"
#include "bpf/exec/exec.h"
#include "bpf/exec/exec_hash.h"
#include "bpf/process.h"

enum exec_table_index { EXEC_TABLE, EXIT_TABLE, PROCESSES_TABLE };

extern const struct table exec_table, exit_table, processes_table;

/* Programs of the tracepoints of exec calls, attached while the option failed is set. */
#define EXEC_CALL_LINKS 4

struct exec_waiting;

struct exec_state {
	struct buf text;     /* of the row that is being made */
	struct buf caps;     /* of the last set of capabilities: mostly that of the next row, too */
	uint64_t caps_of;
	uint32_t host_pid;   /* a process that sees what the host's do, and never ends before us */
	uint32_t host_mntns; /* its mount namespace; 0: unknown */
	struct bpf_link *calls[EXEC_CALL_LINKS];

	/* With the option sha256: rows of exec that wait for the digest of their program, in order.
	 */
	struct exec_hash *hash;
	struct exec_waiting *head, **tail;
	size_t waiting_bytes;
	uint64_t late;	  /* rows that didn't wait any longer */
	uint64_t without; /* programs without a digest that were reported */
};

/* exec_table.c. Loop thread; 0, or -EBADMSG for a sample that contradicts itself. digest: NULL:
 * none. */
int exec_row_add(struct instance *in, const struct exec_event *e, size_t len,
		 const uint8_t *digest);
int exec_exit_add(struct instance *in, const struct exec_exit *e);
/* -ENOBUFS: the batch is full. */
int exec_process_add(struct instance *in, struct batch *batch, const struct exec_process *e);

/* exec_wait.c. The row of that sample, now or when its digest is known. */
int exec_wait_add(struct instance *in, const struct exec_event *e, size_t len);
/* Rows whose time has come; all: those that still wait, too, without a digest. */
void exec_wait_emit(struct instance *in, bool all);
/* By the options sha256 and sha256_max. */
int exec_wait_apply(struct instance *in, struct err *err);
void exec_wait_stop(struct instance *in);
