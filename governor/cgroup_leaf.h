// SPDX-License-Identifier: Apache-2.0
/* One hierarchy's part of our place: where we were, the leaf that we made, the files in it. For
 * cgroup.c only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct cgroup_leaf {
	const char *controller; /* NULL: cgroup2 */
	char *home;		/* the directory in which we were started; NULL: not mounted here */
	bool home_alone;	/* nobody else was in home */
	char *home_below;	/* the same below its mount, as libcgroup names groups */
	char *dir;		/* the directory that is measured: the leaf or home */
	char *below;
	bool made; /* dir is a leaf of ours, to be removed */
	bool own;  /* dir holds nobody but us and our children */
};

/* Finds home in the two texts of /proc. 0, -ENOENT when this hierarchy isn't visible here, -ENOMEM.
 */
int leaf_locate(struct cgroup_leaf *l, const char *controller, const char *mountinfo,
		const char *self_cgroup);
/*
 * Makes home/NAME, by libcgroup for a v1 controller, and moves the process there by cgroup.procs.
 * On failure everything is as before.
 */
int leaf_make(struct cgroup_leaf *l, const char *name, struct err *err);
/* Back home, and the directory goes; a leaf that wasn't made is left alone. */
void leaf_remove(struct cgroup_leaf *l);
void leaf_free(struct cgroup_leaf *l);

/* Removes leaves "NAME-PID" of earlier daemons that no longer live. */
void leaf_sweep(const struct cgroup_leaf *l, const char *name);
/* Are we, and only we, in that directory? */
bool leaf_is_alone(const char *dir);
/* Writes a control file of dir through libcgroup, or straight where libcgroup doesn't know the
 * controller. */
int leaf_set(const struct cgroup_leaf *l, const char *controller, const char *file,
	     const char *value, struct err *err);
/* Opened for pread(); -1 when the kernel doesn't have it. */
int leaf_open(const char *dir, const char *file);
int leaf_write(const char *dir, const char *file, const char *value);
bool leaf_has(const char *dir, const char *file);
