// SPDX-License-Identifier: Apache-2.0
/* A known number of files opened, made, removed and changed by io_uring: vfsuringload WHAT
 * /DIRECTORY N. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vfsname.h"

/* Since 6.9; headers may be older. */
#define OP_FTRUNCATE 55
/* Slots of the ring's own table of files. */
#define SLOTS 16

static struct io_uring ring;
static int dir_fd;

static void open_ring(unsigned int entries, unsigned int flags)
{
	struct io_uring_params p = {.flags = flags, .sq_thread_idle = 2000};
	int r = io_uring_queue_init_params(entries, &ring, &p);

	if (r < 0) {
		printf("no io_uring: %s\n", strerror(-r));
		exit(77);
	}
}

static struct io_uring_sqe *sqe(void)
{
	struct io_uring_sqe *s = io_uring_get_sqe(&ring);

	if (!s)
		die("io_uring_get_sqe");
	return s;
}

static int reap(void)
{
	struct io_uring_cqe *cqe;
	int r = io_uring_wait_cqe(&ring, &cqe);

	if (r < 0)
		die("io_uring_wait_cqe");
	r = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return r;
}

/* Submits what is there, and waits for the result of one. */
static int result(void)
{
	if (io_uring_submit_and_wait(&ring, 1) < 0)
		die("io_uring_submit");
	return reap();
}

static int close_it(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd;
}

static int run_create(int i)
{
	io_uring_prep_openat(sqe(), dir_fd, name("f", i), O_WRONLY | O_CREAT | O_EXCL, 0640);
	return close_it(result());
}

static int run_openat(int i)
{
	io_uring_prep_openat(sqe(), AT_FDCWD, name("f", i), O_RDONLY | O_CLOEXEC, 0);
	return close_it(result());
}

static int run_openat2(int i)
{
	struct open_how how = {.flags = O_RDWR | O_CREAT, .mode = 0604};

	io_uring_prep_openat2(sqe(), dir_fd, name("n", i), &how);
	return close_it(result());
}

/* By an io-wq worker, as what would block is. */
static int run_async(int i)
{
	struct io_uring_sqe *s = sqe();

	io_uring_prep_openat(s, dir_fd, name("link", i), O_RDONLY, 0);
	s->flags |= IOSQE_ASYNC;
	return close_it(result());
}

static int run_mkdirat(int i)
{
	io_uring_prep_mkdirat(sqe(), dir_fd, name("m", i), 0710);
	return result();
}

static int run_renameat(int i)
{
	io_uring_prep_renameat(sqe(), dir_fd, name("n", i), AT_FDCWD, name("moved", i), 1);
	return result();
}

static int run_linkat(int i)
{
	io_uring_prep_linkat(sqe(), dir_fd, name("f", i), dir_fd, name("hard", i), 0);
	return result();
}

static int run_symlinkat(int i)
{
	io_uring_prep_symlinkat(sqe(), name("../to", i), dir_fd, name("soft", i));
	return result();
}

static void prep_ftruncate(int fd, int length)
{
	struct io_uring_sqe *s = sqe();

	io_uring_prep_nop(s);
	s->opcode = OP_FTRUNCATE;
	s->fd = fd;
	s->off = (uint64_t)length;
}

static int run_ftruncate(int i)
{
	int fd = open(name("f", i), O_WRONLY | O_CLOEXEC), r;

	prep_ftruncate(fd, i);
	r = result();
	close(fd);
	return r;
}

static int run_unlinkat(int i)
{
	io_uring_prep_unlinkat(sqe(), dir_fd, name("hard", i), 0);
	return result();
}

static int run_removedir(int i)
{
	io_uring_prep_unlinkat(sqe(), dir_fd, name("m", i), AT_REMOVEDIR);
	return result();
}

/* In an order in which each finds what it needs. */
static const struct kind {
	const char *name;
	int (*run)(int i);
} kinds[] = {
	{"create", run_create},	    {"openat", run_openat},	  {"openat2", run_openat2},
	{"async", run_async},	    {"mkdirat", run_mkdirat},	  {"renameat", run_renameat},
	{"linkat", run_linkat},	    {"symlinkat", run_symlinkat}, {"ftruncate", run_ftruncate},
	{"unlinkat", run_unlinkat}, {"removedir", run_removedir},
};

static void run_kinds(int n)
{
	for (int i = 0; i < n; i++)
		if (symlink(name("f", i), name("link", i)) < 0)
			die("prepare");
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		for (int i = 0; i < n; i++) {
			int r = kinds[k].run(i);

			if (r == -EINVAL) {
				printf("missing %s\n", kinds[k].name);
				break;
			}
			if (r < 0) {
				errno = -r;
				die(kinds[k].name);
			}
		}
	}
}

