// SPDX-License-Identifier: Apache-2.0
/* Reads keyed values, cgroup paths, cgroup mounts and interface counters out of kernel texts. */
#include "governor/parse.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

/* strtoull without its sign, its leading blanks and its wrap to ULLONG_MAX. Returns behind the
 * digits or NULL. */
static const char *take_u64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)*s))
		return NULL;
	for (; isdigit((unsigned char)*s); s++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s - '0', &v))
			return NULL;
	*ret = v;
	return s;
}

int parse_u64(const char *text, uint64_t *ret)
{
	uint64_t v;
	const char *end = take_u64(text, &v);

	if (!end || (*end && *end != '\n'))
		return -EINVAL;
	*ret = v;
	return 0;
}

int parse_keyed(const char *text, const char *key, uint64_t *ret)
{
	size_t len = strlen(key);

	for (const char *line = text; line && *line;) {
		if (!strncmp(line, key, len) && line[len] == ' ')
			return parse_u64(line + len + 1, ret);
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return -ENOENT;
}

/* Is `word` one of the comma-separated words in [s, end)? */
static bool has_word(const char *s, const char *end, const char *word)
{
	size_t len = strlen(word);

	while (s < end) {
		const char *comma = memchr(s, ',', end - s);
		const char *stop = comma ? comma : end;

		if ((size_t)(stop - s) == len && !memcmp(s, word, len))
			return true;
		s = stop + 1;
	}
	return false;
}

static int copy_span(char *dst, size_t cap, const char *s, size_t len)
{
	if (len >= cap)
		return -ENAMETOOLONG;
	memcpy(dst, s, len);
	dst[len] = '\0';
	return 0;
}

/* One line "7:cpu,cpuacct:/path"; true if it is the controller's. The path may hold colons. */
static bool cgroup_line(const char *line, const char *end, const char *controller,
			const char **ret_path)
{
	const char *names = memchr(line, ':', end - line), *path;

	if (!names)
		return false;
	names++;
	path = memchr(names, ':', end - names);
	if (!path)
		return false;
	*ret_path = path + 1;
	if (!controller)
		return names == path && line[0] == '0' && line[1] == ':';
	return has_word(names, path, controller);
}

int parse_cgroup_path(const char *text, const char *controller, char *ret, size_t cap)
{
	for (const char *line = text; *line;) {
		const char *end = strchrnul(line, '\n'), *path;

		if (cgroup_line(line, end, controller, &path)) {
			static const char deleted[] = " (deleted)";
			size_t len = end - path;

			/* Somebody removed our group under us: there is no such directory any more.
			 */
			if (len >= sizeof(deleted) - 1 &&
			    !memcmp(end - (sizeof(deleted) - 1), deleted, sizeof(deleted) - 1))
				return -ENOENT;
			return copy_span(ret, cap, path, len);
		}
		line = *end ? end + 1 : end;
	}
	return -ENOENT;
}

/* Octal escapes (\040) of mountinfo, in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		bool esc = s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' &&
			   s[2] <= '7' && s[3] >= '0' && s[3] <= '7';

		*to = esc ? (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0')) : *s;
		s += esc ? 3 : 0;
	}
	*to = '\0';
}

struct mount_line {
	char root[PATH_MAX], point[PATH_MAX], type[32], super[512];
};

/* "36 35 98:0 ROOT POINT opts [optional...] - TYPE SOURCE SUPER" */
static bool mount_line_parse(const char *line, const char *end, struct mount_line *ret)
{
	const char *s = line, *dash;
	char *const field[] = {ret->root, ret->point};

	for (int i = 0; i < 5; i++) {
		const char *stop = memchr(s, ' ', end - s);

		if (!stop)
			return false;
		if (i >= 3 && copy_span(field[i - 3], PATH_MAX, s, stop - s) < 0)
			return false;
		s = stop + 1;
	}
	dash = memmem(s - 1, end - s + 1, " - ", 3);
	if (!dash)
		return false;
	s = dash + 3;
	for (int i = 0; i < 3; i++) {
		const char *stop = memchr(s, ' ', end - s);

		if (!stop && i < 2)
			return false;
		if (!stop)
			stop = end;
		if (i == 0 && copy_span(ret->type, sizeof(ret->type), s, stop - s) < 0)
			return false;
		if (i == 2 && copy_span(ret->super, sizeof(ret->super), s, stop - s) < 0)
			return false;
		s = stop + (stop < end);
	}
	unescape(ret->root);
	unescape(ret->point);
	return true;
}

/* The part of path below root, or NULL if path isn't under it. */
static const char *path_below(const char *path, const char *root)
{
	size_t len = strlen(root);

	if (!strcmp(root, "/"))
		return strcmp(path, "/") ? path : "";
	if (strncmp(path, root, len) || (path[len] && path[len] != '/'))
		return NULL;
	return path + len;
}

static bool mount_matches(const struct mount_line *m, const char *controller)
{
	if (!controller)
		return !strcmp(m->type, "cgroup2");
	return !strcmp(m->type, "cgroup") &&
	       has_word(m->super, m->super + strlen(m->super), controller);
}

int parse_cgroup_mount(const char *mountinfo, const char *controller, const char *path,
		       char *ret_point, size_t point_cap, char *ret_below, size_t below_cap)
{
	_cleanup_free_ struct mount_line *m = malloc(sizeof(*m));

	if (!m)
		return -ENOMEM;
	/* ".." leads out of the namespace that we see. */
	if (path[0] != '/' || strstr(path, "/.."))
		return -ENOENT;
	for (const char *line = mountinfo; *line;) {
		const char *end = strchrnul(line, '\n'), *below;

		if (mount_line_parse(line, end, m) && mount_matches(m, controller) &&
		    (below = path_below(path, m->root))) {
			if (strlen(m->point) >= point_cap || strlen(below) >= below_cap)
				return -ENAMETOOLONG;
			memcpy(ret_point, m->point, strlen(m->point) + 1);
			memcpy(ret_below, below, strlen(below) + 1);
			return 0;
		}
		line = *end ? end + 1 : end;
	}
	return -ENOENT;
}

/* "  eth0: 1 2 3 4 5 6 7 8 9 ...": the first number is bytes received, the ninth bytes sent. */
static bool net_line(const char *line, const char *end, struct net_device *ret)
{
	const char *colon = memchr(line, ':', end - line), *s;
	uint64_t v[9];

	while (line < end && *line == ' ')
		line++;
	if (!colon || colon <= line ||
	    copy_span(ret->name, sizeof(ret->name), line, colon - line) < 0)
		return false;
	s = colon + 1;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		while (s < end && *s == ' ')
			s++;
		s = s < end ? take_u64(s, &v[i]) : NULL;
		if (!s)
			return false;
	}
	ret->rx = v[0];
	ret->tx = v[8];
	return true;
}

size_t parse_net_dev(const char *text, size_t len,
		     void (*fn)(void *arg, const struct net_device *dev), void *arg)
{
	const char *line = text, *stop = text + len, *end;
	struct net_device dev;

	while (line < stop && (end = memchr(line, '\n', stop - line))) {
		if (net_line(line, end, &dev))
			fn(arg, &dev);
		line = end + 1;
	}
	return line - text;
}
