// SPDX-License-Identifier: Apache-2.0
/* The query worker's sandbox from outside and inside, and what its death tells. */
#include "query_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "store/query_sandbox.h"

static struct result res;

/* The first child of any thread of a process; 0: none. */
static pid_t child_of(pid_t parent)
{
	char path[320];
	struct dirent *de;
	int pid = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)parent);
	d = opendir(path);
	while (d && !pid && (de = readdir(d))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/children", (int)parent, de->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%d", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	if (d)
		closedir(d);
	return pid;
}

static pid_t wait_child_of(pid_t parent)
{
	for (int i = 0; i < 300; i++) {
		pid_t pid = child_of(parent);

		if (pid)
			return pid;
		usleep(10000);
	}
	fail_msg("no query worker appeared");
	return 0;
}

static char *proc_read(pid_t pid, const char *file, char *dst, size_t cap)
{
	char path[64];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	f = fopen(path, "re");
	assert_non_null(f);
	n = fread(dst, 1, cap - 1, f);
	dst[n] = '\0';
	fclose(f);
	return dst;
}

static void assert_line(const char *text, const char *line)
{
	if (!strstr(text, line))
		fail_msg("'%s' is not in:\n%s", line, text);
}

struct background {
	pthread_t thread;
	struct fixture *f;
	struct result res;
	atomic_bool cancelled;
	const char *sql;
};

static void *background_main(void *arg)
{
	struct background *b = arg;

	result_run(b->f, &b->res, b->sql, &(struct how){.cancelled = &b->cancelled});
	return NULL;
}

static struct background *background_start(struct fixture *f, const char *sql,
					   unsigned int sink_sleep_ms)
{
	struct background *b = calloc(1, sizeof(*b));

	b->f = f;
	b->sql = sql;
	b->res.sink_sleep_ms = sink_sleep_ms;
	assert_int_equal(pthread_create(&b->thread, NULL, background_main, b), 0);
	return b;
}

static void background_end(struct background *b)
{
	b->cancelled = true;
	pthread_join(b->thread, NULL);
	assert_int_equal(b->res.r, -ECANCELED);
	result_free(&b->res);
	free(b);
}

static void check_read_only(pid_t pid, int fd)
{
	char file[32], text[512];
	const char *flags;

	snprintf(file, sizeof(file), "fdinfo/%d", fd);
	flags = strstr(proc_read(pid, file, text, sizeof(text)), "flags:");
	assert_non_null(flags);
	assert_int_equal(strtoul(flags + strlen("flags:"), NULL, 8) & O_ACCMODE, O_RDONLY);
}

/* How many descriptors beyond stdio and the socket; all are files of the ring, read-only (a WAL
 * never is), but for one without a name. */
static unsigned int check_fds(const struct fixture *f, pid_t pid)
{
	char path[320], target[256];
	unsigned int n = 0, nameless = 0;
	struct dirent *de;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	assert_non_null(d);
	while ((de = readdir(d))) {
		int fd = atoi(de->d_name);
		ssize_t len;

		if (de->d_name[0] == '.' || (SANITIZED && fd == 2))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		len = readlink(path, target, sizeof(target) - 1);
		assert_true(len > 0);
		target[len] = '\0';
		if (fd < 3)
			assert_string_equal(target, "/dev/null");
		else if (fd == 3)
			assert_memory_equal(target, "socket:", 7);
		if (fd > 3) {
			assert_memory_equal(target, f->dir, strlen(f->dir));
			if (strstr(target, " (deleted)"))
				nameless++;
			else if (!strstr(target, "-wal"))
				check_read_only(pid, fd);
			n++;
		}
	}
	closedir(d);
	assert_in_range(nameless, 0, 1);
	return n;
}

