// SPDX-License-Identifier: Apache-2.0
/* Decides once, at start, where we can be measured and limited, and says in a sentence what can't.
 */
#include "governor/cgroup.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/macro.h"
#include "governor/ceiling.h"
#include "governor/cgroup_leaf.h"
#include "governor/parse.h"

enum {
	LEAF_CPU,
	LEAF_CPUACCT,
	LEAF_MEMORY,
	LEAF_V2,
	LEAF_MAX,
};

/* /proc files that are read whole; a host with more mounts than fit here is read as far as it goes.
 */
#define PROC_TEXT_MAX (1u << 20)
/* memory.stat of a 6.x kernel is below 2 KiB. */
#define STAT_TEXT_MAX 8192

/* The kernel's shortest quota at the usual period. */
#define CPU_PERIOD_US	 100000
#define CPU_QUOTA_MIN_US 1000

struct cgroup_place {
	enum cgroup_mode mode;
	struct cgroup_leaf leaf[LEAF_MAX];
	/* For pread(); -1: not there. */
	int cpu_fd, cpu_stat_fd, mem_fd, mem_stat_fd, statm_fd;
	int v2_fd;
	uint64_t v2_id;
	bool systemd; /* it owns the tree */
	bool delegated; /* though not our group in it */
	bool limits_cpu, limits_mem;
	bool mem_v2; /* the memory files are cgroup2's */
	struct buf describe, lost;
	char text[STAT_TEXT_MAX];
};

DEFINE_CLEANUP(struct cgroup_place *, cgroup_leave)

static const char *const mode_names[] = {"none", "v1", "hybrid", "v2"};
static_assert(ARRAY_SIZE(mode_names) == CGROUP_MODE_X_MAX, "one name a mode");

static int read_proc(const char *path, struct buf *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char piece[4096];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (ret->len < PROC_TEXT_MAX && (n = read(fd, piece, sizeof(piece))) > 0)
		buf_add(ret, piece, n);
	buf_putc(ret, '\0');
	return buf_status(ret);
}

static bool is_cgroup2(const char *dir)
{
	struct statfs fs;

	return dir && !statfs(dir, &fs) && fs.f_type == CGROUP2_SUPER_MAGIC;
}

/* systemd marks what it delegates: trusted.delegate always, user.delegate since v251. */
static bool is_delegated(const char *dir)
{
	char value[2];

	return getxattr(dir, "trusted.delegate", value, sizeof(value)) > 0 ||
	       getxattr(dir, "user.delegate", value, sizeof(value)) > 0;
}

static char *parent_of(const char *dir)
{
	char *ret = strdup(dir), *slash = ret ? strrchr(ret, '/') : NULL;

	if (slash && slash != ret)
		*slash = '\0';
	return ret;
}

/* Controllers for the children of dir; each alone, because one that is missing fails a joint write.
 */
static void enable_controllers(const char *dir)
{
	static const char *const words[] = {"+cpu", "+memory"};

	/* EBUSY where processes are inside dir: then the leaf has no controllers and its unit is
	 * measured instead. */
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		(void)leaf_write(dir, "cgroup.subtree_control", words[i]);
}

/*
 * One leaf with what this host allows. Under systemd only what it delegated to us may be changed
 * (single-writer rule); elsewhere a child without controllers harms nobody, while enabling some in
 * a group that holds processes breaks it.
 */
static void enter_v2(struct cgroup_place *p, const char *name, bool controllers)
{
	struct cgroup_leaf *l = &p->leaf[LEAF_V2];
	bool root = !leaf_has(l->home, "cgroup.events"); /* only the real root lacks it */
	bool delegated = !root && is_delegated(l->home);

	p->delegated |= delegated;
	if (p->systemd && !delegated) {
		_cleanup_free_ char *parent = parent_of(l->home);

		/* DelegateSubgroup=: we already are in a leaf of a unit that is ours. */
		if (parent && l->own && is_delegated(parent) && controllers) {
			enable_controllers(parent);
			p->limits_cpu = !leaf_write(l->dir, "cpu.max", "max");
			p->limits_mem = !leaf_write(l->dir, "memory.max", "max");
		}
		return;
	}
	if (leaf_make(l, name, NULL) < 0)
		return;
	if (controllers && (root || delegated))
		enable_controllers(l->home);
	if (controllers) {
		p->limits_cpu = leaf_has(l->dir, "cpu.max");
		p->limits_mem = leaf_has(l->dir, "memory.max");
	}
}

