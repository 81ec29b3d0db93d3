// SPDX-License-Identifier: Apache-2.0
/* Makes, enters, sets and removes one cgroup directory. */
#include "governor/cgroup_leaf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <libcgroup.h>

#include "base/macro.h"
#include "governor/parse.h"

DEFINE_CLEANUP(DIR *, closedir)

static void cgroup_freep(struct cgroup **group)
{
	cgroup_free(group);
}

static int libcgroup_ready(void)
{
	static bool ready; /* main thread only: called before the first thread, then under the
			      daemon's loop */

	if (!ready)
		ready = cgroup_init() == 0;
	return ready ? 0 : -EOPNOTSUPP;
}

int leaf_open(const char *dir, const char *file)
{
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, file) >= sizeof(path))
		return -1;
	return open(path, O_RDONLY | O_CLOEXEC);
}

bool leaf_has(const char *dir, const char *file)
{
	_cleanup_close_ int fd = leaf_open(dir, file);

	return fd >= 0;
}

int leaf_write(const char *dir, const char *file, const char *value)
{
	char path[PATH_MAX];
	_cleanup_close_ int fd = -1;
	size_t len = strlen(value);
	ssize_t n;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, file) >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, value, len);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int join(const char *dir)
{
	char pid[16];

	/*
	 * cgroup.procs moves every thread; cgroup_attach_task() writes "tasks" on v1 and moves the
	 * calling thread alone, so that limits don't hold.
	 */
	snprintf(pid, sizeof(pid), "%d", getpid());
	return leaf_write(dir, "cgroup.procs", pid);
}

bool leaf_is_alone(const char *dir)
{
	_cleanup_close_ int fd = leaf_open(dir, "cgroup.procs");
	_cleanup_(closedirp) DIR *d = opendir(dir);
	char text[32];
	uint64_t pid;
	ssize_t n;

	if (fd < 0 || !d)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	/* One line only, and it is ours: parse_u64() refuses what follows a line. */
	if (strchr(text, '\n') != text + n - 1 || parse_u64(text, &pid) < 0 ||
	    pid != (uint64_t)getpid())
		return false;
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			return false;
	return true;
}

int leaf_locate(struct cgroup_leaf *l, const char *controller, const char *mountinfo,
		const char *self_cgroup)
{
	char path[PATH_MAX], point[PATH_MAX], below[PATH_MAX];
	int r;

	l->controller = controller;
	r = parse_cgroup_path(self_cgroup, controller, path, sizeof(path));
	if (r < 0)
		return r;
	r = parse_cgroup_mount(mountinfo, controller, path, point, sizeof(point), below,
			       sizeof(below));
	if (r < 0)
		return r;
	if (asprintf(&l->home, "%s%s", point, below) < 0)
		l->home = NULL;
	l->home_below = strdup(below[0] == '/' ? below + 1 : below);
	l->dir = l->home ? strdup(l->home) : NULL;
	l->below = l->home_below ? strdup(l->home_below) : NULL;
	if (l->dir && l->below) {
		l->own = l->home_alone = leaf_is_alone(l->dir);
		return 0;
	}
	leaf_free(l);
	return -ENOMEM;
}

/* mkdir through libcgroup; it looks for the v1 mount itself. */
static int make_by_libcgroup(const char *controller, const char *below)
{
	_cleanup_(cgroup_freep) struct cgroup *g = NULL;

	if (libcgroup_ready() < 0)
		return -EOPNOTSUPP;
	g = cgroup_new_cgroup(below);
	if (!g || !cgroup_add_controller(g, controller))
		return -ENOMEM;
	return cgroup_create_cgroup(g, 1) == 0 ? 0 : -EIO;
}

int leaf_make(struct cgroup_leaf *l, const char *name, struct err *err)
{
	_cleanup_free_ char *dir = NULL, *below = NULL;
	int r;

	if (asprintf(&dir, "%s/%s", l->home, name) < 0 ||
	    asprintf(&below, "%s%s%s", l->home_below, *l->home_below ? "/" : "", name) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	/* On cgroup2 libcgroup writes subtree_control from the mount root down, into other people's
	 * groups. */
	r = l->controller ? make_by_libcgroup(l->controller, below) : -EOPNOTSUPP;
	if (r < 0 || access(dir, F_OK) < 0) {
		r = mkdir(dir, 0755) < 0 && errno != EEXIST ? -errno : 0;
		if (r < 0)
			return err_set(err, r, "cannot make cgroup '%s': %s", dir, strerror(-r));
	}
	r = join(dir);
	if (r < 0) {
		rmdir(dir);
		return err_set(err, r, "cannot enter cgroup '%s': %s", dir, strerror(-r));
	}
	free(l->dir);
	free(l->below);
	l->dir = TAKE_PTR(dir);
	l->below = TAKE_PTR(below);
	l->made = l->own = true;
	return 0;
}

void leaf_remove(struct cgroup_leaf *l)
{
	if (!l->made)
		return;
	/* A worker that was just killed leaves its cgroup a moment later. */
	if (join(l->home) == 0)
		for (int i = 0; i < 20 && rmdir(l->dir) < 0 && errno == EBUSY; i++)
			usleep(5000);
	/* What still stands is swept by the next daemon. */
	l->made = false;
}

void leaf_free(struct cgroup_leaf *l)
{
	free(l->home);
	free(l->home_below);
	free(l->dir);
	free(l->below);
	*l = (struct cgroup_leaf){0};
}

void leaf_sweep(const struct cgroup_leaf *l, const char *name)
{
	_cleanup_(closedirp) DIR *d = opendir(l->home);
	size_t len = strlen(name);

	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		uint64_t pid;

		if (strncmp(e->d_name, name, len) || e->d_name[len] != '-' ||
		    parse_u64(e->d_name + len + 1, &pid) < 0 || pid == 0 || pid > INT_MAX)
			continue;
		/* A group that still holds somebody can't be removed: EBUSY is the second guard. */
		if (kill((pid_t)pid, 0) < 0 && errno == ESRCH)
			unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
	}
}

static int set_by_libcgroup(const char *below, const char *controller, const char *file,
			    const char *value)
{
	_cleanup_(cgroup_freep) struct cgroup *g = NULL;
	struct cgroup_controller *c;

	if (libcgroup_ready() < 0)
		return -EOPNOTSUPP;
	g = cgroup_new_cgroup(below);
	c = g ? cgroup_add_controller(g, controller) : NULL;
	if (!c || cgroup_add_value_string(c, file, value) != 0)
		return -ENOMEM;
	return cgroup_modify_cgroup(g) == 0 ? 0 : -EIO;
}

int leaf_set(const struct cgroup_leaf *l, const char *controller, const char *file,
	     const char *value, struct err *err)
{
	int r;

	if (!l->own)
		return err_set(err, -EOPNOTSUPP, "cgroup '%s' isn't ours",
			       l->dir ? l->dir : controller);
	if (set_by_libcgroup(l->below, controller, file, value) == 0)
		return 0;
	/* libcgroup hides the errno behind "parameter does not exist": the plain write tells it, or
	 * works. */
	r = leaf_write(l->dir, file, value);
	if (r < 0)
		return err_set(err, r, "cannot write '%s' to %s/%s: %s", value, l->dir, file,
			       strerror(-r));
	return 0;
}