static void test_worker_is_boxed(void **state)
{
	struct fixture *f = *state;
	struct background *b =
		background_start(f, "SELECT count(*) FROM netflow, netflow, netflow, netflow", 0);
	char text[8192];
	pid_t pid = wait_child_of(getpid());

	usleep(500000);
	proc_read(pid, "status", text, sizeof(text));
	assert_line(text, "Name:\tringside-query\n");
	assert_line(text, "Threads:\t1\n");
	assert_line(text, "CapInh:\t0000000000000000\n");
	assert_line(text, "CapPrm:\t0000000000000000\n");
	assert_line(text, "CapEff:\t0000000000000000\n");
	assert_line(text, "CapAmb:\t0000000000000000\n");
	assert_line(text, "NoNewPrivs:\t1\n");
	assert_line(text, "Seccomp:\t2\n");
	if (geteuid() == 0) {
		assert_line(text, "Uid:\t65534\t65534\t65534\t65534\n");
		assert_line(text, "Gid:\t65534\t65534\t65534\t65534\n");
		assert_line(text, "Groups:\t \n");
		assert_line(text, "CapBnd:\t0000000000000000\n");
		assert_string_equal(proc_read(pid, "oom_score_adj", text, sizeof(text)), "1000\n");
		assert_true(check_fds(f, pid) >= 3);
		proc_read(pid, "limits", text, sizeof(text));
		assert_non_null(strstr(text, "Max file size"));
		assert_null(strstr(text, "Max file size             unlimited"));
		assert_line(text, "Max core file size        0                    0 ");
		assert_line(text, "Max processes             0                    0 ");
		assert_line(text, "Max open files            48                   48 ");
		assert_non_null(strstr(text, "Max cpu time"));
		if (!SANITIZED)
			assert_null(strstr(text, "Max address space         unlimited"));
	}
	assert_string_equal(proc_read(pid, "cmdline", text, sizeof(text)), QUERY_WORKER_NAME);
	background_end(b);
}

/* The rows fit in the worker: it lets the segments go while its client is still at the first. */
static void test_slow_client_holds_no_snapshot(void **state)
{
	struct fixture *f = *state;
	struct background *b =
		background_start(f, "SELECT * FROM netflow a JOIN netflow b ON a.ts = b.ts", 400);
	pid_t pid = wait_child_of(getpid());

	usleep(900000);
	if (geteuid() == 0)
		assert_int_equal(check_fds(f, pid), 0);
	/* The writer may fold its WAL now: nobody looks at an older state. */
	fixture_write(f, 1);
	assert_int_equal(
		sqlite3_wal_checkpoint_v2(f->live, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL),
		SQLITE_OK);
	background_end(b);
}

static void test_worker_killed(void **state)
{
	static const struct {
		int sig, code;
		const char *part;
	} deaths[] = {
		{SIGSYS, -EPERM, "sandbox"},	   {SIGXCPU, -ETIMEDOUT, "deadline"},
		{SIGALRM, -ETIMEDOUT, "deadline"}, {SIGKILL, -E2BIG, "SIGKILL"},
		{SIGABRT, -E2BIG, "SIGABRT"},	   {SIGTERM, -EIO, "signal 15"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(deaths); i++) {
		struct background *b = background_start(
			f, "SELECT count(*) FROM netflow, netflow, netflow, netflow", 0);
		pid_t pid = wait_child_of(getpid());

		usleep(200000);
		assert_int_equal(kill(pid, deaths[i].sig), 0);
		pthread_join(b->thread, NULL);
		if (b->res.r != deaths[i].code || !strstr(b->res.err.msg, deaths[i].part))
			fail_msg("signal %d: %d %s", deaths[i].sig, b->res.r, b->res.err.msg);
		free(b);
		assert_no_children();
	}
	assert_query(f, "SELECT 1", "1");
}

/* kill -9 of the daemon takes the worker along. */
static void test_daemon_killed(void **state)
{
	struct fixture *f = *state;
	pid_t daemon = fork(), worker;
	char path[64];

	if (!daemon) {
		result_run(f, &res, "SELECT count(*) FROM netflow, netflow, netflow, netflow",
			   NULL);
		_exit(0);
	}
	worker = wait_child_of(daemon);
	usleep(300000);
	assert_int_equal(kill(daemon, SIGKILL), 0);
	assert_int_equal(waitpid(daemon, NULL, 0), daemon);
	snprintf(path, sizeof(path), "/proc/%d/exe",
		 (int)worker); /* unreadable once it's dead, reaped or not */
	for (int i = 0; i < 100 && access(path, F_OK) == 0; i++)
		usleep(10000);
	assert_int_equal(access(path, F_OK), -1);
}

#define SPILL_FD    10
#define SPILL_BYTES (1 << 20)

enum deed {
	DEED_NOTHING,
	DEED_OPEN,
	DEED_SOCKET,
	DEED_EXEC,
	DEED_FORK,
	DEED_KILL,
	DEED_MMAP_EXEC,
	DEED_MMAP_SHARED,
	DEED_MPROTECT,
	DEED_UNLINK,
	DEED_NICE,
	DEED_LOCK,
	DEED_PWRITE,
	DEED_PWRITE_BEYOND,
	DEED_PWRITE_OTHER,
	DEED_WRITE,
	DEED_TRUNCATE,
	DEED_MALLOC,
	DEED_SPIN,
	DEED_SLEEP,
};

static int do_deed(enum deed deed)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 120, .l_len = 1};
	char *const argv[] = {(char *)"true", NULL};

	switch (deed) {
	case DEED_OPEN:
		return open("/etc/passwd", O_RDONLY);
	case DEED_SOCKET:
		return socket(AF_INET, SOCK_STREAM, 0);
	case DEED_EXEC:
		return execv("/bin/true", argv);
	case DEED_FORK:
		return fork();
	case DEED_KILL:
		return kill(getppid(), 0);
	case DEED_MMAP_EXEC:
		return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0) == MAP_FAILED;
	case DEED_MMAP_SHARED:
		return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			    0) == MAP_FAILED;
	case DEED_MPROTECT:
		return mprotect((void *)((uintptr_t)do_deed & ~4095ul), 4096,
				PROT_READ | PROT_WRITE);
	case DEED_UNLINK:
		return unlink("/tmp/test-query-no-such-file");
	case DEED_NICE:
		return nice(-5);
	case DEED_LOCK:
		return fcntl(3, F_SETLK, &lock) == -1 && errno == EACCES ? 0 : 1;
	case DEED_PWRITE:
		return pwrite(SPILL_FD, "x", 1, SPILL_BYTES - 1) == 1 ? 0 : 1;
	case DEED_PWRITE_BEYOND:
		return pwrite(SPILL_FD, "x", 1, SPILL_BYTES) == 1;
	case DEED_PWRITE_OTHER:
		return pwrite(SPILL_FD + 1, "x", 1, 0) == 1;
	case DEED_WRITE:
		return write(SPILL_FD, "x", 1) == 1;
	case DEED_TRUNCATE:
		return ftruncate(SPILL_FD, 0);
	case DEED_MALLOC:
		return malloc(100 << 20) ? 1 : 0;
	case DEED_SPIN:
		for (;;)
			__asm__ volatile("");
	case DEED_SLEEP:
		poll(NULL, 0, -1);
		return 1;
	case DEED_NOTHING:
		break;
	}
	return 0;
}