static void enter_v1(struct cgroup_place *p, const char *name)
{
	for (int i = 0; i < LEAF_V2; i++) {
		struct cgroup_leaf *l = &p->leaf[i];
		bool delegated = l->home && is_delegated(l->home);

		p->delegated |= delegated;
		if (!l->home || (p->systemd && !delegated))
			continue;
		/* cpu and cpuacct are often one hierarchy: the second finds itself in the first
		 * one's leaf. */
		if (i == LEAF_CPUACCT && p->leaf[LEAF_CPU].made &&
		    !strcmp(l->home, p->leaf[LEAF_CPU].home)) {
			free(l->dir);
			l->dir = strdup(p->leaf[LEAF_CPU].dir);
			l->own = true;
		} else {
			(void)leaf_make(l, name, NULL);
		}
	}
	p->limits_cpu = p->leaf[LEAF_CPU].made;
	p->limits_mem = p->leaf[LEAF_MEMORY].made;
}

static int locate(struct cgroup_place *p, bool *ret_v1)
{
	static const char *const controllers[LEAF_MAX] = {"cpu", "cpuacct", "memory", NULL};
	_cleanup_buf_ struct buf mounts = {0}, self = {0};

	*ret_v1 = false;
	/* Without /proc there is nothing to find and nothing lost that a sentence wouldn't say. */
	if (read_proc("/proc/self/mountinfo", &mounts) < 0 ||
	    read_proc("/proc/self/cgroup", &self) < 0)
		return buf_status(&mounts) < 0 || buf_status(&self) < 0 ? -ENOMEM : 0;
	for (int i = 0; i < LEAF_MAX; i++) {
		if (leaf_locate(&p->leaf[i], controllers[i], mounts.data, self.data) == -ENOMEM)
			return -ENOMEM;
		if (i != LEAF_V2 && p->leaf[i].home)
			*ret_v1 = true;
	}
	/* The table of mounts may name what has been mounted over since. */
	if (!is_cgroup2(p->leaf[LEAF_V2].home))
		leaf_free(&p->leaf[LEAF_V2]);
	return 0;
}

/* The files that are read each second, opened while that is sure to work. */
static void open_files(struct cgroup_place *p)
{
	const struct cgroup_leaf *v2 = &p->leaf[LEAF_V2];
	const struct cgroup_leaf *mem = &p->leaf[LEAF_MEMORY], *acct = &p->leaf[LEAF_CPUACCT];

	if (acct->own) {
		p->cpu_fd = leaf_open(acct->dir, "cpuacct.usage");
		if (p->leaf[LEAF_CPU].own)
			p->cpu_stat_fd = leaf_open(p->leaf[LEAF_CPU].dir, "cpu.stat");
	} else if (v2->own) {
		/* Even a group without the cpu controller has usage_usec here. */
		p->cpu_stat_fd = leaf_open(v2->dir, "cpu.stat");
	}
	if (mem->own) {
		p->mem_fd = leaf_open(mem->dir, "memory.usage_in_bytes");
		p->mem_stat_fd = leaf_open(mem->dir, "memory.stat");
	} else if (v2->own) {
		/* The leaf has no memory controller where its parent couldn't hand it down: the
		 * parent is as good. */
		const char *dir =
			!leaf_has(v2->dir, "memory.current") && v2->home_alone ? v2->home : v2->dir;

		p->mem_fd = leaf_open(dir, "memory.current");
		p->mem_stat_fd = leaf_open(dir, "memory.stat");
		p->mem_v2 = true;
	}
	p->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	if (v2->own)
		p->v2_fd = open(v2->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->v2_fd >= 0) {
		struct stat st;

		/* kernfs ids are inode numbers on 64-bit machines: what bpf_get_current_cgroup_id()
		 * returns. */
		if (!fstat(p->v2_fd, &st))
			p->v2_id = st.st_ino;
	}
}

static void describe(struct cgroup_place *p, bool manage)
{
	const struct cgroup_leaf *v2 = &p->leaf[LEAF_V2], *mem = &p->leaf[LEAF_MEMORY];
	const char *why = p->mode == CGROUP_NONE ? "no cgroup is visible here"
			  : !manage		 ? "management of cgroups is off"
			  : p->systemd && !p->delegated && !v2->made && !mem->made
				  ? "systemd owns this group; Delegate=yes in the unit "
				    "would give one of our own"
			  : !v2->made && !mem->made ? "the cgroup file system can't be written here"
						    : NULL;
	const char *at = mem->own ? mem->dir : v2->own ? v2->dir : NULL;

	buf_printf(&p->describe, "cgroup %s, ", mode_names[p->mode]);
	if (at)
		buf_printf(&p->describe, "%s %s",
			   (mem->own ? mem->made : v2->made) ? "own group" : "alone in", at);
	else
		buf_puts(&p->describe, "no group of our own");
	if (why)
		buf_printf(&p->describe, " (%s)", why);
	buf_printf(&p->describe, "; kernel limits: %s",
		   p->limits_cpu && p->limits_mem ? "cpu and memory"
		   : p->limits_cpu		  ? "cpu only"
		   : p->limits_mem		  ? "memory only"
						  : "none");

	if (p->cpu_fd < 0 && p->cpu_stat_fd < 0)
		buf_puts(&p->lost,
			 "CPU is that of the daemon's process alone, without its query workers; ");
	if (p->mem_fd < 0)
		buf_puts(&p->lost, "memory is RSS plus BPF maps, without query workers; ");
	if (p->v2_fd < 0)
		buf_puts(&p->lost, "our own network bytes can't be counted: net_limit holds in "
				   "scope nic only; ");
	if (!p->limits_cpu || !p->limits_mem)
		buf_puts(&p->lost, "limits rest on the governor's own checks alone; ");
	if (p->lost.len > 2)
		p->lost.data[p->lost.len - 2] = '\0';
}

