// SPDX-License-Identifier: Apache-2.0
/* Caches in front of cgroupfs, /proc and passwd files, all of fixed size. */
#include "daemon/enrich.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "bpf/cgroup2.h"
#include "bpf/containers.h"
#include "bpf/lib/process.h"
#include "daemon/names.h"

#define LOG_MODULE "enrich"
#include "base/log.h"

/* Four ways to a set: the oldest of four goes. Sizes cover a busy host (thousands of containers)
 * within half a MiB. */
#define WAYS	     4
#define CGROUP_SETS  512
#define PROCESS_SETS 512
#define USER_SETS    256

/* A process may exec at any time: its name is good for one pass over the ring, no longer. */
#define PROCESS_TTL_NS (100 * NSEC_PER_MSEC)
/* Names of cgroups never change, but a failure to resolve one may be passing. */
#define CGROUP_TTL_NS (60 * NSEC_PER_SEC)
#define USER_TTL_NS   (60 * NSEC_PER_SEC)
/* A passwd of more than that is no passwd. */
#define PASSWD_MAX (256 * 1024)

struct cgroup_entry {
	uint64_t id, until;
	uint32_t controller; /* whose hierarchy the id is of; PROCESS_CONTROLLER_X_MAX: a pid */
	char container[CONTAINER_ID_SIZE];
};

struct process_entry {
	uint64_t until;
	uint32_t pid;
	char name[17];
};

struct user_entry {
	uint64_t root, until;
	uint32_t uid;
	char name[33];
};

struct enrich {
	int cgroup_roots[PROCESS_CONTROLLER_X_MAX]; /* cgroup2 and those of version 1; -1: none */
	uint32_t self_pid;
	uint64_t self_root, init_root; /* root_of() ourselves and the first process */
	struct names *names;
	struct cgroup_entry cgroups[CGROUP_SETS][WAYS];
	struct process_entry processes[PROCESS_SETS][WAYS];
	struct user_entry users[USER_SETS][WAYS];
	char path[PATH_MAX]; /* the last answer of cgroup2_path() */
	char passwd[PASSWD_MAX];
};

/* Finaliser of splitmix64: neighbouring ids must not share a set. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/*
 * Which root a process sees: its mount namespace and the path of its root in it. Neither readlink
 * asks the file system, so a process can't hang us with one of its own (FUSE).
 */
static uint64_t root_of(uint32_t pid)
{
	uint64_t hash = 0;
	char path[64], text[512];

	for (int i = 0; i < 2; i++) {
		ssize_t n;

		snprintf(path, sizeof(path), i ? "/proc/%u/root" : "/proc/%u/ns/mnt", pid);
		n = readlink(path, text, sizeof(text));
		if (n < 0)
			return 0;
		for (ssize_t k = 0; k < n; k++)
			hash = mix(hash ^ (unsigned char)text[k]);
	}
	return hash;
}

