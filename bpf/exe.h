// SPDX-License-Identifier: Apache-2.0
/* What a plugin must know of an executable or library to put uprobes into it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* An ELF file of this machine, open for reading. Any thread, one at a time. */
struct exe;

/* -ENOENT, -EACCES ...: cannot be opened; -ENOEXEC: not an ELF executable or library of this machine. */
int exe_open(struct exe **ret, const char *path, struct err *err);
void exe_close(struct exe *x);
DEFINE_CLEANUP(struct exe *, exe_close)

/* Which file this is, whatever the path. */
dev_t exe_dev(const struct exe *x);
ino_t exe_ino(const struct exe *x);

/* The address that the file gives to a symbol of its dynamic symbol table; 0: not there. */
uint64_t exe_symbol(const struct exe *x, const char *name);
/* The same of a function, also where only the full symbol table has it (programs linked statically). */
uint64_t exe_function(const struct exe *x, const char *name);
/*
 * The function that the code at that place of the file belongs to, and how far inside it is; NULL:
 * unknown. Valid until close.
 */
const char *exe_function_at(const struct exe *x, uint64_t offset, uint64_t *inside);
/* Where in the file the code at that address is: what a uprobe wants; 0: no code there. */
uint64_t exe_offset(const struct exe *x, uint64_t addr);
/* Bytes of the file; how many there were, or negative errno. */
ssize_t exe_read(const struct exe *x, uint64_t offset, void *dst, size_t len);
/* The needed library whose name begins with prefix, as in DT_NEEDED ("libreadline.so.8"); NULL: none. Valid until close. */
const char *exe_needs(const struct exe *x, const char *prefix);

/*
 * What the kernel will have in mm_struct (fs/binfmt_elf.c), less the load bias: the distances from start_code tell one
 * executable from another, and start_code leads to its variables.
 */
struct exe_layout {
	uint64_t start_code, end_code, start_data, end_data;
};

void exe_layout(const struct exe *x, struct exe_layout *ret);

/* By s_magic: on a file system that somebody else answers for, who may be slow, gone or hostile? */
bool exe_is_remote(uint32_t magic);
/* The file itself, as long as x is open. */
int exe_fd(const struct exe *x);
/*
 * A file below root, which may be hostile: never leaves it, follows nothing magic, crosses into no
 * mount (whose server could hang us). A descriptor or negative errno.
 */
int exe_openat(int root, const char *path, int flags);
/* The same as exe_open() for such a file. */
int exe_open_in(struct exe **ret, int root, const char *path, struct err *err);
/* Looks for a library where distributions keep them, below root. */
int exe_open_library_in(struct exe **ret, int root, const char *soname, struct err *err);
/* Looks for a library where this distribution keeps them; -ENOENT names the folders. */
int exe_open_library(struct exe **ret, const char *soname, char *path, size_t cap, struct err *err);
