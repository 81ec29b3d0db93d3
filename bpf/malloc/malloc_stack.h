// SPDX-License-Identifier: Apache-2.0
/* Addresses of user stacks as texts that people can read. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macro.h"

#define STACK_TEXT_MAX 4096

/* Remembers mappings and files for the time of one reading. */
struct stack_reader;

/* stacks: the map, the caller's. symbols: names of functions, where files have them. */
int stack_reader_new(struct stack_reader **ret, int stacks, bool symbols);
void stack_reader_free(struct stack_reader *r);
DEFINE_CLEANUP(struct stack_reader *, stack_reader_free)
/* "f+0x12;libx.so+0x1234;...", innermost first; the length, 0 when the stack isn't known. */
size_t stack_text(struct stack_reader *r, uint32_t pid, uint64_t stack, char *dst, size_t cap);
