// SPDX-License-Identifier: Apache-2.0
/* Which allocator a process uses, and where in its file the functions are. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/macro.h"
#include "bpf/exe.h"
#include "bpf/insn.h"
#include "bpf/malloc/malloc_priv.h"
#include "bpf/maps.h"

static const struct {
	const char *name;
	uint8_t operation;
} functions[MALLOC_FUNCTIONS] = {
	{"malloc", MALLOC_MALLOC},
	{"free", MALLOC_FREE},
	{"calloc", MALLOC_CALLOC},
	{"realloc", MALLOC_REALLOC},
	{"posix_memalign", MALLOC_POSIX_MEMALIGN},
	{"aligned_alloc", MALLOC_ALIGNED_ALLOC},
	{"valloc", MALLOC_VALLOC},
	{"memalign", MALLOC_MEMALIGN},
	{"pvalloc", MALLOC_PVALLOC},
};

/* Two names of one function (memalign and aligned_alloc of glibc) are one site. */
static bool have_site(const struct malloc_library *l, uint64_t offset)
{
	for (unsigned int i = 0; i < l->n; i++)
		if (l->sites[i].enter == offset)
			return true;
	return false;
}

static void find_sites(const struct exe *x, struct malloc_library *l)
{
	uint8_t code[INSN_SITE_BYTES];

	l->dev = exe_dev(x);
	l->ino = exe_ino(x);
	l->n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		uint64_t offset = exe_offset(x, exe_function(x, functions[i].name));
		ssize_t n;

		if (!offset)
			continue;
		n = exe_read(x, offset, code, sizeof(code));
		if (n > 0)
			offset += insn_probe_site(code, (size_t)n);
		if (have_site(l, offset))
			continue;
		l->sites[l->n++] = (struct malloc_site){
			.operation = functions[i].operation,
			.enter = offset,
			.leave = functions[i].operation == MALLOC_FREE ? 0 : offset,
		};
	}
	if (!l->n || l->sites[0].operation != MALLOC_MALLOC)
		l->n = 0; /* not an allocator */
}

/* Its functions, read once a file. */
static const struct malloc_library *library_of(struct malloc_state *st, const char *path)
{
	_cleanup_(exe_closep) struct exe *x = NULL;
	struct malloc_library *l;
	struct stat s;

	if (stat(path, &s) < 0)
		return NULL;
	for (unsigned int i = 0; i < st->nlibraries; i++)
		if (st->libraries[i].dev == s.st_dev && st->libraries[i].ino == s.st_ino)
			return &st->libraries[i];
	if (exe_open(&x, path, NULL) < 0)
		return NULL;
	if (st->nlibraries < MALLOC_LIBRARIES)
		st->nlibraries++;
	l = &st->libraries[st->next_library];
	st->next_library = (st->next_library + 1) % MALLOC_LIBRARIES;
	find_sites(x, l);
	return l;
}

struct search {
	struct instance *in;
	uint32_t pid;
	size_t rank; /* of the best so far: its place in the option libraries */
	struct malloc_library *ret;
	char *path;
	size_t cap;
};

static void consider(struct search *s, size_t rank, const char *path)
{
	const struct malloc_library *l;

	if (rank >= s->rank)
		return;
	l = library_of(s->in->state, path);
	if (!l || !l->n)
		return;
	s->rank = rank;
	*s->ret = *l;
	snprintf(s->path, s->cap, "%s", path);
}

static int on_map(const struct map_line *m, void *arg)
{
	struct search *s = arg;
	const char *prefix;
	struct map_paths paths;

	if (!m->executable)
		return 0;
	for (size_t i = 0; (prefix = opt_item(s->in->opts, "libraries", i)); i++) {
		if (strncmp(m->name, prefix, strlen(prefix)) != 0)
			continue;
		maps_paths(s->pid, m, &paths);
		consider(s, i + 1, paths.mapping);
		/* Without CAP_SYS_ADMIN mappings can't be opened; a removed file is lost then. */
		if (strlen(paths.root) < s->cap)
			consider(s, i + 1, paths.root);
		break;
	}
	return 0;
}

int malloc_library_find(struct instance *in, uint32_t pid, struct malloc_library *ret, char *path,
			size_t cap)
{
	struct search s = {
		.in = in, .pid = pid, .rank = SIZE_MAX, .ret = ret, .path = path, .cap = cap};
	char exe[32];
	int r;

	/* A program that brings its own allocator, or is linked statically, uses that one. */
	snprintf(exe, sizeof(exe), "/proc/%u/exe", pid);
	consider(&s, 0, exe);
	if (s.rank) {
		r = maps_each(pid, on_map, &s);
		if (r < 0)
			return r;
	}
	return s.rank == SIZE_MAX ? -ENOENT : 0;
}
