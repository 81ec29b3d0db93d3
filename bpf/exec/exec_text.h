// SPDX-License-Identifier: Apache-2.0
/* Texts of exec rows from what the kernel half wrote: pure functions over bytes of others. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "bpf/exec/exec.h"

/*
 * Components with a NUL behind each, the last one first ("ls\0bin\0usr\0"), to "/usr/bin/ls"; none
 * is "/". cut: there are more above; then it begins with ".../".
 */
void exec_path_add(struct buf *b, const char *components, size_t len, bool cut);
/*
 * Arguments with a NUL behind each, joined by spaces, each quoted as a shell would need it. cut:
 * the last one isn't whole; half a character at its end is left out.
 */
void exec_args_add(struct buf *b, const char *args, size_t len, bool cut);
/* One variable "NAME=value" of an environment block whose name is listed, quoted like an argument,
 * behind a space if b isn't empty. */
void exec_env_add(struct buf *b, const char *env, size_t len, const char *name);
/* Parents, the nearest one first, to "systemd(1)/sshd(811)/bash(1204)"; ".../" before: there may be
 * more. */
void exec_ancestry_add(struct buf *b, const struct exec_ancestor *chain, unsigned int n);
/* Capabilities by their bits to "cap_chown,cap_kill", or "all" of those that are known. */
void exec_caps_add(struct buf *b, uint64_t caps);
