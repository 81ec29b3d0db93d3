// SPDX-License-Identifier: Apache-2.0
/* Our own accept loop on unix sockets: the core's knows no peer credentials and goes deaf after one EMFILE. */
#define LOG_MODULE "api"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <grpc/grpc_posix.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "api/rpc_internal.h"
#include "base/log.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define BACKLOG 128
/* While descriptors are short, accept at most that often: the spare one frees a single slot. */
#define EMFILE_PAUSE_MS 50
#define MAX_PEER_GROUPS 1024

static int stale_check(const struct sockaddr_un *addr, struct err *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (lstat(addr->sun_path, &st) < 0) {
		if (errno == ENOENT)
			return 0;
		return err_set(err, -errno, "cannot look at socket '%s': %s", addr->sun_path, strerror(errno));
	}
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "'%s' exists and is not a socket; remove it or choose another path",
			       addr->sun_path);
	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	/* EAGAIN: a full backlog, so somebody does listen. */
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno != ECONNREFUSED)
		return err_set(err, -EADDRINUSE, "another process listens on '%s'; stop it or choose another path",
			       addr->sun_path);
	if (unlink(addr->sun_path) < 0)
		return err_set(err, -errno, "cannot remove the stale socket '%s': %s", addr->sun_path, strerror(errno));
	return 0;
}

/* Nobody may connect before group and mode are right, hence the umask. */
static int bind_private(int fd, const struct sockaddr_un *addr)
{
	mode_t old = umask(0177);
	int r = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? -errno : 0;

	umask(old);
	return r;
}

static int open_socket(struct rpc *rpc, const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	int r;

	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, -EINVAL, "socket path '%s' is longer than %zu bytes", path,
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	r = stale_check(&addr, err);
	if (r < 0)
		return r;
	r = bind_private(fd, &addr);
	if (r < 0)
		return err_set(err, r, "cannot bind socket '%s': %s", path, strerror(-r));
	if (rpc->group_gid >= 0 && lchown(path, (uid_t)-1, (gid_t)rpc->group_gid) < 0) {
		r = err_set(err, -errno, "cannot give socket '%s' to group '%s': %s", path, rpc->options.group,
			    strerror(errno));
		unlink(path);
		return r;
	}
	if (chmod(path, rpc->group_gid >= 0 ? 0660 : 0600) < 0 || listen(fd, BACKLOG) < 0 || lstat(path, &st) < 0) {
		r = err_set(err, -errno, "cannot listen on socket '%s': %s", path, strerror(errno));
		unlink(path);
		return r;
	}
	rpc->socket_inode = st.st_ino;
	rpc->socket_device = st.st_dev;
	rpc->listeners[rpc->nlisteners++] = (struct rpc_listener){.fd = TAKE_FD(fd)};
	return 0;
}

static void find_group(struct rpc *rpc)
{
	struct group *g = rpc->options.group ? getgrnam(rpc->options.group) : NULL;

	rpc->group_gid = g ? (int64_t)g->gr_gid : -1;
	if (!g && rpc->options.group)
		log_info("no group '%s' on this host: only root may use the socket", rpc->options.group);
}

/* The service manager's descriptors stay open over our restarts; ours is a copy. */
static int adopt_activated(struct rpc *rpc, struct err *err)
{
	for (unsigned int i = 0; i < rpc->options.nactivated; i++) {
		int fd = rpc->options.activated_fds[i];
		int listens = 0;
		socklen_t len = sizeof(listens);

		if (rpc->nlisteners == RPC_MAX_LISTENERS)
			return err_set(err, -E2BIG, "more than %d sockets to listen on", RPC_MAX_LISTENERS);
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
			return err_set(err, -EINVAL, "activated descriptor %d is not a listening socket", fd);
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
			int r = err_set(err, -errno, "cannot use activated descriptor %d: %s",
					rpc->options.activated_fds[i], strerror(errno));

			if (fd >= 0)
				close(fd);
			return r;
		}
		rpc->listeners[rpc->nlisteners++] = (struct rpc_listener){.fd = fd, .activated = true};
	}
	return 0;
}

int rpc_listen_open(struct rpc *rpc, struct err *err)
{
	int r;

	find_group(rpc);
	rpc->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rpc->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (rpc->stop_fd < 0 || rpc->spare_fd < 0)
		return err_set(err, -errno, "cannot set up the accept loop: %s", strerror(errno));
	r = adopt_activated(rpc, err);
	if (r < 0)
		return r;
	/* The manager's socket is the one of socket_path: binding again would take it away. */
	if (rpc->options.socket_path && !rpc->nlisteners)
		return open_socket(rpc, rpc->options.socket_path, err);
	return 0;
}

static bool in_group(int fd, const struct ucred *peer, int64_t gid)
{
	gid_t groups[MAX_PEER_GROUPS];
	socklen_t len = sizeof(groups);

	if (gid < 0)
		return false;
	if ((int64_t)peer->gid == gid)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if ((int64_t)groups[i] == gid)
			return true;
	return false;
}

static bool still_open(int fd, const struct rpc_conn *c)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_ino == c->inode;
}

/* The core closes descriptors without telling us; socket inodes are not used again soon, so they tell. */
static uint32_t sweep(struct rpc *rpc, uint32_t uid, uint32_t *of_uid)
{
	uint32_t n = 0;

	*of_uid = 0;
	for (int fd = 0; fd <= rpc->max_fd; fd++) {
		struct rpc_conn *c = &rpc->conns[fd];

		if (!c->used)
			continue;
		/* An entry with calls must stay: their peer text leads here. */
		if (atomic_load(&c->calls) == 0 && !still_open(fd, c)) {
			c->used = false;
			continue;
		}
		n++;
		*of_uid += c->uid == uid;
	}
	rpc->nconns = n;
	return n;
}

