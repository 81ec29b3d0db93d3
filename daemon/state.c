// SPDX-License-Identifier: Apache-2.0
/* The state directory: lock, and atomic JSON files. */
#include "daemon/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/* What we keep there is a few options; anything larger is damage. */
#define STATE_FILE_MAX (1024 * 1024)

static int make_dir(const char *dir, struct err *err)
{
	struct stat st;

	if (mkdir(dir, 0750) < 0 && errno != EEXIST)
		return err_set(err, -errno,
			       "cannot make state directory '%s': %s; make its parent or name "
			       "another with --state-dir",
			       dir, strerror(errno));
	if (stat(dir, &st) < 0)
		return err_set(err, -errno, "cannot use state directory '%s': %s", dir,
			       strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, -ENOTDIR, "state directory '%s' is not a directory", dir);
	if (st.st_mode & S_IWOTH)
		return err_set(err, -EPERM,
			       "state directory '%s' is writable by everybody; chmod o-w it", dir);
	return 0;
}

int state_lock(const char *dir, int *ret_fd, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX], pid[32] = "";
	int r;

	r = make_dir(dir, err);
	if (r < 0)
		return r;
	if (snprintf(path, sizeof(path), "%s/ringsided.lock", dir) >= (int)sizeof(path))
		return err_set(err, -ENAMETOOLONG,
			       "state directory '%.64s...': the path is too long", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		r = -errno;
		if (r != -EWOULDBLOCK)
			return err_set(err, r, "cannot lock '%s': %s", path, strerror(-r));
		if (pread(fd, pid, sizeof(pid) - 1, 0) < 0)
			pid[0] = '\0';
		pid[strcspn(pid, "\n")] = '\0';
		return err_set(err, -EBUSY,
			       "state directory '%s' is in use by another ringsided (pid %s); stop "
			       "it or name another with --state-dir",
			       dir, pid[0] ? pid : "unknown");
	}
	snprintf(pid, sizeof(pid), "%d\n", getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, strlen(pid), 0) < 0)
		return err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int state_read(const char *dir, const char *name, json_t **ret, struct err *err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_json_ json_t *object = NULL;
	char path[PATH_MAX];
	json_error_t why;
	struct stat st;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return err_set(err, -ENAMETOOLONG,
			       "state directory '%.64s...': the path is too long", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size > STATE_FILE_MAX)
		return err_set(err, -EINVAL,
			       "'%s' is not a file of ours: not regular or above 1 MiB", path);
	object = json_loadfd(fd, JSON_REJECT_DUPLICATES, &why);
	if (!object)
		return err_set(err, -EINVAL, "%s:%d: %s", path, why.line, why.text);
	if (!json_is_object(object))
		return err_set(err, -EINVAL, "'%s' is not a JSON object", path);
	*ret = TAKE_PTR(object);
	return 0;
}

static int write_file(const char *path, const json_t *object)
{
	_cleanup_close_ int fd = -1;

	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	if (json_dumpfd(object, fd, JSON_INDENT(2) | JSON_SORT_KEYS) < 0)
		return -EIO;
	if (write(fd, "\n", 1) != 1)
		return -EIO;
	return fsync(fd) < 0 ? -errno : 0;
}

int state_write(const char *dir, const char *name, const json_t *object, struct err *err)
{
	_cleanup_close_ int dirfd = -1;
	char path[PATH_MAX], tmp[PATH_MAX];
	int r;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path) ||
	    snprintf(tmp, sizeof(tmp), "%s/.%s.new", dir, name) >= (int)sizeof(tmp))
		return err_set(err, -ENAMETOOLONG,
			       "state directory '%.64s...': the path is too long", dir);
	r = write_file(tmp, object);
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(tmp); /* may not exist; the write's own error is the one to tell */
		return err_set(err, r, "cannot write '%s': %s", path, strerror(-r));
	}
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0 || fsync(dirfd) < 0)
		return err_set(err, -errno, "cannot sync '%s': %s", dir, strerror(errno));
	return 0;
}
