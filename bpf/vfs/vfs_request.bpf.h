/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the kernel keeps of a request of io_uring, and of the ring that it came by. */
#pragma once

#include "bpf/lib/kernel.h"

/* IOSQE_FIXED_FILE, of a request as of what it was submitted by. */
#define URING_FIXED_FILE 1
/* IORING_FILE_INDEX_ALLOC: the kernel chooses where in the ring's own table it puts what it opens.
 */
#define URING_ANY_SLOT (~0u)
/* FFS_MASK of io_uring/filetable.h: what it knows of a file, in the bits that no pointer has. */
#define URING_FILE_BITS 7ul

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct filename {
	const char *name;
};

/* Since 9fa3ec84587c ("allow incomplete imports of filenames"), 7.0. */
struct delayed_filename {
	struct filename *__incomplete_filename;
};

struct open_how {
	u64 flags, mode;
};

/* What a request was given, as io_uring/openclose.c, fs.c and truncate.c keep it. */
struct io_open {
	int dfd;
	u32 file_slot;
	struct filename *filename;
	struct open_how how;
};

struct io_open___delayed {
	struct delayed_filename filename;
};

struct io_unlink {
	int dfd, flags;
	struct filename *filename;
};

struct io_unlink___delayed {
	struct delayed_filename filename;
};

struct io_mkdir {
	int dfd;
	unsigned short mode;
	struct filename *filename;
};

struct io_mkdir___delayed {
	struct delayed_filename filename;
};

struct io_rename {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
	int flags;
};

struct io_rename___delayed {
	struct delayed_filename oldpath, newpath;
};

/* Of symbolic links, too. */
struct io_link {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
	int flags;
};

struct io_link___delayed {
	struct delayed_filename oldpath, newpath;
};

/* Since b4bb1900c12e ("io_uring: add support for ftruncate"), 6.9. */
struct io_ftrunc {
	s64 len;
};

struct io_cqe {
	s32 res;
	int fd;
};

struct io_rsrc_node {
	unsigned long file_ptr;
};

struct io_rsrc_data {
	unsigned int nr;
	struct io_rsrc_node **nodes;
};

/* Before 3597f2786b68 ("io_uring/rsrc: unify file and buffer resource tables"), 6.13. */
struct io_fixed_file {
	unsigned long file_ptr;
};

struct io_file_table {
	struct io_rsrc_data data;
	struct io_fixed_file *files;
};

struct io_ring_ctx {
	struct io_file_table file_table;
	unsigned int nr_user_files;
};

struct io_kiocb {
	struct file *file;
	u8 opcode;
	unsigned int flags;
	struct io_cqe cqe;
	struct io_ring_ctx *ctx;
	const struct cred *creds;
};

struct io_uring_sqe {
	u8 flags;
	s32 fd;
	u64 addr2, addr;
	u32 len, open_flags;
};

#pragma clang attribute pop
