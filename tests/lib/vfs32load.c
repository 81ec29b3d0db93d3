// SPDX-License-Identifier: Apache-2.0
/* A known number of files touched by system calls of 32-bit programs: vfs32load /DIRECTORY N; ends
 * with 77 where the kernel has none. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)

/* Their numbers: arch/x86/entry/syscalls/syscall_32.tbl of the kernel. */
enum {
	OPEN = 5,
	LINK = 9,
	UNLINK = 10,
	CHMOD = 15,
	GETPID = 20,
	RENAME = 38,
	MKDIR = 39,
	RMDIR = 40,
	CHOWN16 = 182,
	FTRUNCATE = 93,
	TRUNCATE64 = 193,
	CHOWN32 = 212,
	OPENAT = 295,
	SYMLINKAT = 304,
	OPENAT2 = 437,
};

/* What they can point to: the lowest 4 GiB. */
static struct low {
	char a[64], b[64];
	struct open_how how;
} * low;

/* Any program can do that, whatever its own width. */
static long call(long nr, long a, long b, long c, long d)
{
	long ret = nr;

	__asm__ volatile("int $0x80"
			 : "+a"(ret)
			 : "b"(a), "c"(b), "d"(c), "S"(d)
			 : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

static long text(char *at, const char *prefix, int i)
{
	snprintf(at, sizeof(low->a), "%s-%d", prefix, i);
	return (long)(uintptr_t)at;
}

static long done(const char *what, long ret)
{
	if (ret >= 0)
		return ret;
	fprintf(stderr, "%s: %s\n", what, strerror((int)-ret));
	exit(1);
}

static void run(int i)
{
	long a = text(low->a, "f", i), b = text(low->b, "g", i), fd;

	close((int)done("open", call(OPEN, a, O_CREAT | O_EXCL | O_WRONLY, 0640, 0)));
	fd = done("openat", call(OPENAT, AT_FDCWD, a, O_WRONLY, 0));
	done("ftruncate", call(FTRUNCATE, fd, 100 + i, 0, 0));
	close((int)fd);
	low->how = (struct open_how){.flags = O_RDONLY};
	close((int)done("openat2",
			call(OPENAT2, AT_FDCWD, a, (long)(uintptr_t)&low->how, sizeof(low->how))));
	/* Both halves of a length beyond 4 GiB. */
	done("truncate64", call(TRUNCATE64, a, i, 1, 0));
	done("chmod", call(CHMOD, a, 0604, 0, 0));
	done("chown", call(CHOWN16, a, 0xffff, 7, 0));
	done("chown32", call(CHOWN32, a, 70000, -1, 0));
	done("link", call(LINK, a, b, 0, 0));
	done("unlink", call(UNLINK, b, 0, 0, 0));
	done("rename", call(RENAME, a, b, 0, 0));
	done("symlinkat", call(SYMLINKAT, b, AT_FDCWD, a, 0));
	text(low->a, "d", i);
	done("mkdir", call(MKDIR, a, 0710, 0, 0));
	done("rmdir", call(RMDIR, a, 0, 0, 0));
	if (call(OPEN, text(low->a, "absent", i), O_RDONLY, 0, 0) != -ENOENT)
		done("absent", -EEXIST);
}

static void none(int sig)
{
	(void)sig;
	_exit(77);
}

int main(int argc, char **argv)
{
	int n = argc == 3 ? atoi(argv[2]) : 0;

	if (n < 1 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: vfs32load /DIRECTORY N\n");
		return 2;
	}
	/* Without CONFIG_IA32_EMULATION that interrupt is a fault. */
	signal(SIGSEGV, none);
	if (call(GETPID, 0, 0, 0, 0) != getpid())
		return 77;
	signal(SIGSEGV, SIG_DFL);
	low = mmap(NULL, sizeof(*low), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (low == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (int i = 0; i < n; i++)
		run(i);
	return 0;
}

#else

int main(void)
{
	return 77;
}

#endif
