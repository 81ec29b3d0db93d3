// SPDX-License-Identifier: Apache-2.0
/* Fuzzes sni behind its decoder: hellos in parts, out of order, of several connections at once. */
#include "bpf/plugin.h"
#include "tests/fuzz/targets/samples.h"

extern const struct plugin plugin_sni;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void discard(void *arg, struct batch *batch)
{
	(void)arg;
	batch_unref(batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct instance in = {.plugin = &plugin_sni, .publish = discard};
	struct payload_head *h;
	size_t size;

	in.state = calloc(1, plugin_sni.state_size);
	assert(in.state && instance_out_new(&in) == 0);
	/* As old as can be: the tick gives up what still waits. */
	while ((h = samples_next(&data, &len, 1, &size))) {
		h->transport = IPPROTO_TCP;
		assert(plugin_sni.event(&in, h, size) == 0);
		free(h);
	}
	assert(plugin_sni.tick(&in, 1) == 0);
	instance_out_free(&in);
	free(in.state);
	return 0;
}
