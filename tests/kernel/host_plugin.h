/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Samples of the test plugin; shared by both halves. */
#pragma once

enum host_plugin_kind {
	HOST_PLUGIN_FORK,
	HOST_PLUGIN_FLOOD,
	HOST_PLUGIN_CALL,
};

struct host_plugin_event {
	__u32 kind;
	__u16 self;
	__u16 ok; /* the system call succeeded */
};

/* One run of the program; the verifier walks the loop, so it is bounded. */
#define HOST_PLUGIN_FLOOD_MAX 4096