int enrich_new(struct enrich **ret)
{
	static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	struct enrich *e = calloc(1, sizeof(*e));
	char path[128];

	if (!e)
		return -ENOMEM;
	if (names_new(&e->names, NAMES_MAX) < 0) {
		free(e);
		return -ENOMEM;
	}
	for (size_t i = 0; i < PROCESS_CONTROLLER_X_MAX; i++)
		e->cgroup_roots[i] = i ? cgroup1_open_root(cgroup1_controllers[i]) : -1;
	for (size_t i = 0; i < ARRAY_SIZE(roots) && e->cgroup_roots[0] < 0; i++) {
		/* Only cgroup2 has this file in its root. */
		snprintf(path, sizeof(path), "%s/cgroup.controllers", roots[i]);
		if (access(path, F_OK) == 0)
			e->cgroup_roots[0] = open(roots[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	e->self_pid = (uint32_t)getpid();
	e->self_root = root_of(e->self_pid);
	e->init_root = root_of(1);
	*ret = e;
	return 0;
}

void enrich_free(struct enrich *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < PROCESS_CONTROLLER_X_MAX; i++)
		closep(&e->cgroup_roots[i]);
	names_free(e->names);
	free(e);
}

/* The path of a cgroup by its id: kernfs file handles are the id itself (FILEID_KERNFS). Needs
 * CAP_DAC_READ_SEARCH. */
static int cgroup_path(int root, uint64_t id, char *dst, size_t cap)
{
	struct {
		struct file_handle handle;
		uint64_t id;
	} h = {.handle = {.handle_bytes = sizeof(uint64_t), .handle_type = 0xfe}, .id = id};
	_cleanup_close_ int fd = -1;
	char link[64];
	ssize_t n;

	if (root < 0)
		return -ENOENT;
	fd = open_by_handle_at(root, &h.handle, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, dst, cap - 1);
	if (n < 0)
		return -errno;
	dst[n] = '\0';
	return 0;
}

/* Seldom asked: not kept. */
static const char *cgroup2_path(void *ctx, uint64_t id)
{
	struct enrich *e = ctx;
	char link[64], root[PATH_MAX];
	size_t len;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", e->cgroup_roots[PROCESS_CGROUP2]);
	n = readlink(link, root, sizeof(root) - 1);
	if (n < 0 || cgroup_path(e->cgroup_roots[PROCESS_CGROUP2], id, e->path, sizeof(e->path)) < 0)
		return "";
	root[n] = '\0';
	len = strlen(root);
	if (strncmp(e->path, root, len) != 0 || (e->path[len] && e->path[len] != '/'))
		return "";
	return e->path[len] ? e->path + len : "/";
}

/* The entry of that cgroup; *known: it is filled. Else it is made for it, with an empty id. */
static struct cgroup_entry *cgroup_entry(struct enrich *e, uint32_t controller, uint64_t id,
					 uint64_t ttl_ns, bool *known)
{
	struct cgroup_entry *set = e->cgroups[mix(id ^ (uint64_t)controller << 56) % CGROUP_SETS];
	struct cgroup_entry *victim = set;
	uint64_t now = clock_mono_ns();

	for (size_t i = 0; i < WAYS; i++) {
		*known = set[i].id == id && set[i].controller == controller && set[i].until > now;
		if (*known)
			return &set[i];
		if (set[i].until < victim->until)
			victim = &set[i];
	}
	victim->id = id;
	victim->controller = controller;
	victim->until = now + ttl_ns;
	victim->container[0] = '\0';
	return victim;
}

static const char *container_of_cgroup(struct enrich *e, uint32_t controller, uint64_t id)
{
	struct cgroup_entry *entry;
	char path[PATH_MAX];
	bool known;

	if (!id || controller >= PROCESS_CONTROLLER_X_MAX)
		return "";
	entry = cgroup_entry(e, controller, id, CGROUP_TTL_NS, &known);
	if (!known && cgroup_path(e->cgroup_roots[controller], id, path, sizeof(path)) == 0)
		container_of_path(path, entry->container);
	return entry->container;
}

static const char *container_id(void *ctx, uint64_t cgroup_id)
{
	return container_of_cgroup(ctx, PROCESS_CGROUP2, cgroup_id);
}

/* A line a hierarchy: "4:memory:/docker/<id>". All at once: one cgroup's path alone may be cut. */
static void read_cgroups(uint32_t pid, char dst[static CONTAINER_ID_SIZE])
{
	_cleanup_close_ int fd = -1;
	char path[64], text[8192];
	size_t len = 0;

	snprintf(path, sizeof(path), "/proc/%u/cgroup", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && len < sizeof(text) - 1) {
		ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	container_of_path(text, dst);
}

static bool has_version1(const struct enrich *e)
{
	for (size_t i = PROCESS_CGROUP2 + 1; i < PROCESS_CONTROLLER_X_MAX; i++)
		if (e->cgroup_roots[i] >= 0)
			return true;
	return false;
}

static const char *container_by(void *ctx, const struct cgroup_ids *ids)
{
	const char *id = container_of_cgroup(ctx, PROCESS_CGROUP2, ids->cgroup_id);
	struct cgroup_entry *entry;
	bool known;

	if (*id || !has_version1(ctx))
		return id;
	if (ids->cgroup1_id)
		return container_of_cgroup(ctx, ids->cgroup1_controller, ids->cgroup1_id);
	if (!ids->pid)
		return "";
	entry = cgroup_entry(ctx, PROCESS_CONTROLLER_X_MAX, ids->pid, PROCESS_TTL_NS, &known);
	if (!known)
		read_cgroups(ids->pid, entry->container);
	return entry->container;
}

static void read_comm(uint32_t pid, char dst[static 17])
{
	_cleanup_close_ int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, dst, 16);
	dst[n > 0 ? n : 0] = '\0';
	if (n > 0 && dst[n - 1] == '\n')
		dst[n - 1] = '\0';
}

static const char *process_name(void *ctx, uint32_t pid)
{
	struct enrich *e = ctx;
	struct process_entry *set = e->processes[mix(pid) % PROCESS_SETS], *victim = set;
	uint64_t now = clock_mono_ns();

	if (!pid)
		return "";
	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].pid == pid && set[i].until > now)
			return set[i].name;
		if (set[i].until < victim->until)
			victim = &set[i];
	}
	victim->pid = pid;
	victim->until = now + PROCESS_TTL_NS;
	read_comm(pid, victim->name);
	return victim->name;
}

