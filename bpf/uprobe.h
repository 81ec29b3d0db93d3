// SPDX-License-Identifier: Apache-2.0
/* Many uprobes as one link, where the kernel can: uprobe_multi (Linux 6.6), which libbpf 1.1
 * doesn't know. */
#pragma once

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whether such links work here: one is made on this program for a moment. Every detach of a uprobe
 * waits for a grace period on such kernels (30 ms measured), so one link for all counts; of several,
 * links_close_fd_later() closes many within one. Any thread; asks the kernel each time.
 */
bool uprobe_multi_usable(void);
/* To be called before load: the program will be attached by uprobe_multi_attach(). */
int uprobe_multi_prepare(struct bpf_program *prog);
/* Whether that was done to it. */
bool uprobe_multi_prepared(const struct bpf_program *prog);
/*
 * offsets: in the file; cookies: what bpf_get_attach_cookie() gives there. pid 0: every process;
 * others never trap then. Returns the link's descriptor, the caller's, or negative errno.
 */
int uprobe_multi_attach(const struct bpf_program *prog, bool at_return, uint32_t pid,
			const char *path, const uint64_t *offsets, const uint64_t *cookies,
			size_t n);