int cgroup_enter(struct cgroup_place **ret, const char *name, bool manage)
{
	_cleanup_(cgroup_leavep) struct cgroup_place *p = calloc(1, sizeof(*p));
	char leaf[64];
	bool v1;
	int r;

	if (!p)
		return -ENOMEM;
	p->cpu_fd = p->cpu_stat_fd = p->mem_fd = p->mem_stat_fd = p->statm_fd = p->v2_fd = -1;
	p->systemd = access("/run/systemd/system", F_OK) == 0;
	r = locate(p, &v1);
	if (r < 0)
		return r;
	if (p->leaf[LEAF_V2].home)
		p->mode = v1 ? CGROUP_HYBRID : CGROUP_V2;
	else
		p->mode = v1 ? CGROUP_V1 : CGROUP_NONE;

	/* Instances that run side by side must not share a leaf. */
	snprintf(leaf, sizeof(leaf), "%.40s-%d", name, getpid());
	for (int i = 0; i < LEAF_MAX && manage; i++)
		if (p->leaf[i].home)
			leaf_sweep(&p->leaf[i], name);
	if (manage && v1)
		enter_v1(p, leaf);
	if (manage && p->leaf[LEAF_V2].home)
		enter_v2(p, leaf, p->mode == CGROUP_V2);
	open_files(p);
	describe(p, manage);
	if (buf_status(&p->describe) < 0 || buf_status(&p->lost) < 0)
		return -ENOMEM;
	*ret = TAKE_PTR(p);
	return 0;
}

static int set_cpu(struct cgroup_place *p, uint64_t millicores, struct err *err)
{
	uint64_t quota = millicores * (CPU_PERIOD_US / 1000);
	char value[48];

	if (quota && quota < CPU_QUOTA_MIN_US)
		quota = CPU_QUOTA_MIN_US;
	if (p->mode == CGROUP_V2) {
		if (quota)
			snprintf(value, sizeof(value), "%llu %d", (unsigned long long)quota,
				 CPU_PERIOD_US);
		else
			snprintf(value, sizeof(value), "max %d", CPU_PERIOD_US);
		return leaf_set(&p->leaf[LEAF_V2], "cpu", "cpu.max", value, err);
	}
	snprintf(value, sizeof(value), "%lld", quota ? (long long)quota : -1ll);
	return leaf_set(&p->leaf[LEAF_CPU], "cpu", "cpu.cfs_quota_us", value, err);
}

static int set_memory(struct cgroup_place *p, uint64_t bytes, struct err *err)
{
	/* Far enough above ours that the governor ends us with a reason before the kernel does it
	 * without one. */
	uint64_t slack = bytes / 10 > (64u << 20) ? bytes / 10 : 64u << 20;
	char value[32];

	if (bytes && !__builtin_add_overflow(bytes, slack, &bytes) && bytes <= INT64_MAX)
		snprintf(value, sizeof(value), "%llu", (unsigned long long)bytes);
	else
		snprintf(value, sizeof(value), "%s", p->mode == CGROUP_V2 ? "max" : "-1");
	if (p->mode != CGROUP_V2)
		return leaf_set(&p->leaf[LEAF_MEMORY], "memory", "memory.limit_in_bytes", value,
				err);
	/* All of us or nothing: a daemon whose query worker alone was killed would look healthy. */
	(void)leaf_set(&p->leaf[LEAF_V2], "memory", "memory.oom.group", "1", NULL);
	return leaf_set(&p->leaf[LEAF_V2], "memory", "memory.max", value, err);
}

int cgroup_set_backstops(struct cgroup_place *p, uint64_t cpu_millicores, uint64_t mem_bytes,
			 struct err *err)
{
	int r_cpu = p->limits_cpu ? set_cpu(p, cpu_millicores, err) : 0;
	int r_mem = p->limits_mem ? set_memory(p, mem_bytes, err) : 0;

	return r_cpu < 0 ? r_cpu : r_mem;
}

