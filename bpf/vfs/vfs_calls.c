// SPDX-License-Identifier: Apache-2.0
/* System calls that make events of files, and where each has its arguments. */
#include <assert.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "base/macro.h"
#include "bpf/vfs/vfs_priv.h"

/* The same number everywhere; headers before 6.6 don't know it. */
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* Numbers of 32-bit programs: __NR_ia32_NAME of arch/x86/entry/syscalls/syscall_32.tbl. Those of
 * ARM differ, and nothing here has been tried with them. */
#if defined(__x86_64__)
#define COMPAT(nr) (nr)
#else
#define COMPAT(nr) 0
#endif

#define CALL_AS(name_, native, nr32, operation, ...)                             \
	{                                                                        \
		.name = name_, .nr = (native), .compat = COMPAT(nr32), .call = { \
			.op = VFS_##operation,                                   \
			__VA_ARGS__                                              \
		}                                                                \
	}
#define CALL(id, nr32, operation, ...) CALL_AS(#id, SYS_##id, nr32, operation, __VA_ARGS__)
/* Only in 32-bit programs. */
#define CALL32(name, nr32, operation, ...) \
	CALL_AS(name, VFS_NO_NUMBER, nr32, operation, __VA_ARGS__)

#define PATH(n)	      .dir = VFS_ARG_CWD, .path = (n)
#define PATH_AT(d, n) .dir = (d), .path = (n)
#define NEW(n)	      .dir2 = VFS_ARG_CWD, .path2 = (n)
#define NEW_AT(d, n)  .dir2 = (d), .path2 = (n)
#define BY_FD	      .bits = VFS_BY_FD, .dir = 1

const struct vfs_syscall vfs_syscalls[] = {
	CALL(openat, 295, OPEN, PATH_AT(1, 2), .flags = 3, .mode = 4),
	CALL(openat2, 437, OPEN, PATH_AT(1, 2), .flags = 3, .bits = VFS_HOW),
	CALL(unlinkat, 301, UNLINK, PATH_AT(1, 2), .flags = 3),
	CALL(renameat2, 353, RENAME, PATH_AT(1, 2), NEW_AT(3, 4), .flags = 5),
	CALL(mkdirat, 296, MKDIR, PATH_AT(1, 2), .mode = 3),
	CALL(mknodat, 297, MKNOD, PATH_AT(1, 2), .mode = 3),
	CALL(fchmod, 94, CHMOD, BY_FD, .mode = 2),
	CALL(fchmodat, 306, CHMOD, PATH_AT(1, 2), .mode = 3),
	CALL(fchmodat2, 452, CHMOD, PATH_AT(1, 2), .mode = 3, .flags = 4),
	CALL(fchown, 207, CHOWN, BY_FD, .arg = 2, .arg2 = 3),
	CALL(fchownat, 298, CHOWN, PATH_AT(1, 2), .arg = 3, .arg2 = 4, .flags = 5),
	CALL(truncate, 92, TRUNCATE, PATH(1), .arg = 2),
	CALL(ftruncate, 93, TRUNCATE, BY_FD, .arg = 2),
	CALL(linkat, 303, LINK, PATH_AT(1, 2), NEW_AT(3, 4), .flags = 5),
	CALL(symlinkat, 304, SYMLINK, PATH_AT(2, 3), .text = 1),
	CALL(mount, 21, MOUNT, PATH(2), .text = 1, .text2 = 3, .flags = 4),
	CALL(move_mount, 429, MOUNT, PATH_AT(3, 4), .text = 2, .flags = 5),
	CALL_AS("umount", SYS_umount2, 52, UMOUNT, PATH(1), .flags = 2),
#ifdef SYS_renameat
	CALL(renameat, 302, RENAME, PATH_AT(1, 2), NEW_AT(3, 4)),
#endif
#ifdef SYS_open /* newer architectures only have those with "at" */
	CALL(open, 5, OPEN, PATH(1), .flags = 2, .mode = 3),
	{.name = "creat",
	 .nr = SYS_creat,
	 .compat = COMPAT(8),
	 .flags = O_CREAT | O_WRONLY | O_TRUNC,
	 .call = {.op = VFS_OPEN, PATH(1), .mode = 2}},
	CALL(unlink, 10, UNLINK, PATH(1)),
	CALL(rmdir, 40, RMDIR, PATH(1)),
	CALL(rename, 38, RENAME, PATH(1), NEW(2)),
	CALL(mkdir, 39, MKDIR, PATH(1), .mode = 2),
	CALL(mknod, 14, MKNOD, PATH(1), .mode = 2),
	CALL(chmod, 15, CHMOD, PATH(1), .mode = 2),
	CALL(chown, 212, CHOWN, PATH(1), .arg = 2, .arg2 = 3),
	CALL(lchown, 198, CHOWN, PATH(1), .arg = 2, .arg2 = 3),
	CALL(link, 9, LINK, PATH(1), NEW(2)),
	CALL(symlink, 83, SYMLINK, PATH(2), .text = 1),
#endif
#ifdef __x86_64__
	/* Of old: owners of 16 bits, and lengths in two halves. */
	CALL32("chown", 182, CHOWN, PATH(1), .arg = 2, .arg2 = 3, .bits = VFS_ID16),
	CALL32("lchown", 16, CHOWN, PATH(1), .arg = 2, .arg2 = 3, .bits = VFS_ID16),
	CALL32("fchown", 95, CHOWN, .bits = VFS_BY_FD | VFS_ID16, .dir = 1, .arg = 2, .arg2 = 3),
	CALL32("truncate64", 193, TRUNCATE, PATH(1), .arg = 2, .arg2 = 3),
	CALL32("ftruncate64", 194, TRUNCATE, BY_FD, .arg = 2, .arg2 = 3),
	CALL32("umount", 22, UMOUNT, PATH(1)),
#endif
	{},
};

static_assert(ARRAY_SIZE(vfs_syscalls) <= VFS_CALLS, "a place for each behind the first");

size_t vfs_syscalls_count(void)
{
	return ARRAY_SIZE(vfs_syscalls) - 1;
}
