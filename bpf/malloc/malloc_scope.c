// SPDX-License-Identifier: Apache-2.0
/* Which processes the filters of the malloc plugin name: found without a trap in any of them. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/macro.h"
#include "bpf/cgroup2.h"
#include "bpf/malloc/malloc_priv.h"

/* As deep as the filters of other event plugins look. */
#define DEPTH_MAX 16

struct malloc_scope {
	const struct instance *in;
	int root;			   /* of the cgroup2 hierarchy; -1: no list needs it */
	char **cgroups, **exclude_cgroups; /* paths from there, NULL-terminated; NULL: no list */
	bool pids;
};

static void free_list(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

void malloc_scope_free(struct malloc_scope *s)
{
	if (!s)
		return;
	free_list(s->cgroups);
	free_list(s->exclude_cgroups);
	if (s->root >= 0)
		close(s->root);
	free(s);
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* A directory below; each is called with its path from the root. Returns what each returned, if not
 * 0. */
static int walk(int dir, const char *path, int depth,
		int (*each)(int dir, const char *path, void *arg), void *arg)
{
	_cleanup_(closedirp) DIR *d = NULL;
	const struct dirent *e;
	int r = each(dir, path, arg), fd;

	if (r || !depth)
		return r;
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return 0; /* removed just now */
	}
	while (!r && (e = readdir(d))) {
		_cleanup_close_ int sub = -1;
		char below[PATH_MAX];

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (sub >= 0 &&
		    snprintf(below, sizeof(below), "%s/%s", path, e->d_name) < (int)sizeof(below))
			r = walk(sub, below, depth - 1, each, arg);
	}
	return r;
}

struct by_id {
	uint64_t id;
	char *path;
};

static int match_id(int dir, const char *path, void *arg)
{
	struct by_id *b = arg;
	struct stat st;

	if (fstat(dir, &st) < 0 || st.st_ino != b->id)
		return 0;
	b->path = strdup(path);
	return b->path ? 1 : -ENOMEM;
}

/* Items are paths or ids. Returns the path from the root, "" for itself; the caller frees it. */
static int resolve_cgroup(int root, const char *key, const char *item, char **ret, struct err *err)
{
	struct by_id b = {};
	size_t len;
	char *end;
	int r;

	if (*item != '/') {
		b.id = strtoull(item, &end, 10);
		if (!isdigit((unsigned char)*item) || *end)
			return err_set(err, -EINVAL,
				       "option %s: '%.64s' is neither a path nor an id", key, item);
		r = walk(root, "", DEPTH_MAX, match_id, &b);
		*ret = b.path;
		return r > 0 ? 0
			     : err_set(err, r ? r : -ENOENT, "option %s: no cgroup %.32s", key,
				       item);
	}
	while (item[0] == '/' && item[1] == '/')
		item++;
	*ret = strdup(item);
	if (!*ret)
		return err_set(err, -ENOMEM, "no memory for option %s", key);
	len = strlen(*ret);
	while (len && (*ret)[len - 1] == '/')
		(*ret)[--len] = '\0';
	if (faccessat(root, len ? *ret + 1 : ".", F_OK, 0) < 0)
		return err_set(err, -errno, "option %s: no cgroup '%.128s': %s", key, item,
			       strerror(errno));
	return 0;
}

static int resolve_cgroups(struct malloc_scope *s, const char *key, char ***ret, struct err *err)
{
	char why[200];
	size_t n = 0;
	int r = 0;

	while (opt_item(s->in->opts, key, n))
		n++;
	if (!n)
		return 0;
	if (s->root < 0) {
		s->root = cgroup2_open_root(why, sizeof(why));
		if (s->root < 0)
			return err_set(err, s->root, "option %s: %s", key, why);
	}
	*ret = calloc(n + 1, sizeof(**ret));
	if (!*ret)
		return err_set(err, -ENOMEM, "no memory for option %s", key);
	for (size_t i = 0; i < n && !r; i++)
		r = resolve_cgroup(s->root, key, opt_item(s->in->opts, key, i), &(*ret)[i], err);
	return r;
}

static int check_numbers(const struct instance *in, const char *key, struct err *err)
{
	const char *item;
	char *end;

	for (size_t i = 0; (item = opt_item(in->opts, key, i)); i++) {
		unsigned long v = strtoul(item, &end, 10);

		if (!isdigit((unsigned char)*item) || *end || v > UINT32_MAX)
			return err_set(err, -EINVAL, "option %s: '%.64s' isn't a number up to %u",
				       key, item, UINT32_MAX);
	}
	return 0;
}

static int check_containers(const struct instance *in, const char *key, struct err *err)
{
	const char *item;

	for (size_t i = 0; (item = opt_item(in->opts, key, i)); i++)
		if (strspn(item, "0123456789abcdef") < 12 || item[strspn(item, "0123456789abcdef")])
			return err_set(err, -EINVAL,
				       "option %s: '%.64s' isn't the id of a container (12 to 64 "
				       "hex digits)",
				       key, item);
	return 0;
}

int malloc_scope_new(struct malloc_scope **ret, const struct instance *in, struct err *err)
{
	_cleanup_(malloc_scope_freep) struct malloc_scope *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return err_set(err, -ENOMEM, "no memory for its filters");
	s->in = in;
	s->root = -1;
	s->pids = opt_item(in->opts, "pids", 0);
	if (!s->pids && !opt_item(in->opts, "cgroups", 0) && !opt_item(in->opts, "containers", 0) &&
	    !opt_bool(in->opts, "force"))
		return err_set(err, -EINVAL,
			       "a probe in malloc slows every call: say which processes by the "
			       "options pids, cgroups or containers, or set force=true to trace "
			       "all of them");
	static const char *const numbers[] = {"pids", "exclude_pids", "uids", "exclude_uids"};
	for (size_t i = 0; i < ARRAY_SIZE(numbers) && !r; i++)
		r = check_numbers(in, numbers[i], err);
	if (!r)
		r = check_containers(in, "containers", err);
	if (!r)
		r = check_containers(in, "exclude_containers", err);
	if (!r)
		r = resolve_cgroups(s, "cgroups", &s->cgroups, err);
	if (!r)
		r = resolve_cgroups(s, "exclude_cgroups", &s->exclude_cgroups, err);
	if (!r)
		*ret = TAKE_PTR(s);
	return r;
}

bool malloc_scope_is_wide(const struct malloc_scope *s)
{
	return !s->pids && !s->cgroups;
}

/* Up to cap - 1 bytes of /proc/PID/file; 0 when it is gone. */
static size_t read_proc(uint32_t pid, const char *file, char *dst, size_t cap)
{
	_cleanup_close_ int fd = -1;
	char path[64];
	ssize_t n;

	dst[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%u/%s", pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, dst, cap - 1);
	if (n <= 0)
		return 0;
	dst[n] = '\0';
	return (size_t)n;
}

static bool listed(const struct malloc_scope *s, const char *key, const char *text, size_t max)
{
	const char *item;

	for (size_t i = 0; (item = opt_item(s->in->opts, key, i)); i++)
		if (strncmp(item, text, max) == 0)
			return true;
	return false;
}

/* Numbers are as people write them: without leading zeros, or else they match nothing. */
static bool passes(const struct malloc_scope *s, const char *include, const char *exclude,
		   const char *text, size_t max)
{
	return !listed(s, exclude, text, max) &&
	       (!opt_item(s->in->opts, include, 0) || listed(s, include, text, max));
}

static bool in_cgroup(char *const *list, const char *path)
{
	for (size_t i = 0; list && list[i]; i++) {
		size_t len = strlen(list[i]);

		if (strncmp(path, list[i], len) == 0 && (path[len] == '/' || !path[len] || !len))
			return true;
	}
	return false;
}

static bool in_container(const struct malloc_scope *s, const char *key, const char *cgroups)
{
	const char *item;

	for (size_t i = 0; (item = opt_item(s->in->opts, key, i)); i++)
		if (strstr(cgroups, item))
			return true;
	return false;
}

static bool groups_pass(const struct malloc_scope *s, uint32_t pid)
{
	bool containers = opt_item(s->in->opts, "containers", 0);
	char text[4096], *unified;

	if (!s->cgroups && !s->exclude_cgroups && !containers &&
	    !opt_item(s->in->opts, "exclude_containers", 0))
		return true;
	if (!read_proc(pid, "cgroup", text, sizeof(text)))
		return false;
	if (in_container(s, "exclude_containers", text) ||
	    (containers && !in_container(s, "containers", text)))
		return false;
	unified = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!unified)
		return !s->cgroups;
	unified = strchr(unified, '/');
	if (!unified)
		return !s->cgroups;
	unified[strcspn(unified, "\n")] = '\0';
	return !in_cgroup(s->exclude_cgroups, unified) &&
	       (!s->cgroups || in_cgroup(s->cgroups, unified));
}

static bool uid_passes(const struct malloc_scope *s, uint32_t pid)
{
	char text[2048], uid[16] = "";
	const char *line;

	if (!opt_item(s->in->opts, "uids", 0) && !opt_item(s->in->opts, "exclude_uids", 0))
		return true;
	read_proc(pid, "status", text, sizeof(text));
	line = strstr(text, "\nUid:");
	if (!line || sscanf(line + 5, " %15s", uid) != 1)
		return false;
	return passes(s, "uids", "exclude_uids", uid, sizeof(uid));
}

static bool wanted(const struct malloc_scope *s, uint32_t pid)
{
	char text[32];

	if (pid == s->in->self_tgid)
		return false;
	snprintf(text, sizeof(text), "%u", pid);
	if (!passes(s, "pids", "exclude_pids", text, sizeof(text)))
		return false;
	if (!read_proc(pid, "comm", text, sizeof(text)))
		return false;
	text[strcspn(text, "\n")] = '\0';
	/* The first 15 bytes count: that is all that the kernel keeps. */
	return passes(s, "comms", "exclude_comms", text, PROCESS_COMM_SIZE - 1) &&
	       uid_passes(s, pid) && groups_pass(s, pid);
}

struct visit {
	const struct malloc_scope *s;
	void (*each)(uint32_t pid, void *arg);
	void *arg;
};

static void visit(const struct visit *v, unsigned long pid)
{
	if (pid && pid <= UINT32_MAX && wanted(v->s, (uint32_t)pid))
		v->each((uint32_t)pid, v->arg);
}

static int visit_cgroup(int dir, const char *path, void *arg)
{
	_cleanup_(fclosep) FILE *f = NULL;
	int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	unsigned long pid;

	(void)path;
	f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f) {
		if (fd >= 0)
			close(fd);
		return 0; /* removed just now */
	}
	while (fscanf(f, "%lu", &pid) == 1)
		visit(arg, pid);
	return 0;
}

static int visit_all(const struct visit *v)
{
	_cleanup_(closedirp) DIR *d = opendir("/proc");
	const struct dirent *e;

	if (!d)
		return -errno;
	while ((e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]))
			visit(v, strtoul(e->d_name, NULL, 10));
	return 0;
}

int malloc_scope_each(const struct malloc_scope *s, void (*each)(uint32_t pid, void *arg),
		      void *arg)
{
	struct visit v = {s, each, arg};
	const char *item;

	if (s->pids) {
		for (size_t i = 0; (item = opt_item(s->in->opts, "pids", i)); i++)
			visit(&v, strtoul(item, NULL, 10));
		return 0;
	}
	if (!s->cgroups)
		return visit_all(&v);
	for (size_t i = 0; s->cgroups[i]; i++) {
		const char *path = s->cgroups[i];
		_cleanup_close_ int fd =
			openat(s->root, *path ? path + 1 : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0)
			(void)walk(fd, path, DEPTH_MAX, visit_cgroup, &v);
	}
	return 0;
}
