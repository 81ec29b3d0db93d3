// SPDX-License-Identifier: Apache-2.0
/* Fuzzes dnsflow behind its decoder: pairing, TCP streams, multicast, rows; its tables stay in
 * their bounds. */
#include "base/clock.h"
#include "bpf/dnsflow/dnsflow_priv.h"
#include "tests/fuzz/targets/samples.h"

extern const struct plugin plugin_dnsflow;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void discard(void *arg, struct batch *batch)
{
	(void)arg;
	batch_unref(batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	enum { QUERIES = 8, CONNECTIONS = 3, ROWS = 6 };
	static struct dnsflow d;
	struct instance in = {.plugin = &plugin_dnsflow, .state = &d, .publish = discard};
	uint64_t now = 1000 * NSEC_PER_SEC;
	struct payload_head *h;
	size_t size;

	memset(&d, 0, sizeof(d));
	d.timeout_ns = NSEC_PER_SEC;
	d.mdns = len && data[0] & 1;
	d.log = d.query_names = len && data[0] & 2;
	assert(instance_out_new(&in) == 0 && pending_init(&d.pending, QUERIES) == 0 &&
	       tcp_conns_init(&d.tcp, CONNECTIONS) == 0);
	exchanges_init(&d.exchanges, ROWS);
	while ((h = samples_next(&data, &len, now, &size))) {
		assert(plugin_dnsflow.event(&in, h, size) == 0);
		now += h->tcp_flags * NSEC_PER_SEC / 4;
		free(h);
		assert(d.pending.n <= QUERIES && d.tcp.n <= CONNECTIONS && d.exchanges.n <= ROWS);
		assert(d.stats.paired + d.stats.timeouts + d.stats.evicted + d.pending.n +
			       d.stats.retries + d.stats.no_memory ==
		       d.stats.queries);
	}
	dnsflow_expire(&in, UINT64_MAX);
	assert(d.pending.n == 0);
	dnsflow_flush(&in, now);
	exchanges_free(&d.exchanges);
	pending_free(&d.pending);
	tcp_conns_free(&d.tcp);
	instance_out_free(&in);
	return 0;
}
