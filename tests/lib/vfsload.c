// SPDX-License-Identifier: Apache-2.0
/* A known number of files opened, made, removed and changed in a known way: vfsload WHAT /DIRECTORY
 * N. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vfsname.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static int dir_fd;

static long close_it(long fd)
{
	if (fd >= 0)
		close((int)fd);
	return fd;
}

/* "f-I" are there already, and "d-I", "e-I", which are directories. */
static long run_openat(int i)
{
	return close_it(syscall(SYS_openat, dir_fd, name("f", i), O_RDONLY | O_CLOEXEC, 0));
}

static long run_openat2(int i)
{
	struct open_how how = {.flags = O_RDWR | O_CREAT | O_EXCL, .mode = 0640};

	return close_it(syscall(SYS_openat2, dir_fd, name("n", i), &how, sizeof(how)));
}

static long run_unlinkat(int i)
{
	return syscall(SYS_unlinkat, dir_fd, name("n", i), 0);
}

static long run_removedir(int i)
{
	return syscall(SYS_unlinkat, dir_fd, name("e", i), AT_REMOVEDIR);
}

static long run_mkdirat(int i)
{
	return syscall(SYS_mkdirat, dir_fd, name("m", i), 0710);
}

static long run_mknodat(int i)
{
	return syscall(SYS_mknodat, dir_fd, name("fifo", i), S_IFIFO | 0600, 0);
}

static long run_renameat2(int i)
{
	return syscall(SYS_renameat2, dir_fd, name("fifo", i), AT_FDCWD, name("moved", i), 1);
}

static long run_linkat(int i)
{
	return syscall(SYS_linkat, dir_fd, name("f", i), dir_fd, name("hard", i), 0);
}

static long run_symlinkat(int i)
{
	return syscall(SYS_symlinkat, name("../to", i), dir_fd, name("soft", i));
}

static long run_fchmod(int i)
{
	int fd = open(name("f", i), O_RDONLY | O_CLOEXEC);
	long r = syscall(SYS_fchmod, fd, 0604);

	close(fd);
	return r;
}

static long run_fchmodat(int i)
{
	return syscall(SYS_fchmodat, dir_fd, name("f", i), 0640);
}

static long run_fchmodat2(int i)
{
	return syscall(SYS_fchmodat2, dir_fd, name("f", i), 0644, 0);
}

static long run_fchown(int i)
{
	int fd = open(name("f", i), O_RDONLY | O_CLOEXEC);
	long r = syscall(SYS_fchown, fd, -1, 7);

	close(fd);
	return r;
}

static long run_fchownat(int i)
{
	return syscall(SYS_fchownat, dir_fd, name("f", i), 3, -1, AT_SYMLINK_NOFOLLOW);
}

static long run_truncate(int i)
{
	return syscall(SYS_truncate, name("f", i), 1000 + i);
}

static long run_ftruncate(int i)
{
	int fd = open(name("f", i), O_WRONLY | O_CLOEXEC);
	long r = syscall(SYS_ftruncate, fd, i);

	close(fd);
	return r;
}

#ifdef SYS_open
static long run_open(int i)
{
	return close_it(syscall(SYS_open, name("o", i), O_WRONLY | O_CREAT | O_TRUNC, 0600));
}

static long run_creat(int i)
{
	return close_it(syscall(SYS_creat, name("c", i), 0604));
}

static long run_unlink(int i)
{
	return syscall(SYS_unlink, name("o", i));
}

static long run_rmdir(int i)
{
	return syscall(SYS_rmdir, name("d", i));
}

static long run_mkdir(int i)
{
	return syscall(SYS_mkdir, name("k", i), 0755);
}

static long run_rename(int i)
{
	return syscall(SYS_rename, name("c", i), name("renamed", i));
}

static long run_renameat(int i)
{
	return syscall(SYS_renameat, dir_fd, name("renamed", i), dir_fd, name("again", i));
}

static long run_chmod(int i)
{
	return syscall(SYS_chmod, name("f", i), 0600);
}

static long run_chown(int i)
{
	return syscall(SYS_chown, name("f", i), 1, 2);
}

static long run_lchown(int i)
{
	return syscall(SYS_lchown, name("f", i), -1, -1);
}

static long run_link(int i)
{
	return syscall(SYS_link, name("f", i), name("h", i));
}

static long run_symlink(int i)
{
	return syscall(SYS_symlink, name("nowhere", i), name("s", i));
}

static long run_mknod(int i)
{
	return syscall(SYS_mknod, name("node", i), 0600, 0);
}
#endif

