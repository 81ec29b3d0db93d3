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

/* The tracepoint has the call's name in the kernel, which isn't always that of its number. */
#define CALL(id, operation, ...)                                                           \
	{                                                                                  \
		.name = #id, .nr = SYS_##id, .call = {.op = VFS_##operation, __VA_ARGS__ } \
	}

#define PATH(n)	      .dir = VFS_ARG_CWD, .path = (n)
#define PATH_AT(d, n) .dir = (d), .path = (n)
#define NEW(n)	      .dir2 = VFS_ARG_CWD, .path2 = (n)
#define NEW_AT(d, n)  .dir2 = (d), .path2 = (n)
#define BY_FD	      .bits = VFS_BY_FD, .dir = 1

const struct vfs_syscall vfs_syscalls[] = {
	CALL(openat, OPEN, PATH_AT(1, 2), .flags = 3, .mode = 4),
	CALL(openat2, OPEN, PATH_AT(1, 2), .flags = 3, .bits = VFS_HOW),
	CALL(unlinkat, UNLINK, PATH_AT(1, 2), .flags = 3),
	CALL(renameat2, RENAME, PATH_AT(1, 2), NEW_AT(3, 4), .flags = 5),
	CALL(mkdirat, MKDIR, PATH_AT(1, 2), .mode = 3),
	CALL(mknodat, MKNOD, PATH_AT(1, 2), .mode = 3),
	CALL(fchmod, CHMOD, BY_FD, .mode = 2),
	CALL(fchmodat, CHMOD, PATH_AT(1, 2), .mode = 3),
	CALL(fchmodat2, CHMOD, PATH_AT(1, 2), .mode = 3, .flags = 4),
	CALL(fchown, CHOWN, BY_FD, .arg = 2, .arg2 = 3),
	CALL(fchownat, CHOWN, PATH_AT(1, 2), .arg = 3, .arg2 = 4, .flags = 5),
	CALL(truncate, TRUNCATE, PATH(1), .arg = 2),
	CALL(ftruncate, TRUNCATE, BY_FD, .arg = 2),
	CALL(linkat, LINK, PATH_AT(1, 2), NEW_AT(3, 4), .flags = 5),
	CALL(symlinkat, SYMLINK, PATH_AT(2, 3), .text = 1),
	CALL(mount, MOUNT, PATH(2), .text = 1, .text2 = 3, .flags = 4),
	CALL(move_mount, MOUNT, PATH_AT(3, 4), .text = 2, .flags = 5),
	{.name = "umount", .nr = SYS_umount2, .call = {.op = VFS_UMOUNT, PATH(1), .flags = 2}},
#ifdef SYS_renameat
	CALL(renameat, RENAME, PATH_AT(1, 2), NEW_AT(3, 4)),
#endif
#ifdef SYS_open /* newer architectures only have those with "at" */
	CALL(open, OPEN, PATH(1), .flags = 2, .mode = 3),
	{.name = "creat",
	 .nr = SYS_creat,
	 .flags = O_CREAT | O_WRONLY | O_TRUNC,
	 .call = {.op = VFS_OPEN, PATH(1), .mode = 2}},
	CALL(unlink, UNLINK, PATH(1)),
	CALL(rmdir, RMDIR, PATH(1)),
	CALL(rename, RENAME, PATH(1), NEW(2)),
	CALL(mkdir, MKDIR, PATH(1), .mode = 2),
	CALL(mknod, MKNOD, PATH(1), .mode = 2),
	CALL(chmod, CHMOD, PATH(1), .mode = 2),
	CALL(chown, CHOWN, PATH(1), .arg = 2, .arg2 = 3),
	CALL(lchown, CHOWN, PATH(1), .arg = 2, .arg2 = 3),
	CALL(link, LINK, PATH(1), NEW(2)),
	CALL(symlink, SYMLINK, PATH(2), .text = 1),
#endif
	{},
};

static_assert(ARRAY_SIZE(vfs_syscalls) <= VFS_SYSCALLS_MAX, "a place for each link");
