/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) OR Apache-2.0 */
/* Kernel-side counters of every plugin, and how it samples; shared by both halves. */
#pragma once

/* Slots of the per-CPU array "plugin_stats". seen = submitted + ring_full + filtered + sampled + map_full. */
enum plugin_stat {
	PLUGIN_STAT_SUBMITTED, /* samples handed to the ring buffer */
	PLUGIN_STAT_RING_FULL, /* samples lost because the ring buffer was full */
	PLUGIN_STAT_FILTERED,  /* events that a filter left out */
	PLUGIN_STAT_SAMPLED,   /* events that sampling left out */
	PLUGIN_STAT_MAP_FULL,  /* events lost because a map or socket storage could not take an entry */
	PLUGIN_STAT_ERROR,     /* events lost because memory of the process could not be read, or that
				* another program of the plugin had the CPU's place to put one together */
	PLUGIN_STAT_X_MAX,
};

/*
 * Words of the array "sampling". One event in 2^shift is kept; SHIFTS has the shift of all cgroups
 * but one in its lower half and that of the one in its upper half, and 0 means every event.
 */
enum plugin_sampling {
	PLUGIN_SAMPLING_CGROUP, /* its id in the unified hierarchy; 0: none */
	PLUGIN_SAMPLING_SHIFTS,
	PLUGIN_SAMPLING_OFF, /* not 0: the plugin is switched off, its last programs may still run */
	PLUGIN_SAMPLING_X_MAX,
};
