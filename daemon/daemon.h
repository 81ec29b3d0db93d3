// SPDX-License-Identifier: Apache-2.0
/* The running daemon: what the stages of main.c make, shared by the files of this folder alone. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/mailbox.h"
#include "base/thread.h"
#include "bpf/table.h"
#include "daemon/config.h"
#include "governor/ceiling.h"
#include "governor/policy.h"
#include "store/store.h"

struct api_server;
struct bus;
struct cgroup_place;
struct enrich;
struct governor;
struct host;
struct nat_table;
struct probe;
struct query_engine;
struct access_log;
struct redact;
struct selftables;

enum exit_status {
	EXIT_STATUS_OK = 0,
	EXIT_STATUS_FAILURE = 1,
	EXIT_STATUS_USAGE = 2,
	EXIT_STATUS_KERNEL = 3,
};

struct daemon {
	struct config *config; /* exchanged by a reload: keep no pointer into it */
	struct opt_set *boot;  /* as it was at the start, for options that need a restart; lives as
				  long as all that uses it */
	struct config_source source;
	int lock_fd;
	const char *state_dir; /* in boot */
	sd_event *loop;
	struct mailbox *mailbox;
	struct bus *bus;
	struct store *store;
	struct query_engine *queries;
	struct enrich *enrich;
	struct nat_table *nat;
	struct host *host;
	struct probe *probe;
	struct selftables *self;
	struct cgroup_place *place;
	struct ceiling ceiling; /* as last read; loop thread */
	struct governor *governor;
	_Atomic(struct api_server *) api; /* NULL before its stage and from its stop on */
	const char *tls_admins[65]; /* texts of boot; NULL-terminated */
	const struct table **tables;	  /* all of them, NULL-terminated */
	struct access_log *access;
	struct redact *redact;		  /* loop thread; exchanged by a reload */
	struct heartbeat heartbeat;
	uint64_t started_at;
	uint64_t watchdog_ns; /* 0: nobody watches */
	char last_exit[256];  /* of the run before, if a limit ended it */
	pthread_mutex_t decision_lock;
	char decision[1280];			    /* the governor's last word */
	/* Written by the loop, read by the governor; UINT64_MAX: run time isn't known. */
	_Atomic uint64_t bpf_run_ns, bpf_map_bytes;
	_Atomic unsigned int ladder_can;	    /* written by the loop, read by the governor */
	unsigned int pulses;			    /* seconds of the loop */
	bool ready;				    /* loop thread */
	_Atomic int exit_status;
	_Atomic bool stopping;
};

/* Ends the loop; the first status that isn't 0 stays. Any thread. */
void daemon_stop(struct daemon *d, int status);
/*
 * Reads the configuration again, checks all of it, then puts it in force. changed (cap > 0) lists
 * the keys; those that wait for a restart end in "*". Loop thread.
 */
int daemon_reload(struct daemon *d, bool validate_only, char *changed, size_t cap, struct err *err);
/* Hands limits and ring sizes of the present config to governor and store. Loop thread. */
void daemon_apply_limits(struct daemon *d);

void daemon_apply_backstops(struct daemon *d);
/* Reads what the groups above ours allow; true when it has changed. Loop thread. */
bool daemon_read_ceiling(struct daemon *d);
/* What the present config says, and no more than the groups above ours allow. */
struct policy_limits daemon_limits(const struct daemon *d);
void daemon_ring_limits(const struct daemon *d, struct ring_limits *ret);
/* The governor's last word, for GetGovernor. Any thread. */
void daemon_note_decision(struct daemon *d, const char *text);
void daemon_last_decision(struct daemon *d, char *dst, size_t cap);

/* loop.c: signals, mailbox and the timer of each second. */
int daemon_loop_up(struct daemon *d, struct err *err);
void daemon_loop_down(struct daemon *d);
/* Reports to the service manager; text may be NULL. */
void daemon_notify_status(struct daemon *d);
/* Neither the governor nor the service manager may take a long verification for a thread that is
 * stuck. As host_options.on_load; ctx: the daemon. */
void daemon_note_load(void *ctx, bool begins);
