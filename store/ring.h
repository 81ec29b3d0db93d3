// SPDX-License-Identifier: Apache-2.0
/* Inside of the store: what its threads share. Nobody else includes this. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macro.h"
#include "base/queue.h"
#include "store/dict.h"
#include "store/retention.h"
#include "store/schema.h"
#include "store/segment.h"
#include "store/store.h"

#define STORE_TABLES_MAX 64
/* A ring's files, and those that a past configuration left until they are evicted one by one. */
#define RING_ENTRIES_MAX 64
/* Rows that one transaction holds at least before it's committed for their number. */
#define RING_COMMIT_ROWS 1000
/* Batches that wait for a transaction at most: bounds what a commit has to walk when batches are
 * tiny. */
#define RING_PENDING_MAX 1024
#define STORE_EVENTS_MAX 32
#define QUARANTINE_KEEP	 2

enum entry_state {
	ENTRY_LIVE,
	ENTRY_SEALING, /* waits for the sealer, or for a reader to let go */
	ENTRY_SEALED,
	ENTRY_FOREIGN, /* of a newer version: kept until its turn to be evicted, never read */
};

/* A file of the ring. Under store.lock. */
struct ring_entry {
	uint64_t number;
	enum entry_state state;
	bool check;	   /* unclean stop: quick_check it */
	bool checked;	   /* sealed, and found sound since then */
	sqlite3 *db;	   /* SEALING: the connection that wrote it, for the sealer */
	uint64_t retry_ns; /* SEALING: not before */
	bool ours;	   /* SEALING: written since the start */
	bool settled;	   /* SEALING: has its indexes, or it was told why not */
	bool indexed;	   /* SEALING: has them */
	uint64_t rows, ts_min, ts_max, bytes;
	uint64_t file_id; /* its inode, as it was made or found */
	char path[256];
};

struct ring {
	struct store *store;
	enum ring_id id;
	struct queue *queue;
	pthread_mutex_t push_lock; /* makes pushed and the queue's order one */
	uint64_t pushed;	   /* batches taken; under push_lock */

	/* Under store.lock. */
	struct ring_limits limits;
	struct ring_entry entries[RING_ENTRIES_MAX]; /* oldest first */
	unsigned int nentries;
	uint64_t next_number;
	bool ahead;	  /* "<ring>.next" is ready */
	bool ahead_taken; /* and on its way to its final name: the sealer keeps off */
	uint64_t ahead_bytes, ahead_retry_ns;
	uint32_t sealed_permille; /* of its live bytes are a sealed segment's; 0: none was sealed yet */
	uint64_t damaged;   /* number of the live segment that the sealer found damaged; 0: none */
	uint64_t done;	    /* batches committed or given up */
	uint64_t lost_upto; /* done right behind the last batch given up */
	uint64_t lost_told; /* and as far as a flush has told of it */
	uint64_t unindexed_told_ns, unindexed_untold; /* the last event, and segments since */
	struct store_stats stats;

	/* The store thread's. */
	struct segment *live;
	struct dict dict;
	struct batch *pending[RING_PENDING_MAX];
	unsigned int npending;
	uint64_t pending_rows, pending_since_ns;
	uint64_t retry_ns;	  /* CLOCK_MONOTONIC; after a failure: no attempt before */
	uint64_t rotate_retry_ns; /* the same for going on in a new file while the old one serves */
	uint64_t rotate_told_ns;  /* when it was last told that this fails */
	uint64_t reserve_ns;	  /* the last eviction for the file system's sake */
	uint64_t looked_ns;	  /* the last look at whether the files are still there */
	uint64_t evict_failed_ns; /* when it was last told that a file can't be removed */
	uint64_t slow_told_ns;
	uint64_t failed_since_ns; /* CLOCK_REALTIME; 0: fine */
	uint64_t failed_rows;	  /* lost since then */
	struct segment_tables tables;
	struct store_table *table_list[STORE_TABLES_MAX];
};

/* ts_max by name, as found on disk before the tables were registered. */
struct found_table {
	char name[64];
	uint64_t ts_max;
};

struct store_event {
	char event[24];
	char detail[320];
};

struct store {
	struct store_options options;
	char dir[200];
	int lock_fd; /* one store per directory */
	gid_t gid;   /* the directory's: who may read sealed segments */

	struct store_table *tables[STORE_TABLES_MAX];
	unsigned int ntables;
	struct found_table found[STORE_TABLES_MAX];
	unsigned int nfound;
	uint64_t found_floor; /* last write of a segment that couldn't be read */

	pthread_mutex_t lock;
	pthread_cond_t wake;	/* the store thread has something to do */
	pthread_cond_t flushed; /* done moved on */
	bool work, waiting;
	unsigned int flushers;
	atomic_bool stopping;	   /* written under the lock */
	uint64_t stop_deadline_ns; /* before stopping */
	struct store_event events[STORE_EVENTS_MAX];
	unsigned int nevents;
	uint64_t events_lost;
	uint64_t quarantine_bytes;

