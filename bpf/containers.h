// SPDX-License-Identifier: Apache-2.0
/* Containers by their cgroups: ids in paths, names that runtimes gave, and a live view of which are
 * there. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CONTAINER_ID_SIZE   65 /* 64 hex digits */
#define CONTAINER_NAME_SIZE 129

/*
 * The container's id in a cgroup path: 64 hex digits anywhere, or 12 behind a runtime's name; ""
 * otherwise. Pure; hostile text.
 */
void container_of_path(const char *path, char dst[static CONTAINER_ID_SIZE]);

/* A container's cgroup in one hierarchy; names are those of Docker and Podman, "" if unknown. */
struct container {
	uint32_t controller; /* enum process_controller */
	uint64_t cgroup_id;
	const char *id, *name;
};

/* Is that the container that somebody means: its name, or at least four digits that its id begins
 * with? */
bool container_is(const struct container *c, const char *wanted);

/*
 * What is there is known from a walk over the hierarchies, what comes by inotify on their
 * directories, before the first process can be inside; a walk each ten seconds finds what was made
 * in another cgroup namespace. Loop thread.
 */
struct containers;

struct containers_ops {
	void (*added)(void *arg, const struct container *c);
	void (*removed)(void *arg, const struct container *c);
};

/* Doesn't call ops yet. */
int containers_new(struct containers **ret, const struct containers_ops *ops, void *arg,
		   struct err *err);
void containers_free(struct containers *cs);
/* Readable when containers_read() has something to do; belongs to cs. */
int containers_fd(const struct containers *cs);
/* Calls ops for what came and went. Reads a bounded amount; 0 or negative errno. */
int containers_read(struct containers *cs);
void containers_each(const struct containers *cs, void (*fn)(void *arg, const struct container *c),
		     void *arg);
/* Directories that weren't looked at because there are more than it can hold, or no memory. */
uint64_t containers_missed(const struct containers *cs);
