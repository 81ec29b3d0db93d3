// SPDX-License-Identifier: Apache-2.0
/* Which of several programs observes one thing on this kernel: tried out, never guessed from its
 * version. */
#pragma once

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/*
 * Programs that share the part of their name before "__" are alternatives, best first in the order
 * of the object. A group whose name begins with "opt_" is optional: without it the plugin runs with
 * less. Programs with autoload off are left alone.
 */
#define HOOKS_OPTIONAL_PREFIX "opt_"

/* Programs that failed to load or attach in an earlier attempt and are not to be chosen again. */
struct hooks_banned {
	unsigned int n;
	char names[16][64];
};

bool hooks_is_banned(const struct hooks_banned *banned, const char *program);
/* false when the list is full or holds it already: another attempt would change nothing. */
bool hooks_ban(struct hooks_banned *banned, const char *program);
/* Another program can take the place of this one, or the plugin can do without. */
bool hooks_has_substitute(const struct bpf_object *obj, const struct bpf_program *prog);

/*
 * Leaves autoload on for one program of each group. -EOPNOTSUPP: a required group has none; err
 * says what would be needed and why it isn't there. degraded gets one sentence about the optional
 * groups that are left out ("" if none). Where programs of tracepoints and probes can't allocate, hash
 * maps lose BPF_F_NO_PREALLOC.
 */
int hooks_choose(struct bpf_object *obj, const struct hooks_banned *banned, char *degraded,
		 size_t cap, struct err *err);

/*
 * Can a program of that section run here? Answers by trying where it is cheap. why (cap > 0) gets
 * the reason in words that complete "fentry/tcp_close: ...". Also used for doctor.
 */
bool hooks_section_usable(const char *section, char *why, size_t cap);
/* Forgets what hooks_section_usable() keeps for its next call. hooks_choose() does so by itself.
 * Loop thread, as all here. */
void hooks_done(void);
/* "the kernel is locked down (integrity)" or ""; static text. */
const char *hooks_lockdown(void);
