// SPDX-License-Identifier: Apache-2.0
/* Commands for the thread that owns something, with a reply: how threads ask each other. */
#pragma once

#include <stddef.h>

struct mailbox;

typedef int (*mailbox_fn)(void *arg);

int mailbox_new(struct mailbox **ret, size_t cap);
void mailbox_free(struct mailbox *mb);
/* Readable while a command waits: for the owner's event loop. Owned by the mailbox. */
int mailbox_fd(const struct mailbox *mb);
/*
 * Runs fn(arg) on the owner's thread and returns its result. -ENOBUFS when the box is full, -ESHUTDOWN when closed.
 * Waits: never call it from the owner's own thread, nor from a thread that must not block.
 */
int mailbox_call(struct mailbox *mb, mailbox_fn fn, void *arg);
/* The same without waiting; fn owns arg and must cope with being run at close (drop = nonzero result ignored). */
int mailbox_post(struct mailbox *mb, mailbox_fn fn, void *arg);
/* Owner: runs up to max waiting commands; returns how many ran. */
size_t mailbox_run(struct mailbox *mb, size_t max);
/* Owner: refuses from now on; waiting callers get -ESHUTDOWN, waiting posts are run. */
void mailbox_close(struct mailbox *mb);
