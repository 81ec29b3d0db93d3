// SPDX-License-Identifier: Apache-2.0
/* Run time of BPF programs, measured in short windows and carried on between them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/*
 * The kernel measures a program by reading the clock twice around each run: some 40 ns here, as
 * much as the smallest programs take, and every program of the host pays. So it is asked to measure
 * for 250 ms of every 4 s; between, counts and times go on at the rate of the last window. While a
 * limit is near, and in the first seconds of a plugin, it measures all the time. Loop thread.
 */
struct meter;

/* One BPF program; zeroed at its load. */
struct meter_prog {
	uint64_t ns, runs;	   /* so far, estimated between windows */
	uint64_t raw_ns, raw_runs; /* as the kernel last said, */
	uint64_t at_ns;		   /* and when; 0: never */
	double ns_rate, runs_rate; /* each ns, in the last window */
	uint64_t window;	   /* number of the one that follows, */
	uint64_t window_at;	   /* its start */
	uint64_t window_ns, window_runs;
	double part_ns, part_runs; /* below one */
};

/* Called when a window begins (measuring is still off) and ends (still on): read every program. */
typedef void (*meter_read_fn)(void *arg);

/* Without the right to measure (CAP_SYS_ADMIN, Linux 5.8) there is a meter that knows nothing. */
int meter_new(struct meter **ret, sd_event *loop, meter_read_fn read, void *arg);
void meter_free(struct meter *m);

bool meter_known(const struct meter *m);
/* All the time: asked for, or a limit is near. */
void meter_set_always(struct meter *m, bool always);
/* Measures all the time for the next seconds: a plugin has just been loaded. */
void meter_attend(struct meter *m);

/* What the kernel says now of one program; now_ns is CLOCK_MONOTONIC. */
void meter_take(const struct meter *m, struct meter_prog *p, uint64_t raw_ns, uint64_t raw_runs,
		uint64_t now_ns);