static void test_sandbox(void **state)
{
	static const struct {
		enum deed deed;
		int sig; /* 0: exit 0 */
	} deeds[] = {
		{DEED_NOTHING, 0},	    {DEED_OPEN, SIGSYS},     {DEED_SOCKET, SIGSYS},
		{DEED_EXEC, SIGSYS},	    {DEED_FORK, SIGSYS},     {DEED_KILL, SIGSYS},
		{DEED_UNLINK, SIGSYS},	    {DEED_NICE, SIGSYS},     {DEED_MMAP_EXEC, SIGSYS},
		{DEED_MMAP_SHARED, SIGSYS}, {DEED_MPROTECT, SIGSYS}, {DEED_LOCK, 0},
		{DEED_PWRITE, 0},	    {DEED_WRITE, SIGSYS},    {DEED_PWRITE_OTHER, SIGSYS},
		{DEED_TRUNCATE, SIGSYS},    {DEED_MALLOC, 0},	     {DEED_PWRITE_BEYOND, SIGXFSZ},
		{DEED_SPIN, SIGALRM},	    {DEED_SLEEP, SIGALRM},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++) {
		struct query_sandbox box = {
			.uid = geteuid() == 0 ? 65534 : UINT32_MAX,
			.gid = geteuid() == 0 ? 65534 : UINT32_MAX,
			.memory_bytes = 64 << 20,
			.deadline_ns = clock_mono_ns() + 300 * NSEC_PER_MSEC,
			.max_fds = 16,
			.spill_fd = SPILL_FD,
			.spill_bytes = SPILL_BYTES,
		};
		struct err err = {};
		char note[256];
		int status;
		pid_t pid;

		if (SANITIZED && deeds[i].deed == DEED_MALLOC)
			continue;
		pid = fork();
		if (!pid) {
			for (int s = 1; s < 32; s++) /* cmocka's handlers aren't the worker's */
				signal(s, SIG_DFL);
			assert_true(dup2(memfd_create("spill", 0), SPILL_FD) >= 0);
			assert_true(dup2(memfd_create("other", 0), SPILL_FD + 1) >= 0);
			if (query_sandbox_enter(&box, note, sizeof(note), &err) < 0)
				_exit(99);
			_exit(do_deed(deeds[i].deed));
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (deeds[i].sig ? !WIFSIGNALED(status) || WTERMSIG(status) != deeds[i].sig
				 : status != 0)
			fail_msg("deed %d: status %x", deeds[i].deed, (unsigned int)status);
	}
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], QUERY_WORKER_NAME))
		query_worker_main(argc, argv);

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_worker_is_boxed),	T(test_slow_client_holds_no_snapshot),
		T(test_worker_killed),		T(test_daemon_killed),
		cmocka_unit_test(test_sandbox),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
