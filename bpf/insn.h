// SPDX-License-Identifier: Apache-2.0
/* Where in a function's first instructions a uprobe is cheap. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* What insn_probe_site() may need of a function's code. */
#define INSN_SITE_BYTES 48

/*
 * A uprobe on an instruction that the kernel can emulate costs 0.6 us, on another one, which it
 * must single-step, 20 us (measured). So: how far behind the function's start the first cheap
 * instruction is, before which neither the stack pointer nor a register of arguments changes. Both
 * kinds of probes may be there. 0: none is known; probe the start. x86-64; 0 on other machines.
 */
size_t insn_probe_site(const uint8_t *code, size_t len);

/*
 * What a function that only reads a field of its first argument reads: "mov disp(%rdi), %eax" or
 * movzwl, and its return. Any thread. -ENOENT: it does more than that.
 */
int insn_field_offset(const uint8_t *code, size_t len, uint32_t *ret);
