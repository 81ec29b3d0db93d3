// SPDX-License-Identifier: Apache-2.0
/* The user half of the malloc plugin among its own files. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/macro.h"
#include "bpf/malloc.skel.h"
#include "bpf/malloc/malloc.h"
#include "bpf/plugin.h"

/* Functions of an allocator that get probes. */
#define MALLOC_FUNCTIONS 9
/* A window: long enough to see some thousand calls, short beside an interval. */
#define MALLOC_WINDOW_NS (50 * 1000000ull)
/* Windows that open, are open or close at the same time: each is a thread of its own for 0.1 s. */
#define MALLOC_JOBS 8
/* Files whose functions are remembered. */
#define MALLOC_LIBRARIES 32

/* Where an allocator's functions are, in one file. */
struct malloc_library {
	dev_t dev;
	ino_t ino;
	unsigned int n; /* 0: the file has none */
	struct malloc_site {
		uint8_t operation;
		uint64_t enter, leave; /* offsets in the file; leave 0: nothing to see there */
	} sites[MALLOC_FUNCTIONS];
};

/* The probes in one process. */
struct malloc_probes {
	int fds[2]; /* links of many probes; -1: none */
	struct bpf_link *links[2 * MALLOC_FUNCTIONS];
	unsigned int nlinks;
};

/* What a thread of its own does to one process. It is the process's until it was joined. */
struct malloc_job {
	pthread_t thread;
	bool running; /* loop thread's */
	bool attach, detach;
	_Atomic bool done;
	int error;
	uint64_t begun_ns, opened_ns, closed_ns; /* monotonic */
};

struct malloc_process {
	struct malloc_process *next;
	struct malloc_bpf *skel;
	bool multi;
	uint32_t pid, slot, owner;
	uint64_t start_time; /* of /proc/PID/stat: tells a reused number */
	struct malloc_library library;
	char path[256]; /* of the mapping, by which the kernel finds the file */
	bool attached;	/* probes are there: from a job's start to the end of one that detaches */
	bool ended, unwanted, seen;
	bool moved;	   /* its allocator is in another file than the probes */
	bool lost;	   /* its file isn't where it was: it may run another program */
	int error;	   /* why the last window didn't open */
	uint64_t next_ns;  /* of its window, monotonic */
	uint64_t since_ns; /* watched since then */
	struct malloc_job job;
	struct malloc_probes probes;
	pthread_mutex_t lock;		  /* of the two below: written by the job, read at ticks */
	uint64_t observed_ns, open_since; /* 0: no window is open */
	uint64_t told_ns, told_observed_ns; /* what the last row was told of */
	struct malloc_counters *last;	    /* as the last row told them */
};

struct malloc_scope;

struct malloc_state {
	struct malloc_scope *scope;
	struct malloc_process *processes;
	struct malloc_library libraries[MALLOC_LIBRARIES];
	unsigned int nlibraries, next_library;
	uint64_t *used_slots; /* bits */
	uint32_t max_processes, window, serial;
	double duty;
	unsigned int shed; /* steps that the governor asked for */
	bool multi, started;
	int timer;
	uint64_t scan_ns;  /* of the next scan, monotonic */
	uint64_t left_out; /* at the last scan: processes beyond max_processes */
	uint64_t unknown;  /* processes without an allocator that we know */
	struct malloc_counters *scratch;
	char told[256]; /* what was logged of processes that aren't watched */
};

/* malloc_library.c: the allocator that this process uses. -ENOENT: none is mapped (yet). */
int malloc_library_find(struct instance *in, uint32_t pid, struct malloc_library *ret, char *path,
			size_t cap);

/* malloc_scope.c: which processes the filters name. */
/* err says what to do when nothing bounds it, or which item is wrong. */
int malloc_scope_new(struct malloc_scope **ret, const struct instance *in, struct err *err);
void malloc_scope_free(struct malloc_scope *s);
DEFINE_CLEANUP(struct malloc_scope *, malloc_scope_free)
/* Calls each of them; it may be called twice for one. Negative errno when that can't be found out.
 */
int malloc_scope_each(const struct malloc_scope *s, void (*each)(uint32_t pid, void *arg),
		      void *arg);
/* Finding them means to look at every process of the host. */
bool malloc_scope_is_wide(const struct malloc_scope *s);

/* malloc_targets.c: looks which processes the filters name, watches new ones, lets go of old ones.
 */
int malloc_scan(struct instance *in);
/* Nothing of it runs or is attached any more. */
void malloc_process_free(struct instance *in, struct malloc_process *p);

/* malloc_window.c: starts and ends windows that are due; when the timer must ring next. */
uint64_t malloc_windows_run(struct instance *in, uint64_t now);
/* Detaches everything and waits for it. */
void malloc_windows_stop(struct instance *in);
/* Time with open window so far. */
uint64_t malloc_observed(struct malloc_process *p, uint64_t now);

/* malloc_processes.c */
extern const struct table malloc_processes_table;
int malloc_processes_snapshot(struct instance *in, struct batch *batch);

/* malloc_held.c */
extern const struct table malloc_outstanding_table;
int malloc_held_snapshot(struct instance *in, struct batch *batch);
/* Forgets what processes held that are gone, or run another program now. */
void malloc_held_purge(struct instance *in);
