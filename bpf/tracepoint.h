// SPDX-License-Identifier: Apache-2.0
/* Tracepoints by name, those of system calls among them, whether or not tracefs is mounted. */
/*
 * A plugin just writes SEC("tp/syscalls/sys_exit_bind"): the host asks here whether there is such a
 * tracepoint (daemon/hooks.c) and attaches the program here, so that alternatives (NAME__tp) and
 * doctor know about it. Two programs may share a tracepoint. Only a plugin that attaches and
 * detaches at run time calls tracepoint_attach() itself, with bpf_program__set_autoattach(prog,
 * false) in its setup. One tracepoint of a system call costs each call of that one and nothing
 * elsewhere, unlike raw_tp/sys_enter, which costs every call of every process. Arguments: on entry a
 * struct { u64 common; u64 nr; u64 args[6]; }, on exit the same with one s64 for the result:
 * bpf/lib/syscall.bpf.h. 32-bit programs on a 64-bit kernel don't pass these tracepoints.
 *
 * Attaching needs the number of the tracepoint, which only tracefs tells, and libbpf looks for it in
 * /sys/kernel/tracing alone. Where nobody has mounted that (containers, small systems) we open a
 * mount of our own that has no place in the tree (fsopen, fsmount: nobody sees it, and it is gone
 * when its descriptor is closed). That needs CAP_SYS_ADMIN.
 */
#pragma once

#include <bpf/libbpf.h>
#include <stddef.h>

#include "base/err.h"

/*
 * event: "syscalls/sys_exit_bind". Its number; -ENOENT: this kernel has none of that name;
 * -EOPNOTSUPP: no tracefs can be had. why (cap > 0) gets the reason in words that complete
 * "tp/syscalls/sys_exit_bind: ...". Any thread.
 */
int tracepoint_id(const char *event, char *why, size_t cap);

/* "mounted" or how else its numbers can be read; 0, or -EOPNOTSUPP and what is missing. */
int tracepoint_tracefs(char *how, size_t cap);

/* Attaches to the tracepoint that the program's section names. The link is the caller's. Any thread. */
int tracepoint_attach(const struct bpf_program *prog, struct bpf_link **ret, struct err *err);
