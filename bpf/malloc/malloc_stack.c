// SPDX-License-Identifier: Apache-2.0
/* Addresses of user stacks as texts that people can read. */
#include "bpf/malloc/malloc_stack.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bpf/exe.h"
#include "bpf/malloc/malloc.h"
#include "bpf/maps.h"

/* Code mappings of the process at hand. */
#define CODE_MAX 1024
/* Files open at a time; the one that was opened first makes room. */
#define FILES_MAX 16

struct stack_reader {
	int stacks;
	bool symbols;
	uint32_t pid; /* whose mappings these are */
	unsigned int ncode;
	struct code {
		uint64_t start, end, offset, dev, ino;
		char name[64];
		char path[64]; /* of the mapping */
	} code[CODE_MAX];
	unsigned int next_file;
	struct file {
		uint64_t dev, ino;
		struct exe *exe; /* NULL: cannot be read */
	} files[FILES_MAX];
};

int stack_reader_new(struct stack_reader **ret, int stacks, bool symbols)
{
	struct stack_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->stacks = stacks;
	r->symbols = symbols;
	*ret = r;
	return 0;
}

void stack_reader_free(struct stack_reader *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < FILES_MAX; i++)
		exe_close(r->files[i].exe);
	free(r);
}

static int add_code(const struct map_line *m, void *arg)
{
	struct stack_reader *r = arg;
	struct map_paths paths;
	struct code *c;

	if (!m->executable)
		return 0;
	if (r->ncode == CODE_MAX)
		return 1; /* addresses beyond are told as numbers */
	c = &r->code[r->ncode++];
	c->start = m->start;
	c->end = m->end;
	c->offset = m->offset;
	c->dev = m->dev;
	c->ino = m->ino;
	snprintf(c->name, sizeof(c->name), "%.63s", m->name);
	maps_paths(r->pid, m, &paths);
	memcpy(c->path, paths.mapping, sizeof(c->path));
	return 0;
}

static const struct code *code_at(const struct stack_reader *r, uint64_t ip)
{
	for (unsigned int i = 0; i < r->ncode; i++)
		if (ip >= r->code[i].start && ip < r->code[i].end)
			return &r->code[i];
	return NULL;
}

static const struct exe *file_of(struct stack_reader *r, const struct code *c)
{
	struct file *f;

	for (size_t i = 0; i < FILES_MAX; i++)
		if (r->files[i].ino == c->ino && r->files[i].dev == c->dev)
			return r->files[i].exe;
	f = &r->files[r->next_file];
	r->next_file = (r->next_file + 1) % FILES_MAX;
	exe_close(f->exe);
	*f = (struct file){.dev = c->dev, .ino = c->ino};
	if (exe_open(&f->exe, c->path, NULL) < 0)
		f->exe = NULL;
	return f->exe;
}

static int frame_text(struct stack_reader *r, uint64_t ip, char *dst, size_t cap)
{
	/* The call is before the address to which it returns. */
	const struct code *c = code_at(r, ip - 1);
	const char *name = NULL;
	uint64_t offset, inside = 0;

	if (!c)
		return snprintf(dst, cap, "0x%" PRIx64, ip);
	offset = ip - c->start + c->offset;
	if (r->symbols && file_of(r, c))
		name = exe_function_at(file_of(r, c), offset - 1, &inside);
	if (name && *name)
		return snprintf(dst, cap, "%.200s+0x%" PRIx64, name, inside + 1);
	return snprintf(dst, cap, "%s+0x%" PRIx64, c->name, offset);
}

size_t stack_text(struct stack_reader *r, uint32_t pid, uint64_t stack, char *dst, size_t cap)
{
	struct malloc_stack s;
	size_t len = 0;

	dst[0] = '\0';
	if (!stack || bpf_map_lookup_elem(r->stacks, &stack, &s) < 0)
		return 0;
	if (r->pid != pid) {
		r->pid = pid;
		r->ncode = 0;
		(void)maps_each(pid, add_code, r); /* gone already: numbers */
	}
	for (int i = 0; i < MALLOC_STACK_DEPTH && s.ip[i]; i++) {
		char frame[280];
		int n = frame_text(r, s.ip[i], frame, sizeof(frame));

		if (n <= 0 || len + (size_t)n + 2 > cap)
			break;
		len += (size_t)snprintf(dst + len, cap - len, "%s%s", len ? ";" : "", frame);
	}
	return len;
}
