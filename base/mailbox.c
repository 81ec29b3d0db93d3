// SPDX-License-Identifier: Apache-2.0
/* Commands for the thread that owns something, with a reply. */
#include "base/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Lives on the stack of the caller that waits for it. */
struct reply {
	bool done;
	int result;
};

struct command {
	mailbox_fn fn;
	void *arg;
	struct reply *reply; /* NULL: posted */
};

struct mailbox {
	pthread_mutex_t lock;
	pthread_cond_t answered; /* some reply is done; also: no caller is left inside */
	int fd;
	bool closed;
	size_t cap, head, len;
	size_t inside; /* callers between entry and return of mailbox_call */
	struct command commands[];
};

int mailbox_new(struct mailbox **ret, size_t cap)
{
	struct mailbox *mb;
	size_t size;

	if (!cap || __builtin_mul_overflow(cap, sizeof(struct command), &size) ||
	    __builtin_add_overflow(size, sizeof(*mb), &size))
		return -EINVAL;
	mb = calloc(1, size);
	if (!mb)
		return -ENOMEM;
	mb->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mb->fd < 0) {
		int r = -errno;

		free(mb);
		return r;
	}
	mb->cap = cap;
	pthread_mutex_init(&mb->lock, NULL);
	pthread_cond_init(&mb->answered, NULL);
	*ret = mb;
	return 0;
}

void mailbox_free(struct mailbox *mb)
{
	if (!mb)
		return;
	mailbox_close(mb);
	pthread_mutex_lock(&mb->lock);
	while (mb->inside)
		pthread_cond_wait(&mb->answered, &mb->lock);
	pthread_mutex_unlock(&mb->lock);
	close(mb->fd);
	pthread_cond_destroy(&mb->answered);
	pthread_mutex_destroy(&mb->lock);
	free(mb);
}

int mailbox_fd(const struct mailbox *mb)
{
	return mb->fd;
}

/* Under the lock. The eventfd is readable exactly while len > 0. */
static int mailbox_put(struct mailbox *mb, const struct command *cmd)
{
	uint64_t one = 1;

	if (mb->closed)
		return -ESHUTDOWN;
	if (mb->len == mb->cap)
		return -ENOBUFS;
	if (!mb->len && write(mb->fd, &one, sizeof(one)) != sizeof(one))
		return -errno;
	mb->commands[(mb->head + mb->len++) % mb->cap] = *cmd;
	return 0;
}

/* Under the lock. */
static bool mailbox_take(struct mailbox *mb, struct command *ret)
{
	uint64_t n;

	if (!mb->len)
		return false;
	*ret = mb->commands[mb->head];
	mb->head = (mb->head + 1) % mb->cap;
	/* Nothing to do about a failed read: the owner would merely wake up once for nothing. */
	if (!--mb->len && read(mb->fd, &n, sizeof(n)) < 0)
		return true;
	return true;
}

/* Under the lock. */
static void mailbox_answer(struct mailbox *mb, struct reply *reply, int result)
{
	reply->result = result;
	reply->done = true;
	pthread_cond_broadcast(&mb->answered);
}

int mailbox_call(struct mailbox *mb, mailbox_fn fn, void *arg)
{
	struct reply reply = {};
	struct command cmd = {.fn = fn, .arg = arg, .reply = &reply};
	int r;

	pthread_mutex_lock(&mb->lock);
	mb->inside++;
	r = mailbox_put(mb, &cmd);
	if (!r) {
		while (!reply.done)
			pthread_cond_wait(&mb->answered, &mb->lock);
		r = reply.result;
	}
	if (!--mb->inside)
		pthread_cond_broadcast(&mb->answered);
	pthread_mutex_unlock(&mb->lock);
	return r;
}

int mailbox_post(struct mailbox *mb, mailbox_fn fn, void *arg)
{
	struct command cmd = {.fn = fn, .arg = arg};
	int r;

	pthread_mutex_lock(&mb->lock);
	r = mailbox_put(mb, &cmd);
	pthread_mutex_unlock(&mb->lock);
	return r;
}

size_t mailbox_run(struct mailbox *mb, size_t max)
{
	struct command cmd;
	size_t ran = 0;

	pthread_mutex_lock(&mb->lock);
	while (ran < max && mailbox_take(mb, &cmd)) {
		int r;

		pthread_mutex_unlock(&mb->lock);
		r = cmd.fn(cmd.arg);
		ran++;
		pthread_mutex_lock(&mb->lock);
		if (cmd.reply)
			mailbox_answer(mb, cmd.reply, r);
	}
	pthread_mutex_unlock(&mb->lock);
	return ran;
}

void mailbox_close(struct mailbox *mb)
{
	struct command cmd;

	pthread_mutex_lock(&mb->lock);
	mb->closed = true;
	while (mailbox_take(mb, &cmd)) {
		if (cmd.reply) {
			mailbox_answer(mb, cmd.reply, -ESHUTDOWN);
			continue;
		}
		pthread_mutex_unlock(&mb->lock);
		cmd.fn(cmd.arg);
		pthread_mutex_lock(&mb->lock);
	}
	pthread_mutex_unlock(&mb->lock);
}
