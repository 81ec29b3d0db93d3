// SPDX-License-Identifier: Apache-2.0
/* A bounded queue of pointers between threads: producers never wait, a refusal is counted. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct queue;

/* cap > 0. */
int queue_new(struct queue **ret, size_t cap);
/* Items left inside are the caller's to drain first. */
void queue_free(struct queue *q);
/* -ENOBUFS when full (counted), -ESHUTDOWN when closed. Any thread. */
int queue_push(struct queue *q, void *item);
/* The oldest item; NULL after timeout_ns without one, or at once when closed and empty. */
void *queue_pop(struct queue *q, uint64_t timeout_ns);
/* Refuses from now on and wakes the consumer; what is queued can still be popped. */
void queue_close(struct queue *q);
size_t queue_len(const struct queue *q);
size_t queue_cap(const struct queue *q);
/* Pushes refused because the queue was full, since queue_new(). */
uint64_t queue_refused(const struct queue *q);
