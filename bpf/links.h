// SPDX-License-Identifier: Apache-2.0
/* Links whose end makes the kernel wait are closed by threads, so that the loop doesn't. */
#pragma once

#include <stdint.h>

struct bpf_link;

/*
 * Takes a link on a perf event (a tracepoint's, a uprobe's), and leaves its end to a thread that is
 * there while there is something to close. A perf event that carries a program lasts tens of
 * milliseconds longer, and on a busy host seconds: the kernel waits for a grace period under a
 * lock, so one after the other whoever closes them, the end of a process too. The program still
 * runs until then. Without a thread, or when too many wait, it is closed by the call. Loop thread.
 */
void links_close_later(struct bpf_link *link);
/*
 * The same for a link that the kernel waits for without that lock (uprobe_multi_attach() made it):
 * several threads close theirs within the same grace period. Loop thread.
 */
void links_close_fd_later(int fd);
/* Until all are closed, that long at most (0: only asks). Returns how many are left. Loop thread. */
unsigned int links_wait(uint64_t timeout_ns);