static void want(const char *what, int got, int wanted)
{
	if (got == wanted)
		return;
	fprintf(stderr, "%s: %d, not %d\n", what, got, wanted);
	exit(1);
}

static void failures(int n)
{
	static char long_name[5000];

	if (close_it(open("plain", O_WRONLY | O_CREAT, 0600)) < 0)
		die("failures");
	memset(long_name, 'x', sizeof(long_name) - 1);
	for (int i = 0; i < n; i++) {
		struct io_uring_sqe *s;

		io_uring_prep_openat(sqe(), AT_FDCWD, "no/such", O_RDONLY, 0);
		want("absent", result(), -ENOENT);
		io_uring_prep_openat(sqe(), 999, "relative", O_RDONLY, 0);
		want("no directory", result(), -EBADF);
		io_uring_prep_openat(sqe(), AT_FDCWD, (char *)8, O_RDONLY, 0);
		want("unreadable", result(), -EFAULT);
		io_uring_prep_openat(sqe(), AT_FDCWD, long_name, O_RDONLY, 0);
		want("too long", result(), -ENAMETOOLONG);
		io_uring_prep_mkdirat(sqe(), AT_FDCWD, "plain", 0700);
		want("there already", result(), -EEXIST);
		s = sqe();
		io_uring_prep_mkdirat(s, AT_FDCWD, "refused", 0700);
		s->buf_index = 1; /* which it has no use for */
		want("refused", result(), -EINVAL);
		s = sqe();
		io_uring_prep_renameat(s, dir_fd, "from", dir_fd, "to", 0);
		s->buf_index = 1;
		want("refused, too", result(), -EINVAL);
		s = sqe();
		io_uring_prep_symlinkat(s, "contents", dir_fd, "refused");
		s->buf_index = 1;
		want("the third", result(), -EINVAL);
	}
}

/* None says that it succeeded; opens say that they failed. */
static void silent(int n)
{
	for (int i = 0; i < n; i++)
		if (close_it(open(name("s", i), O_WRONLY | O_CREAT, 0600)) < 0)
			die("prepare");
	for (int i = 0; i < n; i++) {
		struct io_uring_sqe *s = sqe();

		io_uring_prep_unlinkat(s, dir_fd, name("s", i), 0);
		s->flags |= IOSQE_CQE_SKIP_SUCCESS;
		s = sqe();
		io_uring_prep_openat(s, dir_fd, "absent", O_WRONLY, 0);
		s->flags |= IOSQE_CQE_SKIP_SUCCESS;
		want("silent", result(), -ENOENT);
	}
	/* So that all are done. */
	for (int i = 0; i < n; i++)
		while (access(name("s", i), F_OK) == 0)
			usleep(1000);
}

/* A directory and a file in it, one after the other; then a chain that breaks at its first part. */
static void chains(int n)
{
	for (int i = 0; i < n; i++) {
		char dir[64], file[80];
		struct io_uring_sqe *s = sqe();
		int r[5];

		snprintf(dir, sizeof(dir), "c-%d", i);
		snprintf(file, sizeof(file), "c-%d/in", i);
		io_uring_prep_mkdirat(s, dir_fd, dir, 0700);
		s->flags |= IOSQE_IO_LINK;
		s = sqe();
		io_uring_prep_openat(s, dir_fd, file, O_WRONLY | O_CREAT, 0600);
		s->flags |= IOSQE_IO_LINK;
		io_uring_prep_unlinkat(sqe(), dir_fd, file, 0);
		s = sqe();
		io_uring_prep_openat(s, dir_fd, "absent", O_RDONLY, 0);
		s->flags |= IOSQE_IO_LINK;
		io_uring_prep_mkdirat(sqe(), dir_fd, name("never", i), 0700);
		if (io_uring_submit_and_wait(&ring, 5) != 5)
			die("io_uring_submit");
		for (int k = 0; k < 5; k++) {
			r[k] = reap();
			close_it(r[k] ? r[k] : -1);
		}
		if (access(name("never", i), F_OK) == 0)
			die("a chain that should have been broken");
	}
}

