// SPDX-License-Identifier: Apache-2.0
/* Skewed picks from fixed sets of processes, addresses and names: a few talk most. */
#include "lib/flow_rows.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char *const family_names[] = {"", "IPv4", "IPv6", NULL};
static const char *const transport_names[] = {"", "tcp", "udp", NULL};
static const char *const direction_names[] = {"", "outgoing", "incoming", NULL};
static const char *const ip_type_names[] = {"", "private", "loopback", "multicast", "other", NULL};

#define ROW(m, r, t, k, ...) FIELD(flow_rows_row, m, r, t, k, "", "as in netflow", __VA_ARGS__)
static const struct field flow_fields[] = {
	ROW(ts, U64, TIME, TAG),
	ROW(pid, U32, INT64, TAG, .null = NULL_ZERO, .indexed = true),
	ROW(process_name, CHARS, TEXT, TAG, .null = NULL_ZERO, .dict = true),
	ROW(cgroup_id, U64, INT64, TAG, .null = NULL_ZERO),
	ROW(container_id, STR, TEXT, TAG, .null = NULL_ZERO, .dict = true),
	ROW(netns, U32, INT64, TAG, .null = NULL_ZERO),
	ROW(family, ENUM, TEXT, TAG, .names = family_names, .dict = true),
	ROW(transport, ENUM, TEXT, TAG, .names = transport_names, .dict = true),
	ROW(direction, ENUM, TEXT, TAG, .names = direction_names, .dict = true),
	ROW(src_ip, IP, IP, TAG, .null = NULL_ZERO, .dict = true),
	ROW(src_port, U16, INT64, TAG, .null = NULL_ZERO),
	ROW(dst_ip, IP, IP, TAG, .null = NULL_ZERO, .dict = true, .indexed = true),
	ROW(dst_port, U16, INT64, TAG, .null = NULL_ZERO),
	ROW(src_ip_type, ENUM, TEXT, TAG, .null = NULL_ZERO, .names = ip_type_names, .dict = true),
	ROW(dst_ip_type, ENUM, TEXT, TAG, .null = NULL_ZERO, .names = ip_type_names, .dict = true),
	ROW(dst_domain, STR, TEXT, TAG, .null = NULL_ZERO, .dict = true),
	ROW(dst_nat_ip, IP, IP, TAG, .null = NULL_ZERO, .dict = true),
	ROW(dst_nat_port, U16, INT64, TAG, .null = NULL_ZERO),
	ROW(bytes_read, U64, INT64, DELTA),
	ROW(bytes_written, U64, INT64, DELTA),
	ROW(packets_read, U64, INT64, DELTA),
	ROW(packets_written, U64, INT64, DELTA),
	ROW(retransmits, U32, INT64, DELTA),
	ROW(rtt, U32, INT64, GAUGE, .null = NULL_ZERO),
	ROW(rtt_var, U32, INT64, GAUGE, .null = NULL_ZERO),
	ROW(tcp_established, U32, INT64, DELTA),
	ROW(tcp_closed, U32, INT64, DELTA),
	ROW(connect_failures, U32, INT64, DELTA),
};

const struct table flow_rows_table =
	TABLE(flow_rows_row, FLOW, "netflow", "rows like those of netflow", flow_fields);

void flow_rows_init(struct flow_rows *g)
{
	g->state = UINT64_C(88172645463325252);
}

static uint64_t next(struct flow_rows *g)
{
	uint64_t x = g->state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return g->state = x;
}

/* Of n things the first half of the sets is picked half of the time, and so on. */
static uint32_t skewed(struct flow_rows *g, uint32_t n)
{
	uint64_t r = next(g);
	uint32_t shift = (uint32_t)__builtin_ctzll(r | UINT64_C(1) << 10), limit = n >> shift;

	return (uint32_t)(r >> 20) % (limit ? limit : 1);
}

