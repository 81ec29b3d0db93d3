// SPDX-License-Identifier: Apache-2.0
/* services(5): "domain 53/udp nameserver # comment". */
#include "base/services.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The file of a distribution has 20 KiB. */
#define FILE_MAX     (1024 * 1024)
#define NAME_MAX_LEN 63

struct entry {
	uint16_t port;
	bool alias;
	char transport[8];
	char name[NAME_MAX_LEN + 1];
};

struct services {
	struct entry *all;
	size_t n, cap;
	uint32_t first[65536]; /* by port: index + 1 of its first entry, 0: none; the others follow
				  by scan */
};

int services_new(struct services **ret)
{
	struct services *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*ret = s;
	return 0;
}

void services_free(struct services *s)
{
	if (!s)
		return;
	free(s->all);
	free(s);
}

static int add(struct services *s, const struct entry *e)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 256;
		struct entry *all = reallocarray(s->all, cap, sizeof(*all));

		if (!all)
			return -ENOMEM;
		s->all = all;
		s->cap = cap;
	}
	s->all[s->n++] = *e;
	if (!s->first[e->port])
		s->first[e->port] = (uint32_t)s->n;
	return 0;
}

/* The next word of a line; false: none is left. */
static bool word(const char **p, const char *end, const char **ret, size_t *len)
{
	while (*p < end && (**p == ' ' || **p == '\t' || **p == '\r'))
		(*p)++;
	*ret = *p;
	while (*p < end && **p != ' ' && **p != '\t' && **p != '\r')
		(*p)++;
	*len = (size_t)(*p - *ret);
	return *len > 0;
}

/* Printable ASCII: it goes to terminals. */
static bool copy(char *dst, size_t cap, const char *src, size_t len)
{
	if (len == 0 || len >= cap)
		return false;
	for (size_t i = 0; i < len; i++)
		if (src[i] <= ' ' || src[i] > '~')
			return false;
	memcpy(dst, src, len);
	dst[len] = '\0';
	return true;
}

/* "53/udp" */
static bool port_of(const char *text, size_t len, struct entry *e)
{
	uint32_t port = 0;
	size_t i = 0;

	for (; i < len && i < 6 && text[i] >= '0' && text[i] <= '9'; i++)
		port = port * 10 + (uint32_t)(text[i] - '0');
	if (i == 0 || i == len || text[i] != '/' || port == 0 || port > 65535)
		return false;
	e->port = (uint16_t)port;
	return copy(e->transport, sizeof(e->transport), text + i + 1, len - i - 1);
}

static int add_line(struct services *s, const char *p, const char *end)
{
	const char *comment = memchr(p, '#', (size_t)(end - p)), *name, *port;
	struct entry e = {0};
	size_t nlen, plen;
	int r;

	if (comment)
		end = comment;
	if (!word(&p, end, &name, &nlen) || !word(&p, end, &port, &plen) ||
	    !port_of(port, plen, &e) || !copy(e.name, sizeof(e.name), name, nlen))
		return 0;
	r = add(s, &e);
	e.alias = true;
	while (r == 0 && word(&p, end, &name, &nlen))
		if (copy(e.name, sizeof(e.name), name, nlen))
			r = add(s, &e);
	return r;
}

int services_add(struct services *s, const char *text, size_t len)
{
	const char *end = text + len;
	int r = 0;

	while (r == 0 && text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		const char *stop = nl ? nl : end;

		r = add_line(s, text, stop);
		text = stop + 1;
	}
	return r;
}

int services_add_file(struct services *s, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	text = malloc(FILE_MAX);
	if (!text)
		return -ENOMEM;
	while (len < FILE_MAX && (n = read(fd, text + len, FILE_MAX - len)) > 0)
		len += (size_t)n;
	return n < 0 ? -errno : services_add(s, text, len);
}

const char *services_name(const struct services *s, uint16_t port, const char *transport)
{
	for (size_t i = s->first[port] ? s->first[port] - 1 : s->n; i < s->n; i++) {
		const struct entry *e = &s->all[i];

		if (e->port == port && !e->alias &&
		    (!transport || !strcasecmp(e->transport, transport)))
			return e->name;
	}
	return NULL;
}

uint16_t services_port(const struct services *s, const char *name, const char *transport)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct entry *e = &s->all[i];

		if (strcmp(e->name, name) == 0 &&
		    (!transport || !strcasecmp(e->transport, transport)))
			return e->port;
	}
	return 0;
}
