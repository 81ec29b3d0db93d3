// SPDX-License-Identifier: Apache-2.0
/* WatchRows: what its parts share. Everything here belongs to the engine's thread unless it says otherwise. */
#pragma once

#include "api/chunk.h"
#include "api/service.h"
#include "ringside/v1/table.pb-c.h"

/* Of one watcher: what it may lag behind before its oldest rows are dropped. */
#define WATCH_MAX_BYTES ((size_t)2 << 20)
/* Of all encoded rows together: beyond that the fattest watcher loses its backlog. */
#define CHUNKS_MAX_BYTES ((size_t)32 << 20)
#define WATCH_MAX_TABLES 64
#define WATCH_CURSOR_MAX 4096
/* A worker limit or a busy disk passes; that many times in a row is a fault. */
#define WATCH_MAX_FAILURES 10

/* One table of the server, with what happens to it now. */
struct hub_table {
	const struct table *table;
	_Atomic uint32_t watchers;  /* of its live rows; read by producers */
	uint64_t last_ts;           /* of the newest batch pushed; hub->mu */
	uint64_t dropped;           /* rows that didn't fit into the inbox, not yet told to the watchers; hub->mu */
	uint64_t rows_lost;         /* before they got to a table, as "loss" says, since start; hub->mu */
	/* Live tables: one snapshot serves all watchers that are due. */
	bool loading;
};

struct hub {
	struct api_server *s;
	struct hub_table *tables;
	size_t ntables;
	_Atomic size_t chunk_bytes; /* alive */

	pthread_mutex_t mu;
	struct batch **inbox; /* ring of INBOX_BATCHES */
	size_t inbox_head, inbox_len;
	uint64_t inbox_rows;
	bool posted;
	struct rpc_task task;
};

enum watch_mode {
	WATCH_LIVE,     /* rows from the bus */
	WATCH_HISTORY,  /* pages from the store until it is caught up */
	WATCH_CATCH_UP, /* the last pages, while rows from the bus wait in queue */
	WATCH_SNAPSHOT, /* a live table, whole at each interval */
	WATCH_POLL,     /* an expression over a history table at each interval */
};

struct page_job;

struct watch_table {
	struct hub_table *hub;
	const struct table *table;
	enum watch_mode mode;
	bool listening;     /* counted in hub->watchers */
	bool schema_sent;
	struct page_job *job; /* works for it */
	bool want;          /* snapshot: the next one is for it */
	bool end_pending;   /* snapshot_end is to be sent behind page */
	bool checked;       /* poll: the expression was compiled once */
	bool more;          /* history, poll: the last page was full */
	uint64_t cursor;    /* ts of the last row sent; the place to go on */
	uint64_t page_ts;   /* ts up to which pages were read */
	uint64_t target;    /* catch-up: all rows up to this were pushed before we listened */
	uint64_t give_up_ns;
	uint64_t due_ns;
	unsigned int failures;
	uint64_t lost_told; /* of hub->rows_lost */
	struct chunk_queue page;  /* from jobs; sent first */
	struct chunk_queue queue; /* from the bus */
};

struct row_watch {
	struct watcher w;
	struct watch_table *tables;
	size_t ntables, next; /* next: whose turn it is */
	char *where, *sql;
	void *sql_table;      /* sql: packed Table message made from the answer's columns */
	size_t sql_table_len;
	uint64_t interval_ns;
	uint64_t max_rows, sent;
	uint64_t dropped; /* since the last message */
};

/* hub.c */
struct hub_table *hub_find(struct hub *h, const char *name);
/* From now on rows of the table come into t->queue; *last_ts: of the newest row that will not. */
void hub_listen(struct hub *h, struct watch_table *t, uint64_t *last_ts);
void hub_unlisten(struct watch_table *t);
void hub_last_ts(struct hub *h, const struct hub_table *t, uint64_t *ret);
uint64_t hub_rows_lost(struct hub *h, const struct hub_table *t);
/* Asks for a snapshot; it comes into t->page of all who want one. */
void hub_snapshot(struct hub *h, struct hub_table *t);

/* watch_send.c: sends what there is if the stream can take it. */
void watch_pump(struct row_watch *rw);

/* watch_page.c: reads the next page or poll of a table on a worker thread. */
void watch_page_start(struct row_watch *rw, struct watch_table *t);
void watch_page_cancel(struct page_job *job);