static void read_ceiling(const struct cgroup_leaf *l, bool limits, struct ceiling *ret,
			 void (*read)(const char *dir, struct ceiling *ret))
{
	_cleanup_free_ char *parent = NULL;

	if (!l->home)
		return;
	/* What we have written ourselves is no limit of others. */
	if (limits && l->dir && !strcmp(l->dir, l->home)) {
		parent = parent_of(l->home);
		if (parent)
			read(parent, ret);
		return;
	}
	read(l->home, ret);
}

void cgroup_read_ceiling(const struct cgroup_place *p, struct ceiling *ret)
{
	bool limits = p->limits_cpu || p->limits_mem;

	*ret = (struct ceiling){0};
	read_ceiling(&p->leaf[LEAF_V2], limits, ret, ceiling_read_v2);
	read_ceiling(&p->leaf[LEAF_CPU], limits, ret, ceiling_read_v1_cpu);
	read_ceiling(&p->leaf[LEAF_MEMORY], limits, ret, ceiling_read_v1_memory);
}

enum cgroup_mode cgroup_mode(const struct cgroup_place *p)
{
	return p->mode;
}

const char *cgroup_describe(const struct cgroup_place *p)
{
	return p->describe.data;
}

const char *cgroup_lost(const struct cgroup_place *p)
{
	return p->lost.data ? p->lost.data : "";
}

int cgroup_v2_fd(const struct cgroup_place *p)
{
	return p->v2_fd;
}

uint64_t cgroup_v2_id(const struct cgroup_place *p)
{
	return p->v2_id;
}

/* The file's text from its start, or NULL. */
static const char *pread_text(struct cgroup_place *p, int fd)
{
	ssize_t n = fd >= 0 ? pread(fd, p->text, sizeof(p->text) - 1, 0) : -1;

	if (n <= 0)
		return NULL;
	p->text[n] = '\0';
	return p->text;
}

static void read_cpu(struct cgroup_place *p, struct cgroup_usage *ret)
{
	const char *text = pread_text(p, p->cpu_fd);
	struct rusage ru;
	uint64_t usec;

	if (text)
		ret->cpu_valid = parse_u64(text, &ret->cpu_ns) == 0;
	text = pread_text(p, p->cpu_stat_fd);
	if (text) {
		(void)parse_keyed(text, "nr_periods", &ret->nr_periods);
		(void)parse_keyed(text, "nr_throttled", &ret->nr_throttled);
		if (!ret->cpu_valid && parse_keyed(text, "usage_usec", &usec) == 0) {
			ret->cpu_ns = usec * NSEC_PER_USEC;
			ret->cpu_valid = true;
		}
	}
	/* Children are left out: their time would arrive in one lump when they are reaped, as a
	 * false breach. */
	if (p->cpu_fd < 0 && p->cpu_stat_fd < 0 && getrusage(RUSAGE_SELF, &ru) == 0) {
		ret->cpu_ns = (ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * NSEC_PER_SEC +
			      (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * NSEC_PER_USEC;
		ret->cpu_valid = true;
	}
}

static void read_mem(struct cgroup_place *p, struct cgroup_usage *ret)
{
	const char *text = pread_text(p, p->statm_fd);
	const char *rss = text ? strchr(text, ' ') : NULL;
	uint64_t usage, inactive;

	if (rss)
		ret->rss_bytes = strtoull(rss + 1, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
	text = pread_text(p, p->mem_fd);
	if (p->mem_fd < 0 || p->mem_stat_fd < 0) {
		ret->mem_is_rss = true;
		ret->mem_bytes = ret->rss_bytes;
		ret->mem_valid = ret->rss_bytes > 0;
		return;
	}
	if (!text || parse_u64(text, &usage) < 0)
		return;
	text = pread_text(p, p->mem_stat_fd);
	/* v1 sums over the group's children as total_*; without the page cache's part the figure
	 * would be wrong. */
	if (!text ||
	    parse_keyed(text, p->mem_v2 ? "inactive_file" : "total_inactive_file", &inactive) < 0)
		return;
	ret->mem_bytes = usage > inactive ? usage - inactive : 0;
	ret->mem_valid = true;
}

void cgroup_read_usage(struct cgroup_place *p, struct cgroup_usage *ret)
{
	*ret = (struct cgroup_usage){0};
	read_cpu(p, ret);
	read_mem(p, ret);
}

void cgroup_leave(struct cgroup_place *p)
{
	if (!p)
		return;
	const int fds[] = {p->cpu_fd,	   p->cpu_stat_fd, p->mem_fd,
			   p->mem_stat_fd, p->statm_fd,	   p->v2_fd};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (int i = 0; i < LEAF_MAX; i++) {
		leaf_remove(&p->leaf[i]);
		leaf_free(&p->leaf[i]);
	}
	buf_free(&p->describe);
	buf_free(&p->lost);
	free(p);
}
