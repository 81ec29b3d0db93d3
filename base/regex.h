// SPDX-License-Identifier: Apache-2.0
/* The only door to RE2: regular expressions whose cost grows with the text alone, whatever the
 * pattern. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct regex;

/* What a match is about: the part in the first capturing group that took part in it, or all of it
 * without one. */
struct regex_match {
	size_t begin, end;	       /* of that part */
	size_t whole_begin, whole_end; /* of the match */
};

/* Compiled once; RE2's syntax, UTF-8. -EINVAL with RE2's own reason, also for one that needs more
 * than 1 MiB. */
int regex_new(struct regex **ret, const char *pattern, struct err *err);
void regex_free(struct regex *re);
DEFINE_CLEANUP(struct regex *, regex_free)
/*
 * The first match from a place on. Linear in len - from. Invalid UTF-8 is looked at byte by byte.
 */
bool regex_find(const struct regex *re, const char *text, size_t len, size_t from,
		struct regex_match *ret);

/*
 * Which of many patterns a text may match, by the words that each of them can't do without: two
 * passes over the text at most, where each pattern would take one.
 */
struct regex_filter;
#define REGEX_FILTER_MAX 64

/* n: up to REGEX_FILTER_MAX; the patterns may be freed before it. -ENOMEM. */
int regex_filter_new(struct regex_filter **ret, const struct regex *const *patterns, unsigned int n,
		     struct err *err);
void regex_filter_free(struct regex_filter *f);
DEFINE_CLEANUP(struct regex_filter *, regex_filter_free)
/*
 * Bit i unset: nothing in the text matches patterns[i]. Text with bytes above 0x7f may match them
 * all: words are looked for in any case, and other alphabets have more to that than ours.
 */
uint64_t regex_filter_find(const struct regex_filter *f, const char *text, size_t len);
