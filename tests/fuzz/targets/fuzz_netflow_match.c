// SPDX-License-Identifier: Apache-2.0
/* netflow's lists and services(5): whatever the text is, it is taken or refused with a sentence. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/services.h"
#include "bpf/netflow/netflow_match.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t addr[4] = {0x01020304, 5, 6, 7};
	struct netflow_match *m = NULL;
	struct services *s;
	struct err err = {0};
	char *text;

	if (services_new(&s) < 0 || !(text = malloc(size + 1)))
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	if (services_add(s, text, size) < 0)
		abort();
	for (int i = 0; i < 3; i++) {
		const struct netflow_lists lists = {
			.ports = i == 0 ? text : NULL,
			.ips = i == 1 ? text : NULL,
			.hostnames = i == 2 ? text : NULL,
		};

		if (netflow_match_new(&m, &lists, s, &err) < 0) {
			if (!err.msg[0])
				abort();
			continue;
		}
		(void)netflow_match_port(m, size ? data[0] : 0);
		(void)netflow_match_ip(m, 4, addr);
		(void)netflow_match_ip(m, 6, addr);
		(void)netflow_match_name(m, "www.example.org");
		netflow_match_free(m);
		m = NULL;
	}
	services_free(s);
	free(text);
	return 0;
}
