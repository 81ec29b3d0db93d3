// SPDX-License-Identifier: Apache-2.0
/* Reads descriptors without descriptor.proto's generated code: a few field numbers are all that reflection needs. */
#include "api/refl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/wire.h"

/* Field numbers of google/protobuf/descriptor.proto; they can't change. */
enum {
	SET_FILE = 1,
	FILE_NAME = 1,
	FILE_PACKAGE = 2,
	FILE_DEPENDENCY = 3,
	FILE_MESSAGE = 4,
	FILE_ENUM = 5,
	FILE_SERVICE = 6,
	NAME = 1, /* of messages, enums, services, fields, values, methods */
	MESSAGE_FIELD = 2,
	MESSAGE_NESTED = 3,
	MESSAGE_ENUM = 4,
	MESSAGE_ONEOF = 8,
	ENUM_VALUE = 2,
	SERVICE_METHOD = 2,
	METHOD_INPUT = 2,
	METHOD_CLIENT_STREAMING = 5,
	METHOD_SERVER_STREAMING = 6,
};

#define MAX_DEPTH 32

struct refl {
	struct refl_file *files;
	size_t nfiles;
	struct refl_symbol *symbols;
	size_t nsymbols, cap;
};

static struct wire span_wire(struct refl_span s)
{
	return (struct wire){(const uint8_t *)s.p, (const uint8_t *)s.p + s.len};
}

static struct refl_span field_span(const struct wire_field *f)
{
	return (struct refl_span){(const char *)f->data, f->len};
}

static struct refl_span find_bytes(struct refl_span msg, uint32_t number)
{
	struct wire w = span_wire(msg);
	struct wire_field f;

	while (wire_next(&w, &f) > 0)
		if (f.number == number && f.type == WIRE_BYTES)
			return field_span(&f);
	return (struct refl_span){"", 0};
}

static bool find_bool(struct refl_span msg, uint32_t number)
{
	struct wire w = span_wire(msg);
	struct wire_field f;

	while (wire_next(&w, &f) > 0)
		if (f.number == number && f.type == WIRE_VARINT)
			return f.value != 0;
	return false;
}

static struct refl_symbol *add(struct refl *r, const char *scope, struct refl_span name, uint32_t file)
{
	struct refl_symbol *s;

	if (r->nsymbols == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 256;
		struct refl_symbol *grown = reallocarray(r->symbols, cap, sizeof(*grown));

		if (!grown)
			return NULL;
		r->symbols = grown;
		r->cap = cap;
	}
	s = &r->symbols[r->nsymbols];
	*s = (struct refl_symbol){.file = file};
	if (asprintf(&s->name, "%s%s%.*s", scope, *scope ? "." : "", (int)name.len, name.p) < 0) {
		s->name = NULL;
		return NULL;
	}
	r->nsymbols++;
	return s;
}

/* Values of an enum belong to the scope around it. */
static int add_enum(struct refl *r, const char *scope, struct refl_span msg, uint32_t file)
{
	struct wire w = span_wire(msg);
	struct wire_field f;
	int n;

	if (!add(r, scope, find_bytes(msg, NAME), file))
		return -ENOMEM;
	while ((n = wire_next(&w, &f)) > 0)
		if (f.number == ENUM_VALUE && !add(r, scope, find_bytes(field_span(&f), NAME), file))
			return -ENOMEM;
	return n;
}

static int add_message(struct refl *r, const char *scope, struct refl_span msg, uint32_t file, int depth)
{
	struct refl_symbol *self = add(r, scope, find_bytes(msg, NAME), file);
	_cleanup_free_ char *inner = self ? strdup(self->name) : NULL;
	struct wire w = span_wire(msg);
	struct wire_field f;
	int n = 0;

	if (!inner)
		return -ENOMEM;
	if (depth > MAX_DEPTH)
		return -EINVAL;
	while (n >= 0 && (n = wire_next(&w, &f)) > 0) {
		struct refl_span s = field_span(&f);

		if (f.number == MESSAGE_NESTED)
			n = add_message(r, inner, s, file, depth + 1);
		else if (f.number == MESSAGE_ENUM)
			n = add_enum(r, inner, s, file);
		else if (f.number == MESSAGE_FIELD || f.number == MESSAGE_ONEOF)
			n = add(r, inner, find_bytes(s, NAME), file) ? 0 : -ENOMEM;
	}
	return n;
}

static int add_service(struct refl *r, const char *scope, struct refl_span msg, uint32_t file)
{
	struct refl_symbol *self = add(r, scope, find_bytes(msg, NAME), file);
	_cleanup_free_ char *inner = self ? strdup(self->name) : NULL;
	struct wire w = span_wire(msg);
	struct wire_field f;
	int n;

	if (!inner)
		return -ENOMEM;
	self->service = true;
	while ((n = wire_next(&w, &f)) > 0) {
		struct refl_span s = field_span(&f);
		struct refl_symbol *m;

		if (f.number != SERVICE_METHOD)
			continue;
		m = add(r, inner, find_bytes(s, NAME), file);
		if (!m)
			return -ENOMEM;
		m->input = find_bytes(s, METHOD_INPUT);
		m->client_streaming = find_bool(s, METHOD_CLIENT_STREAMING);
		m->server_streaming = find_bool(s, METHOD_SERVER_STREAMING);
	}
	return n;
}

