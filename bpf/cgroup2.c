// SPDX-License-Identifier: Apache-2.0
/* Finds the root of the cgroup2 hierarchy in mountinfo; attaches programs there. */
#include "bpf/cgroup2.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/macro.h"
#include "bpf/lib/process.h"

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *path)
{
	char *out = path;

	for (const char *p = path; *p; out++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' &&
		    p[3] >= '0' && p[3] <= '7') {
			*out = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 4;
		} else {
			*out = *p++;
		}
	}
	*out = '\0';
}

/* "cgroup cgroup rw,cpu,cpuacct": a mount of that type, and with that option if there is one? */
static bool is_hierarchy(char *kind, const char *type, const char *option)
{
	char *save, *word = strtok_r(kind, " \n", &save);

	if (!word || strcmp(word, type) != 0)
		return false;
	if (!option)
		return true;
	(void)strtok_r(NULL, " \n", &save); /* what is mounted: anything */
	while ((word = strtok_r(NULL, " ,\n", &save)))
		if (strcmp(word, option) == 0)
			return true;
	return false;
}

/* The mount point of a line of mountinfo(5) if it is a mount of such a hierarchy's root, within the
 * line; else NULL. */
static char *hierarchy_mount(char *line, const char *type, const char *option)
{
	char *sep = strstr(line, " - "), *save, *field = NULL, *root = NULL;

	if (!sep || !is_hierarchy(sep + 3, type, option))
		return NULL;
	*sep = '\0';
	for (int i = 0; i < 5; i++) { /* id, parent, device, root, mount point */
		field = strtok_r(i ? NULL : line, " ", &save);
		if (!field)
			return NULL;
		if (i == 3)
			root = field;
	}
	if (strcmp(root, "/") != 0)
		return NULL;
	unescape(field);
	return field;
}

static int open_root(const char *type, const char *option, char *why, size_t cap)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *dir = NULL;
	size_t size = 0;
	struct stat st;
	int fd = -ENOENT;

	why[0] = '\0';
	if (!f) {
		fd = -errno;
		snprintf(why, cap, "cannot read /proc/self/mountinfo: %s", strerror(errno));
		return fd;
	}
	while (!dir && getline(&line, &size, f) > 0)
		dir = hierarchy_mount(line, type, option);
	if (dir)
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir && fd < 0)
		fd = -errno;
	if (!dir)
		snprintf(why, cap, "no %s hierarchy is mounted", type);
	else if (fd < 0)
		snprintf(why, cap, "cannot open %.100s: %s", dir, strerror(-fd));
	else if (fstat(fd, &st) == 0 && st.st_ino != 1) /* the root of a kernfs is node 1 */
		snprintf(why, cap,
			 "only what runs below %.100s is seen, which isn't the host's root: run in "
			 "the "
			 "host's cgroup namespace",
			 dir);
	free(line);
	fclose(f);
	return fd;
}

int cgroup2_open_root(char *why, size_t cap)
{
	return open_root("cgroup2", NULL, why, cap);
}

const char *const cgroup1_controllers[] = {"", "memory", "pids", "cpu", NULL};

static_assert(ARRAY_SIZE(cgroup1_controllers) == PROCESS_CONTROLLER_X_MAX + 1, "a name for each");

int cgroup1_open_root(const char *controller)
{
	char why[200];

	return open_root("cgroup", controller, why, sizeof(why));
}

int cgroup2_attach(int root, const struct cgroup2_hook *hooks, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		*hooks[i].link = bpf_program__attach_cgroup(hooks[i].prog, root);
		if (!*hooks[i].link)
			return err_set(err, -errno,
				       "cannot attach %s to the root of the cgroup2 hierarchy: %s",
				       bpf_program__name(hooks[i].prog), strerror(errno));
	}
	return 0;
}

void cgroup2_detach(const struct cgroup2_hook *hooks, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bpf_link__destroy(*hooks[i].link);
		*hooks[i].link = NULL;
	}
}