static void set_ip(struct ip_addr *ip, bool v6, uint32_t net, uint32_t i)
{
	ip->family = v6 ? 6 : 4;
	if (!v6) {
		memcpy(ip->addr, (const uint8_t[]){10, (uint8_t)net, (uint8_t)(i >> 8), (uint8_t)i},
		       4);
		return;
	}
	memcpy(ip->addr, (const uint8_t[]){0x20, 0x01, 0x0d, 0xb8}, 4);
	ip->addr[5] = (uint8_t)net;
	ip->addr[14] = (uint8_t)(i >> 8);
	ip->addr[15] = (uint8_t)i;
}

static void set_names(struct flow_rows *g, struct batch *b, struct flow_rows_row *row,
		      uint32_t remote)
{
	static const char *const names[] = {"nginx",   "curl", "java",	"postgres",
					    "python3", "node", "envoy", "sshd"};
	uint32_t process = skewed(g, 256), container = process % 128;
	char text[80];
	int n;

	row->pid = 300 + process * 117;
	if (process < 8)
		snprintf(row->process_name, sizeof(row->process_name), "%s", names[process]);
	else
		snprintf(row->process_name, sizeof(row->process_name), "%s-%u", names[process % 8],
			 process);
	row->cgroup_id = 5000 + container * 31;
	if (container % 4) {
		n = snprintf(text, sizeof(text), "%08x%08x%08x%08x%08x%08x%08x%08x", container,
			     container * 7, container * 11, container * 13, container * 17,
			     container * 19, container * 23, container * 29);
		row->container_id = batch_str(b, text, (size_t)n);
	}
	if (remote % 4 == 1) {
		n = snprintf(text, sizeof(text), "svc%u.prod.eu-west-1.example.com", remote / 4);
		row->dst_domain = batch_str(b, text, (size_t)n);
	}
}

static void fill(struct flow_rows *g, struct batch *b, struct flow_rows_row *row)
{
	uint64_t r = next(g), traffic = next(g);
	uint32_t remote = skewed(g, 4096);
	bool v6 = remote % 8 == 3, tcp = r & 3;

	set_names(g, b, row, remote);
	row->netns = 4026531840u + (uint32_t)(row->cgroup_id % 7);
	row->family = v6 ? 2 : 1;
	row->transport = tcp ? 1 : 2;
	row->direction = r >> 45 & 1 ? 2 : 1;
	set_ip(&row->src_ip, v6, 0, (uint32_t)(r >> 8 & 7));
	set_ip(&row->dst_ip, v6, 1, remote);
	row->src_port = (uint16_t)(32768 + (r >> 24) % 28000);
	row->dst_port = r >> 40 & 3 ? 443 : (uint16_t)(8080 + (r >> 42 & 15));
	row->src_ip_type = 1;
	row->dst_ip_type = remote % 3 ? 1 : 4;
	row->bytes_read = traffic % 200000;
	row->bytes_written = (traffic >> 20) % 60000;
	row->packets_read = row->bytes_read / 1400 + 1;
	row->packets_written = row->bytes_written / 1400 + 1;
	if (!tcp)
		return;
	row->retransmits = traffic >> 40 & 31 ? 0 : (uint32_t)(traffic >> 45 & 7);
	row->rtt = (uint32_t)(200 + (traffic >> 36) % 90000);
	row->rtt_var = (uint32_t)((traffic >> 30) % 20000);
	row->tcp_established = (uint32_t)(traffic >> 60 & 1);
	row->tcp_closed = (uint32_t)(traffic >> 61 & 1);
}

struct batch *flow_rows_batch(struct flow_rows *g, uint32_t n, uint64_t first, uint64_t step)
{
	struct batch *b = batch_new(&flow_rows_table, n);

	for (uint32_t i = 0; b && i < n; i++) {
		struct flow_rows_row *row = batch_add(b);

		if (!row)
			break;
		row->ts = first + i * step;
		fill(g, b, row);
	}
	if (b)
		batch_seal(b, NULL);
	return b;
}