/* The mount that a descriptor is in; ids are unique among all namespaces. */
static int mount_id(int fd)
{
	char path[64], text[256];
	_cleanup_close_ int info = -1;
	const char *at;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
	if (n <= 0)
		return -EIO;
	text[n] = '\0';
	at = strstr(text, "mnt_id:");
	return at ? atoi(at + strlen("mnt_id:")) : -ENOENT;
}

/* "36 35 98:0 /sub /at rw,noatime - ext4 /dev/root rw": a file system that answers by itself? */
static bool line_is_local(const char *line)
{
	static const char *const remote[] = {"fuse", "nfs", "cifs", "smb", "9p", "ceph", "afs"};
	const char *sep = strstr(line, " - ");

	for (size_t i = 0; sep && i < ARRAY_SIZE(remote); i++)
		if (strncmp(sep + 3, remote[i], strlen(remote[i])) == 0)
			return false;
	return sep != NULL;
}

static bool mount_is_local_in(const char *path, int id)
{
	char line[4096];
	bool local = false;
	FILE *f = fopen(path, "re");

	while (f && !local && fgets(line, sizeof(line), f))
		local = atoi(line) == id && line_is_local(line);
	if (f)
		fclose(f);
	return local;
}

/* A process sees the mounts below its root; where it is a mere directory of ours, we see its mount.
 */
static bool mount_is_local(uint32_t pid, int id)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%u/mountinfo", pid);
	return mount_is_local_in(path, id) || mount_is_local_in("/proc/self/mountinfo", id);
}

/* Never leaves the process's own root, follows nothing magic, crosses into no mount (a FUSE at /etc
 * could hang us). */
static int open_passwd(uint32_t pid)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	_cleanup_close_ int root = -1, fd = -1;
	char path[64];
	struct stat st;
	int id;

	snprintf(path, sizeof(path), "/proc/%u/root", pid);
	root = open(path, O_PATH | O_CLOEXEC); /* a magic link: no file system is asked */
	if (root < 0)
		return -errno;
	id = mount_id(root);
	if (id < 0 || !mount_is_local(pid, id))
		return -EREMOTE;
	fd = (int)syscall(SYS_openat2, root, "etc/passwd", &how, sizeof(how));
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > PASSWD_MAX)
		return -EINVAL;
	return TAKE_FD(fd);
}

static void read_user(struct enrich *e, uint32_t pid, uint32_t uid, char dst[static 33])
{
	_cleanup_close_ int fd = -1;
	size_t len = 0;

	dst[0] = '\0';
	fd = open_passwd(pid);
	while (fd >= 0 && len < sizeof(e->passwd)) {
		ssize_t n = read(fd, e->passwd + len, sizeof(e->passwd) - len);

		if (n <= 0)
			break;
		len += n;
	}
	enrich_user_of_passwd(e->passwd, len, uid, dst);
}

static const char *user_name(void *ctx, uint32_t pid, uint32_t uid)
{
	struct enrich *e = ctx;
	uint64_t root, now = clock_mono_ns();
	struct user_entry *set, *victim;

	/* These never change, and stand for most processes. */
	if (pid == e->self_pid)
		root = e->self_root;
	else
		root = pid == 1 ? e->init_root : root_of(pid);
	set = victim = e->users[mix(root ^ uid) % USER_SETS];
	if (!root)
		return "";
	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].root == root && set[i].uid == uid && set[i].until > now)
			return set[i].name;
		if (set[i].until < victim->until)
			victim = &set[i];
	}
	victim->root = root;
	victim->uid = uid;
	victim->until = now + USER_TTL_NS;
	read_user(e, pid, uid, victim->name);
	return victim->name;
}

static void domain_learn(void *ctx, uint32_t netns, const struct ip_addr *ip, const char *name,
			 enum domain_origin origin, uint64_t ttl_ns)
{
	names_learn(((struct enrich *)ctx)->names, netns, ip, name, origin, ttl_ns,
		    clock_boot_ns());
}

static const char *domain(void *ctx, uint32_t netns, const struct ip_addr *ip,
			  enum domain_origin *origin)
{
	return names_find(((struct enrich *)ctx)->names, netns, ip, origin, clock_boot_ns());
}

struct names *enrich_names(struct enrich *e)
{
	return e->names;
}

const struct enrich_ops enrich_ops = {
	.container_id = container_id,
	.container_by = container_by,
	.cgroup_path = cgroup2_path,
	.process_name = process_name,
	.user_name = user_name,
	.domain_learn = domain_learn,
	.domain = domain,
};
