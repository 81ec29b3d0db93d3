// SPDX-License-Identifier: Apache-2.0
/* When the ring buffer of a plugin is too small for what comes: how much of it is left out. Pure.
 */
#pragma once

#include <stdint.h>

/* Zeroed at the start of a plugin. */
struct ring_watch {
	unsigned int step;	  /* that the ring asks for: one in 2^step events is kept */
	unsigned int bad;	  /* looks that found events lost, since it was calm for a while */
	uint64_t submitted, full; /* as of the last look */
	uint64_t lost;		  /* by a full ring since sampling last changed */
	uint64_t bad_ns;	  /* the last look that found events lost */
	uint64_t changed_ns;	  /* the last step */
	uint64_t calm_ns;	  /* how long calm lasts before a step back */
	uint64_t back_ns;	  /* the last step back; 0: none */
};

/*
 * What the kernel has counted so far: samples submitted, and samples that found the ring full.
 * Returns by how many steps sampling changes (already in w->step): as many at once as the share of
 * what was lost says, one at a time back. It goes up after three looks with losses, back after ten
 * seconds without; a step back that was too early doubles that time.
 */
int ring_watch_look(struct ring_watch *w, uint64_t submitted, uint64_t full, uint64_t now_ns,
		    unsigned int most);
