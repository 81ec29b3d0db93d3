// SPDX-License-Identifier: Apache-2.0
/* An index over a serialized FileDescriptorSet: what the reflection services answer from. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macro.h"

struct refl_span {
	const char *p; /* into the set */
	size_t len;
};

struct refl_file {
	struct refl_span name, raw;
	struct refl_span *deps;
	size_t ndeps;
};

struct refl_symbol {
	char *name; /* fully qualified, without the leading dot */
	uint32_t file;
	bool service;
	/* Methods: the wire form of their MethodDescriptorProto. */
	bool client_streaming, server_streaming;
	struct refl_span input; /* ".ringside.v1.QueryRequest"; NULL for anything but a method */
};

struct refl;

/* The set must outlive the index. -EINVAL for a broken one. */
int refl_new(struct refl **ret, const void *set, size_t len);
void refl_free(struct refl *r);
const struct refl_file *refl_by_filename(const struct refl *r, const char *name);
const struct refl_symbol *refl_symbol(const struct refl *r, const char *name);
const struct refl_file *refl_by_symbol(const struct refl *r, const char *name);
/* Symbols in order of name. */
const struct refl_symbol *refl_symbols(const struct refl *r, size_t *n);
size_t refl_nfiles(const struct refl *r);
/* The file and all that it imports, root first; out has room for refl_nfiles(). */
size_t refl_closure(const struct refl *r, const struct refl_file *root, const struct refl_file **out);
