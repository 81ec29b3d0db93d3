// SPDX-License-Identifier: Apache-2.0
/* Where an SQL statement ends. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Bytes of the first statement of text with its semicolon; 0 when it isn't ended yet. Semicolons in
 * 'texts', "names", `names`, [names] and comments don't end one.
 */
size_t sql_statement_end(const char *text, size_t len);
/* Nothing but blanks, comments and semicolons. */
bool sql_is_blank(const char *text, size_t len);
