// SPDX-License-Identifier: Apache-2.0
/* A live view of the cgroups of containers: a walk over the hierarchies and inotify on each
 * directory. */
#include "bpf/containers.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "base/hash.h"
#include "base/macro.h"
#include "bpf/cgroup2.h"
#include "bpf/containers_names.h"
#include "bpf/lib/process.h"

/* Directories watched: some 200 bytes each here and 1 KiB in the kernel. A host with a thousand
 * containers has half of that. */
#define DIRS_MAX   4096
#define BUCKETS	   1024
#define DEPTH_MAX  16
#define RESCAN_SEC 10

struct dir {
	struct dir *next; /* of its bucket */
	int wd;
	uint32_t controller;
	uint64_t cgroup_id;
	bool first; /* the container begins here: what is above isn't part of it */
	char id[CONTAINER_ID_SIZE], name[CONTAINER_NAME_SIZE];
	char path[];
};

struct containers {
	int epoll, inotify, timer;
	const struct containers_ops *ops;
	void *arg;
	bool quiet; /* the first walk: nobody knows of us yet */
	unsigned int ndirs;
	uint64_t missed;
	char roots[PROCESS_CONTROLLER_X_MAX][256]; /* "": not mounted */
	struct dir *buckets[BUCKETS];
};

static struct dir **bucket_of(struct containers *cs, int wd)
{
	return &cs->buckets[hash_u64(0, (uint64_t)wd) % BUCKETS];
}

static struct dir *dir_of(struct containers *cs, int wd)
{
	struct dir *d = *bucket_of(cs, wd);

	while (d && d->wd != wd)
		d = d->next;
	return d;
}

static struct container container_in(const struct dir *d)
{
	return (struct container){d->controller, d->cgroup_id, d->id, d->name};
}

/* NULL: known already, gone, or no room (counted). */
static struct dir *dir_add(struct containers *cs, uint32_t controller, const char *path,
			   const char *above)
{
	int wd = inotify_add_watch(cs->inotify, path,
				   IN_CREATE | IN_DELETE | IN_ONLYDIR | IN_DONT_FOLLOW);
	size_t size = strlen(path) + 1;
	struct dir *d;
	struct stat st;

	if (wd < 0) {
		cs->missed += errno != ENOENT;
		return NULL;
	}
	if (dir_of(cs, wd))
		return NULL;
	d = cs->ndirs < DIRS_MAX ? calloc(1, sizeof(*d) + size) : NULL;
	if (!d || stat(path, &st) < 0) {
		cs->missed += !d;
		free(d);
		inotify_rm_watch(cs->inotify, wd);
		return NULL;
	}
	d->wd = wd;
	d->controller = controller;
	d->cgroup_id = st.st_ino; /* the id of a cgroup is the number of its directory's node */
	memcpy(d->path, path, size);
	container_of_path(path + strlen(cs->roots[controller]), d->id);
	d->first = d->id[0] && strcmp(d->id, above) != 0;
	if (d->first)
		container_name_of(d->id, d->name);
	d->next = *bucket_of(cs, wd);
	*bucket_of(cs, wd) = d;
	cs->ndirs++;
	return d;
}

static void dir_drop(struct containers *cs, struct dir *d)
{
	struct dir **at = bucket_of(cs, d->wd);
	struct container c = container_in(d);

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	cs->ndirs--;
	if (d->first && cs->ops->removed)
		cs->ops->removed(cs->arg, &c);
	free(d);
}

/* The directory and all below it that aren't known yet. Each is watched before it is read: what is
 * made meanwhile is found by the one or the other. */
static void walk(struct containers *cs, uint32_t controller, const char *path, const char *above,
		 int depth)
{
	struct dir *d = dir_add(cs, controller, path, above);
	char below[PATH_MAX], id[CONTAINER_ID_SIZE];
	struct dirent *entry;
	DIR *dir;

	container_of_path(path + strlen(cs->roots[controller]), id);
	if (d && d->first && !cs->quiet) {
		struct container c = container_in(d);

		cs->ops->added(cs->arg, &c);
	}
	dir = depth < DEPTH_MAX ? opendir(path) : NULL;
	while (dir && (entry = readdir(dir))) {
		int n;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		n = snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
		if (n > 0 && (size_t)n < sizeof(below))
			walk(cs, controller, below, id, depth + 1);
	}
	if (dir)
		closedir(dir);
}

static void walk_all(struct containers *cs)
{
	for (uint32_t i = 0; i < PROCESS_CONTROLLER_X_MAX; i++)
		if (cs->roots[i][0])
			walk(cs, i, cs->roots[i], "", 0);
}