	pthread_t thread;
	bool started;

	pthread_t sealer;
	pthread_cond_t sealer_wake;
	pthread_cond_t sealer_idle; /* a job is done */
	bool sealer_started;
	atomic_bool sealer_stop;
	atomic_bool sealer_break; /* indexing and checking end early; written under the lock */
	bool sealer_busy;	  /* it has a job */
	bool sealer_held;	  /* and begins none: the writer needs room */
	/* The file that the job is about, NULL if it's about none. */
	const struct ring *sealer_ring;
	uint64_t sealer_number;
	bool sealer_indexes; /* it is given indexes */
	uint64_t full_ns;    /* CLOCK_MONOTONIC; when rows last had no room, 0: never */
	bool attach_stale, attach_failed;
	uint64_t attach_retry_ns;
	uint64_t scrub_ns; /* no sealed segment is checked before */
	/* Connections to files that are gone, for the sealer to close. */
	sqlite3 *grave[SCHEMA_MAX_SEGMENTS];
	unsigned int ngrave;

	struct retention_clock clock; /* the store thread's; before it: whoever starts */

	struct ring rings[RING_X_MAX];
};

/* To be told by the store thread when it next can. Any thread, without the lock. */
void store_event(struct store *s, const char *event, const char *fmt, ...) _printf_(3, 4);

/* commit.c; the store thread, without the lock */
int ring_start(struct ring *r, struct err *err);
void ring_add_pending(struct ring *r, struct batch *b);
/* Rows that were taken and will never be stored. */
void ring_count_lost(struct ring *r, const struct batch *b);
/* Commits what is pending, mending what can be mended; what can't be stored is counted as lost. */
void ring_commit(struct ring *r);
void ring_stop(struct ring *r);

/* ring.c; the store thread, without the lock unless said */

/* Once a second and after each commit: rotates and evicts as the limits say. */
void ring_maintain(struct ring *r);
void ring_evict_by_limits(struct ring *r);
bool ring_is_full(const struct ring *r, int rc);
/*
 * For a write that found the disk full. The sealer may have some room just now: at first it's only
 * held, which sets *held, for sealer_release() to undo. Then segments go, of the flow ring first,
 * whoever needs the room. False: there's none left.
 */
bool ring_free_space(struct ring *r, bool *held);
/* From now on in a new file. On failure the old one stays live, unless the new one couldn't even be
 * opened. */
int ring_rotate(struct ring *r, char *why, size_t cap);
void ring_quarantine_live(struct ring *r, const char *why);
/* Brings the live entry up to date and tells what retention needs to know. */
void ring_state(struct ring *r, struct retention_state *st, struct ring_limits *limits);
uint64_t ring_fs_avail(const struct store *s);
/* vanish.c; 0: not there */
uint64_t ring_file_id(const char *path);
/* Once a second at most: does without files that are gone or aren't those that were made. */
void ring_check_files(struct ring *r);
/* Under the lock. */
uint64_t ring_bytes(const struct ring *r);
void ring_remove_entry(struct ring *r, unsigned int idx);
void ring_remove_number(struct ring *r, uint64_t number);
struct ring_entry *ring_find_entry(struct ring *r, uint64_t number);
void ring_path(const struct ring *r, char *dst, size_t cap, uint64_t number);
void ring_ahead_path(const struct ring *r, char *dst, size_t cap);

/* writer.c: the store thread's function */
void *store_run(void *arg);

/* recover.c */
int store_recover(struct store *s, struct err *err);
/* Moves the file away, keeps the newest two. Any thread, without the lock. */
void store_quarantine(struct ring *r, const char *path, const char *why);

/* sealer.c */
int sealer_start(struct store *s);
/* Under the lock. */
void sealer_poke(struct store *s);
/* The writer found the disk full: what can be left out ends and isn't begun, other jobs are waited
 * for. What files that are gone took is free then, as far as that is the store's doing. */
void sealer_hold(struct store *s);
void sealer_release(struct store *s);
/* Before history goes for the reserve: true if indexes were being made, which end now. */
bool sealer_gives_way(struct store *s);
/* Under the lock: the file is gone, no work is to be spent on it. */
void sealer_forget(struct ring *r, uint64_t number);
/* Its own jobs: under the lock, which is given back from here to sealer_leaves(). */
void sealer_takes(struct ring *r, uint64_t number, bool indexes);
void sealer_leaves(struct store *s);
/* Under the lock. A moment ago rows had no room: what can be left out would take it away again. */
bool sealer_was_full(const struct store *s);
/* Waits for the job at hand, at most until the deadline's jobs are done. */
void sealer_finish(struct store *s);

/* seal.c; the sealer, under the lock, which is given back meanwhile */
void seal_entry(struct ring *r, struct ring_entry *e);

/* attach.c: attach.sql and attach-live.sql for stock sqlite3 shells. */
int attach_write(const char *dir, gid_t gid, const struct table *const *tables,
		 unsigned int ntables, struct err *err);
