// SPDX-License-Identifier: Apache-2.0
/* Ids of containers in cgroup paths, and their names in the files of Docker and Podman. */
#include "bpf/containers_names.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/macro.h"

#define FULL_ID	 64
#define SHORT_ID 12
/* Fewer digits say nothing. */
#define PREFIX_MIN 4
/* Docker writes some 4 KiB a container; Podman one file for all. */
#define FILE_MAX (1024 * 1024)

static size_t hex_run(const char *s)
{
	size_t n = 0;

	while (isxdigit((unsigned char)s[n]) && !isupper((unsigned char)s[n]))
		n++;
	return n;
}

/* "docker-<id>.scope", "/docker/<id>", "libpod-<id>": a short run of hex digits alone could be
 * anything. */
static bool behind_runtime(const char *path, const char *at)
{
	static const char *const runtimes[] = {"docker", "libpod", "crio", "cri-containerd", "lxc"};

	for (size_t i = 0; i < sizeof(runtimes) / sizeof(runtimes[0]); i++) {
		size_t n = strlen(runtimes[i]);

		if ((size_t)(at - path) > n && strchr("-/", at[-1]) &&
		    memcmp(at - 1 - n, runtimes[i], n) == 0)
			return true;
	}
	return false;
}

void container_of_path(const char *path, char dst[static CONTAINER_ID_SIZE])
{
	dst[0] = '\0';
	for (const char *p = path; *p;) {
		size_t n = hex_run(p);

		/* The last one wins: a container in a container is named by the inner one. */
		if (n == FULL_ID || (n == SHORT_ID && behind_runtime(path, p))) {
			memcpy(dst, p, n);
			dst[n] = '\0';
		}
		p += n ? n : 1;
	}
}

bool container_is(const struct container *c, const char *wanted)
{
	size_t n = strlen(wanted);

	if (*c->name && strcmp(c->name, wanted) == 0)
		return true;
	return n >= PREFIX_MIN && hex_run(wanted) == n && strncmp(c->id, wanted, n) == 0;
}

/* NULL: not there, too large, or no JSON. */
static json_t *read_json(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		return NULL;
	return json_loadfd(fd, 0, NULL);
}

static void take_name(const char *name, char dst[static CONTAINER_NAME_SIZE])
{
	if (name && strlen(name) < CONTAINER_NAME_SIZE)
		snprintf(dst, CONTAINER_NAME_SIZE, "%s", name);
}

static void docker_name(const char *id, char dst[static CONTAINER_NAME_SIZE])
{
	char path[160];
	json_t *config;
	const char *name;

	snprintf(path, sizeof(path), "/var/lib/docker/containers/%s/config.v2.json", id);
	config = read_json(path);
	name = json_string_value(json_object_get(config, "Name"));
	take_name(name && *name == '/' ? name + 1 : name, dst);
	json_decref(config);
}

static void podman_name(const char *id, char dst[static CONTAINER_NAME_SIZE])
{
	json_t *all = read_json("/var/lib/containers/storage/overlay-containers/containers.json");
	json_t *one;
	size_t i;

	json_array_foreach(all, i, one)
	{
		const char *is = json_string_value(json_object_get(one, "id"));

		if (is && strcmp(is, id) == 0)
			take_name(
				json_string_value(json_array_get(json_object_get(one, "names"), 0)),
				dst);
	}
	json_decref(all);
}

void container_name_of(const char *id, char dst[static CONTAINER_NAME_SIZE])
{
	dst[0] = '\0';
	if (strlen(id) != FULL_ID)
		return;
	docker_name(id, dst);
	if (!*dst)
		podman_name(id, dst);
}
