// SPDX-License-Identifier: Apache-2.0
/* The only door to RE2: regular expressions whose cost grows with the text alone, whatever the pattern. */
#include <stdlib.h>
#include <unistd.h>

extern "C" {
#include "base/regex.h"
}

#include <errno.h>

#include <algorithm>
#include <new>
#include <string>

#include <re2/re2.h>

/* What a pattern may cost in memory, its automata included; a long list of words needs a tenth. */
static constexpr int64_t memory_max = 1 << 20;

/* Groups that are looked at. */
static constexpr int groups_max = 7;

struct regex {
	RE2 re;
	int groups;

	regex(const char *pattern, const RE2::Options &options)
	    : re(pattern, options), groups(re.ok() ? std::min(re.NumberOfCapturingGroups(), groups_max) : 0)
	{
	}
};

int regex_new(struct regex **ret, const char *pattern, struct err *err)
try {
	RE2::Options options;

	options.set_log_errors(false);
	options.set_max_mem(memory_max);
	struct regex *re = new regex(pattern, options);
	if (!re->re.ok()) {
		std::string why = re->re.error();

		delete re;
		return err_set(err, -EINVAL, "'%.80s' is no regular expression: %s", pattern, why.c_str());
	}
	*ret = re;
	return 0;
} catch (const std::bad_alloc &) {
	return err_set(err, -ENOMEM, "no memory for the pattern '%.80s'", pattern);
}

void regex_free(struct regex *re)
{
	delete re;
}

bool regex_find(const struct regex *re, const char *text, size_t len, size_t from, struct regex_match *ret)
{
	re2::StringPiece parts[groups_max + 1], all(text, len);
	int at = 0;

	if (!re->re.Match(all, from, len, RE2::UNANCHORED, parts, re->groups + 1))
		return false;
	for (int i = 1; i <= re->groups && !at; i++)
		at = parts[i].data() ? i : 0;
	ret->whole_begin = (size_t)(parts[0].data() - text);
	ret->whole_end = ret->whole_begin + parts[0].size();
	ret->begin = (size_t)(parts[at].data() - text);
	ret->end = ret->begin + parts[at].size();
	return true;
}
