// SPDX-License-Identifier: Apache-2.0
/* Secrets taken out of rows before anybody sees them: the options redact.*. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/macro.h"
#include "base/opt.h"
#include "bpf/batch.h"

struct redact;

/* Built-in rules and those of the configuration together. */
#define REDACT_RULES_MAX 64

/*
 * Compiles the options redact.builtin, redact.drop, redact.marker and redact.rules for these tables
 * (NULL-terminated; outlive it). -EINVAL names the rule and what is wrong with it. old: whose
 * counters it goes on with; may be NULL.
 */
int redact_new(struct redact **ret, const struct opt_set *values, const struct table *const *tables,
	       const struct redact *old, struct err *err);
void redact_free(struct redact *r);
DEFINE_CLEANUP(struct redact *, redact_free)

/*
 * Rewrites the cells that the rules are about. The batch must be the caller's alone, sealed or not.
 * One thread. A cell that can't be judged within bounds is replaced as a whole. NULL: nothing
 * happens.
 */
void redact_batch(struct redact *r, struct batch *b);

/* Rows of a table in which something was replaced or dropped. */
uint64_t redact_rows(const struct redact *r, const struct table *t);

struct redact_view {
	const char *rule;  /* "password"; "drop content" */
	const char *where; /* "*", "exec.argv" */
	uint64_t cells;
};
/* The idx-th rule; false behind the last. */
bool redact_get(const struct redact *r, unsigned int idx, struct redact_view *ret);

/* redact_rules.c: "redact.rules.NAME = text" put into the option redact.rules, which has a line a
 * rule; allocated. */
int redact_put(const struct opt_set *values, const char *name, const char *text, char **ret,
	       struct err *err);

/* The patterns that come with us, for the documentation too. */
struct redact_builtin {
	const char *name, *help;
	const char *const
		*patterns; /* NULL-terminated; the first group that matches is what goes */
};
extern const struct redact_builtin redact_builtins[];
