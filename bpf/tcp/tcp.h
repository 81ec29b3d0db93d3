/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Bounds of the kernel half of the tcp plugin. */
#pragma once

#define SOCKCALL_THREADS 2048 /* in connect, accept or listen at a time */
#define TCP_PENDING_MAX	 1024 /* connections that aren't there yet */
