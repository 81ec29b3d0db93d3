// SPDX-License-Identifier: Apache-2.0
/* The roots of hierarchies of cgroups; attaching to that of cgroup2, where programs see all sockets
 * of the host. Any thread. */
#pragma once

#include <bpf/libbpf.h>
#include <stddef.h>

#include "base/err.h"

/*
 * An open directory, the caller's; or a negative errno and the sentence in why. why is filled, too,
 * when the mount that we see isn't the host's root: then only what runs below it is seen.
 */
int cgroup2_open_root(char *why, size_t cap);

/* Of hierarchies of version 1, by enum process_controller; "" for the unified one. */
extern const char *const cgroup1_controllers[];
/* The root of the hierarchy of version 1 that this controller is in; -ENOENT: none is mounted. */
int cgroup1_open_root(const char *controller);

struct cgroup2_hook {
	struct bpf_program *prog;
	struct bpf_link **link;
};

/* In order; stops at the first that fails. */
int cgroup2_attach(int root, const struct cgroup2_hook *hooks, size_t n, struct err *err);
void cgroup2_detach(const struct cgroup2_hook *hooks, size_t n);
