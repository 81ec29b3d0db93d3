// SPDX-License-Identifier: Apache-2.0
/* The query worker's sandbox: identity, capabilities, limits, system calls. */
#include "store/query_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* The engine kills the worker 100 ms after the deadline; this is for an engine that cannot, stuck
 * in a slow sink. */
#define ALARM_GRACE_NS (500 * NSEC_PER_MSEC)

static int write_oom_score(void)
{
	_cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, "1000", 4) == 4 ? 0 : -errno;
}

/* A sanitizer's report is worth a file descriptor in debug builds. */
static void null_stdio(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return; /* no /dev/null: write() is about to be out of reach anyway */
	for (int i = STDIN_FILENO; i <= (SANITIZED ? STDOUT_FILENO : STDERR_FILENO); i++)
		dup2(fd, i);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* All of them, also those that a newer kernel knows: the kernel says EINVAL behind the last. */
static void drop_bounding_set(void)
{
	for (unsigned long cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno == EINVAL)
			break;
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

static int become(const struct query_sandbox *s, char *note, size_t cap, struct err *err)
{
	int r = 0;

	drop_bounding_set();
	if (s->uid != UINT32_MAX && s->uid != geteuid()) {
		if (setgroups(0, NULL) < 0 || setresgid(s->gid, s->gid, s->gid) < 0 ||
		    setresuid(s->uid, s->uid, s->uid) < 0)
			r = -errno;
		if (r == -EPERM) /* not root, or root without these: the rest of the sandbox holds
				    all the same */
			snprintf(note, cap,
				 "the query worker stays uid %u: CAP_SETUID and CAP_SETGID are "
				 "needed to leave it",
				 (unsigned int)geteuid());
		else if (r < 0)
			return err_set(err, r, "the query worker cannot become uid %u: %s", s->uid,
				       strerror(-r));
	}
	r = drop_capabilities();
	if (r < 0)
		return err_set(err, r, "the query worker cannot drop its capabilities: %s",
			       strerror(-r));
	return 0;
}

/* Pages mapped already: libraries of the daemon, SQLite's shared memory. */
static uint64_t mapped_bytes(void)
{
	_cleanup_(freep) char *line = NULL;
	unsigned long long pages = 0;
	size_t cap = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return 0;
	if (getline(&line, &cap, f) > 0)
		pages = strtoull(line, NULL, 10);
	fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

static int set_limit(int resource, const char *name, uint64_t soft, uint64_t hard, struct err *err)
{
	struct rlimit l = {.rlim_cur = soft, .rlim_max = hard}, now;

	/* Never above what an administrator has set for the daemon. */
	if (getrlimit(resource, &now) == 0 && now.rlim_max != RLIM_INFINITY) {
		l.rlim_max = l.rlim_max > now.rlim_max ? now.rlim_max : l.rlim_max;
		l.rlim_cur = l.rlim_cur > l.rlim_max ? l.rlim_max : l.rlim_cur;
	}
	if (setrlimit(resource, &l) < 0)
		return err_set(err, -errno, "the query worker cannot set RLIMIT_%s: %s", name,
			       strerror(errno));
	return 0;
}

static int set_limits(const struct query_sandbox *s, struct err *err)
{
	uint64_t now = clock_mono_ns(), mapped = mapped_bytes();
	uint64_t left = s->deadline_ns > now ? s->deadline_ns - now : 0;
	uint64_t cpu = left / NSEC_PER_SEC + 2;
	struct itimerval alarm = {0};
	int r;

	/* The sanitizers reserve terabytes of address space. */
	if (!SANITIZED && mapped) {
		r = set_limit(RLIMIT_AS, "AS", mapped + s->memory_bytes, mapped + s->memory_bytes,
			      err);
		if (r < 0)
			return r;
	}
	if ((r = set_limit(RLIMIT_CPU, "CPU", cpu, cpu + 1, err)) < 0 ||
	    (r = set_limit(RLIMIT_NOFILE, "NOFILE", s->max_fds, s->max_fds, err)) < 0 ||
	    (r = set_limit(RLIMIT_FSIZE, "FSIZE", s->spill_bytes, s->spill_bytes, err)) < 0 ||
	    (r = set_limit(RLIMIT_CORE, "CORE", 0, 0, err)) < 0 ||
	    (r = set_limit(RLIMIT_NPROC, "NPROC", 0, 0, err)) < 0)
		return r;
	/* SIGALRM kills: its handler is the default and rt_sigaction is about to be out of reach.
	 */
	left += ALARM_GRACE_NS;
	alarm.it_value.tv_sec = left / NSEC_PER_SEC;
	alarm.it_value.tv_usec = left % NSEC_PER_SEC / NSEC_PER_USEC;
	if (setitimer(ITIMER_REAL, &alarm, NULL) < 0)
		return err_set(err, -errno, "the query worker cannot set its timer: %s",
			       strerror(errno));
	return 0;
}

/* Looked up by name: what an architecture doesn't have is skipped. */
static const char *const allowed_calls[] = {
	"read",		 "pread64",	    "fstat",
	"lseek", /* segment files that are open already */
	"recvmsg",	 "sendmsg",	    "poll",
	"ppoll", /* the engine */
	"brk",		 "munmap",	    "mremap",
	"madvise",			/* memory; mmap comes with conditions */
	"futex",	 "sched_yield", /* libc locks */
	"close",	 "close_range", /* the snapshot is let go by closing the files */
	"clock_gettime", "gettimeofday",    "time",	 /* where the vDSO falls back */
	"getpid",	 "gettid",	    "getrandom", /* SQLite's randomness; abort() */
	"rt_sigreturn",	 "restart_syscall", "exit",
	"exit_group",
};

/*
 * By descriptor: that of a WAL could be written too. No call makes another file of this number:
 * dup() and open() are out of reach, and what comes along with a message is sealed.
 */
static int add_spill_rules(scmp_filter_ctx ctx, int fd)
{
	static const int calls[] = {SCMP_SYS(pwrite64), SCMP_SYS(fstatfs)};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(calls) && !r && fd >= 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 1,
				     SCMP_A0(SCMP_CMP_EQ, (unsigned int)fd, 0));
	return r;
}

static int add_rules(scmp_filter_ctx ctx)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(allowed_calls) && !r; i++) {
		int nr = seccomp_syscall_resolve_name(allowed_calls[i]);

		if (nr >= 0)
			r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
	}
	if (r < 0)
		return r;
	/*
	 * SQLite opens a WAL for writing even to read it: a shared mapping of it that can be
	 * written, at once or later by mprotect(), would be a way around the missing write().
	 */
	r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
			     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
			     SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_TYPE, MAP_PRIVATE));
	if (r < 0)
		return r;
	r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
			     SCMP_A2(SCMP_CMP_EQ, PROT_READ, 0));
	if (r < 0)
		return r;
	/* glibc's fstat() on some architectures. */
	r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
			     SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
	if (r < 0)
		return r;
	if (SANITIZED) { /* reports; and the stack's bounds before a function that doesn't return */
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(sigaltstack), 0);
		if (r < 0)
			return r;
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(write), 1,
				     SCMP_A0(SCMP_CMP_EQ, STDERR_FILENO, 0));
		if (r < 0)
			return r;
	}
	/*
	 * No lock can be taken any more: a shared lock on a byte of the -shm stalls the writer. The
	 * locks of the read transaction are held since before. SQLite tries (and copes) when it's
	 * told to end the transaction.
	 */
	return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(fcntl), 0);
}

