// SPDX-License-Identifier: Apache-2.0
/* The only door to RE2: regular expressions whose cost grows with the text alone, whatever the pattern. */
#include <stdlib.h>
#include <unistd.h>

extern "C" {
#include "base/regex.h"
}

#include <errno.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <re2/filtered_re2.h>
#include <re2/re2.h>
#include <re2/set.h>

/* What a pattern may cost in memory, its automata included; a long list of words needs a tenth. */
static constexpr int64_t memory_max = 1 << 20;

/* Groups that are looked at. */
static constexpr int groups_max = 7;

/* A word of one letter would be in most texts. */
static constexpr int word_min = 2;

static RE2::Options make_options(bool case_sensitive)
{
	RE2::Options options;

	options.set_log_errors(false);
	options.set_max_mem(memory_max);
	options.set_case_sensitive(case_sensitive);
	return options;
}

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
	struct regex *re = new regex(pattern, make_options(true));
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

struct regex_filter {
	re2::FilteredRE2 patterns;
	RE2::Set words;
	bool has_words;
	uint64_t all;	   /* a bit for each pattern */
	uint64_t wordless; /* those that are possible whatever the text is */

	explicit regex_filter(unsigned int n)
	    : patterns(word_min), words(make_options(false), RE2::UNANCHORED), has_words(false),
	      all(n < REGEX_FILTER_MAX ? (UINT64_C(1) << n) - 1 : UINT64_MAX), wordless(all)
	{
	}
};

static uint64_t possible(const struct regex_filter *f, const std::vector<int> &words)
{
	std::vector<int> found;
	uint64_t bits = 0;

	f->patterns.AllPotentials(words, &found);
	for (int i : found)
		bits |= UINT64_C(1) << i;
	return bits;
}

/* False: RE2 needs more memory for it than it may have; then every pattern is always possible. */
static bool find_words(struct regex_filter *f, const struct regex *const *patterns, unsigned int n)
{
	std::vector<std::string> words;

	for (unsigned int i = 0; i < n; i++) {
		int id = -1;

		if (f->patterns.Add(patterns[i]->re.pattern(), patterns[i]->re.options(), &id) != RE2::NoError ||
		    id != (int)i)
			return false;
	}
	f->patterns.Compile(&words);
	/* Their numbers are those that AllPotentials() knows them by. */
	for (const std::string &word : words)
		if (f->words.Add(RE2::QuoteMeta(word), NULL) < 0)
			return false;
	return !words.empty() && f->words.Compile();
}

int regex_filter_new(struct regex_filter **ret, const struct regex *const *patterns, unsigned int n, struct err *err)
try {
	std::unique_ptr<struct regex_filter> f(new struct regex_filter(n));

	f->has_words = n && find_words(f.get(), patterns, n);
	if (f->has_words)
		f->wordless = possible(f.get(), {});
	*ret = f.release();
	return 0;
} catch (const std::bad_alloc &) {
	return err_set(err, -ENOMEM, "no memory for %u patterns together", n);
}

void regex_filter_free(struct regex_filter *f)
{
	delete f;
}

static bool is_ascii(const char *text, size_t len)
{
	unsigned char all = 0;

	for (size_t i = 0; i < len; i++)
		all |= (unsigned char)text[i];
	return all < 0x80;
}

uint64_t regex_filter_find(const struct regex_filter *f, const char *text, size_t len)
try {
	RE2::Set::ErrorInfo error = {RE2::Set::kNoError};
	re2::StringPiece all(text, len);
	std::vector<int> words;

	if (!f->has_words || !is_ascii(text, len))
		return f->all;
	/* Most texts have none, which is known without a list of them. */
	if (!f->words.Match(all, NULL, &error))
		return error.kind == RE2::Set::kNoError ? f->wordless : f->all;
	return f->words.Match(all, &words) ? possible(f, words) : f->all;
} catch (const std::bad_alloc &) {
	return f->all;
}
