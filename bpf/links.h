// SPDX-License-Identifier: Apache-2.0
/* Links whose end makes the kernel wait are closed by a thread, so that the loop doesn't. */
#pragma once

struct bpf_link;

/*
 * Takes the link, and leaves its end to a thread that is there while there is something to close.
 * A perf event that carries a program lasts tens of milliseconds longer, one after the other for
 * all of them, and on a busy host seconds (the kernel waits for a grace period under a lock; so it
 * does for each uprobe); its program still runs until then. Without a thread, or when too many wait, it is closed by the call. Loop thread.
 */
void links_close_later(struct bpf_link *link);
/* Until all are closed. Loop thread. */
void links_wait(void);
