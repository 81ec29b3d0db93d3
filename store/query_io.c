// SPDX-License-Identifier: Apache-2.0
/* The worker's end of the socket: frames in, frames out, never more than a bound held back. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "store/query_worker.h"

/*
 * Result bytes that wait here for a slow client. A result that fits lets the worker close the
 * segments before the client has read it all, so a slow client doesn't hold the WAL's read
 * transaction (the live segment's WAL grows while one is held). A larger one holds it until the
 * deadline at the longest.
 */
#define OUT_MAX (8u << 20)

static int recv_some(int sock, void *p, size_t len, int *fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = p, .iov_len = len};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return n;
}

static int recv_all(int sock, void *p, size_t len, int *fd)
{
	for (size_t got = 0; got < len;) {
		int n = recv_some(sock, (char *)p + got, len - got, fd);

		if (n < 0)
			return n;
		got += n;
	}
	return 0;
}

int query_io_read(int sock, enum query_frame type, struct buf *payload, int *ret_fd)
{
	struct query_frame_header h;
	_cleanup_close_ int fd = -1;
	int r;

	r = recv_all(sock, &h, sizeof(h), &fd);
	if (r < 0)
		return r;
	if (h.type != type || h.len > QUERY_MAX_FRAME)
		return -EPROTO;
	buf_reset(payload);
	for (uint32_t left = h.len; left;) {
		char chunk[16384];
		uint32_t n = left < sizeof(chunk) ? left : sizeof(chunk);

		r = recv_all(sock, chunk, n, &fd);
		if (r < 0)
			return r;
		buf_add(payload, chunk, n);
		left -= n;
	}
	if (ret_fd)
		*ret_fd = TAKE_FD(fd);
	return buf_status(payload);
}

void query_io_rows_close(struct query_session *s)
{
	if (!s->rows_n)
		return;
	if (!s->out.failed) /* the count stands first in the frame */
		memcpy(s->out.data + s->rows_at + sizeof(struct query_frame_header), &s->rows_n,
		       sizeof(s->rows_n));
	wire_close(&s->out, s->rows_at);
	s->rows_n = 0;
}

void query_io_flush(struct query_session *s, bool all)
{
	query_io_rows_close(s);
	if (s->out.failed)
		_exit(ENOMEM); /* the engine knows this status */
	while (s->out_sent < s->out.len) {
		struct iovec iov = {.iov_base = s->out.data + s->out_sent,
				    .iov_len = s->out.len - s->out_sent};
		struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
		struct pollfd p = {.fd = s->sock, .events = POLLOUT};
		ssize_t n = sendmsg(s->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0) {
			s->out_sent += n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			_exit(0); /* nobody listens */
		if (!all && s->out.len - s->out_sent <= OUT_MAX)
			break;
		/* No timeout: the process's own timer ends it after the deadline. */
		poll(&p, 1, -1);
	}
	if (s->out_sent == s->out.len) {
		buf_reset(&s->out);
		s->out_sent = 0;
	} else if (s->out_sent >= OUT_MAX / 8) {
		s->out.len -= s->out_sent;
		memmove(s->out.data, s->out.data + s->out_sent, s->out.len);
		s->out_sent = 0;
	}
}

void query_io_fail(struct query_session *s, int code, const char *msg)
{
	size_t at;

	query_io_rows_close(s);
	at = wire_open(&s->out, QUERY_FRAME_ERROR);
	wire_put_u32(&s->out, -code);
	wire_put_text(&s->out, msg, strlen(msg));
	wire_close(&s->out, at);
	query_io_flush(s, true);
	_exit(0);
}

void query_io_note(struct query_session *s, const char *msg)
{
	size_t at = wire_open(&s->out, QUERY_FRAME_NOTE);

	wire_put_text(&s->out, msg, strlen(msg));
	wire_close(&s->out, at);
}
