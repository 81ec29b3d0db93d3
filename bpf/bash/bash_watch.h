// SPDX-License-Identifier: Apache-2.0
/* Which files hold a bash or its readline, and the probes in them. */
#pragma once

#include <sys/types.h>

#include "bpf/plugin.h"

#define BASH_TARGETS_MAX 32
#define BASH_LINKS_MAX	 (BASH_TARGETS_MAX * 3)

/* Zeroed at first; the plugin's state holds it. Loop thread. */
struct bash_watch {
	/* A file with probes in it: two paths, or one before and after an upgrade, may be one or two. */
	struct bash_target {
		dev_t dev;
		ino_t ino;
	} targets[BASH_TARGETS_MAX];
	unsigned int ntargets;
	struct bpf_link *links[BASH_LINKS_MAX];
	unsigned int nlinks;
	unsigned int nshells;
};

/* Probes for every path of the option that isn't watched yet. Negative: why the last one that failed did. */
int bash_watch_shells(struct instance *in, struct bash_watch *w, struct err *err);
void bash_watch_stop(struct bash_watch *w);
