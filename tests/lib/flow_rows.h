// SPDX-License-Identifier: Apache-2.0
/* Rows shaped like those of a busy host's netflow, for benchmarks and fault tests of what stores
 * them. */
#pragma once

#include <stdint.h>

#include "bpf/batch.h"

/* The columns of the table netflow, in its order; name "netflow". */
extern const struct table flow_rows_table;

struct flow_rows_row {
	uint64_t ts;
	uint32_t pid;
	char process_name[16];
	uint64_t cgroup_id;
	struct str container_id;
	uint32_t netns;
	uint8_t family, transport, direction;
	struct ip_addr src_ip;
	uint16_t src_port;
	struct ip_addr dst_ip;
	uint16_t dst_port;
	uint8_t src_ip_type, dst_ip_type;
	struct str dst_domain;
	struct ip_addr dst_nat_ip;
	uint16_t dst_nat_port;
	uint64_t bytes_read, bytes_written;
	uint64_t packets_read, packets_written;
	uint32_t retransmits;
	uint32_t rtt, rtt_var;
	uint32_t tcp_established, tcp_closed, connect_failures;
};

/* xorshift64: the same rows in every run. */
struct flow_rows {
	uint64_t state;
};

void flow_rows_init(struct flow_rows *g);
/* n rows, ts from first on, step apart; sealed. 4096 remote and 8 local addresses, 256 processes,
 * 128 containers, 1024 names. */
struct batch *flow_rows_batch(struct flow_rows *g, uint32_t n, uint64_t first, uint64_t step);
