// SPDX-License-Identifier: Apache-2.0
/* Texts of /proc and of cgroup files as numbers and paths: pure, tolerant of what a kernel may add.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "123\n". -EINVAL for anything else, also "max". */
int parse_u64(const char *text, uint64_t *ret);
/* The value of `key` among lines "key value". -ENOENT. */
int parse_keyed(const char *text, const char *key, uint64_t *ret);

/*
 * Our path in the hierarchy of a controller, from /proc/self/cgroup; controller NULL: cgroup2
 * ("0::"). -ENOENT: not there. -ENAMETOOLONG.
 */
int parse_cgroup_path(const char *text, const char *controller, char *ret, size_t cap);

/*
 * Where that path lies in the file system, from /proc/self/mountinfo: *ret_point is the mount
 * point, *ret_below the path below it ("" for the mount itself). A mount that doesn't show our path
 * (another namespace's) doesn't count.
 */
int parse_cgroup_mount(const char *mountinfo, const char *controller, const char *path,
		       char *ret_point, size_t point_cap, char *ret_below, size_t below_cap);

struct net_device {
	char name[16];
	uint64_t rx, tx; /* bytes since the counters began */
};

/*
 * Calls fn for every complete line of a piece of /proc/net/dev; heading and lines that aren't
 * devices are skipped. Returns how many bytes were used: the rest is the beginning of a line that
 * the next piece completes.
 */
size_t parse_net_dev(const char *text, size_t len,
		     void (*fn)(void *arg, const struct net_device *dev), void *arg);
