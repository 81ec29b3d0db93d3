// SPDX-License-Identifier: Apache-2.0
/* What libbpf and the verifier say: to the debug log, the last lines kept for the reason of a
 * failure. Loop thread only. */
#pragma once

#include <stddef.h>

void libbpf_log_init(void);
/* Forgets the lines so far: before each load. */
void libbpf_log_begin(void);
/* The program that the last load refused ("prog 'x': ..."), or "". */
const char *libbpf_log_program(void);
/* The last line that says something about a refusal, or "". */
const char *libbpf_log_reason(void);