static int load_filter(const struct query_sandbox *s, struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!ctx)
		return err_set(err, -ENOMEM,
			       "the query worker cannot build its seccomp filter: out of memory");
	r = add_rules(ctx);
	if (!r)
		r = add_spill_rules(ctx, s->spill_fd);
	if (!r)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	if (r < 0)
		return err_set(
			err, r,
			"the query worker cannot load its seccomp filter (%s): the kernel needs "
			"CONFIG_SECCOMP_FILTER",
			strerror(-r));
	return 0;
}

int query_sandbox_enter(const struct query_sandbox *s, char *note, size_t cap, struct err *err)
{
	pid_t parent = getppid();
	int r;

	note[0] = '\0';
	null_stdio();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(err, -errno, "the query worker cannot set no_new_privs: %s",
			       strerror(errno));
	/* The host's own work comes first, and the daemon before its worker when memory runs out.
	 */
	errno = 0;
	if (nice(10) == -1 && errno)
		snprintf(note, cap, "the query worker cannot lower its priority: %s",
			 strerror(errno));
	/* Its sorts on disk after everybody else's reads; a disk without classes doesn't care. */
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7));
	r = write_oom_score();
	if (r < 0)
		snprintf(note, cap, "the query worker cannot set its oom_score_adj: %s",
			 strerror(-r));
	r = become(s, note, cap, err);
	if (r < 0)
		return r;
	/* After the change of uid, which clears both. The parent may be gone already. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(err, -errno, "the query worker cannot tie itself to the daemon: %s",
			       strerror(errno));
	if (getppid() != parent)
		return err_set(err, -ESHUTDOWN, "the daemon ended");
	r = set_limits(s, err);
	if (r < 0)
		return r;
	return load_filter(s, err);
}
