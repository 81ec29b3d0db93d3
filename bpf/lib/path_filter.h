/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which paths are wanted: shared by both halves of plugins that filter by them. */
#pragma once

#include <linux/types.h>

/* The kernel's tries take keys of 256 bytes: a number and this. */
#define PATH_FILTER_TEXT 252
/* Of both lists together. */
#define PATH_FILTER_ITEMS 256

enum path_filter_verdict {
	PATH_FILTER_INCLUDE = 1,
	PATH_FILTER_EXCLUDE = 2,
};

/* As BPF_MAP_TYPE_LPM_TRIE wants it. A slash ends the text, so that "/etc/" isn't found for
 * "/etcetera/". */
struct path_filter_key {
	__u32 bits;
	__u32 generation; /* of the lists: the new ones are complete before they count */
	char text[PATH_FILTER_TEXT];
};

/* Eight bytes, so that it changes at once. */
struct path_filter_config {
	__u32 generation;
	__u16 include, exclude; /* there are such items */
};
