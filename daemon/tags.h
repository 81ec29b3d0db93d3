// SPDX-License-Identifier: Apache-2.0
/* Tags: what every row says of its host when it leaves it. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/macro.h"
#include "base/opt.h"

struct tags;

#define TAGS_MAX 64

/*
 * Of the options hostname and tags: "host" is the hostname, the kernel's if the option is unset,
 * unless a tag says otherwise. -EINVAL: a key twice, or what tags_check() refuses. Immutable.
 */
int tags_new(struct tags **ret, const struct opt_set *values, struct err *err);
void tags_free(struct tags *t);
DEFINE_CLEANUP(struct tags *, tags_free)

size_t tags_count(const struct tags *t);
/* In order of keys. */
const char *tags_key(const struct tags *t, size_t i);
const char *tags_value(const struct tags *t, size_t i);

/* Keys are letters, digits, '_', '.' and '-', beginning with a letter; values are printable,
 * without a comma. */
int tags_check(const char *key, size_t key_len, const char *value, struct err *err);
/* The option's text with the tag put in or replaced; allocated. */
int tags_put(const struct opt_set *values, const char *key, const char *value, char **ret,
	     struct err *err);
