// SPDX-License-Identifier: Apache-2.0
/* Network namespaces of the host: found by processes and mounts, entered only by threads that end
 * at once. */
#include "bpf/conntrack/conntrack_priv.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/macro.h"
#include "base/thread.h"

/* The number in "net:[4026531840]"; 0: it isn't one. */
static uint32_t inode_of(const char *text)
{
	unsigned int inode;
	char end;

	return sscanf(text, "net:[%u%c", &inode, &end) == 2 && end == ']' ? inode : 0;
}

static uint32_t inode_of_link(const char *path)
{
	char text[64];
	ssize_t n = readlink(path, text, sizeof(text) - 1);

	if (n < 0)
		return 0;
	text[n] = '\0';
	return inode_of(text);
}

uint32_t netns_own(void)
{
	return inode_of_link("/proc/thread-self/ns/net");
}

static void add(struct netns_set *set, uint32_t inode, const char *path)
{
	/* Processes of one namespace stand together mostly: look at the latest first. */
	for (uint32_t i = set->n; i-- > 0;)
		if (set->refs[i].inode == inode)
			return;
	if (set->n == set->max) {
		set->left_out++;
		return;
	}
	set->refs[set->n].inode = inode;
	snprintf(set->refs[set->n].path, sizeof(set->refs[set->n].path), "%s", path);
	set->n++;
}

static int scan_processes(struct netns_set *set)
{
	DIR *proc = opendir("/proc");
	const struct dirent *d;
	char path[64];

	if (!proc)
		return -errno;
	while ((d = readdir(proc))) {
		uint32_t inode;

		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.10s/ns/net", d->d_name);
		inode = inode_of_link(path);
		if (inode)
			add(set, inode, path);
	}
	closedir(proc);
	return 0;
}

/* "36 35 0:4 net:[4026532279] /run/netns/x rw - nsfs nsfs rw": a namespace that lives without
 * processes. */
static void scan_mount(struct netns_set *set, char *line)
{
	char *save, *field = NULL, *root = NULL;
	uint32_t inode;

	for (int i = 0; i < 5; i++) {
		field = strtok_r(i ? NULL : line, " ", &save);
		if (!field)
			return;
		if (i == 3)
			root = field;
	}
	inode = inode_of(root);
	/* Where tools keep them: elsewhere a file system might not answer. */
	if (inode && (strncmp(field, "/run/", 5) == 0 || strncmp(field, "/var/run/", 9) == 0) &&
	    strlen(field) < sizeof(set->refs->path))
		add(set, inode, field);
}

static int scan_mounts(struct netns_set *set)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;

	if (!f)
		return -errno;
	while (getline(&line, &size, f) > 0)
		scan_mount(set, line);
	free(line);
	fclose(f);
	return 0;
}

int netns_scan(struct netns_set *set)
{
	int r;

	set->n = set->left_out = 0;
	r = scan_processes(set);
	return r < 0 ? r : scan_mounts(set);
}

struct visit {
	const struct netns_ref *ref;
	size_t buffer;
	int result;
};

static int visit(const struct visit *v)
{
	_cleanup_close_ int fd = open(v->ref->path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_ino != v->ref->inode)
		return -ESTALE; /* the process is gone, its number is another's */
	if (setns(fd, CLONE_NEWNET) < 0)
		return -errno;
	return conntrack_socket(v->buffer);
}

static void *visit_thread(void *arg)
{
	struct visit *v = arg;

	v->result = visit(v);
	return NULL;
}

int netns_socket(const struct netns_ref *ref, size_t buffer)
{
	struct visit v = {.ref = ref, .buffer = buffer};
	pthread_t thread;
	int r;

	r = thread_start(&thread, "netns", visit_thread, &v);
	if (r < 0)
		return r;
	pthread_join(thread, NULL);
	return v.result;
}
