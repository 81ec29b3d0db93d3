// SPDX-License-Identifier: Apache-2.0
/* Rows of the vfs plugin. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/macro.h"
#include "bpf/vfs/vfs_priv.h"
#include "bpf/vfs/vfs_text.h"

enum file_type {
	TYPE_UNKNOWN,
	TYPE_REGULAR,
	TYPE_DIRECTORY,
	TYPE_SYMLINK,
	TYPE_BLOCK,
	TYPE_CHARACTER,
	TYPE_FIFO,
	TYPE_SOCKET,
	TYPE_X_MAX,
};

static const char *const type_names[] = {"",	      "regular", "directory", "symlink", "block",
					 "character", "fifo",	 "socket",    NULL};

static_assert(ARRAY_SIZE(type_names) == TYPE_X_MAX + 1, "a name for each");

const char *const vfs_op_names[] = {"",	       "open",	"create", "unlink", "rmdir",	"rename",
				    "mkdir",   "mknod", "chmod",  "chown",  "truncate", "link",
				    "symlink", "mount", "umount", NULL};

static_assert(VFS_OP_X_MAX == 15, "a name for each");

enum via { VIA_SYSCALL, VIA_IO_URING, VIA_X_MAX };

static const char *const via_names[] = {"syscall", "io_uring", NULL};

static_assert(ARRAY_SIZE(via_names) == VIA_X_MAX + 1, "a name for each");

struct vfs_row {
	PROCESS_COLUMNS;
	uint64_t flags;
	int64_t length;
	int32_t fd, error_raw;
	uint32_t mode, new_uid, new_gid;
	uint8_t operation, via, file_type, truncated;
	char syscall[12];
	struct str path, new_path, source, fstype, error;
};

PROCESS_ROW_CHECK(vfs_row);

static const struct field vfs_fields[] = {
	PROCESS_FIELDS(vfs_row, "when the call or request ended; where its result isn't known, "
				"up to two seconds after it was accepted"),
	FIELD(vfs_row, operation, ENUM, TEXT, TAG, "",
	      "what was done; create: an open that made the file", .names = vfs_op_names),
	FIELD(vfs_row, via, ENUM, TEXT, TAG, "",
	      "syscall, or io_uring: a request that a program put into a ring", .names = via_names),
	FIELD(vfs_row, syscall, CHARS, TEXT, TAG, "",
	      "system call that did it, or that does the same as the request", .dict = true),
	FIELD(vfs_row, path, STR, TEXT, TAG, "",
	      "the file, from the root of the mount namespace: of an open one as the kernel has "
	      "it, "
	      "else the name that was given, behind its directory; NULL: it had none",
	      .null = NULL_ZERO, .dict = true),
	FIELD(vfs_row, new_path, STR, TEXT, TAG, "", "the other name of a rename or link",
	      .null = NULL_ZERO, .dict = true),
	FIELD(vfs_row, file_type, ENUM, TEXT, TAG, "", "what it is, where that is known",
	      .null = NULL_ZERO, .names = type_names),
	FIELD(vfs_row, flags, U64, INT64, TAG, "", "flags of the call (O_, AT_, RENAME_, MS_)"),
	FIELD(vfs_row, mode, U32, INT64, TAG, "",
	      "permissions that were asked for; 0 for an open that can't make a file"),
	FIELD(vfs_row, fd, I32, INT64, TAG, "",
	      "descriptor that was opened or named; NULL: none, or a file of the ring's own",
	      .null = NULL_MAX),
	FIELD(vfs_row, error_raw, I32, INT64, TAG, "",
	      "errno of the call; 0: it succeeded; NULL: the kernel didn't tell the result of the "
	      "request",
	      .null = NULL_MAX),
	FIELD(vfs_row, error, STR, TEXT, TAG, "", "its name", .null = NULL_ZERO, .dict = true),
	FIELD(vfs_row, new_uid, U32, INT64, TAG, "", "user that it was given to; NULL: as it was",
	      .null = NULL_MAX),
	FIELD(vfs_row, new_gid, U32, INT64, TAG, "", "group that it was given to; NULL: as it was",
	      .null = NULL_MAX),
	FIELD(vfs_row, length, I64, INT64, GAUGE, "By", "length that it was truncated to",
	      .null = NULL_MAX),
	FIELD(vfs_row, source, STR, TEXT, TAG, "",
	      "what a symbolic link leads to, or what was mounted, as it was given",
	      .null = NULL_ZERO, .dict = true),
	FIELD(vfs_row, fstype, STR, TEXT, TAG, "", "type of the filesystem that was mounted",
	      .null = NULL_ZERO, .dict = true),
	FIELD(vfs_row, truncated, U8, BOOL, TAG, "",
	      "a path was too long or too deep: it begins with '...' or lacks its end"),
};

const struct table vfs_table = TABLE(
	vfs_row, AUDIT, "vfs", "Files opened, made, removed, renamed and changed", vfs_fields);

static uint8_t type_of(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return TYPE_REGULAR;
	case S_IFDIR:
		return TYPE_DIRECTORY;
	case S_IFLNK:
		return TYPE_SYMLINK;
	case S_IFBLK:
		return TYPE_BLOCK;
	case S_IFCHR:
		return TYPE_CHARACTER;
	case S_IFIFO:
		return TYPE_FIFO;
	case S_IFSOCK:
		return TYPE_SOCKET;
	default:
		return TYPE_UNKNOWN;
	}
}

/* What the operation itself says of the file, if it succeeded. */
static uint8_t type_by_operation(const struct vfs_event *e)
{
	switch (e->op) {
	case VFS_MKDIR:
	case VFS_RMDIR:
		return TYPE_DIRECTORY;
	case VFS_SYMLINK:
		return TYPE_SYMLINK;
	case VFS_MKNOD: /* no type at all means a file */
		return type_of(e->mode & S_IFMT ? e->mode : S_IFREG);
	default:
		return TYPE_UNKNOWN;
	}
}

