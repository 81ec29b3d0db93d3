// SPDX-License-Identifier: Apache-2.0
/* Fuzzes the readers of /proc and cgroup files. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "governor/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void device(void *arg, const struct net_device *dev)
{
	(void)arg;
	assert(memchr(dev->name, '\0', sizeof(dev->name)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char path[256], point[256], below[256];
	char *text;
	uint64_t v;

	if (len > 8192)
		return 0;
	text = malloc(len + 1);
	if (!text)
		return 0;
	memcpy(text, data, len);
	text[len] = '\0';
	(void)parse_u64(text, &v);
	(void)parse_keyed(text, "usage_usec", &v);
	if (parse_cgroup_path(text, "memory", path, sizeof(path)) == 0)
		assert(strlen(path) < sizeof(path));
	(void)parse_cgroup_path(text, NULL, path, sizeof(path));
	(void)parse_cgroup_mount(text, "memory", "/a/b", point, sizeof(point), below, sizeof(below));
	assert(parse_net_dev(text, strlen(text), device, NULL) <= strlen(text));
	free(text);
	return 0;
}
