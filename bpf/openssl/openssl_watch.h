// SPDX-License-Identifier: Apache-2.0
/* Which files are an OpenSSL, and the probes in them. Loop thread. */
#pragma once

#include "bpf/openssl/openssl.h"
#include "bpf/plugin.h"

/* Of one file, where each probe is a link: each function, and the returns. */
#define OPENSSL_LINKS_MAX 26
/* Processes that were begun and whose libraries are looked at soon. */
#define OPENSSL_CHECKS_MAX 512

struct openssl_file {
	dev_t dev;
	ino_t ino;
	int fds[2]; /* -1: none */
	struct bpf_link *links[OPENSSL_LINKS_MAX];
	unsigned int nlinks;
};

/* Zeroed at first; the plugin's state holds it. */
struct openssl_watch {
	bool multi;
	struct openssl_file files[OPENSSL_LIBRARIES];
	unsigned int nfiles;
	uint64_t full; /* files that found no room */
	struct openssl_check {
		uint32_t pid;
		unsigned int stage;
		uint64_t due_ns; /* monotonic */
	} checks[OPENSSL_CHECKS_MAX];
	unsigned int nchecks;
	uint64_t rescan_ns; /* of all processes, monotonic */
	struct err why;	    /* of the last file that couldn't be watched */
};

/* Before load: which programs will be attached. */
int openssl_watch_prepare(struct instance *in, struct openssl_watch *w, struct err *err);
/* What is installed, named by the option paths, and mapped by any process. Failures are in w->why.
 */
void openssl_watch_all(struct instance *in, struct openssl_watch *w);
/* A process runs a new program: its libraries are looked at when they are there. */
void openssl_watch_later(struct openssl_watch *w, uint32_t pid, uint64_t now);
/* Does what is due. */
void openssl_watch_run(struct instance *in, struct openssl_watch *w, uint64_t now);
void openssl_watch_stop(struct openssl_watch *w);