static struct str path_text(struct instance *in, const char *path, size_t len, bool cut)
{
	struct vfs_state *st = in->state;
	struct str s = {0};

	if (!len)
		return s;
	if (!cut && vfs_path_is_clean(path, len))
		return instance_str(in, 0, path, len);
	vfs_path_clean(&st->text, path, len, cut);
	if (buf_status(&st->text) < 0) {
		in->count.rows_lost++;
		buf_free(&st->text);
		return s;
	}
	s = instance_str(in, 0, st->text.data, st->text.len);
	buf_reset(&st->text);
	return s;
}

static void add_numbers(struct instance *in, struct vfs_row *row, const struct vfs_event *e,
			const struct vfs_syscall *call)
{
	bool failed = e->ret < 0 && !(e->bits & VFS_PENDING);
	const char *error = failed ? strerrorname_np((int)-e->ret) : NULL;

	row->flags = e->flags | call->flags;
	/* Without these nobody gave one, and the register holds whatever it held. */
	if (call->call.op != VFS_OPEN || row->flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)))
		row->mode = e->mode;
	row->fd = e->fd;
	row->error_raw = e->ret < 0 ? (int32_t)-e->ret : 0;
	if (e->bits & VFS_PENDING)
		row->error_raw = -1;
	if (error)
		row->error = instance_str(in, 0, error, strlen(error));
	row->new_uid = row->new_gid = UINT32_MAX;
	row->length = -1;
	if (e->op == VFS_CHOWN) {
		row->new_uid = (uint32_t)e->arg;
		row->new_gid = (uint32_t)(e->arg >> 32);
	}
	if (e->op == VFS_TRUNCATE)
		row->length = (int64_t)e->arg;
}

int vfs_row_add(struct instance *in, const struct vfs_event *e, size_t len)
{
	const struct vfs_syscall *call;
	const char *data = e->data;
	struct vfs_row *row;

	if (len < offsetof(struct vfs_event, data) ||
	    (size_t)e->len[0] + e->len[1] + e->len[2] > len - offsetof(struct vfs_event, data) ||
	    e->op >= VFS_OP_X_MAX || !e->index || e->index > vfs_syscalls_count())
		return -EBADMSG;
	call = &vfs_syscalls[e->index - 1];
	row = instance_row(in, 0);
	if (!row)
		return 0;
	process_fill(in, 0, row, &e->p);
	add_numbers(in, row, e, call);
	row->operation = e->op;
	row->via = e->bits & VFS_URING ? VIA_IO_URING : VIA_SYSCALL;
	row->file_type = e->file_mode ? type_of(e->file_mode) : TYPE_UNKNOWN;
	if (!row->file_type && e->ret >= 0)
		row->file_type = type_by_operation(e);
	memcpy(row->syscall, call->name, strnlen(call->name, sizeof(row->syscall) - 1));
	row->truncated = !!(e->bits & (VFS_CUT | VFS_CUT2));
	/* Pipes and sockets are in no tree. */
	if (e->len[0] > 1 || !e->file_mode || S_ISDIR(e->file_mode))
		row->path = path_text(in, data, e->len[0], e->bits & VFS_CUT);
	data += e->len[0];
	if (call->call.path2)
		row->new_path = path_text(in, data, e->len[1], e->bits & VFS_CUT2);
	else
		row->source = instance_str(in, 0, data, e->len[1]);
	data += e->len[1];
	row->fstype = instance_str(in, 0, data, e->len[2]);
	return 0;
}