uint32_t rpc_listen_connections(struct rpc *rpc)
{
	uint32_t n, of_uid;

	pthread_mutex_lock(&rpc->conn_mu);
	n = sweep(rpc, 0, &of_uid);
	pthread_mutex_unlock(&rpc->conn_mu);
	return n;
}

/* One user may not take every slot from the others; root keeps the last quarter. */
static bool has_room(struct rpc *rpc, uint32_t uid)
{
	uint32_t max = rpc->options.max_connections, of_uid;

	if (uid != 0)
		max -= max / 4;
	return sweep(rpc, uid, &of_uid) < max && (uid == 0 || of_uid < max / 2 + 1);
}

static void admit(struct rpc *rpc, int fd)
{
	struct ucred peer = {};
	socklen_t len = sizeof(peer);
	struct rpc_conn *c;
	struct stat st;
	bool room;

	if (fd >= RPC_MAX_FD || fstat(fd, &st) < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    (peer.uid != 0 && !in_group(fd, &peer, rpc->group_gid))) {
		if (log_ratelimit("api-peer", 5))
			log_warn("connection of uid %u refused: neither root nor in group '%s'", peer.uid,
				 rpc->options.group ? rpc->options.group : "");
		close(fd);
		return;
	}
	pthread_mutex_lock(&rpc->conn_mu);
	room = has_room(rpc, peer.uid);
	if (room) {
		c = &rpc->conns[fd];
		c->used = true;
		c->inode = st.st_ino;
		c->uid = peer.uid;
		c->gid = peer.gid;
		c->pid = peer.pid;
		c->role = RPC_ADMIN;
		c->refused = 0;
		if (fd > rpc->max_fd)
			rpc->max_fd = fd;
	}
	pthread_mutex_unlock(&rpc->conn_mu);
	if (!room) {
		atomic_fetch_add(&rpc->refused, 1);
		if (log_ratelimit("api-conns", 5))
			log_warn("connection of uid %u refused: %u are open, api.max_connections is %u", peer.uid,
				 rpc->nconns, rpc->options.max_connections);
		close(fd);
		return;
	}
	grpc_server_add_channel_from_fd(rpc->server, fd, rpc->unix_creds);
}

/* Out of descriptors: give up the spare one to take the waiting peer off the queue and turn it away. */
static void turn_away(struct rpc *rpc, int listener)
{
	int fd;

	if (log_ratelimit("api-emfile", 2))
		log_warn("out of file descriptors, turning clients away; raise LimitNOFILE");
	close(rpc->spare_fd);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	rpc->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	atomic_fetch_add(&rpc->refused, 1);
	poll(NULL, 0, EMFILE_PAUSE_MS);
}

static void accept_one(struct rpc *rpc, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		admit(rpc, fd);
	else if (errno == EMFILE || errno == ENFILE)
		turn_away(rpc, listener);
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED && log_ratelimit("api-accept", 5))
		log_warn_errno(-errno, "cannot accept a connection, ignoring");
}

static void *accept_main(void *arg)
{
	struct rpc *rpc = arg;
	struct pollfd fds[RPC_MAX_LISTENERS + 1];
	nfds_t n = 0;

	for (unsigned int i = 0; i < rpc->nlisteners; i++)
		fds[n++] = (struct pollfd){.fd = rpc->listeners[i].fd, .events = POLLIN};
	fds[n] = (struct pollfd){.fd = rpc->stop_fd, .events = POLLIN};
	for (;;) {
		if (poll(fds, n + 1, -1) < 0)
			continue;
		if (fds[n].revents)
			return NULL;
		for (nfds_t i = 0; i < n; i++)
			if (fds[i].revents)
				accept_one(rpc, fds[i].fd);
	}
}

int rpc_listen_start(struct rpc *rpc, struct err *err)
{
	int r;

	if (!rpc->nlisteners)
		return 0;
	r = thread_start(&rpc->accept_thread, "api-accept", accept_main, rpc);
	if (r < 0)
		return err_set(err, r, "cannot start the thread 'api-accept': %s", strerror(-r));
	rpc->accept_running = true;
	return 0;
}

/* Only if it is still ours: a second instance may have replaced it. */
static void unlink_socket(const struct rpc *rpc)
{
	const char *path = rpc->options.socket_path;
	struct stat st;

	if (path && lstat(path, &st) == 0 && st.st_ino == rpc->socket_inode && st.st_dev == rpc->socket_device)
		unlink(path);
}

void rpc_listen_close(struct rpc *rpc)
{
	uint64_t one = 1;

	if (rpc->accept_running) {
		if (write(rpc->stop_fd, &one, sizeof(one)) != sizeof(one))
			log_warn_errno(-errno, "cannot wake the accept loop, ignoring");
		pthread_join(rpc->accept_thread, NULL);
		rpc->accept_running = false;
	}
	for (unsigned int i = 0; i < rpc->nlisteners; i++) {
		if (!rpc->listeners[i].activated)
			unlink_socket(rpc);
		close(rpc->listeners[i].fd);
	}
	rpc->nlisteners = 0;
	closep(&rpc->stop_fd);
	closep(&rpc->spare_fd);
	rpc->stop_fd = rpc->spare_fd = -1;
}
