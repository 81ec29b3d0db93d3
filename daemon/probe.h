// SPDX-License-Identifier: Apache-2.0
/* What this kernel and host offer, found by trying, each in one sentence. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "api/ops.h"
#include "base/err.h"
#include "bpf/plugin.h"

struct cgroup_place;
struct probe;

/* Tries everything once; takes some milliseconds. place may be NULL. */
int probe_new(struct probe **ret, const struct cgroup_place *place);
void probe_free(struct probe *p);
/* -EOPNOTSUPP or -EPERM with the sentence when nothing at all could be observed here. */
int probe_require(const struct probe *p, struct err *err);
/* Copies up to cap; returns how many there are. Any thread: never changes. */
unsigned int probe_capabilities(const struct probe *p, struct capability_info *ret,
				unsigned int cap);
/* What a plugin's programs ask of this kernel. Loop thread (opens its BPF object, loads nothing).
 */
int probe_plugin(const struct probe *p, const struct plugin *plugin, struct requirement_info *ret,
		 unsigned int cap, unsigned int *n, struct err *err);
/* Whether this process has that capability in force. */
bool probe_have_cap(unsigned int cap);
/* Our pid as BPF sees it: that of the initial pid namespace. */
uint32_t probe_self_tgid(void);