static int count(struct refl_span msg, uint32_t number, size_t *ret)
{
	struct wire w = span_wire(msg);
	struct wire_field f;
	int n;

	*ret = 0;
	while ((n = wire_next(&w, &f)) > 0)
		*ret += f.number == number && f.type == WIRE_BYTES;
	return n;
}

static int add_file(struct refl *r, struct refl_span raw)
{
	uint32_t idx = (uint32_t)r->nfiles++;
	struct refl_file *file = &r->files[idx];
	struct refl_span package = find_bytes(raw, FILE_PACKAGE);
	_cleanup_free_ char *scope = strndup(package.p, package.len);
	struct wire w = span_wire(raw);
	struct wire_field f;
	size_t ndeps;
	int n = count(raw, FILE_DEPENDENCY, &ndeps);

	if (n < 0)
		return n;
	file->raw = raw;
	file->name = find_bytes(raw, FILE_NAME);
	file->deps = calloc(ndeps + 1, sizeof(*file->deps));
	if (!file->deps || !scope)
		return -ENOMEM;
	while (n >= 0 && (n = wire_next(&w, &f)) > 0) {
		struct refl_span s = field_span(&f);

		if (f.number == FILE_DEPENDENCY)
			file->deps[file->ndeps++] = s;
		else if (f.number == FILE_MESSAGE)
			n = add_message(r, scope, s, idx, 0);
		else if (f.number == FILE_ENUM)
			n = add_enum(r, scope, s, idx);
		else if (f.number == FILE_SERVICE)
			n = add_service(r, scope, s, idx);
	}
	return n;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct refl_symbol *)a)->name, ((const struct refl_symbol *)b)->name);
}

int refl_new(struct refl **ret, const void *set, size_t len)
{
	struct refl_span all = {set, len};
	struct wire w = span_wire(all);
	struct wire_field f;
	struct refl *r = calloc(1, sizeof(*r));
	size_t nfiles = 0;
	int n;

	if (!r)
		return -ENOMEM;
	n = count(all, SET_FILE, &nfiles);
	r->files = calloc(nfiles + 1, sizeof(*r->files));
	if (!r->files)
		n = -ENOMEM;
	while (n >= 0 && (n = wire_next(&w, &f)) > 0)
		if (f.number == SET_FILE && f.type == WIRE_BYTES)
			n = add_file(r, field_span(&f));
	if (n < 0) {
		refl_free(r);
		return n;
	}
	if (r->nsymbols)
		qsort(r->symbols, r->nsymbols, sizeof(*r->symbols), by_name);
	*ret = r;
	return 0;
}

void refl_free(struct refl *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->nsymbols; i++)
		free(r->symbols[i].name);
	for (size_t i = 0; i < r->nfiles; i++)
		free(r->files[i].deps);
	free(r->symbols);
	free(r->files);
	free(r);
}

static const struct refl_file *by_span(const struct refl *r, struct refl_span name)
{
	for (size_t i = 0; i < r->nfiles; i++)
		if (r->files[i].name.len == name.len && memcmp(r->files[i].name.p, name.p, name.len) == 0)
			return &r->files[i];
	return NULL;
}

const struct refl_file *refl_by_filename(const struct refl *r, const char *name)
{
	return by_span(r, (struct refl_span){name, strlen(name)});
}

const struct refl_symbol *refl_symbol(const struct refl *r, const char *name)
{
	struct refl_symbol key = {.name = (char *)name};

	if (!r->nsymbols)
		return NULL;
	return bsearch(&key, r->symbols, r->nsymbols, sizeof(key), by_name);
}

const struct refl_file *refl_by_symbol(const struct refl *r, const char *name)
{
	const struct refl_symbol *s = refl_symbol(r, name);

	return s ? &r->files[s->file] : NULL;
}

const struct refl_symbol *refl_symbols(const struct refl *r, size_t *n)
{
	*n = r->nsymbols;
	return r->symbols;
}

size_t refl_nfiles(const struct refl *r)
{
	return r->nfiles;
}

size_t refl_closure(const struct refl *r, const struct refl_file *root, const struct refl_file **out)
{
	size_t n = 0;

	out[n++] = root;
	for (size_t i = 0; i < n; i++)
		for (size_t d = 0; d < out[i]->ndeps; d++) {
			const struct refl_file *dep = by_span(r, out[i]->deps[d]);
			size_t k = 0;

			while (k < n && out[k] != dep)
				k++;
			if (dep && k == n)
				out[n++] = dep;
		}
	return n;
}
