// SPDX-License-Identifier: Apache-2.0
/* Names for numbers: containers, processes and users, from sources that a container can't use
 * against us. Loop thread only. */
#pragma once

#include "bpf/plugin.h"

struct enrich;

int enrich_new(struct enrich **ret);
void enrich_free(struct enrich *e);
/* ctx is the struct enrich. */
extern const struct enrich_ops enrich_ops;

struct names;
/* The names that plugins have learned; belongs to e. */
struct names *enrich_names(struct enrich *e);

/*
 * enrich_text.c: a pure function over untrusted bytes.
 * The name of uid in the text of a passwd file; "" if it isn't there or isn't a plausible name.
 */
void enrich_user_of_passwd(const char *text, size_t len, uint32_t uid, char dst[static 33]);
