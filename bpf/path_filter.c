// SPDX-License-Identifier: Apache-2.0
/* Lists of paths on their way to a trie in the kernel. */
#include "bpf/path_filter.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

static_assert(sizeof(struct path_filter_config) == sizeof(uint64_t), "it changes at once");

struct item {
	struct path_filter_key key;
	uint8_t verdict;
};

static const struct {
	const char *key;
	enum path_filter_verdict verdict;
} lists[] = {
	{"paths", PATH_FILTER_INCLUDE},
	{"exclude_paths", PATH_FILTER_EXCLUDE},
};

bool path_filter_has(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		if (strcmp(lists[i].key, key) == 0)
			return true;
	return false;
}

/* As the kernel half makes paths: no empty and no "." names, and a slash at the end. */
static int make_key(const char *option, const char *path, struct path_filter_key *key,
		    struct err *err)
{
	size_t len = 0;

	if (*path != '/')
		return err_set(err, -EINVAL, "option %s: '%.64s' isn't an absolute path", option,
			       path);
	key->text[len++] = '/';
	while (*path) {
		size_t n = strcspn(path, "/");

		if (n == 2 && memcmp(path, "..", 2) == 0)
			return err_set(err, -EINVAL,
				       "option %s: '..' can't be part of a path to look for",
				       option);
		if (n && !(n == 1 && *path == '.')) {
			if (len + n + 1 > sizeof(key->text))
				return err_set(err, -ENAMETOOLONG,
					       "option %s: a path has more than %zu bytes", option,
					       sizeof(key->text) - 2);
			memcpy(key->text + len, path, n);
			len += n;
			key->text[len++] = '/';
		}
		path += n;
		path += *path == '/';
	}
	key->bits = (uint32_t)(8 * (sizeof(key->generation) + len));
	return 0;
}

static int read_lists(struct instance *in, struct item *items, uint32_t generation, size_t *n,
		      struct err *err)
{
	const char *path;

	*n = 0;
	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		for (size_t i = 0; (path = opt_item(in->opts, lists[l].key, i)); i++) {
			int r;

			if (*n == PATH_FILTER_ITEMS)
				return err_set(err, -E2BIG,
					       "the lists of paths have more than %d items in all",
					       PATH_FILTER_ITEMS);
			items[*n].verdict = (uint8_t)lists[l].verdict;
			items[*n].key.generation = generation;
			r = make_key(lists[l].key, path, &items[*n].key, err);
			if (r < 0)
				return r;
			++*n;
		}
	}
	return 0;
}

static bool is_below(const struct path_filter_key *key, const struct path_filter_key *above)
{
	return key->bits >= above->bits &&
	       memcmp(key->text, above->text, above->bits / 8 - sizeof(key->generation)) == 0;
}

/* The trie finds the longest: it has to say what all above it say too. */
static uint8_t verdict_on(const struct item *item, const struct item *items, size_t n)
{
	uint8_t verdict = 0;

	for (size_t i = 0; i < n; i++)
		if (is_below(&item->key, &items[i].key))
			verdict |= items[i].verdict;
	return verdict;
}

/* Takes away the entries of that generation, or with but of all others. */
static void forget(int map, uint32_t generation, bool but)
{
	struct path_filter_key key, next;
	bool more = !bpf_map_get_next_key(map, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(map, &key, &next);
		if ((key.generation == generation) != but)
			bpf_map_delete_elem(map, &key);
	}
}

static int fill(int map, const struct item *items, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t verdict = verdict_on(&items[i], items, n);

		if (bpf_map_update_elem(map, &items[i].key, &verdict, BPF_ANY) < 0)
			return err_set(err, -errno, "the kernel didn't take a list of paths: %s",
				       strerror(errno));
	}
	return 0;
}

int path_filter_apply(struct instance *in, struct err *err)
{
	int map = bpf_object__find_map_fd_by_name(in->obj, "path_filter");
	int config_map = bpf_object__find_map_fd_by_name(in->obj, "path_filter_config");
	_cleanup_free_ struct item *items = calloc(PATH_FILTER_ITEMS, sizeof(*items));
	struct path_filter_config config;
	uint32_t zero = 0;
	size_t n;
	int r;

	if (map < 0 || config_map < 0)
		return err_set(err, -EINVAL, "its BPF object has no filter of paths");
	if (!items)
		return err_set(err, -ENOMEM, "out of memory");
	if (bpf_map_lookup_elem(config_map, &zero, &config) < 0)
		return err_set(err, -errno, "cannot read its filter of paths: %s", strerror(errno));
	config = (struct path_filter_config){.generation = config.generation + 1};
	r = read_lists(in, items, config.generation, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		config.include |= items[i].verdict == PATH_FILTER_INCLUDE;
		config.exclude |= items[i].verdict == PATH_FILTER_EXCLUDE;
	}
	r = fill(map, items, n, err);
	if (r == 0 && bpf_map_update_elem(config_map, &zero, &config, BPF_ANY) < 0)
		r = err_set(err, -errno, "cannot change its filter of paths: %s", strerror(errno));
	forget(map, config.generation, r == 0);
	return r;
}
