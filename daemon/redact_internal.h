// SPDX-License-Identifier: Apache-2.0
/* Shared by the redact*.c files alone. */
#pragma once

#include <assert.h>

#include "base/buf.h"
#include "base/regex.h"
#include "daemon/redact.h"

#define RULE_NAME_LEN  48
#define RULE_WHERE_LEN 112

struct rule {
	char name[RULE_NAME_LEN + 1], where[RULE_WHERE_LEN + 1];
	struct regex *re;
	unsigned int part; /* a built-in one may have several patterns */
	uint64_t cells;
};

struct plan_column {
	uint32_t col;
	uint8_t drop;	/* index into drops + 1; 0: no */
	uint64_t rules; /* bits of the rules to be tried */
};

/* What is to be done with the rows of one table. */
struct plan {
	const struct table *table;
	struct plan_column *columns;
	uint32_t ncolumns;
	uint64_t rows;
};

struct redact {
	char marker[65];
	size_t marker_len;
	struct rule rules[REDACT_RULES_MAX];
	unsigned int nrules;
	struct regex_filter *filter;	     /* which of them a text may have something for */
	uint64_t dropped[SENSITIVITY_X_MAX]; /* cells */
	bool drop[SENSITIVITY_X_MAX];
	struct plan *plans;
	size_t nplans;
	struct buf text[2]; /* a cell on its way through the rules */
};

static_assert(REDACT_RULES_MAX <= REGEX_FILTER_MAX, "one filter for all rules");

int redact_add_rules(struct redact *r, const char *text, const struct table *const *tables,
		     struct err *err);
int redact_add_builtins(struct redact *r, const struct opt_set *values, struct err *err);
/* Whether a rule with that "where" is about the column. */
bool redact_where(const char *where, const struct table *t, const struct field *f);
