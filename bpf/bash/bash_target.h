// SPDX-License-Identifier: Apache-2.0
/* One file with probes in it: a shell, or the library that reads lines for shells. */
#pragma once

#include "bpf/bash/bash_watch.h"

struct bash_target {
	struct bash_target *next;
	/* As stat() has it: two paths, or one before and after an upgrade, may be one or two files.
	 */
	dev_t dev;
	ino_t ino;
	struct bash_layout layout;
	/* The layers of an image are mounted once a container, each with its own device; probes
	 * reach the file below, in all of them. */
	bool overlay;
	bool by_path;
	/* As the kernel half has it; 0: not found by it. */
	uint64_t kernel_ino;
	uint32_t kernel_dev;
	int64_t ctime_sec;
	unsigned int seen;	     /* turn in which a process ran it */
	unsigned int users;	     /* shells that this library is for */
	struct bash_target *library; /* of this shell */
	/* One or the other, by what the kernel can. */
	struct bpf_link *links[BASH_LINKS_MAX];
	int fds[BASH_LINKS_MAX];
	unsigned int nlinks, nfds;
};

/*
 * Probes in the file at that path and, below root (-1: ours), in the library that it needs. *ret:
 * the target, new or known already.
 */
int target_watch(struct instance *in, struct bash_watch *w, const char *path, const char *name,
		 int root, struct bash_target **ret, struct err *err);
/* A target without probes: a file that needn't be looked at again. NULL: no room. */
struct bash_target *target_refused(struct bash_watch *w);
/* in: NULL at the end, when the kernel half goes, too. */
void target_drop(struct instance *in, struct bash_watch *w, struct bash_target *t);
