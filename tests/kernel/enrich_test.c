// SPDX-License-Identifier: Apache-2.0
/* Names from live processes, some of which lay traps: symlinks out of their root, pipes, huge
 * files, mounts. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/enrich.h"

#define CONTAINER "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct fixture {
	struct enrich *enrich;
	char dir[64];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/ringside-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(enrich_new(&f->enrich), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[160];

	snprintf(path, sizeof(path), "%s/etc/passwd", f->dir);
	(void)unlink(path);
	snprintf(path, sizeof(path), "%s/etc", f->dir);
	(void)rmdir(path);
	assert_int_equal(rmdir(f->dir), 0);
	enrich_free(f->enrich);
	free(f);
	return 0;
}

enum trap {
	TRAP_NONE,
	TRAP_CONTAINER, /* none, but a mount of its own for a root, as containers have it */
	TRAP_SYMLINK,
	TRAP_PIPE,
	TRAP_HUGE,
	TRAP_MOUNT,
};

static int lay(const char *passwd, enum trap trap)
{
	static const char text[] = "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n";
	int fd, r = 0;

	(void)unlink(passwd);
	if (trap == TRAP_SYMLINK)
		return symlink("../../../../../../../etc/passwd", passwd);
	if (trap == TRAP_PIPE)
		return mkfifo(passwd, 0644);
	fd = open(passwd, O_WRONLY | O_CREAT, 0644);
	if (fd < 0 || write(fd, text, sizeof(text) - 1) < 0 ||
	    (trap == TRAP_HUGE && ftruncate(fd, 1 << 30) < 0))
		r = -1;
	close(fd);
	return r;
}

/* A process with a mount namespace and a root of its own; says "ready" by its end of the pipe. */
static pid_t start_in_root(const char *dir, enum trap trap)
{
	char etc[96], passwd[128], c;
	int fds[2];
	pid_t pid;

	snprintf(etc, sizeof(etc), "%s/etc", dir);
	snprintf(passwd, sizeof(passwd), "%s/passwd", etc);
	assert_true(mkdir(etc, 0755) == 0 || errno == EEXIST);
	if (trap != TRAP_MOUNT)
		assert_int_equal(lay(passwd, trap), 0);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (trap >= TRAP_CONTAINER &&
		    (unshare(CLONE_NEWNS) < 0 ||
		     mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		     mount(dir, dir, NULL, MS_BIND, NULL) < 0))
			_exit(1);
		if (trap == TRAP_MOUNT &&
		    (mount("x", etc, "tmpfs", 0, NULL) < 0 || lay(passwd, TRAP_NONE) < 0))
			_exit(1);
		if (chroot(dir) < 0 || chdir("/") < 0 || write(fds[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	close(fds[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void our_own_names(void **state)
{
	struct fixture *f = *state;

	prctl(PR_SET_NAME, "enrich-self");
	assert_string_equal(enrich_ops.process_name(f->enrich, (uint32_t)getpid()), "enrich-self");
	assert_string_equal(enrich_ops.process_name(f->enrich, 0), "");
	assert_string_equal(enrich_ops.process_name(f->enrich, 4194303), "");
	assert_string_equal(enrich_ops.user_name(f->enrich, (uint32_t)getpid(), 0), "root");
	assert_string_equal(enrich_ops.user_name(f->enrich, (uint32_t)getpid(), 4123456789u), "");
	assert_string_equal(enrich_ops.user_name(f->enrich, 4194303, 0), "");
}

static void users_of_another_root(void **state)
{
	static const struct {
		enum trap trap;
		const char *name;
	} cases[] = {{TRAP_NONE, "alice"}, {TRAP_CONTAINER, "alice"}, {TRAP_SYMLINK, ""},
		     {TRAP_PIPE, ""},	   {TRAP_HUGE, ""},	      {TRAP_MOUNT, ""}};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pid_t pid = start_in_root(f->dir, cases[i].trap);
		uint64_t start = clock_mono_ns();

		enrich_free(f->enrich); /* what is known of that root lasts a minute */
		assert_int_equal(enrich_new(&f->enrich), 0);
		assert_string_equal(enrich_ops.user_name(f->enrich, (uint32_t)pid, 1000),
				    cases[i].name);
		assert_true(clock_mono_ns() - start < NSEC_PER_SEC);
		/* Symlinks end inside: never the host's root. */
		if (cases[i].trap == TRAP_SYMLINK)
			assert_string_equal(enrich_ops.user_name(f->enrich, (uint32_t)pid, 0), "");
		end(pid);
	}
}

/* From the cache: the answer doesn't change when the process is gone and its root is the same. */
static void names_are_kept(void **state)
{
	struct fixture *f = *state;
	uint32_t pid = (uint32_t)getpid();
	uint64_t start;

	assert_string_equal(enrich_ops.user_name(f->enrich, pid, 0), "root");
	start = clock_mono_ns();
	for (int i = 0; i < 1000; i++)
		assert_string_equal(enrich_ops.user_name(f->enrich, pid, 0), "root");
	assert_true(clock_mono_ns() - start < NSEC_PER_SEC);
	/* More than the cache holds: still right. */
	for (uint32_t uid = 100000; uid < 103000; uid++)
		assert_string_equal(enrich_ops.user_name(f->enrich, pid, uid), "");
	assert_string_equal(enrich_ops.user_name(f->enrich, pid, 0), "root");
}

static void container_by_cgroup_id(void **state)
{
	static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	struct fixture *f = *state;
	char path[256] = "";
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		snprintf(path, sizeof(path), "%s/cgroup.controllers", roots[i]);
		if (access(path, F_OK) < 0)
			continue;
		snprintf(path, sizeof(path), "%s/docker-" CONTAINER ".scope", roots[i]);
		if (mkdir(path, 0755) == 0)
			break;
		path[0] = '\0';
	}
	if (!path[0])
		skip();
	assert_int_equal(stat(path, &st), 0);
	assert_string_equal(enrich_ops.container_id(f->enrich, st.st_ino), CONTAINER);
	assert_int_equal(rmdir(path), 0);
	assert_string_equal(enrich_ops.container_id(f->enrich, st.st_ino),
			    CONTAINER); /* rows that come late still have it */
	assert_string_equal(enrich_ops.container_id(f->enrich, 1), "");
	assert_string_equal(enrich_ops.container_id(f->enrich, 0), "");
	assert_string_equal(enrich_ops.container_id(f->enrich, UINT64_MAX), "");
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(our_own_names),
		test(users_of_another_root),
		test(names_are_kept),
		test(container_by_cgroup_id),
	};

	if (geteuid() != 0) {
		puts("needs root");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
