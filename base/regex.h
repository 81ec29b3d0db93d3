// SPDX-License-Identifier: Apache-2.0
/* The only door to RE2: regular expressions whose cost grows with the text alone, whatever the
 * pattern. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

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
