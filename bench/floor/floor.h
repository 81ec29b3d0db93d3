/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What both halves of the floor know of a record: as large as a row's of vfs with a short path. */
#pragma once

struct floor_event {
	__u64 boot_ns;
	__s64 ret;
	char name[160];
};
