/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Is a path below one of those that are listed: the kernel half. */
#pragma once

#include "bpf/lib/path_text.bpf.h"

/* Twice the items: while lists change, both are here. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * PATH_FILTER_ITEMS);
	__type(key, struct path_filter_key);
	__type(value, __u8);
} path_filter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64); /* struct path_filter_config, read in one piece */
} path_filter_config SEC(".maps");

/* Where keys are put together: they are larger than the stack should bear. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct path_filter_key);
} path_filter_scratch SEC(".maps");

union path_filter_word {
	__u64 word;
	struct path_filter_config config;
};

static __always_inline struct path_filter_config path_filter_read(void)
{
	union path_filter_word w = {};
	__u32 zero = 0;
	__u64 *config = bpf_map_lookup_elem(&path_filter_config, &zero);

	if (config)
		w.word = *(volatile __u64 *)config;
	return w.config;
}

static __always_inline bool path_filter_is_on(const struct path_filter_config *c)
{
	return c->include || c->exclude;
}

/* The verdicts on the text that was made last; a path that isn't known, or not whole, is in no
 * list. */
__noinline int path_filter_find(__u32 generation)
{
	struct path_text *t = path_text_get();
	struct path_filter_key *key;
	__u32 zero = 0, at, len;
	__u8 *found;

	key = bpf_map_lookup_elem(&path_filter_scratch, &zero);
	if (!t || !key)
		return 0;
	at = *(volatile __u32 *)&t->at;
	len = path_text_len(t);
	if (!len || t->cut || at > PATH_TEXT_BASE_MAX)
		return 0;
	key->generation = generation;
	bpf_probe_read_kernel(key->text, sizeof(key->text), (void *)t->data + at);
	if (len < sizeof(key->text))
		key->text[len] = '/';
	else
		len = sizeof(key->text) - 1;
	key->bits = 8 * (sizeof(key->generation) + len + 1);
	found = bpf_map_lookup_elem(&path_filter, key);
	return found ? *found : 0;
}

/* Is the text that was made last in no list that excludes, and in one that includes if there is
 * one? */
static __always_inline bool path_is_wanted(const struct path_filter_config *c)
{
	int verdict = path_filter_find(c->generation);

	if (verdict & PATH_FILTER_EXCLUDE)
		return false;
	return !c->include || verdict & PATH_FILTER_INCLUDE;
}