/* Into the ring's own table: in a place that we choose, in one that the kernel chooses. */
static void direct(int n)
{
	bool can_truncate = true;
	int fds[SLOTS], r;

	memset(fds, -1, sizeof(fds));
	r = io_uring_register_files(&ring, fds, SLOTS);
	if (r < 0)
		die("io_uring_register_files");
	for (int i = 0; i < n; i++) {
		int nothing = -1;

		io_uring_prep_openat_direct(sqe(), dir_fd, name("d", i), O_RDWR | O_CREAT, 0600,
					    (unsigned int)(i % SLOTS));
		want("chosen slot", result(), 0);
		if (can_truncate) {
			prep_ftruncate(i % SLOTS, 10 + i);
			io_uring_sqe_set_flags(
				&ring.sq.sqes[(ring.sq.sqe_tail - 1) & *ring.sq.kring_mask],
				IOSQE_FIXED_FILE);
			r = result();
			can_truncate = r != -EINVAL;
			if (can_truncate)
				want("truncated", r, 0);
			else
				printf("missing ftruncate\n");
		}
		io_uring_register_files_update(&ring, (unsigned int)(i % SLOTS), &nothing, 1);
		io_uring_prep_openat_direct(sqe(), dir_fd, name("d", i), O_RDONLY, 0,
					    IORING_FILE_INDEX_ALLOC - 1);
		r = result();
		if (r < 0 || r >= SLOTS)
			want("any slot", r, 0);
		io_uring_register_files_update(&ring, (unsigned int)r, &nothing, 1);
	}
}

/* As another user, whose rights the ring was lent. */
static void lent(int n)
{
	int id;

	if (setresuid(12345, 0, 0) < 0)
		die("setresuid");
	id = io_uring_register_personality(&ring);
	if (setresuid(0, 0, 0) < 0 || id < 0)
		die("io_uring_register_personality");
	for (int i = 0; i < n; i++) {
		struct io_uring_sqe *s = sqe();

		io_uring_prep_mkdirat(s, dir_fd, name("p", i), 0700);
		s->personality = (uint16_t)id;
		want("lent", result(), 0);
	}
}

/* More results than there is room for, which nobody ever looks at. */
static void unread(int n)
{
	for (int i = 0; i < n; i++) {
		io_uring_prep_mkdirat(sqe(), dir_fd, name("u", i), 0700);
		if (io_uring_submit(&ring) != 1)
			die("io_uring_submit");
	}
	for (int i = 0; i < n; i++)
		while (access(name("u", i), F_OK) < 0)
			usleep(1000);
}

/* A child puts requests into its parent's ring: they are the child's. */
static void inherited(int n)
{
	pid_t child = fork();

	if (child) {
		printf("child %d\n", child);
		waitpid(child, NULL, 0);
		return;
	}
	for (int i = 0; i < n; i++) {
		io_uring_prep_mkdirat(sqe(), dir_fd, name("i", i), 0700);
		want("inherited", result(), 0);
	}
}

/* Many at once, every other one by a worker, which end in any order. */
static void batches(int n)
{
	for (int i = 0; i < n; i += 61) {
		int batch = n - i < 61 ? n - i : 61;

		for (int k = 0; k < batch; k++) {
			struct io_uring_sqe *s = sqe();

			io_uring_prep_openat(s, dir_fd, k % 3 ? "there" : "absent", O_RDONLY, 0);
			s->user_data = 7; /* the same for all: nothing to tell them apart by */
			if (k % 2)
				s->flags |= IOSQE_ASYNC;
		}
		if (io_uring_submit_and_wait(&ring, (unsigned int)batch) != batch)
			die("io_uring_submit");
		for (int k = 0; k < batch; k++)
			close_it(reap());
	}
}

/* Requests that make no rows: the time of each, in nanoseconds of this thread's own. */
static void reads(int n)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct timespec a, b;
	char buf[16];

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	for (int i = 0; i < n; i += 32) {
		for (int k = 0; k < 32; k++)
			io_uring_prep_read(sqe(), fd, buf, sizeof(buf), 0);
		if (io_uring_submit_and_wait(&ring, 32) != 32)
			die("io_uring_submit");
		for (int k = 0; k < 32; k++)
			want("read", reap(), sizeof(buf));
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	printf("%.0f\n",
	       ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / n);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *what;
		void (*run)(int n);
		unsigned int entries, flags;
	} modes[] = {
		{"kinds", run_kinds, 64, 0},	 {"sqpoll", run_kinds, 64, IORING_SETUP_SQPOLL},
		{"failures", failures, 64, 0},	 {"silent", silent, 64, 0},
		{"chains", chains, 64, 0},	 {"direct", direct, 64, 0},
		{"lent", lent, 64, 0},		 {"unread", unread, 1, 0},
		{"inherited", inherited, 64, 0}, {"batches", batches, 64, 0},
		{"reads", reads, 64, 0},
	};
	int n = argc == 4 ? atoi(argv[3]) : 0;

	umask(0);
	if (n < 1 || n > 10000000 || chdir(argv[2]) < 0) {
		fprintf(stderr, "usage: vfsuringload WHAT /DIRECTORY N\n");
		return 2;
	}
	dir_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(argv[1], modes[i].what) != 0)
			continue;
		open_ring(modes[i].entries, modes[i].flags);
		modes[i].run(n);
		return 0;
	}
	return 2;
}