/* Where the hierarchies are that programs look at: the unified one and the first of version 1. */
static int find_roots(struct containers *cs, struct err *err)
{
	char why[200], link[64];
	unsigned int found = 0;

	for (uint32_t i = 0; i < PROCESS_CONTROLLER_X_MAX; i++) {
		_cleanup_close_ int fd = i ? cgroup1_open_root(cgroup1_controllers[i])
					   : cgroup2_open_root(why, sizeof(why));
		ssize_t n;

		if (fd < 0)
			continue;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, cs->roots[i], sizeof(cs->roots[i]) - 1);
		cs->roots[i][n > 0 ? n : 0] = '\0';
		found += n > 0;
		if (i)
			break;
	}
	return found ? 0 : err_set(err, -ENOENT, "no hierarchy of cgroups is mounted");
}

static int watch(struct containers *cs, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(cs->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int containers_new(struct containers **ret, const struct containers_ops *ops, void *arg,
		   struct err *err)
{
	struct itimerspec every = {.it_interval.tv_sec = RESCAN_SEC, .it_value.tv_sec = RESCAN_SEC};
	struct containers *cs = calloc(1, sizeof(*cs));
	int r;

	if (!cs)
		return err_set(err, -ENOMEM, "no memory to watch cgroups");
	cs->ops = ops;
	cs->arg = arg;
	cs->epoll = epoll_create1(EPOLL_CLOEXEC);
	cs->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	cs->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	r = cs->epoll < 0 || cs->inotify < 0 || cs->timer < 0 ? -errno : watch(cs, cs->inotify);
	if (r == 0)
		r = watch(cs, cs->timer);
	if (r == 0 && timerfd_settime(cs->timer, 0, &every, NULL) < 0)
		r = -errno;
	if (r < 0)
		err_set(err, r, "cannot watch cgroups: %s", strerror(-r));
	else
		r = find_roots(cs, err);
	if (r < 0) {
		containers_free(cs);
		return r;
	}
	cs->quiet = true;
	walk_all(cs);
	cs->quiet = false;
	*ret = cs;
	return 0;
}

void containers_free(struct containers *cs)
{
	if (!cs)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		while (cs->buckets[i]) {
			struct dir *d = cs->buckets[i];

			cs->buckets[i] = d->next;
			free(d);
		}
	}
	closep(&cs->timer);
	closep(&cs->inotify);
	closep(&cs->epoll);
	free(cs);
}

int containers_fd(const struct containers *cs)
{
	return cs->epoll;
}

static struct dir *dir_below(struct containers *cs, const char *path, const char *name)
{
	size_t n = strlen(path);

	for (size_t i = 0; i < BUCKETS; i++)
		for (struct dir *d = cs->buckets[i]; d; d = d->next)
			if (strncmp(d->path, path, n) == 0 && d->path[n] == '/' &&
			    strcmp(d->path + n + 1, name) == 0)
				return d;
	return NULL;
}

static void on_change(struct containers *cs, const struct inotify_event *ev)
{
	struct dir *at = dir_of(cs, ev->wd), *below;
	char path[PATH_MAX];
	int n;

	if (ev->mask & IN_Q_OVERFLOW) {
		walk_all(cs);
		return;
	}
	if (!at)
		return;
	if (ev->mask & IN_IGNORED) { /* the directory itself is gone */
		dir_drop(cs, at);
		return;
	}
	if (!(ev->mask & IN_ISDIR) || !ev->len)
		return;
	if (ev->mask & IN_DELETE) {
		below = dir_below(cs, at->path, ev->name);
		/* What follows of it (IN_IGNORED) finds nothing. */
		if (below) {
			inotify_rm_watch(cs->inotify, below->wd);
			dir_drop(cs, below);
		}
		return;
	}
	n = snprintf(path, sizeof(path), "%s/%s", at->path, ev->name);
	if (n > 0 && (size_t)n < sizeof(path))
		walk(cs, at->controller, path, at->id, 0);
}

int containers_read(struct containers *cs)
{
	char buf[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	uint64_t ticks;
	ssize_t n;

	if (read(cs->timer, &ticks, sizeof(ticks)) == sizeof(ticks))
		walk_all(cs);
	n = read(cs->inotify, buf, sizeof(buf));
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (char *at = buf; at < buf + n;) {
		const struct inotify_event *ev = (const void *)at;

		at += sizeof(*ev) + ev->len;
		on_change(cs, ev);
	}
	return 0;
}

void containers_each(const struct containers *cs, void (*fn)(void *arg, const struct container *c),
		     void *arg)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		for (const struct dir *d = cs->buckets[i]; d; d = d->next) {
			struct container c = container_in(d);

			if (d->first)
				fn(arg, &c);
		}
	}
}

uint64_t containers_missed(const struct containers *cs)
{
	return cs->missed;
}