/* In an order in which each finds what it needs. */
static const struct kind {
	const char *name;
	long (*run)(int i);
} kinds[] = {
	{"openat", run_openat},	      {"openat2", run_openat2},	  {"unlinkat", run_unlinkat},
	{"removedir", run_removedir}, {"mkdirat", run_mkdirat},	  {"mknodat", run_mknodat},
	{"renameat2", run_renameat2}, {"linkat", run_linkat},	  {"symlinkat", run_symlinkat},
	{"fchmod", run_fchmod},	      {"fchmodat", run_fchmodat}, {"fchmodat2", run_fchmodat2},
	{"fchown", run_fchown},	      {"fchownat", run_fchownat}, {"truncate", run_truncate},
	{"ftruncate", run_ftruncate},
#ifdef SYS_open
	{"open", run_open},	      {"creat", run_creat},	  {"unlink", run_unlink},
	{"rmdir", run_rmdir},	      {"mkdir", run_mkdir},	  {"rename", run_rename},
	{"renameat", run_renameat},   {"chmod", run_chmod},	  {"chown", run_chown},
	{"lchown", run_lchown},	      {"link", run_link},	  {"symlink", run_symlink},
	{"mknod", run_mknod},
#endif
};

static void run_kinds(int n)
{
	for (int i = 0; i < n; i++) {
		int fd = open(name("f", i), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0 || mkdir(name("d", i), 0700) < 0 || mkdir(name("e", i), 0700) < 0)
			die("prepare");
		close(fd);
	}
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		for (int i = 0; i < n; i++) {
			if (kinds[k].run(i) >= 0)
				continue;
			if (errno != ENOSYS)
				die(kinds[k].name);
			printf("missing %s\n", kinds[k].name);
			break;
		}
	}
}

/* Nanoseconds that each open and close took, in this thread's own time. */
static void burst(int n)
{
	struct timespec a, b;

	unlink("burst");
	close_it(open("burst", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	for (int i = 0; i < n; i++)
		if (close_it(syscall(SYS_openat, AT_FDCWD, "burst", O_RDONLY | O_CLOEXEC, 0)) < 0)
			die("open");
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	printf("%.0f\n",
	       ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / n);
}

/* Names in pages of a file that nobody has touched: the first look at them is the kernel's. */
static void untouched(int n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = open("names", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char *map;

	for (int i = 0; i < n; i++) {
		const char *s = name(i % 3 ? "absent" : "f", i);
		int made = i % 3 ? -1 : open(s, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		if (made >= 0)
			close(made);
		if (pwrite(fd, s, strlen(s) + 1, (off_t)((size_t)i * page)) < 0)
			die("names");
	}
	if (ftruncate(fd, (off_t)((size_t)n * page)) < 0)
		die("names");
	map = mmap(NULL, (size_t)n * page, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED || madvise(map, (size_t)n * page, MADV_RANDOM) < 0)
		die("mmap");
	for (int i = 0; i < n; i++) {
		const char *s = map + (size_t)i * page;

		if (i % 3 == 1)
			syscall(SYS_unlinkat, AT_FDCWD, s, 0);
		else
			close_it(syscall(SYS_openat, AT_FDCWD, s, O_RDONLY | O_NONBLOCK, 0));
	}
}

#define THREADS 7

static int per_thread;

static void *run_thread(void *arg)
{
	char text[64];

	for (int i = 0; i < per_thread; i++) {
		snprintf(text, sizeof(text), "t%d-%d", (int)(intptr_t)arg, i);
		close_it(syscall(SYS_openat, dir_fd, text, O_WRONLY | O_CREAT, 0600));
	}
	return NULL;
}

static void threads(int n)
{
	pthread_t t[THREADS];

	per_thread = n;
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, run_thread, (void *)(intptr_t)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

/* Each time the same ones, n times. */
static void failures(int n)
{
	static char long_name[5000];
	int sock[2];

	if (pipe(sock) < 0 || close_it(open("plain", O_WRONLY | O_CREAT, 0600)) < 0 ||
	    symlink("loop", "loop") < 0)
		die("failures");
	memset(long_name, 'x', sizeof(long_name) - 1);
	for (int i = 0; i < n; i++) {
		syscall(SYS_openat, AT_FDCWD, "no/such", O_RDONLY);
		syscall(SYS_openat, AT_FDCWD, "plain/below", O_RDONLY);
		syscall(SYS_openat, AT_FDCWD, "plain", O_CREAT | O_EXCL | O_WRONLY, 0644);
		syscall(SYS_openat, AT_FDCWD, (char *)8, O_RDONLY);
		syscall(SYS_openat, 999, "relative", O_RDONLY);
		syscall(SYS_openat, AT_FDCWD, long_name, O_RDONLY);
		syscall(SYS_openat, AT_FDCWD, "loop", O_RDONLY);
		syscall(SYS_openat, AT_FDCWD, "", O_RDONLY);
		syscall(SYS_mkdirat, AT_FDCWD, "plain", 0700);
		syscall(SYS_fchmod, 999, 0600);
		syscall(SYS_fchmod, sock[0], 0600);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *what;
		void (*run)(int n);
	} modes[] = {{"kinds", run_kinds},
		     {"burst", burst},
		     {"untouched", untouched},
		     {"threads", threads},
		     {"failures", failures}};
	int n = argc == 4 ? atoi(argv[3]) : 0;

	umask(0);
	if (n < 1 || n > 10000000 || chdir(argv[2]) < 0) {
		fprintf(stderr, "usage: vfsload WHAT /DIRECTORY N\n");
		return 2;
	}
	dir_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(argv[1], modes[i].what) == 0)
			return modes[i].run(n), 0;
	return 2;
}
