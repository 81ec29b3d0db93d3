// SPDX-License-Identifier: Apache-2.0
/* Which files hold a shell or its line editor, and the probes in them. */
#pragma once

#include <sys/types.h>

#include "bpf/bash/bash.h"
#include "bpf/plugin.h"

/* Shells and libraries; a host with more builds of them than that has containers of all times. */
#define BASH_TARGETS_MAX 256
#define BASH_LINKS_MAX	 3 /* in a file */

struct bash_target;

/* Zeroed at first; the plugin's state holds it. Loop thread. */
struct bash_watch {
	struct bash_target *targets;
	unsigned int ntargets;
	unsigned int npaths; /* targets by the option paths */
	unsigned int turn;   /* number of the last look at all processes */
	uint64_t second;     /* files looked at in this second: */
	unsigned int looked;
	/* Executables of a name that is looked for, without probes. */
	uint64_t remote;  /* on a file system that could hang us */
	uint64_t refused; /* no shell, or no room */
	uint64_t reported;
	char why[160]; /* the last one was refused */
};

/* Before load: how probes will be attached. */
int bash_watch_prepare(struct instance *in, struct err *err);
/* Probes for every path of the option that isn't watched yet. Negative: why the last one that
 * failed did. */
int bash_watch_paths(struct instance *in, struct bash_watch *w, struct err *err);
/* Hands names to the kernel half and looks at all processes. */
int bash_watch_start(struct instance *in, struct bash_watch *w, struct err *err);
/* A process runs a file of one of the names: probes, if it is new. 0, or -EBADMSG. */
int bash_watch_program(struct instance *in, struct bash_watch *w, const struct bash_program *e);
/* Looks at paths and processes again; takes probes away that no process needs any longer. */
int bash_watch_rescan(struct instance *in, struct bash_watch *w, struct err *err);
void bash_watch_stop(struct bash_watch *w);
